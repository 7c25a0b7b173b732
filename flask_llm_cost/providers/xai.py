"""Reads xAI's videos. Its other answers have OpenAI's shape.

A video is requested, and then polled until it is done. Only the last answer has a cost,
and it has neither an id nor a date. Source:
https://docs.x.ai/docs/guides/video-generations.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..call import Usage
from . import openai
from .dialect import inner
from .dialect import Notes
from .dialect import Object


def read(notes: Notes, document: Object) -> None:
    """Take notes of a request or of one poll for its video."""
    openai.read(notes, document)
    notes.background = True
    seconds = notes.amount(inner(document, "video").get("duration"))
    if seconds:
        notes.units["video_second"] = seconds


def usage(notes: Notes) -> Usage | None:
    """Get the seconds, which are billed instead of tokens, once there is a cost."""
    return Usage(units=notes.units) if notes.usage else None


VIDEO: t.Final = dataclasses.replace(
    openai.CHAT, read=read, usage=usage, content=frozenset()
)
