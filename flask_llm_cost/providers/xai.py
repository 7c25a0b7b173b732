"""What do xAI's videos cost, beside what answers shaped like OpenAI's do?

A video is asked for, and looked at until it is done: only then the answer says what it
costs, and it has neither an id nor a date. Source:
https://docs.x.ai/docs/guides/video-generations.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..call import Usage
from . import openai
from .dialect import amount
from .dialect import inner
from .dialect import Notes
from .dialect import Object


def read(notes: Notes, document: Object) -> None:
    """Take notes of the request's id, or of a look at what becomes of it."""
    openai.read(notes, document)
    notes.background = True
    seconds = amount(inner(document, "video").get("duration"))
    if seconds:
        notes.units["video_second"] = seconds


def usage(notes: Notes) -> Usage | None:
    """Seconds are billed, not tokens; only once there is a bill."""
    return Usage(units=notes.units) if notes.usage else None


VIDEO: t.Final = dataclasses.replace(
    openai.CHAT, read=read, usage=usage, content=frozenset()
)
