"""Captures client connections of ``websockets``, of threads and of asyncio.

The classes also serve an app's own websockets, which are left alone.
"""

from __future__ import annotations

import sys
import typing as t
from collections.abc import Callable

from .patch import bound
from .patch import Patch
from .turns import Handshake
from .websocket_sessions import Either
from .websocket_sessions import sending
from .websocket_sessions import SESSION
from .websocket_sessions import session_of


def _opened(connection: t.Any) -> Handshake | None:
    uri = getattr(connection.protocol, "uri", None)
    if uri is None:
        # The app's own server.
        return None
    scheme = "wss" if uri.secure else "ws"
    host = f"[{uri.host}]" if ":" in uri.host else uri.host
    url = f"{scheme}://{host}:{uri.port}{uri.resource_name}"
    request = getattr(connection, "request", None)
    return Handshake(url, () if request is None else request.headers.raw_items())


def _send(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    def send(self: t.Any, message: t.Any, **options: t.Any) -> None:
        tap = patch.tap
        with sending(tap, session_of(tap, self, _opened), message):
            bound(original, self)(message, **options)

    return send


def _receive(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    def recv(self: t.Any, *args: t.Any, **options: t.Any) -> t.Any:
        receive = bound(original, self)
        session = session_of(patch.tap, self, _opened)
        if session is None:
            return receive(*args, **options)
        try:
            message = receive(*args, **options)
        except Exception as error:
            _note(session, error)
            raise
        session.received(patch.tap, message)
        return message

    return recv


def _close(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    def close(self: t.Any, *args: t.Any, **options: t.Any) -> t.Any:
        session = vars(self).get(SESSION)
        if session is not None:
            session.closed()
        return bound(original, self)(*args, **options)

    return close


def _send_async(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    async def send(self: t.Any, message: t.Any, **options: t.Any) -> None:
        tap = patch.tap
        with sending(tap, session_of(tap, self, _opened), message):
            await bound(original, self)(message, **options)

    return send


def _receive_async(
    patch: Patch, original: Callable[..., t.Any]
) -> Callable[..., t.Any]:
    async def recv(self: t.Any, *args: t.Any, **options: t.Any) -> t.Any:
        receive = bound(original, self)
        session = session_of(patch.tap, self, _opened)
        if session is None:
            return await receive(*args, **options)
        try:
            message = await receive(*args, **options)
        except Exception as error:
            _note(session, error)
            raise
        session.received(patch.tap, message)
        return message

    return recv


def _close_async(patch: Patch, original: Callable[..., t.Any]) -> Callable[..., t.Any]:
    async def close(self: t.Any, *args: t.Any, **options: t.Any) -> None:
        session = vars(self).get(SESSION)
        if session is not None:
            session.closed()
        await bound(original, self)(*args, **options)

    return close


def _note(session: Either, error: Exception) -> None:
    """End the turns if the connection has ended: an app may try to read again later."""
    from websockets.exceptions import ConnectionClosed

    if isinstance(error, ConnectionClosed):
        session.lost()


def patches(module: str) -> list[Patch]:
    """The patches that capture every connection of threads, or of asyncio.

    :raises ImportError: If this version has other connections.
    """
    owner: t.Any = vars(sys.modules[module]).get("Connection")
    if owner is None or not {"send", "recv", "close"} <= set(vars(owner)):
        raise ImportError("its connections have an unknown layout")
    if ".sync." in module:
        return [
            Patch(owner, "send", _send),
            Patch(owner, "recv", _receive),
            Patch(owner, "close", _close),
        ]
    return [
        Patch(owner, "send", _send_async),
        Patch(owner, "recv", _receive_async),
        Patch(owner, "close", _close_async),
    ]
