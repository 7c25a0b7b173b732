"""Reads Deepgram: transcripts by the second, speech by the character.

Sources: the SDK's types ``ListenV1ResponseMetadata``, ``ListenV1Metadata``,
``ListenV1Results``, ``ListenV2TurnInfo`` and ``SpeakV1Flushed``,
https://developers.deepgram.com/reference/text-to-speech/speak-request (headers),
https://deepgram.com/pricing.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t
from decimal import Decimal

from ..call import Usage
from .dialect import Dialect
from .dialect import inner
from .dialect import items
from .dialect import needles
from .dialect import Notes
from .dialect import Object
from .dialect import units_usage

_EXTRAS: t.Final = ("summary_info", "intents_info", "sentiment_info", "topics_info")
"""Present where something was analyzed that is billed on top."""


def read(notes: Notes, document: Object) -> None:
    """Take notes of a transcript. Each channel is billed."""
    metadata = inner(document, "metadata")
    models = metadata.get("model_info")
    found = list(models.values()) if isinstance(models, dict) else []
    names = [inner({"": each}, "").get("arch") for each in found]
    notes.identify(
        model=names[0] if len(names) == 1 else None,
        response_id=metadata.get("request_id"),
    )
    notes.date_iso(metadata.get("created"))
    if any(metadata.get(name) for name in _EXTRAS):
        notes.flags.add("unread_usage")
    seconds = notes.amount(metadata.get("duration"))
    if seconds:
        notes.units["audio_second"] = seconds * max(
            1, notes.count(metadata.get("channels"))
        )


_ASKED: t.Final = re.compile(
    r"(?:^|&)(?:(?:diarize|redact|keyterm|detect_entities|mip_opt_out)\w*=(?!false\b)"
    r"|language=multi\b)"
)
"""Options with separate prices that an answer does not show."""

LISTEN: t.Final = Dialect(
    read=read,
    usage=units_usage,
    content=frozenset(("results",)),
    tail=("metadata",),
    extras=_ASKED,
)


def speech_request(document: Object) -> dict[str, t.Any]:
    """Note how many characters are to be spoken."""
    text = document.get("text")
    return {"characters": len(text)} if isinstance(text, str) else {}


_VOICE: t.Final = re.compile(r"(aura(?:-\d+)?)-")


def speech_usage(notes: Notes) -> Usage | None:
    """Get the characters, by the answer's headers or else by the request."""
    # A voice has the price of its family: aura-2-thalia-en
    name = notes.headers.get("dg-model-name", "")
    family = _VOICE.match(name)
    notes.identify(
        model=family[1] if family else name,
        response_id=notes.headers.get("dg-request-id"),
    )
    said = notes.headers.get("dg-char-count", notes.request.get("characters"))
    characters = notes.count(said)
    return Usage(units={"character": Decimal(characters)}) if characters else None


SPEAK: t.Final = Dialect(
    read=lambda notes, document: None,
    usage=speech_usage,
    request=speech_request,
    headers=frozenset(("dg-char-count", "dg-model-name", "dg-request-id")),
)


def read_live(notes: Notes, document: Object) -> None:
    """Take notes of a message of a live transcript. The last one has the billed seconds.

    Until then, the end of what was transcribed is the least that is billed.
    """
    last = document.get("type") == "Metadata"
    metadata = document if last else inner(document, "metadata") or document
    info = inner(metadata, "model_info")
    archs = [info, *(inner(info, key) for key in info)]
    names = [each["arch"] for each in archs if isinstance(each.get("arch"), str)]
    model = names[0] if names else notes.request_model
    notes.identify(
        model=f"streaming/{model}" if model else None,
        response_id=metadata.get("request_id"),
    )
    if last:
        read(notes, {"metadata": document})
        notes.complete, notes.partial = True, False
        return
    notes.partial = True
    ends = [notes.amount(document.get(key)) for key in ("start", "duration")]
    until = notes.amount(document.get("audio_window_end")) or sum(
        (each for each in ends if each is not None), Decimal(0)
    )
    channels = notes.count((items(document.get("channel_index")) or [1])[-1])
    seconds = until * max(1, channels)
    if seconds:
        notes.units["audio_second"] = max(
            seconds, notes.units.get("audio_second", seconds)
        )


def read_spoken(notes: Notes, document: Object) -> None:
    """Take notes of a message of live speech."""
    name = str(document.get("model_name") or notes.request_model)
    family = _VOICE.match(name)
    notes.identify(
        model=family[1] if family else None, response_id=document.get("request_id")
    )
    notes.complete = document.get("type") in ("Flushed", "Cleared")


def sent_speech(notes: Notes, document: Object) -> None:
    """Count the characters that are to be spoken."""
    text = document.get("text")
    if document.get("type") == "Speak" and isinstance(text, str):
        notes.complete = False
        notes.units["character"] = notes.units.get("character", Decimal(0)) + len(text)


LISTEN_LIVE: t.Final = dataclasses.replace(
    LISTEN,
    read=read_live,
    whole=True,
    needles=needles(rb'"(?:Results|Metadata|TurnInfo|Connected)"'),
)

SPEAK_LIVE: t.Final = Dialect(
    read=read_spoken,
    usage=units_usage,
    sent=sent_speech,
    whole=True,
    needles=needles(rb'"(?:Flushed|Cleared|Metadata)"'),
)
