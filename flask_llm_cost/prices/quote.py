"""The outcome of pricing a call: a cost, if one is known, and flags."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Mapping

from ..call import Cost
from ..money import total


class Quote(t.NamedTuple):
    """A cost if one is known, and the flags to set on the call either way."""

    cost: Cost | None
    flags: frozenset[str]


def combine(quotes: Mapping[str, Quote]) -> Quote:
    """Sum the quotes of a call that used several models.

    Parts are named by meter and model, such as ``input@claude-opus-4-6``. One model
    without a price makes the whole cost incomplete.
    """
    flags = frozenset[str]().union(*(quote.flags for quote in quotes.values()))
    known = {model: q.cost for model, q in quotes.items() if q.cost is not None}
    if not known:
        # What each model used is not stored without a cost, so it can't be priced later.
        return Quote(None, flags | {"several_models"})
    costs = list(known.values())
    complete = len(known) == len(quotes) and all(cost.complete for cost in costs)
    whole = total(cost.total_usd for cost in costs)
    cost = dataclasses.replace(
        costs[0],
        total_usd=whole,
        parts={
            f"{meter}@{model}": part
            for model, cost in known.items()
            for meter, part in cost.parts.items()
        },
        complete=complete,
        ceiling_usd=whole if complete else None,
        flags=flags - {"unpriced"},
    )
    return Quote(cost, cost.flags)
