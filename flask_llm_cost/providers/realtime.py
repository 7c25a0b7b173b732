"""Reads the events of a realtime session of OpenAI or Gemini.

The session is a web socket, so the app passes its events or a log of them. Every answer
in it has its own usage, and these are summed. Sources:
https://platform.openai.com/docs/api-reference/realtime-server-events/response/done,
https://ai.google.dev/api/live#usagemetadata.
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
        _add(notes, openai_usage.usage, response.get("usage"))
    _add(notes, gemini.usage, document.get("usageMetadata"))


def _add(notes: Notes, usage: t.Callable[[Notes], Usage | None], seen: object) -> None:
    if not isinstance(seen, dict):
        return
    turn = usage(Notes(usage=dict(seen), flags=notes.flags))
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
    needles=needles(rb'"response.done"', rb'"usageMetadata"'),
    parse_whole_if=(b'"usage"', b'"usageMetadata"'),
)
