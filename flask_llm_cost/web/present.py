"""From answers to what a template prints: points of charts, rows and summaries."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from ..money import from_pico
from ..money import own_context
from ..query.detail import MixPart
from ..query.overview import Day
from ..query.totals import sum_up
from ..query.totals import Totals
from . import format
from .charts import Point
from .labels import meter
from .selection import Selection

MAX_BARS: t.Final = 92


@dataclass(frozen=True, slots=True)
class Period:
    """The days of one bar, and their totals in this and the previous period."""

    first: dt.date
    last: dt.date
    totals: Totals
    previous: Totals


def periods(days: Sequence[Day]) -> Iterator[Period]:
    """One period per day, or per several days where a range is too long for that."""
    size = -(-len(days) // MAX_BARS)
    if size > 1:
        size = next((s for s in (7, 28) if s >= size), size)
    for i in range(0, len(days), size or 1):
        part = days[i : i + size]
        yield Period(
            part[0].day,
            part[-1].day,
            sum_up(day.totals for day in part),
            sum_up(day.previous for day in part),
        )


def days(selection: Selection[t.Any], found: Sequence[Day]) -> Iterator[Point]:
    """The bars of a chart by day, or by several days."""
    for period in periods(found):
        yield Point(
            label=format.day(period.first),
            when=format.span(period.first, period.last),
            summary=_summary(period.totals),
            amount=period.totals.spend_usd,
            previous=period.previous.spend_usd,
            href=selection.between(".calls", period.first, period.last),
        )


def hours(
    selection: Selection[t.Any],
    edges: Sequence[dt.datetime],
    series: Sequence[Sequence[Totals]],
) -> Iterator[Point]:
    """The bars of a chart by hour.

    :param series: The totals of each hour of this and of the previous period.
    """
    current, previous = series
    for i, totals in enumerate(current):
        start, end = (at.astimezone(selection.where.zone) for at in edges[i : i + 2])
        yield Point(
            label=f"{start:%H:%M}",
            when=f"{format.full_day(start.date())}, {start:%H:%M}\N{EN DASH}{end:%H:%M}",
            summary=_summary(totals),
            amount=totals.spend_usd,
            # The last hour of a 25-hour day has no counterpart.
            previous=previous[i].spend_usd if i < len(previous) else None,
            href=selection.between(".calls", start.date(), start.date()),
        )


def _summary(totals: Totals) -> str:
    return f"{spend(totals)}, {format.count(totals.calls, 'call')}"


def spend(totals: Totals) -> str:
    """The spend and what it excludes: ``$4.21, at most $4.40 +2 unpriced``."""
    limit = f", {format.at_most(totals.bounded_usd)}" if totals.open_pico else ""
    parts = [format.money(totals.cost_usd) + limit]
    if totals.unpriced:
        parts.append(f"+{totals.unpriced:,} unpriced")
    if totals.incomplete:
        parts.append(f"+{totals.incomplete:,} incomplete")
    if totals.open_pico and totals.unbounded:
        parts.append(f"+{totals.unbounded:,} without a known limit")
    if totals.estimated:
        parts.append(f"+{format.money(totals.estimated_usd)} estimated")
    return " ".join(parts)


@dataclass(frozen=True, slots=True)
class TypeCost:
    """The cost of one token type, and the number of tokens."""

    name: str
    label: str
    amount: Decimal
    tokens: int | None
    share: Decimal

    @property
    def pair(self) -> tuple[str, Decimal]:
        return self.name, self.amount


@own_context
def cost_by_token_type(totals: Totals) -> list[TypeCost]:
    """The spend on uncached input, cache reads and writes, output, and other units."""
    read, written = totals.cache_read_tokens, totals.cache_write_tokens
    uncached = totals.input_tokens - read - written
    found = (
        ("input", totals.cost_input_pico, uncached),
        ("cache_read", totals.cost_cache_read_pico, read),
        ("cache_write", totals.cost_cache_write_pico, written),
        ("output", totals.cost_output_pico, totals.output_tokens),
        ("units", totals.cost_units_pico, None),
    )
    whole = sum(pico for _, pico, _ in found)
    return [
        TypeCost(name, meter(name), from_pico(pico), tokens, Decimal(pico) / whole)
        for name, pico, tokens in found
        if pico > 0
    ]


def pairs(parts: Iterable[MixPart]) -> list[tuple[str, Decimal]]:
    """The parts of a mix as names and amounts."""
    return [(part.name, part.amount) for part in parts]
