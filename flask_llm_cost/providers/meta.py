"""Reads Meta's Llama API, whose own answers have a list of metrics instead of usage.

Its compatible endpoint and its successor, the Meta Model API, speak like OpenAI. Source:
https://github.com/meta-llama/llama-api-python (``CreateChatCompletionResponse``,
``CreateChatCompletionResponseStreamChunk``).
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import openai
from .dialect import inner
from .dialect import items
from .dialect import needles
from .dialect import Notes
from .dialect import Object

_METRICS: t.Final = {
    "num_prompt_tokens": "prompt_tokens",
    "num_completion_tokens": "completion_tokens",
    "num_total_tokens": "total_tokens",
}


def read(notes: Notes, document: Object) -> None:
    """Take notes of an answer or of one event of a stream."""
    openai.read(notes, document)
    event = inner(document, "event")
    for metric in items((event or document).get("metrics")):
        name = _METRICS.get(str(inner({"": metric}, "").get("metric")))
        if name is not None:
            notes.usage[name] = metric.get("value")
            # The last event of a stream has the metrics.
            notes.complete = True


CHAT: t.Final = dataclasses.replace(
    openai.CHAT,
    read=read,
    needles=openai.CHAT.needles + needles(rb'"metrics"'),
    content=openai.CHAT.content | {"completion_message"},
    tail=(*openai.CHAT.tail, "metrics"),
)
