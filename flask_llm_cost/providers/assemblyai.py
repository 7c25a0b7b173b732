"""Reads AssemblyAI's transcripts, which are billed by the second.

A transcript is ordered, and then polled until it is completed. A live session
is billed while it is connected. Sources: the SDK's types ``TranscriptResponse`` and
``TerminationEvent``, https://www.assemblyai.com/docs/api-reference/transcripts.
"""

from __future__ import annotations

import typing as t

from .dialect import Dialect
from .dialect import needles
from .dialect import Notes
from .dialect import Object
from .dialect import units_usage

_EXTRAS: t.Final = (
    ("speaker_labels", "sentiment_analysis", "entity_detection", "auto_chapters")
    + ("iab_categories", "content_safety", "summarization", "auto_highlights")
    + ("redact_pii", "redact_pii_audio", "multichannel", "dual_channel")
    + ("filter_profanity", "keyterms_prompt", "prompt", "speech_understanding")
)
"""What is billed on top, where it is asked for."""


def read(notes: Notes, document: Object) -> None:
    """Take notes of an order, or of one look at its transcript."""
    model = document.get("speech_model_used", document.get("speech_model"))
    notes.identify(model=model, response_id=document.get("id"))
    notes.background = True
    seconds = notes.amount(document.get("audio_duration"))
    if document.get("status") == "completed" and seconds:
        notes.units["audio_second"] = seconds
        if any(document.get(name) for name in _EXTRAS):
            notes.flags.add("unread_usage")


TRANSCRIPT: t.Final = Dialect(
    read=read,
    usage=units_usage,
    content=frozenset(("text", "words", "utterances")),
    tail=("audio_duration", "status", "speech_model", "id"),
    parse_whole_if=(b"",),
)


def read_live(notes: Notes, document: Object) -> None:
    """Take notes of the first or the last message of a live session."""
    notes.identify(model=None, response_id=document.get("id"))
    seconds = notes.amount(document.get("session_duration_seconds"))
    if document.get("type") == "Termination" and seconds:
        notes.units["audio_second"] = seconds
        notes.complete = True


LIVE: t.Final = Dialect(
    read=read_live,
    usage=units_usage,
    whole=True,
    needles=needles(rb'"(?:Begin|Termination)"'),
)
