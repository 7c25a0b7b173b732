"""What ``doctor`` reports about calls without a cost: each reason with its own remedy."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

from .findings import Finding
from .text import count
from .text import fit
from .text import listed

if t.TYPE_CHECKING:
    from ..query.quality import Gaps
    from ..query.totals import Totals
    from ..query.unlisted import Unlisted


def without_cost(found: Gaps, when: str = "") -> Iterator[Finding]:
    """Report models without a price, and calls without usage.

    :param when: Of which time the calls are, such as ``" in the last 30 days"``.
    """
    if found.unpriced:
        calls = sum(model.calls for model in found.unpriced)
        names = [_name(model.key) for model in found.unpriced]
        verb = "has" if calls == 1 else "have"
        yield Finding(
            "warn",
            "pricing",
            f"{count(calls, 'call')}{when} {verb} no price: {listed(names)}."
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
            f"{count(calls, 'call')}{when} reported no usage, so there is"
            f" nothing to price: {listed(names)}. {remedy}",
        )


def saturated(found: Totals) -> Iterator[Finding]:
    """Report sums that reached the largest that a column holds."""
    if found.saturated:
        yield Finding(
            "warn",
            "sums",
            "a sum of the last 30 days exceeds what the ledger can store, so totals are too"
            " low. Look for calls with absurd token counts or amounts: `flask llm-cost"
            " calls export`.",
        )


def unrecorded(found: Unlisted) -> Iterator[Finding]:
    """Report unlisted hosts whose calls were seen, but not recorded."""
    if found.hosts:
        yield Finding(
            "warn",
            "unlisted hosts",
            f"{count(found.calls, 'call')} not recorded: they look like LLM calls, but"
            " the host is unlisted"
            f" ({listed([each.host or 'others' for each in found.hosts])}). Set"
            f" {found.setting}, with any name, or that of the provider whose prices"
            ' apply, such as "openai". If you do not pay for these calls, set'
            ' LLM_COST_UNLISTED_HOSTS = "ignore".',
        )


def _name(key: tuple[str, ...]) -> str:
    return fit("/".join(key[:2]), 60).rstrip()
