"""Captures httpx and httpx2 clients, sync and async.

The two are one library under two names, with separate classes, so everything here works
on the module that a client comes from. In the transport, a response's stream is replaced by
one that reports what it hands out to a :class:`.Meter`.
"""

from __future__ import annotations

import functools
import sys
import typing as t
from collections.abc import AsyncIterator
from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Iterator

from ..recurring import report
from .form import form
from .harmless import harmless
from .meter import Meter
from .patch import bound
from .patch import Patch
from .patch import wrap_transport
from .tap import Tap

_MODULES: t.Final = ("httpx2", "httpx")


def captured(
    module: t.Any, tap: Tap | None, send: Callable[[t.Any], t.Any], request: t.Any
) -> t.Any:
    """Send a request, and record the call if it is one to an LLM.

    :param module: ``httpx`` or ``httpx2``.
    :param send: A transport's ``handle_request``, bound to it.
    """
    meter = None if tap is None else _open(tap, request)
    if meter is None:
        return send(request)
    with meter.sending(request, functools.partial(_asking, module)) as sent:
        response = send(sent)
    _follow(module, response, meter)
    return response


async def captured_async(
    module: t.Any,
    tap: Tap | None,
    send: Callable[[t.Any], Awaitable[t.Any]],
    request: t.Any,
) -> t.Any:
    """As :func:`captured`, for ``handle_async_request``."""
    meter = None if tap is None else _open(tap, request)
    if meter is None:
        return await send(request)
    with meter.sending(request, functools.partial(_asking, module)) as sent:
        response = await send(sent)
    _follow(module, response, meter)
    return response


def _open(tap: Tap, request: t.Any) -> Meter | None:
    return tap.open(
        request.method,
        str(request.url),
        lambda: _body_of(request),
        lambda: _form_of(request),
        headers=request.headers.raw,
    )


def _body_of(request: t.Any) -> bytes | None:
    """The body, if it is already in memory; a stream is never consumed."""
    try:
        return t.cast(bytes, request.content)
    except RuntimeError:
        # RequestNotRead, of either module.
        return None


def _form_of(request: t.Any) -> bytes | None:
    """The fields of a form with a file. They are not public, and may be missing."""
    fields = getattr(request.stream, "fields", None)
    if not isinstance(fields, (list, tuple)):
        return None
    return form([(getattr(f, "name", None), getattr(f, "value", None)) for f in fields])


@harmless()
def _asking(module: t.Any, request: t.Any, body: bytes) -> t.Any:
    """A request with another body; the app's own stays as it is."""
    headers = request.headers.copy()
    if "Content-Length" in headers:
        headers["Content-Length"] = str(len(body))
    return module.Request(
        request.method,
        request.url,
        headers=headers,
        content=body,
        extensions=request.extensions,
    )


@harmless()
def _follow(module: t.Any, response: t.Any, meter: Meter) -> None:
    """Attach the meter to the response body."""
    meter.respond(response.status_code, response.headers)
    if response.is_stream_consumed:
        # Made by a stub from bytes: nothing is left to be read.
        meter.feed(response.content, decoded=True)
        meter.end()
        return
    stream = response.stream
    tee = _tee_class(
        module,
        isinstance(stream, module.SyncByteStream),
        isinstance(stream, module.AsyncByteStream),
    )
    response.stream = tee(stream, meter)


class _Tee:
    """Hands out the bytes of another stream, and delegates everything else to it."""

    def __init__(self, stream: t.Any, meter: Meter) -> None:
        self._stream = stream
        self._meter = meter

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self.__dict__["_stream"], name)


class _SyncTee(_Tee):
    def __iter__(self) -> Iterator[bytes]:
        meter = self._meter
        try:
            for chunk in self._stream:
                meter.feed(chunk, decoded=False)
                yield chunk
        except Exception:
            meter.fail()
            raise
        meter.end()

    def close(self) -> None:
        self._meter.close()
        self._stream.close()


