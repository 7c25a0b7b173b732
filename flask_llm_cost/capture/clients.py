"""Finds the clients to capture: a single one, or all in the process."""

from __future__ import annotations

import functools
import importlib
import sys
import threading
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping

from ..checks import INSTRUMENTS
from ..errors import ConfigError
from .harmless import harmless
from .patch import Patch
from .tap import Tap

_lock = threading.Lock()
_patches: dict[str, list[Patch]] = {}


def instrument(tap: Tap, names: Iterable[str] = INSTRUMENTS) -> tuple[str, ...]:
    """Capture every client of these libraries in the process.

    A library that is not installed is skipped. If called again, the new tap applies.

    :return: The libraries that are captured now.
    :raises ConfigError: If a name is not one of a supported library.
    """
    found = []
    for name in _checked(names):
        patches = _patches_of(name)
        for patch in patches:
            patch.on(tap)
        if patches:
            found.append(name)
    return tuple(found)


def uninstrument(names: Iterable[str] = INSTRUMENTS) -> None:
    """Undo :func:`instrument`, in any order with what others have patched.

    Responses that are being read are still followed to their end.

    :raises ConfigError: If a name is not one of a supported library.
    """
    for name in _checked(names):
        for patch in _patches.get(name, ()):
            patch.off()


def ways() -> dict[str, tuple[str, ...]]:
    """The libraries captured in this process, each with how it is captured."""
    found = {name: set(how) for name, how in _seen.items()}
    for name, patches in _patches.items():
        if any(patch.tap is not None for patch in patches):
            found.setdefault(name, set()).add("instrument")
    return {name: tuple(sorted(how)) for name, how in found.items()}


def note(library: str, way: str) -> None:
    """Remember how a client of a library is captured in this process.

    :param way: ``adapter``, ``wrap``, or :data:`WRAP_OF` and the package of an SDK.
    """
    _seen.setdefault(library, set()).add(way)


_seen: dict[str, set[str]] = {}

WRAP_OF: t.Final = "wrap of "
"""One SDK's client is wrapped; other SDKs on the same library are not captured by that."""


def _checked(names: Iterable[str]) -> tuple[str, ...]:
    chosen = (names,) if isinstance(names, str) else tuple(names)
    for name in chosen:
        if name not in INSTRUMENTS:
            raise ConfigError(
                f"{name!r} cannot be instrumented. Supported libraries:"
                f" {', '.join(INSTRUMENTS)}."
            )
    return chosen


def _patches_of(name: str) -> list[Patch]:
    with _lock:
        if name not in _patches:
            try:
                _patches[name] = _transport(name).patches(name)
            except ImportError:
                return []
        return _patches[name]


class Transport(t.Protocol):
    """What the module that captures a library provides."""

    def patches(self, library: str) -> list[Patch]:
        """The patches that capture every client of the library in the process.

        :raises ImportError: If it is not installed.
        """
        ...

    def target_of(self, library: str, client: object) -> t.Any:
        """What to wrap of a client; ``None`` if it is not a client of the library."""
        ...

    def wrap(self, tap: Tap, target: t.Any) -> None:
        """Capture the calls of one client. If it is wrapped again, the new tap applies.

        :raises ConfigError: If it cannot be captured.
        """
        ...


_MODULES: t.Final = {
    "requests": "requests_adapter",
    "httpx2": "httpx_transport",
    "httpx": "httpx_transport",
    "aiohttp": "aiohttp_session",
    "botocore": "botocore_session",
}
"""The module of each library."""


def _transport(library: str) -> Transport:
    module: t.Any = importlib.import_module(f"{__package__}.{_MODULES[library]}")
    return t.cast(Transport, module)


_Found: t.TypeAlias = dict[int, tuple[str, Callable[[], None]]]
"""By the id of what to wrap: its library, and how it is wrapped."""


def wrap(tap: Tap, client: t.Any) -> tuple[str, ...]:
    """Capture the calls of one client, as :meth:`.LlmCost.wrap` describes.

    :return: The libraries whose clients were found in it.
    :raises ConfigError: If none was found.
    """
    found: _Found = {}
    _search(tap, client, found, depth=0)
    if not found:
        raise ConfigError(
            f"No HTTP client was found in this {type(client).__name__}. Wrap the client"
            " that it uses, or capture all clients with llm_cost.instrument()."
        )
    package = type(client).__module__.partition(".")[0]
    for name, work in found.values():
        work()
        note(name, "wrap" if package == name else f"{WRAP_OF}{package}")
    return tuple(dict.fromkeys(name for name, _ in found.values()))


_INSIDE: t.Final = (
    "_client",
    "_async_client",
    "_api_client",
    "_httpx_client",
    "_async_httpx_client",
    "_client_wrapper",
    "httpx_client",
    "sdk_configuration",
    "client",
    "async_client",
)
"""Attributes through which SDKs hold their HTTP client:

openai, anthropic, groq, ollama ``_client``; google-genai ``_api_client._httpx_client``,
``._async_httpx_client``; mistralai ``sdk_configuration.client``,
``.async_client``; cohere ``_client_wrapper.httpx_client.httpx_client``.
"""

_DEPTH: t.Final = 4

_LATER: t.Final = ("_aiohttp_sessions", "_loop_clients")
"""Where google-genai keeps clients by event loop, which it creates when needed."""


class _Wrapping(dict[t.Any, t.Any]):
    """Clients by event loop; each is wrapped when it is added."""

    def __init__(self, tap: Tap, clients: Mapping[t.Any, t.Any]) -> None:
        super().__init__(clients)
        self._tap = tap
        for client in self.values():
            self._wrap(client)

    def __setitem__(self, loop: t.Any, client: t.Any) -> None:
        self._wrap(client)
        super().__setitem__(loop, client)

    @harmless()
    def _wrap(self, client: t.Any) -> None:
        wrap(self._tap, client)


def _search(tap: Tap, client: t.Any, found: _Found, depth: int) -> None:
    for name in _LATER:
        clients = _own(client, name)
        if isinstance(clients, dict):
            vars(client)[name] = _Wrapping(tap, clients)
    known = _known(tap, client)
    if known is not None:
        name, target, work = known
        found[id(target)] = name, work
        return
    if depth < _DEPTH:
        for name in _INSIDE:
            # Only from the instance: a property of the class may open a connection.
            inner = _own(client, name)
            if inner is not None:
                _search(tap, inner, found, depth + 1)


def _own(client: object, name: str) -> t.Any:
    try:
        return vars(client).get(name)
    except TypeError:
        return None


def _known(tap: Tap, client: t.Any) -> tuple[str, t.Any, Callable[[], None]] | None:
    """The library of a client, what to wrap, and how; ``None`` for an unknown client."""
    for library in _MODULES:
        # A library that was never imported has no clients.
        if library in sys.modules:
            transport = _transport(library)
            target = transport.target_of(library, client)
            if target is not None:
                return library, target, functools.partial(transport.wrap, tap, target)
    return None
