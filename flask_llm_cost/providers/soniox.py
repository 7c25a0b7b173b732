"""Reads Soniox's transcripts, which are priced by the second.

A transcript is ordered, and then polled until it is completed. The bill counts tokens, of
audio, context and text, which no answer states; the price of a second is that of usual
speech. So a cost is never complete. Sources: https://soniox.com/pricing,
https://soniox.com/docs/stt/api-reference/transcriptions/get_transcription.
"""

from __future__ import annotations

import typing as t

from ..money import quotient
from .dialect import Dialect
from .dialect import Notes
from .dialect import Object
from .dialect import units_usage


def read(notes: Notes, document: Object) -> None:
    """Take notes of an order, or of one look at its transcript."""
    notes.identify(model=document.get("model"), response_id=document.get("id"))
    notes.date_iso(document.get("created_at"))
    notes.background = True
    length = notes.amount(document.get("audio_duration_ms"))
    if document.get("status") == "completed" and length:
        notes.units["audio_second"] = quotient(length, 1000)
        notes.flags.add("unread_usage")


TRANSCRIPT: t.Final = Dialect(read=read, usage=units_usage, parse_whole_if=(b"",))
