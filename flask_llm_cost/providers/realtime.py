"""Reads the events of a realtime session of OpenAI or Gemini.

The session is a web socket, so the app passes its events or a log of them. Every answer
in it has its own usage, and these are summed. Sources:
https://platform.openai.com/docs/api-reference/realtime-server-events/response/done,
https://ai.google.dev/api/live#usagemetadata. That Gemini's counts are those of a turn and
not of the session was measured: https://github.com/pydantic/pydantic-ai/pull/7269.
"""

from __future__ import annotations

import typing as t

from ..call import Usage
from . import gemini
from . import openai_usage
from .dialect import CONFLICT
from .dialect import Dialect
from .dialect import inner
from .dialect import needles
from .dialect import Notes
from .dialect import Object


def read(notes: Notes, document: Object) -> None:
    """Take notes of one event of either provider."""
    session = inner(document, "session")
    notes.identify(model=session.get("model"), response_id=None)
    response = inner(document, "response")
    if document.get("type") == "response.done":
        notes.identify(model=None, response_id=response.get("id"))
        seen = response.get("usage")
        if isinstance(seen, dict):
            turn = Notes(usage=dict(seen), flags=notes.flags)
            _add(notes, openai_usage.usage(turn))
    elif "usageMetadata" in document or gemini.is_live(document):
        _read_live(notes, document)


def _read_live(notes: Notes, document: Object) -> None:
    """Take notes of a message of Gemini's, whose last one of a turn has the usage."""
    turn = notes.extra.setdefault("turn", Notes(provider=notes.provider))
    turn.model = notes.model or notes.request_model
    content = document.get("serverContent", document.get("server_content"))
    gemini.read(turn, {**document, "candidates": [content]})
    if turn.usage:
        _add(notes, gemini.usage(turn))
        notes.flags |= turn.flags
        notes.service_tier = gemini.tier(turn) or notes.service_tier
        del notes.extra["turn"]


def _add(notes: Notes, turn: Usage | None) -> None:
    if turn is not None:
        before = notes.extra.get("sum", Usage())
        try:
            notes.extra["sum"] = before.plus(turn)
        except ValueError:  # a sum that no session reaches
            notes.flags.add(CONFLICT)


def usage(notes: Notes) -> Usage | None:
    """Get the sum over all answers of the session."""
    found: Usage | None = notes.extra.get("sum")
    return found


REALTIME: t.Final = Dialect(
    read=read,
    usage=usage,
    needles=needles(rb'"response.done"', rb'"usageMetadata"', rb'"groundingMetadata"'),
    parse_whole_if=(b'"usage"', b'"usageMetadata"'),
)
