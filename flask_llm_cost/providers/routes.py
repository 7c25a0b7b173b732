"""Finds the provider, operation and dialect of a request by its URL."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import re
import typing as t
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote
from urllib.parse import urlsplit

from ..provider_names import provider_name
from . import bedrock
from . import openai
from . import paths
from .dialect import Dialect
from .registry import COMPLETIONS
from .registry import Provider
from .registry import PROVIDERS
from .shapes import by_shape
from .unlisted import ENDS
from .unlisted import FLAG
from .unlisted import PATHS


@dataclass(frozen=True, slots=True)
class Route:
    """What a URL says about its request."""

    provider: str
    operation: str
    dialect: Dialect
    model: str | None = None
    """The model, if the URL names it."""
    stream: bool = False
    """The URL asks for a stream."""
    poll: bool = False
    """A GET. It is a call only if it returns usage that its create request did not.

    A reading with the flag ``repeated`` has no new usage. A file of batch results has no
    reading of its own: each of :meth:`Exchange.take_results` is a call.
    """
    response_id: str | None = None
    """The id of the answer, if the URL names it."""
    parent_id: str | None = None
    """The batch or session that the answers belong to. It has what they may lack: a
    batch its date, a session its model."""
    flags: frozenset[str] = frozenset()
    """Conditions that the price may depend on: ``region.eu``."""
    endpoints: str = ""
    """:attr:`Provider.endpoints`."""
    include_usage: str = ""
    """:attr:`Provider.include_usage`, or empty if the path has no such option."""
    unlisted: bool = False
    """The host is unlisted. Request and answer show whether this is an LLM call."""

    def model_name(self, served: str | None, requested: str | None) -> str | None:
        """Return the name that a call's model has in prices: in general, the served one."""
        if requested and self.endpoints and re.fullmatch(self.endpoints, requested):
            return requested
        return served or requested

    def with_query(self, query: str) -> Route:
        """Return the route of a URL that has a query, by :attr:`.Dialect.extras`."""
        extras = self.dialect.extras
        if extras is None or extras.search(query) is None:
            return self
        return dataclasses.replace(self, flags=self.flags | {"unread_usage"})


def route(
    method: str,
    url: str,
    *,
    hosts: Mapping[str, str] | None = None,
    providers: Sequence[Provider] = (),
    unlisted: bool = False,
) -> Route | None:
    """Find the route of a request, or ``None`` if it is not an LLM call.

    :param hosts: Additional hosts, or ``host:port``, with the name of their provider.
    :param providers: The app's own providers, which precede the built-in ones.
    :param unlisted: Also find routes of requests to unlisted hosts.
    """
    # The cache must not store the query, which may contain a key.
    where, _, query = url.partition("?")
    if not hosts and not providers:
        found = _route(method, where, (), ())
    else:
        found = _route(method, where, tuple((hosts or {}).items()), tuple(providers))
    if found is None or (found.unlisted and not unlisted):
        return None
    return found if found.dialect.extras is None else found.with_query(query)


def known_name(name: str, providers: Sequence[Provider] = ()) -> str:
    """Return a provider's one name, in whatever case or by whatever synonym it is given.

    The name of a gateway that is not listed stays as it is.
    """
    found = _by_name(name, providers)
    return name.strip() if found is None else found.name


def usage_on_request(
    provider: str, operation: str, providers: Sequence[Provider] = ()
) -> bool:
    """Whether streams report usage only if ``stream_options.include_usage`` asks for it."""
    known = _by_name(provider, providers)
    # A gateway that is not listed speaks like OpenAI.
    asked = known is None or bool(known.include_usage)
    return asked and operation in _WITH_STREAM_OPTIONS


def _by_name(name: str, providers: Sequence[Provider]) -> Provider | None:
    for known in providers:
        if known.name == name:
            return known
    canonical = provider_name(name)
    for known in providers:
        if provider_name(known.name) == canonical:
            return known
    return _BY_NAME.get(canonical)


_BY_NAME: t.Final = {known.name: known for known in PROVIDERS}


def chat_route(
    provider: str,
    *,
    providers: Sequence[Provider] = (),
    hosts: Mapping[str, str] | None = None,
) -> Route:
    """Get the route of a provider's chat streams, for use without a URL.

    Of the forms of chat that a provider speaks, the events show which one it is. A
    provider that is not listed is a gateway, as in ``LLM_COST_PROVIDER_HOSTS``. If it is
    not named there either, usage of an unknown form is flagged ``unknown_provider``.
    """
    known = _by_name(provider, providers)
    declared = known is not None or provider in (hosts or {}).values()
    spoken = paths.GATEWAY if known is None else known.paths
    chats = [
        path.dialect
        for operation in ("chat", "responses", "agents", "realtime")
        for path in spoken
        if path.operation == operation
    ]
    dialect = by_shape(chats or [openai.CHAT], declared=declared)
    return Route(known_name(provider, providers), "chat", dialect, stream=True)


