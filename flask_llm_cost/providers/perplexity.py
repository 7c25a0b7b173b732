"""Reads Perplexity's answers, which add counts of research models to OpenAI's shape.

``completion_tokens`` and the total exclude reasoning and the tokens of citations. Each
has its own rate. Source:
https://docs.perplexity.ai/getting-started/models/models/sonar-deep-research and
.../getting-started/pricing.
"""

from __future__ import annotations

import dataclasses
import typing as t
from decimal import Decimal

from ..call import Usage
from . import openai
from . import openai_usage
from .dialect import Notes
from .dialect import Object


def usage(notes: Notes) -> Usage | None:
    """Split the provider's counts into disjoint buckets."""
    found = openai_usage.usage(notes)
    if found is None:
        return None
    reasoning = notes.count(notes.usage.get("reasoning_tokens"))
    cited = notes.count(notes.usage.get("citation_tokens"))
    others = {"output_citation": cited} if cited else {}
    return dataclasses.replace(
        found,
        output_tokens=found.output_tokens + reasoning,
        reasoning_tokens=found.reasoning_tokens + reasoning,
        other_tokens={**found.other_tokens, **others},
    )


def read_search(notes: Notes, document: Object) -> None:
    """Take notes of a search without a model, which is billed by the request.

    https://docs.perplexity.ai/getting-started/pricing (Search API)
    """
    notes.identify(model="search", response_id=document.get("id"))
    notes.units["request"] = Decimal(1)


def price_flags(notes: Notes) -> frozenset[str]:
    """Flag the search context's size, which the fee per request depends on."""
    size = notes.usage.get("search_context_size")
    if size in ("low", "medium", "high"):
        return frozenset((f"search_context.{size}",))
    return frozenset()


CHAT: t.Final = dataclasses.replace(openai.CHAT, usage=usage, price_flags=price_flags)

SEARCH: t.Final = dataclasses.replace(
    openai.CHAT, read=read_search, content=frozenset(("results",)), envelope=""
)
