"""What a connection is about to send: its URL and body."""

from __future__ import annotations

import typing as t
from http.client import HTTPConnection


def url_of(connection: HTTPConnection, target: str) -> str:
    """The URL of a request: its target is a path, or is sent to a proxy and absolute."""
    if "://" in target.partition("?")[0]:
        return target
    # Not public: where a proxy that is connected to relays everything.
    host = getattr(connection, "_tunnel_host", None)
    port = getattr(connection, "_tunnel_port", None) if host else connection.port
    host = host or connection.host
    scheme = "https" if connection.default_port == 443 else "http"
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"{scheme}://{host}:{port}{target}"


def merged(*headers: t.Any) -> list[tuple[t.Any, t.Any]]:
    """The headers of a session, and those of a request, which replace them.

    Each is a mapping, pairs, or nothing.
    """
    return [
        pair
        for each in headers
        for pair in (each.items() if hasattr(each, "items") else each or ())
    ]


def bytes_of(body: object) -> bytes | None:
    """A request's body, unless reading would consume it, as for files and generators."""
    if isinstance(body, str):
        return body.encode("utf-8", "replace")
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    return None
