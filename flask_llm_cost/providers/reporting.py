"""Reads hosts that answer like OpenAI or Anthropic, and report what a call cost.

OpenRouter's messages have the same ``cost`` in their usage as its chats.
DeepInfra adds ``estimated_cost`` to the usage, which is what it charges, at the served tier:
https://github.com/BerriAI/litellm/issues/38802. Vercel's AI Gateway adds
``provider_metadata.gateway`` to a message: ``cost`` is what it debits, and ``marketCost``
what the call costs where the app has a key of its own:
https://vercel.com/docs/ai-gateway/models-and-providers/provider-filtering-and-ordering.
"""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Iterator
from decimal import Decimal

from . import anthropic
from . import openai
from .dialect import Dialect
from .dialect import inner
from .dialect import items
from .dialect import needles
from .dialect import Notes
from .dialect import Object


def _deepinfra_cost(notes: Notes) -> Decimal | None:
    # 0 is what older answers have where the cost is not known.
    return notes.amount(notes.usage.get("estimated_cost")) or None


def _openrouter_cost(notes: Notes) -> Decimal | None:
    reported = openai.cost(notes)
    return anthropic.cost(notes) if reported is None else reported


OPENROUTER_MESSAGES: t.Final = dataclasses.replace(
    anthropic.MESSAGES, cost=_openrouter_cost
)

DEEPINFRA: t.Final = dataclasses.replace(openai.CHAT, cost=_deepinfra_cost)

_METADATA: t.Final = ("provider_metadata", "providerMetadata")


def _places(document: Object) -> Iterator[Object]:
    """Yield where an answer or an event can have metadata."""
    yield document
    for name in "response", "message", "delta":
        yield inner(document, name)
    for choice in items(document.get("choices")):
        yield inner(choice, "message")
        yield inner(choice, "delta")


def _note_gateway(notes: Notes, document: Object) -> None:
    for place in _places(document):
        for name in _METADATA:
            gateway = inner(inner(place, name), "gateway")
            if "cost" in gateway:
                notes.extra["gateway"] = {
                    cost: gateway.get(cost) for cost in ("cost", "marketCost")
                }


def _gateway_cost(notes: Notes) -> Decimal | None:
    costs = notes.extra.get("gateway", {})
    return notes.amount(costs.get("cost")) or notes.amount(costs.get("marketCost"))


def _with_cost(dialect: Dialect) -> Dialect:
    """Read the cost that Vercel's gateway adds to another dialect."""

    def read(notes: Notes, document: Object) -> None:
        dialect.read(notes, document)
        _note_gateway(notes, document)

    def cost(notes: Notes) -> Decimal | None:
        reported = _gateway_cost(notes)
        return dialect.cost(notes) if reported is None else reported

    return dataclasses.replace(
        dialect,
        read=read,
        cost=cost,
        needles=dialect.needles + needles(rb'"provider_metadata"', rb'"providerMeta'),
        parse_whole_if=(
            *dialect.parse_whole_if,
            b'"provider_metadata"',
            b'"providerMetadata"',
        ),
    )


VERCEL: t.Final = _with_cost(openai.CHAT)
VERCEL_RESPONSES: t.Final = _with_cost(openai.RESPONSES)
VERCEL_MESSAGES: t.Final = _with_cost(anthropic.MESSAGES)
