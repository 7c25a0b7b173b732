"""Reads Alibaba's answers, which have OpenAI's shape: Qwen costs more where it thinks.

The rate of thinking applies to all output, the thoughts and the answer. Source:
https://www.alibabacloud.com/help/en/model-studio/models (thinking mode).
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ..completeness import THINKING
from . import openai
from .dialect import inner
from .dialect import Notes

_ALWAYS: t.Final = re.compile(r"thinking|\bq[wv]q\b|-r1\b")
"""Models that always think, and have one price."""

_DETAILS: t.Final = ("completion_tokens_details", "output_tokens_details")


def conditions(notes: Notes) -> frozenset[str]:
    """Flag an answer that was thought about, of a model that need not think."""
    if _ALWAYS.search(notes.model or notes.request_model or ""):
        return frozenset()
    details = (inner(notes.usage, name) for name in _DETAILS)
    thought = any(notes.count(each.get("reasoning_tokens")) for each in details)
    return frozenset((THINKING,)) if thought else frozenset()


CHAT: t.Final = dataclasses.replace(openai.CHAT, price_flags=conditions)

RESPONSES: t.Final = dataclasses.replace(openai.RESPONSES, price_flags=conditions)
