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
from .dialect import needles
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


def read_live(notes: Notes, document: Object) -> None:
    """Take notes of a message of a live session, which has the time of all before."""
    length = notes.amount(document.get("total_audio_proc_ms"))
    if length:
        notes.units["audio_second"] = quotient(length, 1000)
        notes.flags.add("unread_usage")
    notes.partial = True
    if document.get("finished") is True:
        notes.complete, notes.partial = True, False


LIVE: t.Final = Dialect(
    read=read_live,
    usage=units_usage,
    whole=True,
    needles=needles(rb'"(?:total_audio_proc_ms|finished)"'),
)
"""See https://soniox.com/docs/stt/api-reference/websocket-api."""
