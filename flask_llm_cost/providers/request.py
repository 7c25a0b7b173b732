"""Reads the model and the stream option of a request, and adds the usage option."""

from __future__ import annotations

import json
import re
import typing as t

from ..bound import requested_tier
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
"""Members that hold the prompt. They are skipped, not parsed."""

_UTF8: t.Final = re.compile(rb"\{[^\0]")
"""How nearly all requests begin: an object in UTF-8, without a byte order mark."""

_FIELD: t.Final = re.compile(
    rb'name="?(model|stream)"?\r?\n(?:[^\r\n]+\r?\n)*\r?\n([^\r\n]{1,256})\r?\n'
)
_ANY_FIELD: t.Final = re.compile(
    rb'name="?([a-z_]{1,64})"?\r?\n(?:[^\r\n]+\r?\n)*\r?\n([^\r\n]{1,256})\r?\n'
)


def parse_request(body: bytes) -> tuple[str | None, bool]:
    """Get the model, and whether a stream is requested, from a JSON or multipart body."""
    if not _UTF8.match(body):
        encoding = json.detect_encoding(body)
        if encoding != "utf-8":
            body = body.decode(encoding, "replace").encode()
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
    requested = model if isinstance(model, str) and model else None
    return requested, members.get("stream") is True


def parse_members(body: bytes) -> dict[str, t.Any] | None:
    """Get all members of a JSON body, or the short fields of a multipart body."""
    if body[:64].lstrip().startswith(b"--"):
        return {
            found[1].decode("utf-8", "replace"): found[2].decode("utf-8", "replace")
            for found in _ANY_FIELD.finditer(body)
        }
    document = sparse.parse(body)
    return document if isinstance(document, dict) else None


_TIER_MARKS: t.Final = (
    b'"service_tier"',
    b'"serviceTier"',
    b'"speed"',
    b'"performanceConfig"',
)
_CHOSEN_BY_PROVIDER: t.Final = frozenset(
    ("auto", "default", "standard", "standard_only", "on_demand", "unspecified")
)


def asked_tier(body: bytes) -> str | None:
    """Get the service tier that a request asks for, unless it is the standard one."""
    if not any(mark in body for mark in _TIER_MARKS):
        return None
    tier = requested_tier(parse_members(body) or {})
    name = (tier or "").lower().removeprefix("service_tier_")
    return None if not name or name in _CHOSEN_BY_PROVIDER else name


def _form(body: bytes) -> tuple[str | None, bool]:
    fields = {m.group(1): m.group(2) for m in _FIELD.finditer(body)}
    model = fields.get(b"model", b"").decode("utf-8", "replace")
    return model or None, fields.get(b"stream", b"").lower() == b"true"


_OPTIONS: t.Final = "stream_options"
_INJECTED: t.Final = b'"stream_options":{"include_usage":true}'
_EXISTING: t.Final = re.compile(
    rb'"stream_options"\s*:\s*(?:null|\{(?P<inner>[^{}]*)\})'
)


def inject_stream_usage(body: bytes) -> bytes | None:
    """Add ``stream_options.include_usage`` to a JSON body, and change no other byte.

    :return: ``None`` if the option is set already, or the body has another form.
    """
    if not body.lstrip().startswith(b"{") or not body.rstrip().endswith(b"}"):
        return None
    document = sparse.parse(body)
    if not isinstance(document, dict):
        return None
    options = document.get(_OPTIONS)
    if _OPTIONS not in document:
        # The name can still occur in the prompt.
        return _added(body)
    if options is not None and (
        not isinstance(options, dict) or "include_usage" in options
    ):
        return None
    wanted = {**document, _OPTIONS: {**(options or {}), "include_usage": True}}
    for found in _EXISTING.finditer(body):
        inner = (found["inner"] or b"").strip()
        injected = _INJECTED[:-1] + (b"," + inner if inner else b"") + b"}"
        changed = body[: found.start()] + injected + body[found.end() :]
        # The prompt may contain matches, too. Only one of them is the real member.
        if sparse.parse(changed) == wanted:
            return changed
    return None


def _added(body: bytes) -> bytes:
    end = body.rindex(b"}")
    before = b"" if body[:end].rstrip().endswith(b"{") else b","
    return body[:end] + before + _INJECTED + body[end:]
