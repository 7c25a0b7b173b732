"""A price compiled for one mode, so that most calls cost three multiplications.

Whatever does not depend on the call is looked up once. Calls that use more than plain
token counts go through :func:`.line_items.itemize`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t
from collections.abc import Mapping
from collections.abc import Sequence

from ..call import Cost
from ..call import CostSource
from ..call import Usage
from ..completeness import incomplete
from ..completeness import is_limit
from ..money import from_pico
from ..money import ONE_PICO
from ..money import WIDE
from .line_items import itemize
from .line_items import LineItem
from .line_items import parts_of
from .lookup import Found
from .meters import MIN_TIME
from .meters import PREPAID
from .names import is_claude
from .names import is_seen_as_text
from .rate_table import CORE_METERS
from .rate_table import Rate
from .rate_table import RateTable

Span: t.TypeAlias = tuple[dt.datetime, dt.datetime]
"""From when until when (exclusive) something is valid."""

_NO_FLAGS: t.Final[frozenset[str]] = frozenset()
_NO_QUICK_RATE: t.Final = -(10**40)
"""Stands for a rate that is missing, flagged or not a whole number of pico-dollars per
token: any use makes the sum negative."""

_QUICK: t.Final = tuple(
    CORE_METERS.index(meter) for meter in ("input", "cache_read", "output")
)


class CompiledPrice:
    """One price, compiled for one mode."""

    __slots__ = (
        "_flags",
        "_key",
        "_quick",
        "_since",
        "_source",
        "_tables",
        "_threshold",
        "_until",
        "dated",
        "price",
    )

    def __init__(
        self, found: Found | None, tables: Mapping[int, RateTable], span: Span | None
    ) -> None:
        """Compile a price; see :func:`compile_price`.

        :param found: ``None`` if no price is known.
        :param tables: By tier; empty if there is no price for this mode.
        """
        self.price = None if found is None or not tables else found.price
        self.dated = span is not None
        """Whether it is valid for a limited time only."""
        self._since, self._until = span or (MIN_TIME, MIN_TIME)
        self._tables = tables
        self._source: CostSource = "bundled" if found is None else found.source
        self._key = "" if found is None else found.key
        self._flags = _NO_FLAGS if found is None else found.flags
        self._threshold = min(self.price.thresholds, default=0) if self.price else 0
        self._quick = None
        if tables and not self._flags and not tables[0].special:
            rates = (_quick_rate(tables[0].core[place]) for place in _QUICK)
            self._quick = (*rates, self._threshold)

    def valid_at(self, at: dt.datetime | None) -> bool:
        """Whether it prices a call of that time (``None`` is now)."""
        if at is None:
            at = dt.datetime.now(dt.UTC)
        elif at.tzinfo is None:
            at = at.replace(tzinfo=dt.UTC)
        return self._since <= at < self._until

    def cost(self, usage: Usage) -> Cost | None:
        """Return what a usage costs; ``None`` if no used meter has a rate."""
        quick, plain = self._quick, usage._plain
        if quick is None or plain is None:
            return self._full_cost(usage)
        fresh, cached, output = plain
        fresh_rate, cached_rate, output_rate, threshold = quick
        if threshold and fresh + cached >= threshold:
            return self._full_cost(usage)
        pico = fresh * fresh_rate + cached * cached_rate + output * output_rate
        if pico < 0:
            return self._full_cost(usage)
        cost = _new(Cost)
        # from_pico(), without the call: this is the hot path.
        _set_total(cost, _multiply(pico, ONE_PICO))
        _set_later(cost, (_fill_quick, self, plain))
        return cost

    def _full_cost(self, usage: Usage) -> Cost | None:
        price = self.price
        if price is None:
            return None
        tier = price.tier(usage) if self._threshold else 0
        table = self._tables[tier]
        pico, items, missing, flags = itemize(table, usage)
        if missing and not items:
            # No used meter has a rate, so not even a floor is known.
            return None
        flags |= self._flags
        complete = not missing and not incomplete(flags)
        cost = _new(Cost)
        _set_total(cost, from_pico(pico))
        limited = not missing and is_limit(flags)
        _set_later(cost, (_fill, self, table, items, complete, flags, limited))
        return cost


def compile_price(
    found: Found | None,
    provider: str,
    mode: str | None,
    *,
    at: dt.datetime | None = None,
    conditions: frozenset[str] = _NO_FLAGS,
    span: Span | None = None,
) -> CompiledPrice:
    """Compile a price for one mode.

    :param found: ``None`` if no price is known.
    :param at: When the call was sent, for windows.
    :param conditions: What is true of the call, for multipliers and variants.
    :param span: When the compiled price is valid; ``None`` is always.
    """
    if found is None or (mode in PREPAID and mode not in found.price.modes):
        return CompiledPrice(None, {}, span)
    price = found.price
    claude = is_claude(provider, found.key)
    seen_as_text = is_seen_as_text(found.key)
    tables = {
        above: price.table(
            above,
            mode=mode,
            at=at,
            conditions=conditions,
            factor=found.factor,
            claude=claude,
            seen_as_text=seen_as_text,
        )
        for above in (0, *price.thresholds)
    }
    return CompiledPrice(found, tables, span)


def _quick_rate(rate: Rate | None) -> int:
    if rate is None or rate.bottom != 1 or rate.flag is not None:
        return _NO_QUICK_RATE
    return rate.top


def _fill_quick(
    cost: Cost, compiled: CompiledPrice, counts: tuple[int, int, int]
) -> None:
    table = compiled._tables[0]
    items = []
    for place, count in zip(_QUICK, counts, strict=True):
        rate = table.core[place]
        if count and rate is not None:
            items.append((rate, count, count * rate.top))
    _fill(cost, compiled, table, items, True, _NO_FLAGS, True)


def _fill(
    cost: Cost,
    compiled: CompiledPrice,
    table: RateTable,
    items: Sequence[LineItem],
    complete: bool,
    flags: frozenset[str],
    limited: bool,
) -> None:
    """Set every field of a cost except its total."""
    price = compiled.price
    _set_parts(cost, parts_of(items))
    _set_source(cost, compiled._source)
    _set_key(cost, compiled._key)
    _set_valid_from(cost, None if price is None else price.valid_from)
    _set_tier(cost, table.tier)
    _set_mode(cost, table.mode)
    _set_complete(cost, complete)
    _set_flags(cost, flags)
    _set_estimate(cost, None)
    _set_ceiling(cost, cost.total_usd if limited else None)


_multiply: t.Final = WIDE.multiply

# The __init__ of a frozen dataclass takes longer than all of the arithmetic.
_new: t.Final[t.Callable[[type[Cost]], Cost]] = object.__new__
(
    _set_total,
    _set_parts,
    _set_source,
    _set_key,
    _set_valid_from,
    _set_tier,
    _set_mode,
    _set_complete,
    _set_flags,
    _set_estimate,
    _set_ceiling,
) = (Cost.__dict__[field.name].__set__ for field in dataclasses.fields(Cost))
_set_later: t.Final = Cost.__mro__[1].__dict__["_later"].__set__
