"""Answers in a file of batch results: each is a call."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping

from ..call import Reading
from ..call import Usage
from .dialect import Dialect
from .dialect import Notes
from .routes import Route

_DATED_ID: t.Final = re.compile(r"[a-z_]+_([0-9a-f]{8})[0-9a-f]{20,}$")
"""An OpenAI id that begins with its time, in seconds since 1970."""

_OPERATIONS: t.Final = {
    "response": "responses",
    "list": "embeddings",
    "text_completion": "completions",
    "embedding": "embeddings",
}
"""Operations by the ``object`` member of an answer."""


def result_notes(
    route: Route,
    dialect: Dialect,
    line: Mapping[str, t.Any],
    answer: Mapping[str, t.Any],
) -> Notes:
    """Read one answer.

    :param line: The line of the file that the answer is in.
    """
    kind = _OPERATIONS.get(str(answer.get("object")), "chat")
    notes = Notes(route.provider, operation=kind, service_tier="batch")
    dialect.read(notes, answer)
    # Embeddings have neither an id nor a date. Their line has both, or a key.
    notes.identify(model=None, response_id=line.get("id"))
    if route.response_id and line.get("key"):
        notes.identify(model=None, response_id=f"{route.response_id}/{line['key']}")
    if not notes.created_s:
        dated = _DATED_ID.match(str(line.get("id")))
        notes.date(None if dated is None else int(dated[1], 16))
    notes.service_tier, notes.background = "batch", True
    return notes


def missed_results(route: Route, document: Mapping[str, t.Any]) -> Reading:
    """Report answers that were too long to keep as one whose usage is not known."""
    name = document.get("name", document.get("id"))
    return Reading(
        provider=route.provider,
        operation=route.operation,
        response_id=name if isinstance(name, str) else None,
        usage=Usage(),
        flags=frozenset(("unread_usage", "results_dropped")),
    )
