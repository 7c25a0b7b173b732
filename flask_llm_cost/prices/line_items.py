"""Multiply a usage by rates: exact integers, one line item per meter."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from collections.abc import Sequence
from decimal import Decimal
from operator import attrgetter

from ..call import Part
from ..call import Usage
from ..money import divide
from ..money import from_pico
from .meters import CORE
from .meters import PER_PROMPT
from .meters import TOKENS
from .rate_table import CORE_METERS
from .rate_table import Rate
from .rate_table import RateTable

LineItem: t.TypeAlias = tuple[Rate, int | Decimal, int]
"""A rate, the quantity, and the amount in pico-USD."""

Itemized: t.TypeAlias = tuple[int, Sequence[LineItem], Sequence[str], frozenset[str]]
"""The total in pico-USD, its line items, used meters without a rate, and flags."""

_NO_FLAGS: t.Final[frozenset[str]] = frozenset()
_counts: t.Final = attrgetter(*CORE.values())
_OUTPUT: t.Final = CORE_METERS.index("output")


def parts_of(items: Sequence[LineItem]) -> dict[str, Part]:
    """Convert line items to the decimal parts of a cost, by meter."""
    return {
        rate.meter: Part(Decimal(quantity), rate.usd, from_pico(pico))
        for rate, quantity, pico in items
    }


def itemize(table: RateTable, usage: Usage) -> Itemized:
    """Price a usage. The fast path serves plain token counts at the meters' own rates."""
    if table.special or usage.other_tokens or usage.units:
        return _itemize_all(table, usage)
    core = table.core
    pico = 0
    items: list[LineItem] = []
    for number, count in enumerate(_counts(usage)):
        if count:
            rate = core[number]
            if rate is None:
                return _itemize_all(table, usage)
            _, _, top, bottom, flag = rate
            if bottom != 1 or flag is not None:
                return _itemize_all(table, usage)
            amount = count * top
            pico += amount
            items.append((rate, count, amount))
    return pico, items, (), _NO_FLAGS


def _itemize_all(table: RateTable, usage: Usage) -> Itemized:
    items: list[LineItem] = []
    missing: list[str] = []
    for meter, quantity, rate in _used(table, usage):
        if not quantity:
            continue
        if rate is None:
            missing.append(meter)
        else:
            top, bottom = quantity.as_integer_ratio()
            amount = divide(top * rate.top, bottom * rate.bottom)
            items.append((rate, quantity, amount))
    flags = frozenset(rate.flag for rate, _, _ in items if rate.flag is not None)
    return sum(pico for _, _, pico in items), items, missing, flags


def _used(
    table: RateTable, usage: Usage
) -> Iterator[tuple[str, int | Decimal, Rate | None]]:
    """Yield every meter with its quantity, which may be 0, and its rate."""
    counts = list(_counts(usage))
    if table.reasoning is not None:
        reasoning = min(usage.reasoning_tokens, usage.output_tokens)
        counts[_OUTPUT] -= reasoning
        yield "reasoning", reasoning, table.reasoning
    yield from zip(CORE_METERS, counts, table.core, strict=True)
    for meter, count in usage.other_tokens.items():
        yield meter, count, table.rest.get(meter) or _text_rate(table, meter)
    for meter, quantity in usage.units.items():
        once = table.rest.get(PER_PROMPT.get(meter, ""))
        if once is not None and quantity:
            yield once.meter, 1, once
        else:
            yield meter, quantity, table.rest.get(meter)
    if table.request is not None and "request" not in usage.units:
        yield "request", 1, table.request


def _text_rate(table: RateTable, meter: str) -> Rate | None:
    """Return the text rate for a kind of token that no price list knows."""
    if meter in TOKENS:
        return None
    for text in ("cache_read", "input", "output"):
        if meter.startswith(f"{text}_"):
            rate = table.core[CORE_METERS.index(text)]
            if rate is None:
                return None
            return rate._replace(meter=meter, flag="modality_fallback")
    return None
