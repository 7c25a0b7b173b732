"""What does a call that the ledger keeps cost by the prices of now, at its own time?"""

from __future__ import annotations

import typing as t
from decimal import Decimal

from ..call import Call
from ..call import OTHER_SIDES
from ..call import Usage
from .book import PriceBook
from .meters import CORE
from .meters import MODES
from .meters import UNITS
from .names import check_mode
from .plan import Quote

_ASKED: t.Final = "asked_"


def asked(mode: str) -> str:
    """The flag of a call without a cost that says which mode it was to be priced in."""
    return f"{_ASKED}{check_mode(mode) or 'standard'}"


def again(book: PriceBook, call: Call) -> Quote:
    """Price a call of the ledger as it was priced when it was recorded.

    :raises ValueError: If the ledger does not keep all that this takes.
    """
    return book.quote_call(call, mode_of(call), _usage_by_model(call))


def mode_of(call: Call) -> str | None:
    """The mode that a call was priced in, or was to be; ``None``: its tier says it."""
    for flag in call.flags:
        if flag.startswith(_ASKED):
            mode = flag.removeprefix(_ASKED)
            return mode if mode in MODES else "standard"
    cost = call.cost
    # A tier that was not known then may be known now.
    if cost is None or cost.source == "provider" or "unknown_tier" in call.flags:
        return None
    return cost.mode if cost.mode in MODES else "standard"


def _usage_by_model(call: Call) -> dict[str, Usage]:
    """What each model used, where several took part: their parts of the cost say so."""
    if "several_models" in call.flags:
        raise ValueError("of several models, and what each used is not kept")
    cost = call.cost
    if cost is None or not any("@" in meter for meter in cost.parts):
        return {}
    if not cost.complete:
        raise ValueError("of several models, and what one of them used is not kept")
    used: dict[str, dict[str, Decimal]] = {}
    for name, part in cost.parts.items():
        meter, _, model = name.partition("@")
        used.setdefault(model, {})[meter] = part.quantity
    return {model: _usage(meters) for model, meters in used.items()}


def _usage(meters: dict[str, Decimal]) -> Usage:
    counts: dict[str, int] = {}
    other: dict[str, int] = {}
    units: dict[str, Decimal] = {}
    for meter, quantity in meters.items():
        if meter in CORE:
            counts[CORE[meter]] = counts.get(CORE[meter], 0) + int(quantity)
        elif meter == "reasoning":
            counts["reasoning_tokens"] = int(quantity)
            counts["output_tokens"] = counts.get("output_tokens", 0) + int(quantity)
        elif meter.startswith(OTHER_SIDES) and meter not in UNITS:
            other[meter] = int(quantity)
        else:
            units[meter] = quantity
    return Usage(**counts, other_tokens=other, units=units)
