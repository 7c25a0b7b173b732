"""What a call cost that several models took part in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from decimal import Decimal

from .plan import Quote


def joined(quotes: Mapping[str, Quote]) -> Quote:
    """The cost of a call that several models took part in: the sum of theirs.

    A part is named by meter and model, such as ``input@claude-opus-4-6``. One model
    without a price makes the whole incomplete.
    """
    flags = frozenset[str]().union(*(quote.flags for quote in quotes.values()))
    known = {model: q.cost for model, q in quotes.items() if q.cost is not None}
    if not known:
        # What each of them used is kept nowhere else: it cannot be priced later.
        return Quote(None, flags | {"several_models"})
    costs = list(known.values())
    joined = dataclasses.replace(
        costs[0],
        total_usd=sum((cost.total_usd for cost in costs), Decimal(0)),
        parts={
            f"{meter}@{model}": part
            for model, cost in known.items()
            for meter, part in cost.parts.items()
        },
        complete=len(known) == len(quotes) and all(cost.complete for cost in costs),
        flags=flags - {"unpriced"},
    )
    return Quote(joined, joined.flags)
