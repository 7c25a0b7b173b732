"""What does the log of a realtime session mean, OpenAI's or Gemini's?

Such a session is a web socket, so that its events come from the app, or from a log.
Every answer in it has a usage of its own; they are added up. Sources:
https://platform.openai.com/docs/api-reference/realtime-server-events/response/done,
https://ai.google.dev/api/live#usagemetadata.
"""

from __future__ import annotations

import typing as t

from ..call import Usage
from . import gemini
from . import openai_usage
from .dialect import Dialect
from .dialect import inner
from .dialect import needles
from .dialect import Notes
from .dialect import Object


def read(notes: Notes, document: Object) -> None:
    """Take notes of one event, of either kind of session."""
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
        before = notes.extra.get("sum")
        notes.extra["sum"] = turn if before is None else before.plus(turn)


def usage(notes: Notes) -> Usage | None:
    """All answers of the session together."""
    found: Usage | None = notes.extra.get("sum")
    return found


REALTIME: t.Final = Dialect(
    read=read,
    usage=usage,
    needles=needles(rb'"response.done"', rb'"usageMetadata"'),
    parse_whole_if=(b'"usage"', b'"usageMetadata"'),
)
