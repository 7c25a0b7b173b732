"""Finds the clients to capture: a single one, or all in the process."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import sys
import threading
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass

from ..checks import INSTRUMENTS
from ..errors import ConfigError
from .harmless import harmless
from .inside import inside
from .inside import own
from .inside import package_of
from .inside import way
from .on_import import forget
from .on_import import when_imported
from .patch import Patch
from .tap import Tap

_log = logging.getLogger("flask_llm_cost")
_lock = threading.Lock()
_taps: dict[str, Tap] = {}
"""The libraries that the process captures."""

_patches: dict[str, list[Patch]] = {}
"""By the module that they are made for."""


def instrument(tap: Tap, names: Iterable[str] = INSTRUMENTS) -> tuple[str, ...]:
    """Capture every client of these libraries in the process.

    A library that is not installed is skipped, and one that is not imported is captured
    as soon as it is. If called again, the new tap applies.

    :return: The libraries that are captured now.
    :raises ConfigError: If a name is not one of a supported library.
    """
    return tuple([name for name in _checked(names) if _capture(name, tap)])


def uninstrument(names: Iterable[str] = INSTRUMENTS) -> None:
    """Undo :func:`instrument`, in any order with what others have patched.

    Responses that are being read are still followed to their end.

    :raises ConfigError: If a name is not one of a supported library.
    """
    for name in _checked(names):
        with _lock:
            _taps.pop(name, None)
            _unsupported.pop(name, None)
            for module in _LIBRARIES[name].modules:
                forget(module)
                for patch in _patches.get(module, ()):
                    patch.off()


def ways() -> dict[str, tuple[str, ...]]:
    """The libraries captured in this process, each with how it is captured."""
    found = {name: set(how) for name, how in _seen.items()}
    for name in tuple(_taps):
        modules = _LIBRARIES[name].modules
        if any(m in _patches or m not in sys.modules for m in modules):
            found.setdefault(name, set()).add("instrument")
    return {name: tuple(sorted(how)) for name, how in found.items()}


def note(library: str, way: str) -> None:
    """Remember how a client of a library is captured in this process.

    :param way: ``adapter``, ``wrap``, or :data:`WRAP_OF` and the package of an SDK.
    """
    _seen.setdefault(library, set()).add(way)


_seen: dict[str, set[str]] = {}


def unsupported() -> dict[str, str]:
    """The libraries whose installed version cannot be captured, each with the reason."""
    return dict(_unsupported)


_unsupported: dict[str, str] = {}

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


def _capture(name: str, tap: Tap) -> bool:
    """Capture a library now, or as soon as it is imported.

    :return: False if it is not installed.
    """
    with _lock:
        _taps[name] = tap
    found = [_capture_module(name, module) for module in _LIBRARIES[name].modules]
    if not any(found):
        with _lock:
            _taps.pop(name, None)
    return any(found)


def _capture_module(name: str, module: str) -> bool:
    if module not in sys.modules:
        if not _is_installed(module):
            return False
        when_imported(module, functools.partial(_patch, name, module))
    # Another thread may have imported it meanwhile.
    return module not in sys.modules or _patch(name, module)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except ValueError:
        # Made by hand, as in tests.
        return True


def _patch(name: str, module: str) -> bool:
    """Capture a library through one of its modules.

    :return: False if this version of it cannot be captured.
    """
    made = _patches.get(module)
    if made is None:
        try:
            # Before ours, so that no other thread waits for the two in the opposite order.
            importlib.import_module(module)
            made = _transport(name).patches(module)
        except ImportError as error:
            if name not in _unsupported:
                _log.warning("This version of %s cannot be captured: %s", name, error)
            _unsupported[name] = str(error)
            return False
    with _lock:
        made = _patches.setdefault(module, made)
        tap = _taps.get(name)
        if tap is not None:
            for patch in made:
                patch.on(tap)
    return True


class Transport(t.Protocol):
    """What the module that captures a library provides.

    :func:`target_of` and :func:`wrap` are left out where single clients cannot be wrapped.
    """

    def patches(self, module: str) -> list[Patch]:
        """The patches that capture every client of the library in the process.

        :param module: Which of the library's modules has been imported.
        :raises ImportError: If this version of the library cannot be captured.
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


@dataclass(frozen=True, slots=True)
class _Library:
    transport: str
    """The module here that captures it."""
    modules: tuple[str, ...]
    """Its own modules that are patched, each once it is imported."""
    wraps: bool = False
    """Whether single clients of it can be wrapped."""


_LIBRARIES: t.Final = {
    "requests": _Library("requests_adapter", ("requests",), wraps=True),
    "httpx2": _Library("httpx_transport", ("httpx2",), wraps=True),
    "httpx": _Library("httpx_transport", ("httpx",), wraps=True),
    "aiohttp": _Library("aiohttp_session", ("aiohttp",), wraps=True),
    "botocore": _Library("botocore_session", ("botocore.httpsession",), wraps=True),
    "urllib3": _Library("urllib3_connection", ("urllib3",)),
    "http.client": _Library("http_client", ("http.client",)),
    "websockets": _Library(
        "websockets_connection",
        ("websockets.sync.connection", "websockets.asyncio.connection"),
    ),
    "grpc": _Library("grpc_channel", ("grpc",)),
    "niquests": _Library("niquests_adapter", ("niquests",)),
    "curl_cffi": _Library("curl_cffi_session", ("curl_cffi.requests",)),
    "claude_agent_sdk": _Library("claude_agent", ("claude_agent_sdk",)),
    "lm15": _Library(
        "lm15_transport", ("lm15.transports", "dspy._vendor.lm15.transports")
    ),
}


def can_be_wrapped(library: str) -> bool:
    """Whether single clients of a library can be wrapped."""
    return _LIBRARIES[library].wraps


def _transport(library: str) -> Transport:
    name = f"{__package__}.{_LIBRARIES[library].transport}"
    module: t.Any = importlib.import_module(name)
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
            f"No HTTP client was found in this {type(client).__name__}. {way(client)}"
        )
    package = package_of(client)
    for name, work in found.values():
        work()
        note(name, "wrap" if package == name else f"{WRAP_OF}{package}")
    return tuple(dict.fromkeys(name for name, _ in found.values()))


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
        clients = own(client, name)
        if isinstance(clients, dict):
            vars(client)[name] = _Wrapping(tap, clients)
    known = _known(tap, client)
    if known is not None:
        name, target, work = known
        found[id(target)] = name, work
        return
    if depth < _DEPTH:
        for inner in inside(client):
            if inner is not None:
                _search(tap, inner, found, depth + 1)


def _known(tap: Tap, client: t.Any) -> tuple[str, t.Any, Callable[[], None]] | None:
    """The library of a client, what to wrap, and how; ``None`` for an unknown client."""
    for library, known in _LIBRARIES.items():
        # A library that was never imported has no clients.
        if known.wraps and library in sys.modules:
            transport = _transport(library)
            target = transport.target_of(library, client)
            if target is not None:
                return library, target, functools.partial(transport.wrap, tap, target)
    return None
