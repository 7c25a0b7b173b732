"""Reads Oracle's generative AI, whose usage is OpenAI's in camel case.

Source: the SDK's ``generative_ai_inference`` (``ChatResult``, ``Usage``,
``EmbedTextResult``, ``DedicatedServingMode``).
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from . import openai
from .dialect import inner
from .dialect import Notes
from .dialect import Object

_CAPITAL: t.Final = re.compile("(?<=[a-z])(?=[A-Z])")


def request(document: Object) -> dict[str, t.Any]:
    """Note the model, and whether it runs on dedicated hardware."""
    mode = inner(document, "servingMode")
    return {"model": mode.get("modelId"), "kind": mode.get("servingType")}


def read(notes: Notes, document: Object) -> None:
    """Take notes of an answer or of one event of a stream."""
    model = document.get("modelId", notes.request.get("model"))
    notes.identify(model=model, response_id=document.get("id"))
    answer = inner(document, "chatResponse") or document
    if isinstance(answer.get("usage"), dict):
        notes.merge(_snake(answer["usage"]))
        # The last event of a stream has the usage.
        notes.complete = True
    if notes.request.get("kind") == "DEDICATED":
        notes.flags.add("session_fee")


def _snake(value: object) -> t.Any:
    if not isinstance(value, dict):
        return value
    return {_CAPITAL.sub("_", k).lower(): _snake(v) for k, v in value.items()}


CHAT: t.Final = dataclasses.replace(
    openai.CHAT,
    read=read,
    request=request,
    request_if=(b"servingMode",),
    content=frozenset(),
    parse_whole_if=(b"",),
)

EMBEDDINGS: t.Final = dataclasses.replace(
    CHAT,
    content=frozenset(("embeddings",)),
    tail=("usage", "modelId"),
    parse_whole_if=(),
)
