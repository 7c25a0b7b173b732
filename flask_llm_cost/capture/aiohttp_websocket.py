"""Captures the websockets of aiohttp's client sessions."""

from __future__ import annotations

import typing as t
from asyncio import current_task
from collections.abc import Callable

from aiohttp import ClientWebSocketResponse
from aiohttp import WSMessage
from aiohttp import WSMsgType

from .patch import bound
from .patch import Patch
from .turns import Handshake
from .websocket_sessions import sending
from .websocket_sessions import SESSION
from .websocket_sessions import session_of

_READER: t.Final = "_llm_cost_reader"
"""Where a websocket has the task that receives: it closes by itself if it is lost."""

_DATA: t.Final = (WSMsgType.TEXT, WSMsgType.BINARY)
_ENDS: t.Final = (
    WSMsgType.CLOSE,
    WSMsgType.CLOSING,
    WSMsgType.CLOSED,
    WSMsgType.ERROR,
)


def _opened(websocket: t.Any) -> Handshake:
    # Not public: the response that became the websocket.
    response = websocket._response
    url = response.url
    url = url.with_scheme("wss" if url.scheme in ("https", "wss") else "ws")
    return Handshake(str(url.with_port(url.port)), response.request_info.headers)


def _send(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    async def send(self: t.Any, data: t.Any, *args: t.Any, **options: t.Any) -> None:
        tap = patch.tap
        with sending(tap, session_of(tap, self, _opened), data):
            await bound(original, self)(data, *args, **options)

    return send


def _receive(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    async def receive(self: t.Any, *args: t.Any, **options: t.Any) -> WSMessage:
        session, own = session_of(patch.tap, self, _opened), vars(self)
        if session is None:
            return t.cast(WSMessage, await bound(original, self)(*args, **options))
        own[_READER] = current_task()
        try:
            message: WSMessage = await bound(original, self)(*args, **options)
        finally:
            own[_READER] = None
        if message.type in _DATA:
            session.received(patch.tap, message.data)
        elif message.type in _ENDS:
            session.lost()
        return message

    return receive


def _close(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    async def close(self: t.Any, *args: t.Any, **options: t.Any) -> t.Any:
        own = vars(self)
        session = own.get(SESSION)
        if session is not None and own.get(_READER) is not current_task():
            session.closed()
        return await bound(original, self)(*args, **options)

    return close


def websocket_patches() -> list[Patch]:
    """The patches that capture every websocket of the process."""
    return [
        Patch(ClientWebSocketResponse, "send_str", _send),
        Patch(ClientWebSocketResponse, "send_bytes", _send),
        Patch(ClientWebSocketResponse, "receive", _receive),
        Patch(ClientWebSocketResponse, "close", _close),
    ]
