"""Reads Fireworks' answers, which may count cached input outside of OpenAI's usage.

Serverless models cache every prompt, and bill cached input less. Its count is in
``usage``, in a header, or in ``perf_metrics`` if the request asks for them. Sources:
https://docs.fireworks.ai/guides/prompt-caching,
https://docs.fireworks.ai/api-reference/post-chatcompletions.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..call import Usage
from . import openai
from . import openai_usage
from .dialect import inner
from .dialect import needles
from .dialect import Notes
from .dialect import Object

_HEADER: t.Final = "fireworks-cached-prompt-tokens"
_METRICS: t.Final = ("cached-prompt-tokens", _HEADER)
_DETAILS: t.Final = "prompt_tokens_details"


def read(notes: Notes, document: Object) -> None:
    """Take notes of an answer or of one event of a stream."""
    openai.read(notes, document)
    metrics = inner(document, "perf_metrics")
    for name in _METRICS:
        if metrics.get(name) is not None:
            notes.extra["cached"] = metrics[name]


def usage(notes: Notes) -> Usage | None:
    """Split the counts, and flag an answer that does not state what was cached."""
    seen, details = notes.usage, inner(notes.usage, _DETAILS)
    if "prompt_tokens" in seen and details.get("cached_tokens") is None:
        cached = notes.headers.get(_HEADER, notes.extra.get("cached"))
        if cached is None:
            notes.flags.add("unstated_cache")
        else:
            seen[_DETAILS] = {**details, "cached_tokens": cached}
    return openai_usage.usage(notes)


CHAT: t.Final = dataclasses.replace(
    openai.CHAT,
    read=read,
    usage=usage,
    needles=(*openai.CHAT.needles, *needles(rb'"perf_metrics"')),
    tail=(*openai.CHAT.tail, "perf_metrics"),
    headers=frozenset((_HEADER,)),
)
