"""Captures aiohttp sessions.

Every call goes through a session's ``_request`` (not public, but it has been there from the
beginning). The reader of the response body is replaced by one that reports what it hands
out to a :class:`.Meter`. Redirects are followed inside: they are part of the attempt.
"""

from __future__ import annotations

import functools
import json
import types
import typing as t
import weakref
from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Coroutine
from collections.abc import Mapping

from aiohttp import ClientResponse
from aiohttp import ClientSession
from aiohttp import FormData
from aiohttp import StreamReader
from multidict import CIMultiDict

from .aiohttp_websocket import websocket_patches
from .connection import merged
from .form import form
from .harmless import harmless
from .meter import Meter
from .patch import become
from .patch import bound
from .patch import Patch
from .tap import Tap


async def captured(
    tap: Tap | None,
    session: ClientSession,
    send: Callable[..., Awaitable[ClientResponse]],
    method: str,
    url: t.Any,
    **options: t.Any,
) -> ClientResponse:
    """Send a request, and record the call if it is one to an LLM.

    :param send: The session's ``_request``, bound to it.
    """
    meter = None if tap is None else _open(tap, session, method, url, options)
    if meter is None:
        return await send(method, url, **options)
    # With `raise_for_status` the response is an exception.
    with meter.sending(options, _asking, _status_of) as options:
        response = await send(method, url, **options)
    decoded = options.get("auto_decompress")
    if decoded is None:
        decoded = session.auto_decompress
    _follow(response, meter, bool(decoded))
    return response


def _open(
    tap: Tap,
    session: ClientSession,
    method: str,
    url: t.Any,
    options: dict[str, t.Any],
) -> Meter | None:
    return tap.open(
        method,
        _full(session, url) or "",
        lambda: _body_of(options),
        lambda: _form_of(options),
        headers=lambda: merged(session.headers, options.get("headers")),
    )


@harmless()
def _full(session: ClientSession, url: t.Any) -> str:
    base = getattr(session, "_base_url", None)
    text = str(url)
    return text if base is None or "://" in text else str(base.join(type(base)(text)))


def _status_of(error: BaseException) -> int | None:
    status = getattr(error, "status", None)
    return status or None if isinstance(status, int) else None


def _body_of(options: dict[str, t.Any]) -> bytes | None:
    """The body, if it is already in memory; nothing is consumed."""
    data = options.get("data")
    if isinstance(data, str):
        return data.encode("utf-8", "replace")
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    if data is None and options.get("json") is not None:
        return json.dumps(options["json"], default=str).encode()
    return None


def _form_of(options: dict[str, t.Any]) -> bytes | None:
    """The fields of a form that is not sent yet: a mapping, pairs or ``FormData``."""
    data = options.get("data")
    if isinstance(data, FormData):
        # Not public: each field has options (with its name), headers and a value.
        fields = getattr(data, "_fields", ())
        return form([(named.get("name"), value) for named, _, value in fields])
    if isinstance(data, Mapping):
        return form(data.items())
    if isinstance(data, (list, tuple)):
        return form(
            [pair for pair in data if isinstance(pair, tuple) and len(pair) == 2]
        )
    return None


@harmless()
def _asking(options: dict[str, t.Any], body: bytes) -> dict[str, t.Any]:
    """The options of a request with another body."""
    data, headers = options.get("data"), options.get("headers")
    if data is None:
        # The session encodes it with the app's own JSON encoder.
        document = options["json"]
        given = document.get("stream_options") or {}
        asked = {**document, "stream_options": {**given, "include_usage": True}}
        return {**options, "json": asked}
    if headers is not None:
        headers = CIMultiDict(headers)
        if "Content-Length" in headers:
            headers["Content-Length"] = str(len(body))
    asking = body.decode() if isinstance(data, str) else body
    return {**options, "data": asking, "headers": headers}


@harmless()
def _follow(response: ClientResponse, meter: Meter, decoded: bool) -> None:
    """Attach the meter to the response body."""
    meter.respond(response.status, response.headers)
    content = response.content
    if content.at_eof():
        # Already read by a middleware, made by a stub, or empty.
        body = getattr(response, "_body", None)
        if body:
            meter.feed(body, decoded=True)
        meter.end()
        return
    response.content = _TeeReader(content, meter, decoded)
    response.__dict__["_llm_cost"] = meter
    become(response, _TeeResponse)


