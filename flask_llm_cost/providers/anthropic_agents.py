"""Reads Anthropic's managed agents: the events of sessions, sessions and dreams.

Each request to a model is a call. A session has the usage of all of them, and the time that
it ran, so it is a call only if its requests were not seen. Sources: the anthropic SDK's
types ``BetaManagedAgentsSession``, ``BetaManagedAgentsSpanModelRequestEndEvent``,
``BetaManagedAgentsSpanOutcomeEvaluationEndEvent`` and ``BetaDream``, and
https://platform.claude.com/docs/en/managed-agents/session-observability.
"""

from __future__ import annotations

import dataclasses
import typing as t
from decimal import Decimal

from ..money import quotient
from . import anthropic
from .dialect import inner
from .dialect import items
from .dialect import needles
from .dialect import Notes
from .dialect import Object
from .dialect import one_by_one

_USAGE: t.Final = {
    "span.model_request_end": "model_usage",
    "span.outcome_evaluation_end": "usage",
}
"""Events with the usage of requests to a model, and the member that has it."""


def is_session(event: Object) -> bool:
    """Whether an event certainly belongs to a session."""
    kind = str(event.get("type"))
    return kind == "session" or kind.startswith(("span.", "session.status_"))


def requests(document: Object) -> list[Object]:
    """Return the events that end a request, in one event or in a page of them."""
    events = items(document.get("data")) or [document]
    return [each for each in events if str(inner({"": each}, "").get("type")) in _USAGE]


def take_request(notes: Notes, event: Object) -> None:
    """Take notes of a request. The time that its session runs is billed on top."""
    notes.identify(model=notes.session.get("model"), response_id=event.get("id"))
    notes.date_iso(event.get("processed_at"))
    notes.merge(event.get(_USAGE[event["type"]]))
    notes.background = notes.complete = True
    notes.flags.add("session_fee")


_turns, _read_requests = one_by_one(requests, take_request)


def turns(notes: Notes, document: Object) -> list[Notes]:
    """Return the requests that ended before this document, or in it."""
    if "sum" in notes.extra and requests(document):
        notes.take()  # the session's usage so far, which its requests have, too
    return _turns(notes, document)


def read(notes: Notes, document: Object) -> None:
    """Take notes of an event, of a page of them, of a session or of a thread of it."""
    _read_requests(notes, document)
    kind = document.get("type")
    model = inner(inner(document, "agent"), "model")
    if model.get("id"):
        notes.session["model"] = model["id"]
    if kind in ("session", "session_thread"):
        notes.identify(model=model.get("id"), response_id=document.get("id"))
    if kind == "session" and not notes.usage:
        _read_session(notes, document, model)


def _read_session(notes: Notes, document: Object, model: Object) -> None:
    notes.extra["sum"] = True
    notes.date_iso(document.get("created_at"))
    notes.merge(document.get("usage"))
    notes.merge({name: model.get(name) for name in ("speed", "inference_geo")})
    # A session that is idle can go on, and then its usage is not final.
    ended = document.get("status") == "terminated" or document.get("archived_at")
    notes.background = bool(ended)
    if cost(notes) is None:
        notes.flags.add("session_fee")


def cost(notes: Notes) -> Decimal | None:
    """Get the list price of a session: its tokens, its tools and the time that it ran."""
    listed = inner(notes.usage, "list_cost")
    cents = notes.amount(listed.get("amount"))
    if cents is None or listed.get("currency") != "USD":
        return None
    return quotient(cents, Decimal(100))


def read_dream(notes: Notes, document: Object) -> None:
    """Take notes of a dream. It runs in a session, whose time it does not report."""
    model = inner(document, "model")
    notes.identify(model=model.get("id"), response_id=document.get("id"))
    notes.date_iso(document.get("created_at"))
    notes.merge(document.get("usage"))
    notes.merge({"speed": model.get("speed")})
    status = document.get("status")
    notes.background = status in ("completed", "failed", "canceled")
    notes.flags.add("session_fee")
    if status == "canceled":
        # Its counts may still rise.
        notes.flags.add("unread_usage")


AGENTS: t.Final = dataclasses.replace(
    anthropic.MESSAGES,
    read=read,
    turns=turns,
    cost=cost,
    usage_by_model=lambda notes: {},
    request=None,
    needles=needles(rb"\"span\.", rb"\"agent\""),
    content=frozenset(),
    parse_whole_if=(b"",),
    envelope="",
)

DREAM: t.Final = dataclasses.replace(
    AGENTS, read=read_dream, turns=lambda notes, document: ()
)
