"""Reads ElevenLabs: speech by the character of the request, transcripts by the second.

Sources: https://elevenlabs.io/docs/api-reference/text-to-speech/convert, the SDK's types
``SpeechToTextChunkResponseModel`` and ``MultichannelSpeechToTextResponseModel``, and
https://elevenlabs.io/pricing/api.
"""

from __future__ import annotations

import typing as t
from decimal import Decimal

from ..call import Usage
from .dialect import Dialect
from .dialect import needles
from .dialect import Notes
from .dialect import Object
from .dialect import units_usage

_DEFAULT: t.Final = "eleven_multilingual_v2"


def speech_request(document: Object) -> dict[str, t.Any]:
    """Note the model, and how many characters are to be spoken."""
    text = document.get("text")
    return {
        "model": document.get("model_id") or _DEFAULT,
        "characters": len(text) if isinstance(text, str) else 0,
    }


def speech_usage(notes: Notes) -> Usage | None:
    """Get the characters. The header ``character-cost`` is in credits, not in these."""
    notes.identify(
        model=notes.request.get("model"), response_id=notes.headers.get("request-id")
    )
    characters = notes.request.get("characters")
    return Usage(units={"character": Decimal(characters)}) if characters else None


SPEECH: t.Final = Dialect(
    read=lambda notes, document: None,
    usage=speech_usage,
    request=speech_request,
    headers=frozenset(("request-id",)),
)


EXTRAS: t.Final = (
    "detect_speaker_roles",
    "entity_detection",
    "entity_redaction",
    "keyterms",
) + ("transcript_edit",)
"""Options of a transcript that are billed on top."""


def transcript_request(document: Object) -> dict[str, t.Any]:
    """Note the model, which the answer does not name, and whether options are used."""
    asked = (document.get(name) for name in EXTRAS)
    return {
        "model": document.get("model_id"),
        "extras": any(each and str(each).lower() != "false" for each in asked),
    }


def read_transcript(notes: Notes, document: Object) -> None:
    """Take notes of a transcript."""
    notes.identify(
        model=notes.request.get("model"), response_id=document.get("transcription_id")
    )
    seconds = notes.amount(document.get("audio_duration_secs"))
    if seconds:
        notes.units["audio_second"] = seconds
    if notes.request.get("extras"):
        notes.flags.add("unread_usage")


TRANSCRIPT: t.Final = Dialect(
    read=read_transcript,
    usage=units_usage,
    content=frozenset(("text", "words", "transcripts")),
    tail=("audio_duration_secs", "transcription_id"),
    request=transcript_request,
)


def sent_speech(notes: Notes, document: Object) -> None:
    """Count the characters that are to be spoken. The first message is one space."""
    text = document.get("text")
    if isinstance(text, str) and text.strip():
        notes.complete = False
        notes.units["character"] = notes.units.get("character", Decimal(0)) + len(text)


def read_spoken(notes: Notes, document: Object) -> None:
    """Take notes of the last message of live speech."""
    if document.get("isFinal") is True or document.get("is_final") is True:
        notes.complete = True


SPEECH_LIVE: t.Final = Dialect(
    read=read_spoken,
    usage=units_usage,
    sent=sent_speech,
    whole=True,
    needles=needles(rb'"(?:isFinal|is_final)"\s*:\s*true'),
)
