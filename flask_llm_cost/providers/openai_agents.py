"""Reads the sessions of OpenAI's agents. Each turn is a call.

Sources: the openai SDK's types ``AgentSession``, ``beta.agents.sessions.Turn``,
``AgentSessionTurnCompletedEvent`` and ``TokenUsage``, which says that its counts are best
effort. They do not show cache writes.
"""

from __future__ import annotations

import dataclasses
import typing as t
from decimal import Decimal

from . import openai
from .dialect import inner
from .dialect import items
from .dialect import needles
from .dialect import Notes
from .dialect import Object
from .dialect import one_by_one

_ENDED: t.Final = ("completed", "failed", "cancelled")
_TURN: t.Final = "agent.session.turn"
_LOCAL: t.Final = ("none", "self_hosted")
"""Types of environments that OpenAI does not bill. Others are billed by time."""


def is_session(event: Object) -> bool:
    """Whether an event certainly belongs to a session."""
    return str(event.get("type")).startswith("agent.session.")


def ended_turns(document: Object) -> list[Object]:
    """Return the turns that ended, of an event, of a turn or of a page of turns."""
    found: list[Object] = []
    for each in items(document.get("data")) or [document]:
        turn = inner(each, "turn") or inner({"": each}, "")
        if turn.get("object") == _TURN and turn.get("status") in _ENDED:
            usage = turn.get("usage") or inner(each, "usage")
            found.append({**turn, "usage": usage})
    return found


def take_turn(notes: Notes, turn: Object) -> None:
    """Take notes of a turn."""
    name, session = turn.get("id"), notes.session
    notes.identify(model=session.get("model"), response_id=name)
    notes.date(turn.get("created_at"))
    notes.merge(turn.get("usage"))
    notes.service_tier = session.get("tier")
    notes.background = notes.complete = True
    notes.flags.add("unread_usage")
    if session.get("environment") not in _LOCAL:
        notes.flags.add("session_fee")
    searches = session.setdefault("searches", {}).pop(str(name), 0)
    if searches:
        notes.units["web_search"] = Decimal(searches)


turns, _read_turns = one_by_one(ended_turns, take_turn)


def read(notes: Notes, document: Object) -> None:
    """Take notes of an event, of a session, of a turn or of a page of turns."""
    event_session = inner(document, "session")
    session = event_session or document
    if session.get("object") == "agent.session":
        _note_session(notes, session)
        if not event_session:
            # The answer itself, which tells the model of turns that are looked at later.
            model = notes.session.get("model")
            notes.identify(model=model, response_id=session.get("id"))
    unit = openai.billed(inner(document, "item"))
    if document.get("type") == f"{_TURN}.item.done" and unit == "web_search":
        searches = notes.session.setdefault("searches", {})
        turn = str(document.get("turn_id"))
        searches[turn] = searches.get(turn, 0) + 1
    _read_turns(notes, document)


def _note_session(notes: Notes, session: Object) -> None:
    agent = inner(session, "agent")
    notes.session["model"] = agent.get("model")
    notes.session["environment"] = inner(session, "environment").get("type")
    tier = agent.get("service_tier")
    if isinstance(tier, str) and tier != "auto":
        notes.session["tier"] = tier


AGENTS: t.Final = dataclasses.replace(
    openai.CHAT,
    read=read,
    turns=turns,
    needles=needles(rb"\bagent\.session"),
    content=frozenset(),
    parse_whole_if=(b"",),
    envelope="",
)
