"""Which provider, operation and dialect does a URL stand for?"""

from __future__ import annotations

import functools
import re
import typing as t
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote
from urllib.parse import urlsplit

from . import openai
from .dialect import Dialect


@dataclass(frozen=True, slots=True)
class Path:
    """Requests of one kind: what their path looks like and how answers are read."""

    pattern: str
    """A regular expression for the whole path; ``(?P<model>...)`` names the model."""
    dialect: Dialect
    operation: str
    method: str = "POST"
    stream: bool = False
    """The path itself asks for a stream."""


@dataclass(frozen=True, slots=True)
class Provider:
    """Who answers at some hosts, and what its paths mean."""

    name: str
    hosts: tuple[str, ...]
    """Host names, ``host:port``, or ``*.example.com`` for every host below one."""
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """What a URL says of the call behind it."""

    provider: str
    operation: str
    dialect: Dialect
    model: str | None = None
    """The model, where the URL names it."""
    stream: bool = False
    """The URL asks for a stream."""
    poll: bool = False
    """A GET: a call of its own only if it brings usage that its create did not carry."""


OPENAI_PATHS: t.Final = (
    Path(r".*/chat/completions", openai.CHAT, "chat"),
    Path(r".*/completions", openai.CHAT, "completions"),
    Path(r".*/embeddings", openai.CHAT, "embeddings"),
    Path(r".*/responses", openai.CHAT, "responses"),
)

PROVIDERS: t.Final = (Provider("openai", ("api.openai.com",), OPENAI_PATHS),)


def route(
    method: str,
    url: str,
    *,
    hosts: Mapping[str, str] | None = None,
    providers: Sequence[Provider] = (),
) -> Route | None:
    """Find what a request is, or ``None`` if it is no call of an LLM.

    :param hosts: More hosts, or ``host:port``, with the provider that answers there.
    :param providers: An app's own; they come before the built-in ones.
    """
    # The query is left out of the cache: it may hold a key.
    where = url.partition("?")[0]
    if not hosts and not providers:
        return _route(method, where, (), ())
    return _route(method, where, tuple((hosts or {}).items()), tuple(providers))


@functools.lru_cache(maxsize=1024)
def _route(
    method: str,
    url: str,
    hosts: tuple[tuple[str, str], ...],
    providers: tuple[Provider, ...],
) -> Route | None:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        port = parts.port
    except ValueError:
        return None
    provider = _named(host, port, hosts, providers) or _known(host, port, providers)
    if provider is None:
        return None
    for path in provider.paths:
        found = re.fullmatch(path.pattern, parts.path)
        if found is not None and path.method == method.upper():
            model = found.groupdict().get("model")
            return Route(
                provider=provider.name,
                operation=path.operation,
                dialect=path.dialect,
                model=None if model is None else unquote(model),
                stream=path.stream,
                poll=path.method == "GET",
            )
    return None


def _named(
    host: str,
    port: int | None,
    hosts: tuple[tuple[str, str], ...],
    providers: tuple[Provider, ...],
) -> Provider | None:
    for pattern, name in hosts:
        if pattern.lower() in (host, f"{host}:{port}"):
            for provider in (*providers, *PROVIDERS):
                if provider.name == name:
                    return provider
            return Provider(name, (), OPENAI_PATHS)
    return None


def _known(
    host: str, port: int | None, providers: tuple[Provider, ...]
) -> Provider | None:
    for provider in (*providers, *PROVIDERS):
        for pattern in provider.hosts:
            if pattern in (host, f"{host}:{port}"):
                return provider
            if pattern.startswith("*.") and host.endswith(pattern[1:]):
                return provider
    return None
