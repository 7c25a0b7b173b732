"""Totals of calls, and how they are read from a database."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from ..db.sql import joined_sum
from ..db.sql import split_sum
from ..db.sql import whole_sum
from ..money import from_pico
from ..money import MAX_PICO
from ..money import own_context
from ..money import share
from ..rollups.measures import AMOUNTS
from ..rollups.measures import COUNTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The totals of a set of calls. Those of disjoint sets can be added.

    Money is what is known: read it together with ``unpriced``, ``incomplete`` and
    ``ceiling_usd``. The cost of calls with estimated usage is only in ``estimated_usd``.
    """

    calls: int = 0
    """HTTP attempts, including failed ones."""
    priced: int = 0
    """Calls whose cost is known, including incomplete and excluding estimated ones."""
    unpriced: int = 0
    """Calls that may have cost something, and whose cost is unknown."""
    unpriced_with_usage: int = 0
    """Unpriced calls whose usage is known."""
    unpriced_tokens: int = 0
    """Their tokens."""
    incomplete: int = 0
    """Priced calls with a part that was not read or has no price."""
    unbounded: int = 0
    """Incomplete and estimated calls without a known limit of their cost."""
    failed: int = 0
    """Attempts that were refused or not answered, and used nothing."""
    estimated: int = 0
    """Calls with a cost of estimated usage."""
    estimated_tokens: int = 0
    """Their estimated tokens."""
    estimated_pico: int = 0
    open_pico: int = 0
    spend_pico: int = 0
    cost_input_pico: int = 0
    cost_cache_read_pico: int = 0
    cost_cache_write_pico: int = 0
    cost_output_pico: int = 0
    cost_units_pico: int = 0
    """Tools and other units, and totals that a provider reported."""
    input_tokens: int = 0
    """Uncached input, cache reads and cache writes, of any modality."""
    output_tokens: int = 0
    """Output of any modality, including reasoning."""
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    """Of any lifetime."""
    reasoning_tokens: int = 0
    with_usage: int = 0
    """Calls whose usage is known."""
    with_latency: int = 0
    latency_sum_ms: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            **{name: getattr(self, name) + getattr(other, name) for name in _FIELDS}
        )

    @property
    def spend_usd(self) -> Decimal:
        """The sum of the known costs."""
        return from_pico(self.spend_pico)

    @property
    def ceiling_usd(self) -> Decimal | None:
        """The most that the calls can have cost; ``None`` if a call is unpriced, or has no
        known limit."""
        return None if self.unpriced or self.unbounded else self.bounded_usd

    @property
    def bounded_usd(self) -> Decimal:
        """The most that calls with a ceiling can have cost, plus the known costs of the
        unbounded ones."""
        return from_pico(self.spend_pico + self.open_pico)

    @property
    def estimated_usd(self) -> Decimal:
        """The cost of calls with estimated usage, which no other amount includes."""
        return from_pico(self.estimated_pico)

    @property
    def cost_usd(self) -> Decimal | None:
        """``spend_usd``; ``None`` if calls may have cost something and none is priced."""
        known = self.priced or not (self.unpriced or self.estimated)
        return self.spend_usd if known else None

    @property
    def saturated(self) -> bool:
        """Whether a sum reached the largest that a column holds: the true one is larger."""
        return any(getattr(self, name) >= MAX_PICO for name in _FIELDS)

    @property
    def all_failed(self) -> bool:
        """Whether every attempt failed and used nothing, so that there is no cost."""
        return 0 < self.calls == self.failed

    @property
    @own_context
    def average_usd(self) -> Decimal | None:
        """The mean cost of a priced call."""
        return self.spend_usd / self.priced if self.priced else None

    @property
    @own_context
    def possible_usd(self) -> Decimal | None:
        """What the unpriced calls would cost if they were priced like the rest.

        By their tokens where those are known, otherwise per call. No other amount includes
        this estimate. ``None`` if there is nothing to compare with.
        """
        if not self.unpriced:
            return Decimal(0)
        average = self.average_usd
        tokens = self.total_tokens - self.unpriced_tokens - self.estimated_tokens
        if average is None or (self.unpriced_tokens and not tokens):
            return None
        found = average * (self.unpriced - self.unpriced_with_usage)
        if self.unpriced_tokens:
            found += self.spend_usd / tokens * self.unpriced_tokens
        return found

    @property
    def average_latency_ms(self) -> float | None:
        """The mean latency of the calls that have one."""
        return self.latency_sum_ms / self.with_latency if self.with_latency else None

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def cache_hit_rate(self) -> Decimal | None:
        """The share of the input that was read from a cache, 0 to 1."""
        return share(self.cache_read_tokens, self.input_tokens)

    @property
    def prompt_tokens(self) -> int:
        """Input as some APIs report it: with cache reads, without cache writes."""
        return self.input_tokens - self.cache_write_tokens

    @property
    @own_context
    def usd_per_million(self) -> Decimal | None:
        """The average cost of a million tokens of the priced calls."""
        tokens = self.total_tokens - self.estimated_tokens - self.unpriced_tokens
        if not tokens or not self.priced:
            return None
        return self.spend_usd / tokens * 1_000_000


