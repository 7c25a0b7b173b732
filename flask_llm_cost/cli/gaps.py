"""What ``doctor`` reports of calls without a cost: each reason with its own remedy."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

from .findings import Finding
from .text import count
from .text import fit
from .text import listed

if t.TYPE_CHECKING:
    from ..query.quality import Gaps


def without_cost(found: Gaps) -> Iterator[Finding]:
    """Report models without a price, and calls without usage."""
    if found.unpriced:
        calls = sum(model.calls for model in found.unpriced)
        names = [_name(model.key) for model in found.unpriced]
        verb = "has" if calls == 1 else "have"
        yield Finding(
            "warn",
            "pricing",
            f"{count(calls, 'call')} in the last 30 days {verb} no price: {listed(names)}."
            f" Run `flask llm-cost prices explain {names[0]}`.",
        )
    if found.without_usage:
        calls = sum(row.calls for row in found.without_usage)
        names = list(dict.fromkeys(_name(row.key) for row in found.without_usage))
        remedy = (
            'Request it for streams with stream_options={"include_usage": true}, or set'
            " LLM_COST_INJECT_STREAM_USAGE."
            if found.requestable
            else "Read streams to the end."
        )
        yield Finding(
            "warn",
            "usage",
            f"{count(calls, 'call')} in the last 30 days reported no usage, so there is"
            f" nothing to price: {listed(names)}. {remedy}",
        )


def _name(key: tuple[str, ...]) -> str:
    return fit("/".join(key[:2]), 60).rstrip()
