"""Reads GitHub Copilot, which answers like OpenAI and Anthropic, and adds what it bills.

``copilot_usage`` is beside the usual usage. ``total_nano_aiu`` is the cost in billionths of
an AI credit, and a credit is one cent. ``token_details`` has the tokens by kind: in
OpenAI's shape, ``prompt_tokens`` alone does not tell which ones were written to a cache.
Sources: https://docs.github.com/en/copilot/concepts/billing-and-usage,
https://github.com/github/copilot-sdk/blob/main/docs/features/usage-and-billing.md,
https://github.com/github/gh-aw-firewall/pull/5253.
"""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Callable
from decimal import Decimal

from ..money import quotient
from . import anthropic
from . import openai
from .dialect import Dialect
from .dialect import inner
from .dialect import items
from .dialect import needles
from .dialect import Notes
from .dialect import Object

_NANO_PER_USD: t.Final = Decimal(10**9 * 100)


def read(notes: Notes, document: Object) -> None:
    """Take notes of an answer in OpenAI's shape, or of one event of its stream."""
    openai.read(notes, document)
    billed = _note(notes, document)
    tokens = {
        str(part.get("token_type")): notes.count(part.get("token_count"))
        for part in items(billed.get("token_details"))
        if isinstance(part, dict)
    }
    if tokens:
        _split(notes, tokens)


def read_message(notes: Notes, document: Object) -> None:
    """Take notes of an answer in Anthropic's shape, or of one event of its stream."""
    anthropic.read(notes, document)
    _note(notes, document)


def _note(notes: Notes, document: Object) -> Object:
    billed = inner(document, "copilot_usage") or inner(
        inner(document, "response"), "copilot_usage"
    )
    if billed:
        notes.extra["nano_aiu"] = billed.get("total_nano_aiu")
    return billed


def _split(notes: Notes, tokens: dict[str, int]) -> None:
    """Correct the usual usage by the tokens that are billed, by kind."""
    seen = notes.usage
    into, out, details = _NAMES["input_tokens" in seen]
    read, written = tokens.get("cache_read", 0), tokens.get("cache_write", 0)
    total = notes.count(seen.get(into))
    if "input" in tokens:
        total = tokens["input"] + read + written
    output = tokens.get("output", notes.count(seen.get(out)))
    seen[into], seen[out], seen["total_tokens"] = total, output, total + output
    seen[details] = {
        **inner(seen, details),
        "cached_tokens": read,
        "cache_write_tokens": written,
    }


_NAMES: t.Final = (
    ("prompt_tokens", "completion_tokens", "prompt_tokens_details"),
    ("input_tokens", "output_tokens", "input_tokens_details"),
)


def cost(notes: Notes) -> Decimal | None:
    """Get the cost in USD, before what a plan includes."""
    nano = notes.amount(notes.extra.get("nano_aiu"))
    return None if nano is None else quotient(nano, _NANO_PER_USD)


_BILLED: t.Final = needles(rb'"copilot_usage"')


def _billed(dialect: Dialect, read: Callable[[Notes, Object], None]) -> Dialect:
    """Read an answer's cost, too."""
    return dataclasses.replace(
        dialect,
        read=read,
        cost=cost,
        needles=dialect.needles + _BILLED,
        tail=(*dialect.tail, "copilot_usage"),
    )


CHAT: t.Final = _billed(openai.CHAT, read)
RESPONSES: t.Final = _billed(openai.RESPONSES, read)
MESSAGES: t.Final = _billed(anthropic.MESSAGES, read_message)