@functools.lru_cache(maxsize=1024)
def _route(
    method: str,
    url: str,
    hosts: tuple[tuple[str, str], ...],
    providers: tuple[Provider, ...],
) -> Route | None:
    try:
        parts = urlsplit(url)
        # A fully qualified name may end with a dot.
        host = (parts.hostname or "").lower().rstrip(".")
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    provider = _named(host, port, hosts, providers) or _known(host, port, providers)
    where = parts.path.rstrip("/")
    listed = provider is not None
    if provider is None:
        if not where.endswith(ENDS):
            return None
        provider = Provider(_exact(parts.scheme, host, port), (), PATHS)
    for path in provider.paths:
        found = re.fullmatch(path.pattern, where)
        if found is not None and path.method == method.upper():
            named = found.groupdict()
            model = named.get("model")
            return Route(
                provider=provider.name,
                operation=path.operation,
                dialect=path.dialect,
                model=None if model is None else bedrock.last_segment(unquote(model)),
                stream=path.stream,
                poll=path.method == "GET" or path.poll,
                response_id=named.get("response_id"),
                parent_id=named.get("parent_id"),
                flags=_flags(provider, host) if listed else _UNLISTED,
                endpoints=provider.endpoints,
                include_usage=(
                    provider.include_usage
                    if path.operation in _WITH_STREAM_OPTIONS
                    else ""
                ),
                unlisted=not listed,
            )
    return None


_UNLISTED: t.Final = frozenset((FLAG,))

_PORTS: t.Final = {"https": 443, "http": 80, "wss": 443, "ws": 80}

_WITH_STREAM_OPTIONS: t.Final = ("chat", "completions")


def _flags(provider: Provider, host: str) -> frozenset[str]:
    found = re.fullmatch(provider.region, host) if provider.region else None
    if found is None:
        return frozenset()
    region = found.groupdict().get("region") or found.lastgroup or "endpoint"
    return frozenset((f"region.{region}",))


def _named(
    host: str,
    port: int | None,
    hosts: tuple[tuple[str, str], ...],
    providers: tuple[Provider, ...],
) -> Provider | None:
    names = host, _with_port(host, port)
    # A host by its own name first, then by the longest pattern.
    for pattern, name in sorted(
        hosts, key=lambda pair: (_is_wild(pair[0]), -len(pair[0]))
    ):
        if _matches(pattern.lower(), names):
            # An unknown name is a gateway that speaks like OpenAI.
            return _by_name(name, providers) or Provider(
                name.strip(), (), paths.GATEWAY, include_usage=COMPLETIONS
            )
    return None


def _is_wild(pattern: str) -> bool:
    return "*" in pattern


def _matches(pattern: str, names: tuple[str, str]) -> bool:
    """Whether a pattern is one of a host's names, without and with its port."""
    if not _is_wild(pattern):
        return pattern in names
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def _known(
    host: str, port: int | None, providers: tuple[Provider, ...]
) -> Provider | None:
    names = host, _with_port(host, port)
    for provider in providers:
        if any(_matches(pattern, names) for pattern in provider.hosts):
            return provider
    found = _EXACT.get(names[0]) or _EXACT.get(names[1])
    if found is not None:
        return found
    if _ANY_WILD.fullmatch(host) is None:
        return None
    for pattern, provider in _WILD:
        if fnmatch.fnmatchcase(host, pattern):
            return provider
    return None


_EXACT: t.Final = {
    pattern: provider
    for provider in reversed(PROVIDERS)
    for pattern in provider.hosts
    if not _is_wild(pattern)
}
"""The known hosts by name: most URLs of an app are not of any of them."""

_WILD: t.Final = [
    (pattern, provider)
    for provider in PROVIDERS
    for pattern in provider.hosts
    if _is_wild(pattern)
]

_ANY_WILD: t.Final = re.compile("|".join(fnmatch.translate(host) for host, _ in _WILD))
"""Most hosts match none, which one search shows faster."""


def _exact(scheme: str, host: str, port: int | None) -> str:
    """Name a host as ``LLM_COST_PROVIDER_HOSTS`` does: with its port if that is not usual."""
    usual = port == _PORTS.get(scheme) and ":" not in host
    return host if usual else _with_port(host, port)


def _with_port(host: str, port: int | None) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
