"""Which model does a request ask for, and does it ask for a stream?"""

from __future__ import annotations

import re
import typing as t

from . import sparse

_HEAVY: t.Final = frozenset(
    (
        "messages",
        "input",
        "contents",
        "prompt",
        "system",
        "instructions",
        "tools",
        "documents",
        "texts",
        "images",
    )
)
"""Members that hold what was asked; they are skipped, not parsed."""

_FIELD: t.Final = re.compile(
    rb'name="?(model|stream)"?\r?\n(?:[^\r\n]+\r?\n)*\r?\n([^\r\n]{1,256})\r?\n'
)


def asked(body: bytes) -> tuple[str | None, bool]:
    """The model and whether a stream is wanted, of a JSON or multipart body."""
    start = body[:64].lstrip()
    if start.startswith(b"--"):
        return _form(body)
    if not start.startswith(b"{"):
        return None, False
    members = sparse.head(body, _HEAVY)
    for name in "model", "stream":
        if name not in members and f'"{name}"'.encode() in body:
            last = sparse.tail(body, name)
            if last is None:
                members = sparse.parse(body) or {}
                break
            members = {**last, **members}
    model = members.get("model")
    wanted = model if isinstance(model, str) and model else None
    return wanted, members.get("stream") is True


def _form(body: bytes) -> tuple[str | None, bool]:
    fields = {m.group(1): m.group(2) for m in _FIELD.finditer(body)}
    model = fields.get(b"model", b"").decode("utf-8", "replace")
    return model or None, fields.get(b"stream", b"").lower() == b"true"