_FIELDS: t.Final = tuple(f.name for f in dataclasses.fields(Totals))


@dataclass(frozen=True, slots=True)
class Group:
    """One row of a breakdown."""

    key: tuple[str, ...]
    """What the calls have in common, e.g. ``("openai", "gpt-4o")``."""
    totals: Totals
    share: Decimal | None
    """The share of the total known spend, 0 to 1; ``None`` if that is 0."""


@own_context
def change(current: Decimal, previous: Decimal) -> Decimal | None:
    """Return the change in percent; ``None`` if the previous value is 0."""
    return (current - previous) / previous * 100 if previous else None


def sum_up(parts: Iterable[Totals]) -> Totals:
    """Add the totals of disjoint sets."""
    return sum(parts, Totals())


def groups(found: Iterable[tuple[tuple[str, ...], Totals]]) -> tuple[Group, ...]:
    """Return the rows of a breakdown, highest cost first; rows of one key are added."""
    merged: dict[tuple[str, ...], Totals] = {}
    for key, part in found:
        merged[key] = merged[key] + part if key in merged else part
    whole = sum(part.spend_pico for part in merged.values())
    ranked = sorted(
        merged.items(),
        key=lambda kv: (
            kv[1].cost_usd is None,
            -kv[1].spend_pico,
            -kv[1].estimated_pico,
            -kv[1].calls,
            kv[0],
        ),
    )
    return tuple(
        Group(key, part, share(part.spend_pico, whole)) for key, part in ranked
    )


_MONEY: t.Final = {
    "spend_pico": "cost_total",
    "cost_input_pico": "cost_input",
    "cost_cache_read_pico": "cost_cache_read",
    "cost_cache_write_pico": "cost_cache_write",
    "cost_output_pico": "cost_output",
    "cost_units_pico": "cost_units",
    "estimated_pico": "cost_estimated",
    "open_pico": "cost_open",
}

MEASURES: t.Final[list[sa.ColumnElement[t.Any]]] = [
    *(column.label(name) for name, column in COUNTS.items()),
    *(half for name, amount in AMOUNTS.items() for half in split_sum(name, amount)),
]
"""The columns of a query that aggregates calls; :func:`totals_of` reads them."""


def rolled_measures(table: sa.FromClause) -> list[sa.ColumnElement[t.Any]]:
    """The same columns of a table of rollups."""
    return [
        *(whole_sum(table.c[name]).label(name) for name in COUNTS),
        *(half for name in AMOUNTS for half in split_sum(name, table.c[name])),
    ]


SPEND: t.Final[list[sa.ColumnElement[t.Any]]] = [
    *split_sum("cost_total", AMOUNTS["cost_total"])
]
"""The same of the spend alone, which takes a tenth of the time; :func:`spend_of` reads it."""


def rolled_spend(table: sa.FromClause) -> list[sa.ColumnElement[t.Any]]:
    """The same columns of a table of rollups."""
    return [*split_sum("cost_total", table.c.cost_total)]


def spend_of(row: sa.Row[t.Any]) -> Totals:
    """Read totals of which only the spend is known, from a row that selects it."""
    return Totals(spend_pico=joined_sum(row._mapping, "cost_total"))


def totals_of(row: sa.Row[t.Any]) -> Totals:
    """Read the totals from a row that selects :data:`MEASURES`."""
    values = row._mapping
    found = {name: int(values[name] or 0) for name in COUNTS}
    money = {name: joined_sum(values, column) for name, column in _MONEY.items()}
    return Totals(**found, **money)
