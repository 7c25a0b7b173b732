"""Quote a recorded call again: by the current book, at the time of the call."""

from __future__ import annotations

import dataclasses
import typing as t
from decimal import Decimal

from ..call import Call
from ..call import OTHER_SIDES
from ..call import REPORTED
from ..call import Usage
from ..completeness import PRICE_FLAGS
from .book import PriceBook
from .meters import CORE
from .meters import MODES
from .meters import UNITS
from .names import check_mode
from .quote import Quote

_MODE_FLAG: t.Final = "pricing_mode."


def mode_flag(mode: str) -> str:
    """Return the flag that stores the pricing mode of a call until it has a cost."""
    return f"{_MODE_FLAG}{check_mode(mode) or 'standard'}"


def is_mode_flag(flag: str) -> bool:
    """Whether a flag is one of :func:`mode_flag`."""
    return flag.startswith(_MODE_FLAG)


def requote(book: PriceBook, call: Call) -> Quote:
    """Quote a recorded call as when it was recorded.

    :raises ValueError: If the ledger does not store everything this needs.
    """
    fresh = dataclasses.replace(call, flags=call.flags - PRICE_FLAGS)
    return book.quote_call(fresh, pricing_mode_of(call), _usage_by_model(call))


def pricing_mode_of(call: Call) -> str | None:
    """Return the pricing mode of a recorded call; ``None`` if its tier decides."""
    for flag in call.flags:
        if is_mode_flag(flag):
            mode = flag.removeprefix(_MODE_FLAG)
            return mode if mode in MODES else "standard"
    cost = call.cost
    # A tier that was unknown then may be known now.
    if cost is None or cost.source in REPORTED or "unknown_tier" in call.flags:
        return None
    return cost.mode if cost.mode in MODES else "standard"


def _usage_by_model(call: Call) -> dict[str, Usage]:
    """Restore what each model used, if several took part, from the parts of the cost."""
    if "several_models" in call.flags:
        raise ValueError(
            "several models took part, and the usage of each was not stored"
        )
    cost = call.cost
    if cost is None or not any("@" in meter for meter in cost.parts):
        return {}
    if not cost.complete:
        raise ValueError(
            "several models took part, and the usage of one of them was not stored"
        )
    used: dict[str, dict[str, Decimal]] = {}
    for name, part in cost.parts.items():
        meter, _, model = name.partition("@")
        used.setdefault(model, {})[meter] = part.quantity
    return {model: _usage(quantities) for model, quantities in used.items()}


def _usage(quantities: dict[str, Decimal]) -> Usage:
    counts: dict[str, int] = {}
    other: dict[str, int] = {}
    units: dict[str, Decimal] = {}
    for meter, quantity in quantities.items():
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
