"""Reads Alibaba's answers, which have OpenAI's shape, and what changes Qwen's rates.

Qwen costs more where it thinks, for all output, the thoughts and the answer. Its two caches
have different rates: one is implicit, the other is requested with ``cache_control``, or by
a session. Sources: https://www.alibabacloud.com/help/en/model-studio/models (thinking
mode), https://www.alibabacloud.com/help/en/model-studio/context-cache.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ..completeness import EXPLICIT_CACHE
from ..completeness import IMPLICIT_CACHE
from ..completeness import THINKING
from . import anthropic
from . import openai
from .dialect import inner
from .dialect import items
from .dialect import Notes
from .dialect import Object

_ALWAYS: t.Final = re.compile(r"thinking|\bq[wv]q\b|-r1\b")
"""Models that always think, and have one price."""

_DETAILS: t.Final = ("completion_tokens_details", "output_tokens_details")
_INPUT_DETAILS: t.Final = ("prompt_tokens_details", "input_tokens_details")
_WRITTEN: t.Final = ("cache_creation_input_tokens", "ephemeral_5m_input_tokens")


def read(notes: Notes, document: Object) -> None:
    """Take notes of an answer or of one event of a stream."""
    openai.read(notes, document)
    name = next((each for each in _INPUT_DETAILS if each in notes.usage), None)
    details = inner(notes.usage, name or "")
    for row in items(notes.usage.get("x_details"))[:1]:
        # Responses show what a session wrote to its cache only here.
        name = name or _INPUT_DETAILS[1]
        details = {**details, **inner(row, _INPUT_DETAILS[0])}
    if name is not None:
        notes.usage[name] = {**details, **_explicit(details)}


def _explicit(details: Object) -> dict[str, t.Any]:
    """Get what an explicit cache adds to the details, which may be one level deeper."""
    written = inner(details, "cache_creation")
    counts = [place.get(name) for name in _WRITTEN for place in (details, written)]
    kind = details.get("cache_type") or written.get("cache_type")
    found = {"cache_type": kind, _WRITTEN[0]: next(filter(None, counts), None)}
    return {name: value for name, value in found.items() if value is not None}


def conditions(notes: Notes) -> frozenset[str]:
    """Flag an answer that was thought about, of a model that need not think, and a cache."""
    found = set(_cache(notes, *(inner(notes.usage, name) for name in _INPUT_DETAILS)))
    if not _ALWAYS.search(notes.model or notes.request_model or ""):
        details = (inner(notes.usage, name) for name in _DETAILS)
        if any(notes.count(each.get("reasoning_tokens")) for each in details):
            found.add(THINKING)
    return frozenset(found)


def _cache(notes: Notes, *places: Object) -> t.Iterator[str]:
    """Yield which cache was used, if any was. A request uses one of the two."""
    read = any(notes.count(place.get("cached_tokens")) for place in places)
    written = any(notes.count(place.get(_WRITTEN[0])) for place in places)
    if written or (read and any(place.get("cache_type") for place in places)):
        yield EXPLICIT_CACHE
    elif read:
        yield IMPLICIT_CACHE


def message_conditions(notes: Notes) -> frozenset[str]:
    """Flag which cache an answer in Anthropic's shape used."""
    details = inner(notes.usage, _INPUT_DETAILS[0])
    counts = {
        "cached_tokens": notes.usage.get("cache_read_input_tokens"),
        _WRITTEN[0]: notes.usage.get(_WRITTEN[0]),
    }
    found = _cache(notes, {**details, **counts})
    return anthropic.price_flags(notes) | frozenset(found)


CHAT: t.Final = dataclasses.replace(openai.CHAT, read=read, price_flags=conditions)

RESPONSES: t.Final = dataclasses.replace(
    openai.RESPONSES, read=read, price_flags=conditions
)

MESSAGES: t.Final = dataclasses.replace(
    anthropic.MESSAGES, price_flags=message_conditions
)
