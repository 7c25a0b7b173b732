"""Reads Cloudflare's Workers AI, whose own answers have OpenAI's usage in ``result``.

Source: https://developers.cloudflare.com/workers-ai/models/ and the SDK's ``AIRunResponse``.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..call import Usage
from . import openai
from .dialect import inner
from .dialect import Notes
from .dialect import Object
from .dialect import units_usage


def read(notes: Notes, document: Object) -> None:
    """Take notes of an answer or of one event of a stream."""
    result = inner(document, "result") or document
    openai.read(notes, result)
    seconds = notes.amount(inner(result, "transcription_info").get("duration"))
    if seconds:
        notes.units["audio_second"] = seconds


def usage(notes: Notes) -> Usage | None:
    """Get the tokens, or the seconds of a transcript."""
    return units_usage(notes) if notes.units else openai.CHAT.usage(notes)


RUN: t.Final = dataclasses.replace(
    openai.CHAT, read=read, usage=usage, content=frozenset(), parse_whole_if=(b"",)
)
