"""Which model does a form ask for that is sent piece by piece, such as one with a file?

Its body is never in memory as a whole, and reading it would use up what is to be sent. But
its fields are there.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterable

_NAMES: t.Final = ("model", "stream")
"""What is asked of a request; the rest may be a prompt, and is not touched."""

_LONGEST: t.Final = 256


def form(fields: Iterable[tuple[object, object]]) -> bytes:
    """The fields that say what is asked for, written as in a ``multipart/form-data`` body.

    :param fields: Name and value of each, as the client library has them; values of any
        type, of which text and bytes are taken.
    """
    parts = [b"--"]
    for name, value in fields:
        if isinstance(value, str):
            value = value.encode("utf-8", "replace")
        if name in _NAMES and isinstance(value, bytes) and len(value) <= _LONGEST:
            parts.append(
                f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
                + value
            )
    return b"\r\n".join([*parts, b""])
