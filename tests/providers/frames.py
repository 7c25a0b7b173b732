"""Writes the frames of AWS event streams."""

from __future__ import annotations

import struct
import zlib


def event_frame(name: str, payload: bytes) -> bytes:
    """One frame: a prelude, three headers, a payload, and two checksums."""
    headers = b""
    for key, value in (
        (":event-type", name),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ):
        headers += bytes([len(key)]) + key.encode() + b"\x07"
        headers += len(value).to_bytes(2) + value.encode()
    start = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    start += zlib.crc32(start).to_bytes(4)
    body = start + headers + payload
    return body + zlib.crc32(body).to_bytes(4)
