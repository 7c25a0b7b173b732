"""Captures sessions of curl_cffi, sync and asyncio. Each of its retries is an attempt."""

from __future__ import annotations

import importlib
import json
import typing as t
from asyncio import current_task
from collections.abc import AsyncIterator
from collections.abc import Callable
from collections.abc import Iterator
from urllib.parse import urljoin

from .chunks import teed
from .chunks import teed_async
from .connection import bytes_of
from .connection import merged
from .form import form
from .harmless import harmless
from .meter import Meter
from .patch import become
from .patch import bound
from .patch import Patch
from .tap import Tap

_READER: t.Final = "_llm_cost_reader"
"""Where a response has the task that reads it."""


def _open(tap: Tap | None, session: t.Any, options: dict[str, t.Any]) -> Meter | None:
    if tap is None:
        return None
    url = urljoin(getattr(session, "base_url", None) or "", str(options.get("url")))
    method = str(options.get("method"))
    return tap.open(
        method,
        url,
        lambda: _body(options),
        lambda: _form(options),
        headers=lambda: merged(session.headers, options.get("headers")),
    )


def _body(options: dict[str, t.Any]) -> bytes | None:
    """The body, if it is already in memory; nothing is consumed."""
    if options.get("json") is not None:
        return json.dumps(options["json"], default=str).encode()
    content = options.get("content")
    return bytes_of(options.get("data") if content is None else content)


def _form(options: dict[str, t.Any]) -> bytes | None:
    data = options.get("data")
    return form(data.items()) if isinstance(data, dict) else None


@harmless()
def _failed(error: BaseException, meter: Meter) -> None:
    """A send raised an error, with the part of the response that had come."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if isinstance(status, int) and status:
        meter.respond(status, {})
        meter.fail()


@harmless()
def _follow(response: t.Any, meter: Meter, streams: bool) -> None:
    """Attach the meter to the response body. curl has decoded it."""
    meter.respond(response.status_code, dict(response.headers))
    if streams:
        vars(response)["_llm_cost"] = meter
        become(response, _TeeResponse)
        return
    meter.feed(response.content, decoded=True)
    meter.end()


class _TeeResponse:
    """A streamed response that is followed."""

    _llm_cost: Meter

    def iter_content(self, *args: t.Any, **options: t.Any) -> Iterator[bytes]:
        chunks = super().iter_content(*args, **options)  # type: ignore[misc]
        return teed(chunks, self._llm_cost, decoded=True)

    def aiter_content(self, *args: t.Any, **options: t.Any) -> AsyncIterator[bytes]:
        chunks = super().aiter_content(*args, **options)  # type: ignore[misc]
        return teed_async(self._reading(chunks), self._llm_cost, decoded=True)

    async def _reading(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Note which task reads: at the end, the library closes the response itself."""
        own = vars(self)
        while True:
            own[_READER] = current_task()
            try:
                chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            finally:
                own[_READER] = None
            yield chunk

    def close(self) -> None:
        self._llm_cost.close()
        super().close()  # type: ignore[misc]

    async def aclose(self) -> None:
        if vars(self).get(_READER) is not current_task():
            self._llm_cost.close()
        await super().aclose()  # type: ignore[misc]

    def __del__(self) -> None:
        self._llm_cost.abandon()


def _send(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    def _request_once(self: t.Any, **options: t.Any) -> t.Any:
        send = bound(original, self)
        meter = _open(patch.tap, self, options)
        if meter is None:
            return send(**options)
        try:
            response = send(**options)
        except BaseException as error:
            _failed(error, meter)
            meter.no_response()
            raise
        _follow(response, meter, bool(options.get("stream")))
        return response

    return _request_once


def _send_async(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    async def _request_once(self: t.Any, **options: t.Any) -> t.Any:
        send = bound(original, self)
        meter = _open(patch.tap, self, options)
        if meter is None:
            return await send(**options)
        try:
            response = await send(**options)
        except BaseException as error:
            _failed(error, meter)
            meter.no_response()
            raise
        _follow(response, meter, bool(options.get("stream")))
        return response

    return _request_once


def patches(module: str) -> list[Patch]:
    """The patches that capture every session in the process.

    :raises ImportError: If this version has other sessions.
    """
    library: t.Any = importlib.import_module("curl_cffi.requests.session")
    # Not public: what a session's ``request`` calls for each attempt.
    if "_request_once" not in vars(library.Session):
        raise ImportError("its sessions have an unknown layout")
    return [
        Patch(library.Session, "_request_once", _send),
        Patch(library.AsyncSession, "_request_once", _send_async),
    ]
