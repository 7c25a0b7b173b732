"""Captures the transports of lm15, which DSPy sends through, with their own sockets."""

from __future__ import annotations

import sys
import typing as t
from collections.abc import Callable

from .chunks import teed
from .chunks import teed_async
from .harmless import harmless
from .meter import Meter
from .patch import become
from .patch import bound
from .patch import Patch
from .tap import Tap


def _open(tap: Tap | None, request: t.Any) -> Meter | None:
    if tap is None:
        return None
    headers = request.headers
    return tap.open(request.method, request.url, request.body, headers=headers)


@harmless()
def _follow(response: t.Any, meter: Meter, tee: Callable[..., t.Any]) -> None:
    """Attach the meter to the response body."""
    meter.respond(response.status, dict(response.headers))
    own = vars(response)
    own["_chunks"] = tee(response._chunks, meter, decoded=True)
    own["_llm_cost"] = meter
    become(response, _TeeResponse if tee is teed else _AsyncTeeResponse)


class _TeeResponse:
    """A response that reports when the caller is done with it."""

    _llm_cost: Meter

    def close(self) -> None:
        self._llm_cost.close()
        super().close()  # type: ignore[misc]

    def __del__(self) -> None:
        self._llm_cost.abandon()


class _AsyncTeeResponse(_TeeResponse):
    async def close(self) -> None:  # type: ignore[override]
        self._llm_cost.close()
        # Past the sync one, to the library's own.
        await super(_TeeResponse, self).close()  # type: ignore[misc]


def _stream(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    def stream(self: t.Any, request: t.Any) -> t.Any:
        send = bound(original, self)
        meter = _open(patch.tap, request)
        if meter is None:
            return send(request)
        with meter.sending(request):
            response = send(request)
        _follow(response, meter, teed)
        return response

    return stream


def _stream_async(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    async def _do_stream(self: t.Any, request: t.Any) -> t.Any:
        send = bound(original, self)
        meter = _open(patch.tap, request)
        if meter is None:
            return await send(request)
        with meter.sending(request):
            response = await send(request)
        _follow(response, meter, teed_async)
        return response

    return _do_stream


def patches(module: str) -> list[Patch]:
    """The patches that capture every transport of lm15, or of a copy of it.

    :raises ImportError: If this version has other transports.
    """
    library = sys.modules[module]
    try:
        return [
            Patch(library.StdlibTransport, "stream", _stream),
            Patch(library.StdlibAsyncTransport, "_do_stream", _stream_async),
        ]
    except AttributeError as error:
        raise ImportError(str(error)) from None
