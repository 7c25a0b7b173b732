"""Captures sessions of niquests, sync and asyncio.

They send through a urllib3 of their own. With ``multiplexed``, nothing is captured.
"""

from __future__ import annotations

import importlib
import inspect
import typing as t
from collections.abc import Callable

from .connection import bytes_of
from .harmless import harmless
from .meter import Meter
from .patch import become
from .patch import bound
from .patch import Patch
from .tap import Tap
from .urllib3_body import follow_body


def _open(tap: Tap | None, request: t.Any, options: dict[str, t.Any]) -> Meter | None:
    if tap is None or options.get("multiplexed"):
        return None
    return tap.open(
        request.method or "",
        request.url or "",
        lambda: bytes_of(request.body),
        headers=request.headers or (),
    )


@harmless()
def _follow(response: t.Any, meter: Meter) -> None:
    """Attach the meter to the response body."""
    meter.respond(response.status_code or 0, dict(response.headers))
    raw = response.raw
    if inspect.iscoroutinefunction(raw.read):
        vars(raw)["_llm_cost"] = meter
        become(raw, _AsyncTeeRaw)
    else:
        follow_body(raw, meter)


class _AsyncTeeRaw:
    """The body of a response of asyncio. Its other methods use these."""

    _llm_cost: Meter

    async def read(
        self, amt: int | None = None, *args: t.Any, **options: t.Any
    ) -> t.Any:
        meter = self._llm_cost
        try:
            data = await super().read(amt, *args, **options)  # type: ignore[misc]
        except Exception:
            meter.fail()
            raise
        if data:
            meter.feed(data, decoded=True)
        if not data or amt is None or amt < 0:
            meter.end()
        return data

    async def close(self) -> None:
        self._llm_cost.close()
        await super().close()  # type: ignore[misc]

    def __del__(self) -> None:
        self._llm_cost.abandon()


def _send(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    def send(self: t.Any, request: t.Any, *args: t.Any, **options: t.Any) -> t.Any:
        pass_on = bound(original, self)
        meter = _open(patch.tap, request, options)
        if meter is None:
            return pass_on(request, *args, **options)
        with meter.sending(request):
            response = pass_on(request, *args, **options)
        _follow(response, meter)
        return response

    return send


def _send_async(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    async def send(
        self: t.Any, request: t.Any, *args: t.Any, **options: t.Any
    ) -> t.Any:
        pass_on = bound(original, self)
        meter = _open(patch.tap, request, options)
        if meter is None:
            return await pass_on(request, *args, **options)
        with meter.sending(request):
            response = await pass_on(request, *args, **options)
        _follow(response, meter)
        return response

    return send


def patches(module: str) -> list[Patch]:
    """The patches that capture every session in the process."""
    library: t.Any = importlib.import_module("niquests.adapters")
    return [
        Patch(library.HTTPAdapter, "send", _send),
        Patch(library.AsyncHTTPAdapter, "send", _send_async),
    ]
