"""The outcome of pricing a call: a cost, if one is known, and flags."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Mapping
from decimal import Decimal

from ..call import Call
from ..call import Cost
from ..call import Usage
from ..money import total
from .names import is_router


class Quote(t.NamedTuple):
    """A cost if one is known, and the flags to set on the call either way."""

    cost: Cost | None
    flags: frozenset[str]


def billed_usage(call: Call, usage: Usage) -> Usage:
    """Add what a router bills in addition to the model that it chose.

    Azure's has a fee for all input:
    https://learn.microsoft.com/azure/foundry/openai/concepts/model-router-faq
    """
    asked = call.request_model
    if call.provider != "azure" or asked in (None, call.model) or not is_router(asked):
        return usage
    fee = {"routed_token": Decimal(usage.total_input_tokens)}
    return dataclasses.replace(usage, units={**usage.units, **fee})


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
    limits = [cost.ceiling_usd for cost in costs if cost.ceiling_usd is not None]
    cost = dataclasses.replace(
        costs[0],
        total_usd=total(cost.total_usd for cost in costs),
        parts={
            f"{meter}@{model}": part
            for model, cost in known.items()
            for meter, part in cost.parts.items()
        },
        complete=complete,
        ceiling_usd=total(limits) if len(limits) == len(quotes) else None,
        flags=flags - {"unpriced"},
    )
    return Quote(cost, cost.flags)
