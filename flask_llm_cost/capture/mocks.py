"""Captures the answers of test tools that replace a provider, while a test records calls.

These tools replace the methods that are captured otherwise.
"""

from __future__ import annotations

import functools
import importlib
import sys
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import ExitStack

from . import clients
from .patch import bound
from .tap import Tap

if t.TYPE_CHECKING:
    import httpx
    from requests import PreparedRequest
    from requests import Response

FindTap: t.TypeAlias = Callable[[], Tap | None]
"""Finds the tap of the process at each call; ``None`` if no app is set up."""

_TapOf: t.TypeAlias = Callable[[str], Tap | None]
"""The same for one library; ``None`` if the process does not capture that."""

_Method: t.TypeAlias = Callable[..., t.Any]


@contextmanager
def capturing(find: FindTap) -> Iterator[None]:
    """Capture what mocks answer, for libraries that this process captures."""

    def tap_of(library: str) -> Tap | None:
        return find() if library in clients.ways() else None

    with ExitStack() as undo:
        for module, path, around in _MOCKS:
            owner_name, _, name = path.rpartition(".")
            owner: t.Any = _loaded(module)
            if owner is not None and owner_name:
                owner = getattr(owner, owner_name, None)
            # Some are not public, so they may be missing in another version.
            original = getattr(owner, name, None)
            if original is None or getattr(original, "_llm_cost", False):
                continue
            ours: t.Any = functools.wraps(original)(around(original, tap_of))
            ours._llm_cost = True
            setattr(owner, name, ours)
            undo.callback(setattr, owner, name, original)
        yield


def _loaded(module: str) -> t.Any:
    """A module of a package that the tests use; ``None`` if they do not."""
    if module.partition(".")[0] not in sys.modules:
        return None
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def _requests_mock(original: _Method, tap_of: _TapOf) -> _Method:
    def send(self: t.Any, request: PreparedRequest, **options: t.Any) -> Response:
        from requests import RequestException
        from requests_mock import NoMockAddress

        from .requests_adapter import captured

        failed: RequestException | None = None
        response: t.Any = None
        try:
            response = bound(original, self)(request, **options)
        except NoMockAddress:
            # The mock may still send it, and that is captured then.
            raise
        except RequestException as error:
            failed = error

        def answer(*args: t.Any, **given: t.Any) -> Response:
            if failed is not None:
                raise failed
            return t.cast("Response", response)

        return captured(tap_of("requests"), answer, request)

    return send


def _responses(original: _Method, tap_of: _TapOf) -> _Method:
    def on_request(
        self: t.Any,
        adapter: t.Any,
        request: PreparedRequest,
        *args: t.Any,
        **options: t.Any,
    ) -> Response:
        from .requests_adapter import captured

        send = functools.partial(bound(original, self), adapter)
        return captured(tap_of("requests"), send, request, *args, **options)

    return on_request


def _pytest_httpx(original: _Method, tap_of: _TapOf) -> _Method:
    def handle(self: t.Any, transport: t.Any, request: httpx.Request) -> t.Any:
        import httpx

        from .httpx_transport import captured

        send = functools.partial(bound(original, self), transport)
        return captured(httpx, tap_of("httpx"), send, request)

    return handle


def _pytest_httpx_async(original: _Method, tap_of: _TapOf) -> _Method:
    async def handle(self: t.Any, transport: t.Any, request: httpx.Request) -> t.Any:
        import httpx

        from .httpx_transport import captured_async

        send = functools.partial(bound(original, self), transport)
        return await captured_async(httpx, tap_of("httpx"), send, request)

    return handle


def _vcr_httpx(original: _Method, tap_of: _TapOf) -> _Method:
    def handle(
        cassette: t.Any, real: t.Any, transport: t.Any, request: t.Any, module: t.Any
    ) -> t.Any:
        from .httpx_transport import captured

        def send(sent: t.Any) -> t.Any:
            return original(cassette, real, transport, sent, module)

        return captured(module, tap_of(module.__name__), send, request)

    return handle


def _vcr_httpx_async(original: _Method, tap_of: _TapOf) -> _Method:
    async def handle(
        cassette: t.Any, real: t.Any, transport: t.Any, request: t.Any, module: t.Any
    ) -> t.Any:
        from .httpx_transport import captured_async

        def send(sent: t.Any) -> t.Any:
            return original(cassette, real, transport, sent, module)

        return await captured_async(module, tap_of(module.__name__), send, request)

    return handle


_MOCKS: t.Final = (
    ("requests_mock.adapter", "Adapter.send", _requests_mock),
    ("responses", "RequestsMock._on_request", _responses),
    ("pytest_httpx", "HTTPXMock._handle_request", _pytest_httpx),
    ("pytest_httpx", "HTTPXMock._handle_async_request", _pytest_httpx_async),
    ("vcr.stubs.httpx_stubs", "_vcr_handle_request", _vcr_httpx),
    ("vcr.stubs.httpx_stubs", "_vcr_handle_async_request", _vcr_httpx_async),
)
"""Where each tool answers a request."""
