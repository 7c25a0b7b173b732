"""Reads TwelveLabs' analyses of videos. Only their output is billed by the token.

The video itself is billed by its minutes, which no answer says. Source: the SDK's types
``NonStreamAnalyzeResponse`` and ``TokenUsage``.
"""

from __future__ import annotations

import typing as t

from ..call import Usage
from .dialect import Dialect
from .dialect import inner
from .dialect import Notes
from .dialect import Object


def read(notes: Notes, document: Object) -> None:
    """Take notes of an answer or of one event of a stream."""
    notes.identify(
        model=document.get("model_name"),
        response_id=document.get("id", document.get("generation_id")),
    )
    used = inner(document, "usage") or inner(inner(document, "metadata"), "usage")
    if notes.merge(used):
        notes.flags.add("unread_usage")
        notes.complete = True


def usage(notes: Notes) -> Usage | None:
    """Get the output."""
    if not notes.usage:
        return None
    return Usage(output_tokens=notes.count(notes.usage.get("output_tokens")))


ANALYZE: t.Final = Dialect(
    read=read,
    usage=usage,
    content=frozenset(("data",)),
    tail=("usage", "id"),
    parse_whole_if=(b"",),
)
