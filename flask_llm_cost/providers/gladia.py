"""Reads Gladia's transcripts, which are billed by the second.

A transcript is ordered, and then polled until it is done. That of a live session, too.
Source: https://docs.gladia.io/api-reference/v2/pre-recorded/get (``billing_time``).
"""

from __future__ import annotations

import typing as t

from .dialect import Dialect
from .dialect import inner
from .dialect import Notes
from .dialect import Object
from .dialect import units_usage


def read(notes: Notes, document: Object) -> None:
    """Take notes of an order, or of one look at its transcript."""
    notes.identify(model=document.get("model"), response_id=document.get("id"))
    notes.date_iso(document.get("created_at"))
    notes.background = True
    metadata = inner(inner(document, "result"), "metadata")
    seconds = notes.amount(metadata.get("billing_time"))
    if document.get("status") == "done" and seconds:
        notes.units["audio_second"] = seconds


TRANSCRIPT: t.Final = Dialect(read=read, usage=units_usage, parse_whole_if=(b"",))
