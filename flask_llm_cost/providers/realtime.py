"""Reads the events of realtime and live sessions of OpenAI, and of Gemini's live ones.

A session is a web socket, so the app passes its events or a log of them. Each answer in
it is a call: a response, a transcript of what the user said (by another model), what a
live model delegated, a turn of Gemini's. The time of a live session of OpenAI is one more.

Sources: the openai SDK's types ``RealtimeServerEvent`` and ``live.ServerEvent``,
https://ai.google.dev/api/live#usagemetadata. That Gemini's counts are those of a turn and
not of the session was measured: https://github.com/pydantic/pydantic-ai/pull/7269.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..call import Usage
from . import gemini
from . import openai
from . import openai_media
from . import openai_usage
from .dialect import Dialect
from .dialect import inner
from .dialect import needles
from .dialect import Notes
from .dialect import Object
from .openai_usage import COUNTED

_TRANSCRIBED: t.Final = "conversation.item.input_audio_transcription.completed"
_ENDS: t.Final = ("response.completed", "response.failed", "response.incomplete")
"""The last events of a response that a live session delegates."""


def is_realtime(event: Object) -> bool:
    """Whether an event certainly belongs to a session of OpenAI."""
    kind = str(event.get("type"))
    return (
        kind in _KINDS
        or kind.startswith(("conversation.", "input_audio_buffer."))
        or inner(event, "response").get("object") == "realtime.response"
    )


_KINDS: t.Final = frozenset(
    (
        "response.done",
        "response.event",
        "decision.event",
        "session.created",
        "session.started",
        "session.updated",
        "session.usage.updated",
        "session.closed",
    )
)


def turns(notes: Notes, document: Object) -> list[Notes]:
    """Return the answers that ended before an event, or that it consists of."""
    if _is_gemini(document):
        again = "turn" in notes.extra and gemini.reported(document)
        return [notes.take()] if again else []
    kind = document.get("type")
    aside = _aside(notes, document)
    if aside is not None:
        return [aside]
    begins = kind == "response.created" or (
        kind == "response.done" and not notes.partial
    )
    return [notes.take()] if begins and notes.usage else []


def read(notes: Notes, document: Object) -> None:
    """Take notes of one event of either provider."""
    if _is_gemini(document):
        _read_live(notes, document)
        return
    _note_session(notes, document)
    kind = document.get("type")
    response = inner(document, "response")
    if kind == "response.created":
        notes.identify(model=None, response_id=response.get("id"))
        notes.partial = True
    elif kind == "response.done":
        # Another one may have begun meanwhile, so the first id is not always the one.
        notes.response_id = None
        notes.identify(model=None, response_id=response.get("id"))
        notes.merge(response.get("usage"))
        notes.partial, notes.complete = False, True
        if response.get("status") == "completed" and not _counts(notes.usage):
            # xAI bills the time: https://docs.x.ai/docs/guides/voice.
            notes.flags.add("session_fee")
    elif kind in ("session.usage.updated", "session.closed"):
        _read_time(notes, document)
    elif kind == _TRANSCRIBED and _is_empty(notes):
        _read_transcript(notes, document)


def _is_gemini(document: Object) -> bool:
    return "usageMetadata" in document or gemini.is_live(document)


def _is_empty(notes: Notes) -> bool:
    return not (notes.usage or notes.partial)


def _note_session(notes: Notes, document: Object) -> None:
    session = inner(document, "session")
    listens = inner(inner(session, "audio"), "input")
    by = inner(listens, "transcription") or inner(session, "input_audio_transcription")
    for name, model in (("model", session.get("model")), ("by", by.get("model"))):
        if isinstance(model, str) and model:
            notes.session[name] = model
    if isinstance(session.get("id"), str):
        notes.session["id"] = session["id"]
    notes.identify(model=notes.session.get("model"), response_id=None)


def _aside(notes: Notes, document: Object) -> Notes | None:
    """Read an event that is an answer of its own, of another model than the session's."""
    kind = document.get("type")
    if kind == _TRANSCRIBED and not _is_empty(notes):
        aside = Notes(notes.provider, session=notes.session)
        _read_transcript(aside, document)
        return aside
    event = inner(document, "event")
    if kind == "response.event" and event.get("type") in _ENDS:
        aside = Notes(notes.provider, "responses")
        openai.read(aside, event)
        return aside
    if kind == "decision.event":
        aside = Notes(notes.provider, "decisions")
        openai.read(aside, inner(event, "decision"))
        return aside
    return None


def _counts(usage: Object) -> bool:
    return any(usage.get(name) for name in COUNTED)


def _read_transcript(notes: Notes, document: Object) -> None:
    # The session may name its model. That of the session is never the one.
    notes.model = notes.session.get("by", "transcription")
    notes.operation = "audio"
    notes.identify(model=None, response_id=document.get("item_id"))
    openai_media.read_audio(notes, {"usage": document.get("usage")})
    notes.complete = True


def _read_time(notes: Notes, document: Object) -> None:
    """Take notes of the time of a live session. Each event has that of all before."""
    used = inner(document, "usage")
    seconds = notes.amount(used.get("seconds"))
    if seconds is None:
        return
    notes.merge({"seconds": used["seconds"]})
    notes.units["audio_second"] = seconds
    notes.identify(model=None, response_id=notes.session.get("id"))
    notes.complete = document.get("type") == "session.closed"
    if notes.amount(used.get("paused_seconds")):
        # Billed at a rate of its own, which no event names.
        notes.flags.add("unread_usage")


def _read_live(notes: Notes, document: Object) -> None:
    """Take notes of a message of Gemini's, whose last one of a turn has the usage."""
    turn = notes.session.setdefault("turn", Notes(provider=notes.provider))
    turn.model = notes.model or notes.request_model
    content = document.get("serverContent", document.get("server_content"))
    gemini.read(turn, {**document, "candidates": [content]})
    if turn.usage:
        notes.extra["turn"] = gemini.usage(turn)
        notes.flags |= turn.flags
        notes.service_tier = gemini.tier(turn) or notes.service_tier
        del notes.session["turn"]


def usage(notes: Notes) -> Usage | None:
    """Get what the last answer used."""
    if "turn" in notes.extra:
        turn: Usage | None = notes.extra["turn"]
        return turn
    return openai_usage.usage(notes)


REALTIME: t.Final = Dialect(
    read=read,
    usage=usage,
    turns=turns,
    needles=needles(
        rb'"session\.',
        rb'"response\.(?:created|done|event)"',
        rb'"decision\.event"',
        rb'_transcription\.completed"',
        rb'"usageMetadata"',
        rb'"groundingMetadata"',
    ),
    parse_whole_if=(b'"usage"', b'"usageMetadata"'),
)

LIVE: t.Final = dataclasses.replace(REALTIME, whole=True)
"""A session whose time is billed."""