class _AsyncTee(_Tee):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        meter = self._meter
        chunks = self._stream.__aiter__()
        try:
            async for chunk in chunks:
                meter.feed(chunk, decoded=False)
                yield chunk
        except Exception:
            meter.fail()
            raise
        finally:
            # Do not leave this additional generator for the event loop to finalize.
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()
        meter.end()

    async def aclose(self) -> None:
        self._meter.close()
        await self._stream.aclose()


@functools.lru_cache(maxsize=8)
def _tee_class(module: t.Any, sync: bool, asynchronous: bool) -> type[t.Any]:
    """A tee with the base classes that the module's clients check for."""
    bases: list[type] = []
    if sync:
        bases += [_SyncTee, module.SyncByteStream]
    if asynchronous:
        bases += [_AsyncTee, module.AsyncByteStream]
    return type("Tee", tuple(bases), {})


def target_of(library: str, client: object) -> t.Any:
    """The client, sync or async, if it is one of ``httpx`` or ``httpx2``."""
    module: t.Any = sys.modules[library]
    return client if isinstance(client, (module.Client, module.AsyncClient)) else None


def _warn_if_shared(transport: t.Any, tap: Tap) -> None:
    """Some SDKs, such as LangChain, share one HTTP client between their own clients."""
    before: Tap | None = getattr(transport, "_llm_cost", (None, None))[1]
    if before is not None and before.tags not in (None, tap.tags):
        report(
            "This client sends through an HTTP client that is already wrapped, with"
            " other tags. From now on, both use the tags given last. Give each its own"
            " http_client, or use llm_cost.tags() around the calls."
        )


def wrap(tap: Tap, client: t.Any) -> None:
    """Capture the calls of one client. If it is wrapped again, the new tap applies.

    Its transports become instances of subclasses of their own classes, so that proxies,
    pools, limits and hooks stay as they are.

    :raises ConfigError: If a transport cannot be captured.
    """
    name = next(n for n in _MODULES if n in sys.modules and target_of(n, client))
    _warn_if_shared(client._transport, tap)
    for transport in (client._transport, *client._mounts.values()):
        # A mount of None uses the client's own transport.
        if transport is not None:
            # Not the module itself, because a transport may be deep-copied.
            wrap_transport(transport, _kind_for(transport), (name, tap))


class _SyncTapped:
    def handle_request(self, request: t.Any) -> t.Any:
        name, tap = self.__dict__["_llm_cost"]
        send = super().handle_request  # type: ignore[misc]
        return captured(sys.modules[name], tap, send, request)


class _AsyncTapped:
    async def handle_async_request(self, request: t.Any) -> t.Any:
        name, tap = self.__dict__["_llm_cost"]
        send = super().handle_async_request  # type: ignore[misc]
        return await captured_async(sys.modules[name], tap, send, request)


class _BothTapped(_SyncTapped, _AsyncTapped):
    pass


def _kind_for(transport: object) -> type:
    if not hasattr(transport, "handle_async_request"):
        return _SyncTapped
    return _BothTapped if hasattr(transport, "handle_request") else _AsyncTapped


def patches(module: str) -> list[Patch]:
    """The patches that capture every ``httpx`` or ``httpx2`` client in the process.

    An app's own transports, and those for tests (mock, WSGI, ASGI), are not captured.
    """
    library: t.Any = sys.modules[module]

    def around(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
        def handle_request(self: t.Any, request: t.Any) -> t.Any:
            return captured(library, patch.tap, bound(original, self), request)

        return handle_request

    def around_async(
        patch: Patch, original: Callable[..., t.Any]
    ) -> Callable[..., t.Any]:
        async def handle_async_request(self: t.Any, request: t.Any) -> t.Any:
            send = bound(original, self)
            return await captured_async(library, patch.tap, send, request)

        return handle_async_request

    return [
        Patch(library.HTTPTransport, "handle_request", around),
        Patch(library.AsyncHTTPTransport, "handle_async_request", around_async),
    ]
