"""List prices of a bill's meters, from the bundled book."""

from __future__ import annotations

import datetime as dt
import functools
import typing as t
from collections.abc import Iterable
from decimal import Decimal

from ..call import Usage
from ..contract import METERS
from ..contract import MODES
from ..money import multiply
from ..money import quotient
from ..prices import PriceBook
from .line import Line
from .sums import add

_SAMPLE: t.Final = 1000
"""Small enough for the first tier of every price."""
_FIELDS: t.Final = frozenset(Usage.__dataclass_fields__)


@functools.cache
def bundled() -> PriceBook:
    """Return the bundled book, which is loaded once."""
    return PriceBook.bundled()


def list_price(line: Line) -> Decimal | None:
    """Return what one unit of a line costs at list price; ``None`` if it is not known."""
    if line.provider is None or line.model is None or line.meter not in METERS:
        return None
    if line.tier is not None or (line.mode is not None and line.mode not in MODES):
        return None
    day = line.start.date()
    return _rate(line.provider, line.model, str(line.meter), line.mode, day)


@functools.lru_cache(maxsize=4096)
def _rate(
    provider: str, model: str, meter: str, mode: str | None, day: dt.date
) -> Decimal | None:
    at = dt.datetime.combine(day, dt.time(12), dt.UTC)
    cost = bundled().cost(provider, model, _usage(meter), at, mode)
    if cost is None or not cost.complete:
        return None
    return quotient(cost.total_usd, _SAMPLE)


def _usage(meter: str) -> Usage:
    if METERS[meter].unit != "token":
        return Usage(units={meter: Decimal(_SAMPLE)})
    counts: dict[str, t.Any] = {f"{meter}_tokens": _SAMPLE}
    if not _FIELDS.issuperset(counts):
        counts = {"other_tokens": {meter: _SAMPLE}}
    return Usage(**counts)


def at_list_price(lines: Iterable[Line]) -> Decimal | None:
    """Return what quantities cost at list price; ``None`` unless all have a price."""
    total = Decimal(0)
    for line in lines:
        price = list_price(line)
        if price is None or line.quantity is None:
            return None
        total = add(total, multiply(price, line.quantity))
    return total
