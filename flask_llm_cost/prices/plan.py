"""How is a call of one model priced in one mode, while one price holds?

What does not depend on the call is looked up and compiled once. Most calls then are three
multiplications; what has more to it takes the longer way through :func:`.price.add_up`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from ..call import Cost
from ..call import CostSource
from ..call import Usage
from ..money import from_pico
from .meters import CORE
from .meters import PREPAID
from .names import is_claude
from .price import add_up
from .price import Line
from .price import parts_of
from .price import Price
from .price import Rate
from .price import Table

_NONE: t.Final[frozenset[str]] = frozenset()
_UNTOLD: t.Final = -(10**40)
"""Stands for a rate that is none, or is not a whole number of pico-dollars: any use makes
the sum negative."""

_QUICK: t.Final = ("input", "cache_read", "output")


@dataclass(frozen=True, slots=True)
class Found:
    """The price of a model at a time."""

    key: str
    """The book's key, as it is written there."""
    source: CostSource
    price: Price
    matched_by: str
    """``exact``, ``alias``, ``snapshot``, ``borrowed``, ``wildcard`` or ``free``."""
    flags: frozenset[str] = frozenset()
    factor: Decimal | None = None
    """A negotiated ``provider/*`` multiplier."""


class Quote(t.NamedTuple):
    """A cost if one is known, and what is to be noted about it either way."""

    cost: Cost | None
    flags: frozenset[str]


class Plan:
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
        self,
        found: Found | None,
        tables: Mapping[int, Table],
        span: tuple[dt.datetime, dt.datetime] | None,
    ) -> None:
        """Make a plan.

        :param found: ``None`` if no price is known.
        :param tables: By tier; none if there is no price for this mode.
        :param span: From when until when it holds; ``None``: always.
        """
        self.price = None if found is None or not tables else found.price
        self.dated = span is not None
        """Does it hold for a time only?"""
        self._since, self._until = span or (_FIRST, _FIRST)
        self._tables = tables
        self._source: CostSource = "bundled" if found is None else found.source
        self._key = "" if found is None else found.key
        self._flags = _NONE if found is None else found.flags
        self._threshold = min(self.price.thresholds, default=0) if self.price else 0
        self._quick = None
        if tables and not self._flags:
            self._quick = _quick(tables[0], self._threshold)

    def holds(self, at: dt.datetime | None) -> bool:
        """Is it the plan for a call of that time, of now if left out?"""
        if at is None:
            at = dt.datetime.now(dt.UTC)
        elif at.tzinfo is None:
            at = at.replace(tzinfo=dt.UTC)
        return self._since <= at < self._until

    def cost(self, usage: Usage) -> Cost | None:
        """What a usage costs; ``None`` if nothing of it has a rate."""
        quick, plain = self._quick, usage._plain
        if quick is None or plain is None:
            return self._whole(usage)
        fresh, cached, out = plain
        for_fresh, for_cached, for_out, threshold = quick
        if threshold and fresh + cached > threshold:
            return self._whole(usage)
        pico = fresh * for_fresh + cached * for_cached + out * for_out
        if pico < 0:
            return self._whole(usage)
        cost = _new(Cost)
        _set_total(cost, from_pico(pico))
        _set_later(cost, (_fill_quick, self, plain))
        return cost

    def _whole(self, usage: Usage) -> Cost | None:
        price = self.price
        if price is None:
            return None
        table = self._tables[price.tier(usage) if self._threshold else 0]
        pico, lines, missing, flags = add_up(table, usage)
        if missing and not lines:
            # Not one used meter has a rate: nothing is known, not even a floor.
            return None
        cost = _new(Cost)
        _set_total(cost, from_pico(pico))
        _set_later(cost, (_fill, self, table, lines, not missing, flags | self._flags))
        return cost


_FIRST: t.Final = dt.datetime.min.replace(tzinfo=dt.UTC)


def plan_of(
    found: Found | None,
    provider: str,
    mode: str | None,
    *,
    at: dt.datetime | None = None,
    conditions: frozenset[str] = _NONE,
    span: tuple[dt.datetime, dt.datetime] | None = None,
) -> Plan:
    """Compile a price.

    :param at: When the call was sent, for windows.
    :param conditions: What holds of the call, for multipliers.
    :param span: From when until when the plan holds; ``None``: always.
    """
    if found is None or (mode in PREPAID and mode not in found.price.modes):
        return Plan(None, {}, span)
    price = found.price
    claude = is_claude(provider, found.key)
    tables = {
        above: price.table(
            above,
            mode=mode,
            at=at,
            conditions=conditions,
            factor=found.factor,
            claude=claude,
        )
        for above in (0, *price.thresholds)
    }
    return Plan(found, tables, span)


def _quick(table: Table, threshold: int) -> tuple[int, int, int, int] | None:
    """Whole pico-dollars of fresh input, cached input and output, and up to what input."""
    if table.special:
        return None
    fresh, cached, out = (_whole_pico(table.core[place]) for place in _QUICK_PLACES)
    return fresh, cached, out, threshold


def _whole_pico(rate: Rate | None) -> int:
    if rate is None or rate.bottom != 1 or rate.flag is not None:
        return _UNTOLD
    return rate.top


_QUICK_PLACES: t.Final = tuple(tuple(CORE).index(meter) for meter in _QUICK)


def _fill_quick(cost: Cost, plan: Plan, counts: tuple[int, int, int]) -> None:
    table = plan._tables[0]
    lines = []
    for place, count in zip(_QUICK_PLACES, counts, strict=True):
        rate = table.core[place]
        if count and rate is not None:
            lines.append((rate, count, count * rate.top))
    _fill(cost, plan, table, lines, True, _NONE)


def _fill(
    cost: Cost,
    plan: Plan,
    table: Table,
    lines: Sequence[Line],
    complete: bool,
    flags: frozenset[str],
) -> None:
    """Set all of a cost but its total."""
    _set_parts(cost, parts_of(lines))
    _set_source(cost, plan._source)
    _set_key(cost, plan._key)
    _set_valid_from(cost, None if plan.price is None else plan.price.valid_from)
    _set_tier(cost, table.tier)
    _set_mode(cost, table.mode)
    _set_complete(cost, complete)
    _set_flags(cost, flags)
    _set_estimate(cost, None)


# A frozen dataclass's own __init__ takes longer than all of the sums.
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
) = (Cost.__dict__[field.name].__set__ for field in dataclasses.fields(Cost))
_set_later: t.Final = Cost.__mro__[1].__dict__["_later"].__set__
