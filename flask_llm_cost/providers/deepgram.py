"""Reads Deepgram: transcripts by the second, speech by the character.

Sources: the SDK's types ``ListenV1ResponseMetadata`` and
https://developers.deepgram.com/reference/text-to-speech/speak-request (headers),
https://deepgram.com/pricing.
"""

from __future__ import annotations

import re
import typing as t
from decimal import Decimal

from ..call import Usage
from .dialect import Dialect
from .dialect import inner
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
"""Options with prices of their own that an answer does not show."""

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
