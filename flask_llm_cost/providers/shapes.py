"""Recognizes an event's dialect, among those of its provider, by its format.

Streams that the app reports itself have no URL, which would show the dialect.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Sequence

from . import alibaba
from . import anthropic
from . import anthropic_agents
from . import bedrock
from . import cohere
from . import copilot
from . import gemini
from . import gemini_interactions
from . import groq
from . import meta
from . import ollama
from . import openai
from . import openai_agents
from . import realtime
from .dialect import Dialect
from .dialect import inner
from .dialect import Notes
from .dialect import Object


def _openai(event: Object) -> bool:
    return isinstance(event.get("choices"), list)


def _responses(event: Object) -> bool:
    # Other events named so occur in realtime sessions, too.
    kind = str(event.get("type"))
    return kind.startswith("response.") and "response" in event and not _realtime(event)


def _realtime(event: Object) -> bool:
    return realtime.is_realtime(event) or gemini.is_live(event)


def _anthropic(event: Object) -> bool:
    return event.get("type") in ("message_start", "message")


def _gemini(event: Object) -> bool:
    names = ("candidates", "usageMetadata", "usage_metadata")
    known = any(event.get(name) is not None for name in names)
    return known and not gemini.is_live(event)


def _interaction(event: Object) -> bool:
    return str(event.get("event_type")).startswith(("interaction.", "step."))


def _converse(event: Object) -> bool:
    return "messageStart" in event or bool(inner(event, "metadata").get("usage"))


def _ollama(event: Object) -> bool:
    return isinstance(event.get("done"), bool)


def _meta(event: Object) -> bool:
    return "completion_message" in event or "event" in event or _openai(event)


def _cohere(event: Object) -> bool:
    return event.get("type") in ("message-start", "message-end")


_SHAPES: t.Final[dict[object, Callable[[Object], bool]]] = {
    openai.read: _openai,
    alibaba.read: _openai,
    groq.read: _openai,
    copilot.read: _openai,
    anthropic.read: _anthropic,
    copilot.read_message: _anthropic,
    meta.read: _meta,
    gemini.read: _gemini,
    gemini_interactions.read: _interaction,
    openai_agents.read: openai_agents.is_session,
    anthropic_agents.read: anthropic_agents.is_session,
    realtime.read: _realtime,
    bedrock.read: _converse,
    ollama.read: _ollama,
    cohere.read: _cohere,
}
"""Whether an event is certainly in a dialect, by the dialect's reader."""


_RESPONSES: t.Final = (openai.RESPONSES, copilot.RESPONSES, alibaba.RESPONSES)


def _is_in(dialect: Dialect, event: Object) -> bool:
    """Whether an event is certainly in a dialect."""
    if any(dialect is each for each in _RESPONSES):
        return _responses(event)
    shape = _SHAPES.get(dialect.read)
    return shape is not None and shape(event)


def by_shape(dialects: Sequence[Dialect], *, declared: bool) -> Dialect:
    """Create a dialect that reads each stream as the one that its events are in.

    :param dialects: Those that the provider speaks. The first is its own, which reads
        events that have no certain shape.
    :param declared: The provider is known. If it is not, usage in events without a
        certain shape is read by the first dialect, and flagged.
    """
    first = dialects[0]

    def chosen(notes: Notes) -> Dialect:
        number: int = notes.session.get("dialect", 0)
        return dialects[number]

    def turns(notes: Notes, document: Object) -> t.Iterable[Notes]:
        if "dialect" not in notes.session:
            for number, dialect in enumerate(dialects):
                if _is_in(dialect, document):
                    notes.session["dialect"] = number
                    break
        dialect = chosen(notes)
        # An app may report the events of a web socket. A response over HTTP is one.
        found = openai.turns if dialect is openai.RESPONSES else dialect.turns
        return found(notes, document)

    def read(notes: Notes, document: Object) -> None:
        chosen(notes).read(notes, document)

    def usage(notes: Notes) -> t.Any:
        found = chosen(notes).usage(notes)
        if found is not None and not declared and "dialect" not in notes.session:
            notes.flags.add("unknown_provider")
        return found

    return Dialect(
        read=read,
        usage=usage,
        turns=turns,
        cost=lambda notes: chosen(notes).cost(notes),
        tier=lambda notes: chosen(notes).tier(notes),
        usage_by_model=lambda notes: chosen(notes).usage_by_model(notes),
        price_flags=lambda notes: chosen(notes).price_flags(notes),
        headers=first.headers,
    )
