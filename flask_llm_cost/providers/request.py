"""Which model does a request ask for, and does it ask for a stream and its usage?"""

from __future__ import annotations

import re
import typing as t

from . import sparse

_CONTENT: t.Final = frozenset(
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


def parse_request(body: bytes) -> tuple[str | None, bool]:
    """The model and whether a stream is wanted, of a JSON or multipart body."""
    start = body[:64].lstrip()
    if start.startswith(b"--"):
        return _form(body)
    if not start.startswith(b"{"):
        return None, False
    members = sparse.head(body, _CONTENT)
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


_OPTIONS: t.Final = "stream_options"
_WANTED: t.Final = b'"stream_options":{"include_usage":true}'
_GIVEN: t.Final = re.compile(rb'"stream_options"\s*:\s*(?:null|\{(?P<inner>[^{}]*)\})')


def inject_stream_usage(body: bytes) -> bytes | None:
    """The body of a stream's request, asking for its usage as well.

    Nothing but ``stream_options`` differs, to the byte.

    :return: ``None`` if it says already whether it asks, or is no such body.
    """
    if not body.lstrip().startswith(b"{") or not body.rstrip().endswith(b"}"):
        return None
    document = sparse.parse(body)
    if not isinstance(document, dict):
        return None
    options = document.get(_OPTIONS)
    if _OPTIONS not in document:
        # The name is in something that was asked.
        return _added(body)
    if options is not None and (
        not isinstance(options, dict) or "include_usage" in options
    ):
        return None
    wanted = {**document, _OPTIONS: {**(options or {}), "include_usage": True}}
    for given in _GIVEN.finditer(body):
        inner = (given["inner"] or b"").strip()
        asked = _WANTED[:-1] + (b"," + inner if inner else b"") + b"}"
        changed = body[: given.start()] + asked + body[given.end() :]
        # There may be more places that look like it; only one is it.
        if sparse.parse(changed) == wanted:
            return changed
    return None


def _added(body: bytes) -> bytes:
    end = body.rindex(b"}")
    before = b"" if body[:end].rstrip().endswith(b"{") else b","
    return body[:end] + before + _WANTED + body[end:]
