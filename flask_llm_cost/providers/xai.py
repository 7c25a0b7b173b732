"""Reads xAI's videos, and its messages over gRPC. Its other answers have OpenAI's shape.

A video is requested, and then polled until it is done. Only the last answer has a cost,
and it has neither an id nor a date. Source:
https://docs.x.ai/docs/guides/video-generations.

Over gRPC, counts have names of their own. Source: the ``xai-sdk``'s ``usage.proto``.
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


def read_message(notes: Notes, message: Object) -> None:
    """Take notes of a message over gRPC, as of the same answer over HTTP."""
    used = inner(message, "usage")
    prompt = {
        "text_tokens": used.get("prompt_text_tokens"),
        "image_tokens": used.get("prompt_image_tokens"),
        "cached_tokens": used.get("cached_prompt_text_tokens"),
    }
    usage = {
        **used,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {"reasoning_tokens": used.get("reasoning_tokens")},
    }
    tier = str(message.get("service_tier") or "").removeprefix("SERVICE_TIER_").lower()
    answer = {"id": message.get("id"), "model": message.get("model")}
    openai.read(
        notes,
        {**answer, "service_tier": tier or None, "usage": usage if used else None},
    )


MESSAGES: t.Final = dataclasses.replace(openai.CHAT, read=read_message)