class _TeeReader(StreamReader):
    """Hands out the bytes of another reader, and delegates everything else to it.

    It is a StreamReader for the sake of ``isinstance``, but has none of its state.
    """

    __slots__ = ("_decoded", "_inner", "_meter")

    def __init__(self, inner: StreamReader, meter: Meter, decoded: bool) -> None:
        self._inner = inner
        self._meter = meter
        self._decoded = decoded

    def __repr__(self) -> str:
        return repr(self._inner)

    def __getattr__(self, name: str) -> t.Any:
        return getattr(object.__getattribute__(self, "_inner"), name)

    def _report(self, data: t.Any) -> t.Any:
        chunk = data[0] if isinstance(data, tuple) else data
        if chunk:
            self._meter.feed(chunk, decoded=self._decoded)
        if self._inner.at_eof():
            self._meter.end()
        return data


def _reading(name: str) -> Callable[..., t.Any]:
    async def read(self: _TeeReader, *args: t.Any, **kwargs: t.Any) -> t.Any:
        try:
            data = await getattr(self._inner, name)(*args, **kwargs)
        except Exception:
            if self._inner.exception() is not None:
                self._meter.fail()
            raise
        return self._report(data)

    return functools.wraps(getattr(StreamReader, name))(read)


def _read_nowait(self: _TeeReader, *args: t.Any, **kwargs: t.Any) -> bytes:
    return t.cast(bytes, self._report(self._inner.read_nowait(*args, **kwargs)))


def _passing(name: str) -> Callable[..., t.Any]:
    def passed(self: _TeeReader, *args: t.Any, **kwargs: t.Any) -> t.Any:
        return getattr(self._inner, name)(*args, **kwargs)

    return functools.wraps(getattr(StreamReader, name))(passed)


_READS: t.Final = (
    "read",
    "readany",
    "readchunk",
    "readexactly",
    "readline",
    "readuntil",
)

for _name, _method in vars(StreamReader).items():
    # The iterators use the read methods, so they are inherited.
    if isinstance(_method, types.FunctionType) and not _name.startswith(
        ("__", "iter_")
    ):
        if _name in _READS:
            setattr(_TeeReader, _name, _reading(_name))
        elif _name == "read_nowait":
            setattr(_TeeReader, _name, _read_nowait)
        else:
            setattr(_TeeReader, _name, _passing(_name))


if t.TYPE_CHECKING:
    _Response = ClientResponse
else:
    _Response = object


class _TeeResponse(_Response):
    """A response that reports when the caller is done with it."""

    _llm_cost: Meter

    def close(self) -> None:
        self._llm_cost.close()
        super().close()

    def release(self) -> t.Any:
        self._llm_cost.close()
        return super().release()

    def __del__(self, *args: t.Any) -> None:
        self._llm_cost.abandon()
        super().__del__(*args)


def patches(module: str) -> list[Patch]:
    """The patches that capture every session in the process."""

    def around(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
        async def _request(
            self: ClientSession, method: str, str_or_url: t.Any, **options: t.Any
        ) -> ClientResponse:
            send = bound(original, self)
            return await captured(patch.tap, self, send, method, str_or_url, **options)

        return _request

    return [Patch(ClientSession, "_request", around), *websocket_patches()]


def target_of(library: str, client: object) -> ClientSession | None:
    """The client, if it is a session."""
    return client if isinstance(client, ClientSession) else None


def wrap(tap: Tap, session: ClientSession) -> None:
    """Capture the calls of one session. If it is wrapped again, the new tap applies."""
    # Not a subclass as elsewhere: aiohttp warns about those.
    session.__dict__["_request"] = functools.partial(
        _request, tap, weakref.ref(session)
    )


def _request(
    tap: Tap,
    wrapped: weakref.ref[ClientSession],
    method: str,
    str_or_url: t.Any,
    **options: t.Any,
) -> Coroutine[t.Any, t.Any, ClientResponse]:
    # Now, not when it is awaited: from here on the call keeps its session alive.
    session = wrapped()
    assert session is not None
    send = functools.partial(type(session)._request, session)
    return captured(tap, session, send, method, str_or_url, **options)
