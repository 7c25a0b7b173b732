"""Reads MiniMax's speech and images. Its chats have OpenAI's shape.

Source: https://platform.minimax.io/docs/api-reference/speech-t2a-http (``usage_characters``),
https://platform.minimax.io/docs/api-reference/image-generation-t2i.
"""

from __future__ import annotations

import typing as t

from .dialect import Dialect
from .dialect import inner
from .dialect import Notes
from .dialect import Object
from .dialect import units_usage


def read_speech(notes: Notes, document: Object) -> None:
    """Take notes of speech. The last event of a stream counts its characters."""
    notes.identify(model=None, response_id=document.get("trace_id"))
    characters = notes.amount(inner(document, "extra_info").get("usage_characters"))
    if characters:
        notes.units["character"] = characters
        notes.complete = True


SPEECH: t.Final = Dialect(
    read=read_speech,
    usage=units_usage,
    tail=("extra_info", "trace_id"),
    parse_whole_if=(b"",),
)


def read_images(notes: Notes, document: Object) -> None:
    """Take notes of images."""
    notes.identify(model=None, response_id=document.get("id"))
    made = notes.amount(inner(document, "metadata").get("success_count"))
    if made:
        notes.units["image"] = made


IMAGES: t.Final = Dialect(
    read=read_images,
    usage=units_usage,
    content=frozenset(("data",)),
    tail=("metadata", "id"),
    parse_whole_if=(b"",),
)
