"""Reads the requested model from a form that is streamed, such as one with a file.

Its body is never in memory as a whole, and reading it would consume it. But its fields are
available.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterable

from ..providers.elevenlabs import EXTRAS

_NAMES: t.Final = ("model", "model_id", "stream")
"""The fields that are read. Others may be a prompt, and are not touched."""

_MAX_BYTES: t.Final = 256


def form(fields: Iterable[tuple[object, object]]) -> bytes:
    """The fields that are read, encoded as in a ``multipart/form-data`` body.

    :param fields: Names and values, as the client library has them. Only values that are
        text or bytes are used.
    """
    parts = [b"--"]
    for name, value in fields:
        if isinstance(value, str):
            value = value.encode("utf-8", "replace")
        if name in EXTRAS:
            # That it is there says what is billed. Its value may be content.
            value = b"false" if value == b"false" else b"true"
        elif name not in _NAMES:
            continue
        if isinstance(value, bytes) and len(value) <= _MAX_BYTES:
            parts.append(
                f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
                + value
            )
    return b"\r\n".join([*parts, b""])
