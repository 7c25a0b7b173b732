"""The heat map: spend by day and hour."""

from __future__ import annotations

import datetime as dt
import typing as t
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import DAY
from ..money import own_context
from .aggregate import series
from .filters import CallFilter
from .totals import sum_up
from .totals import Totals

_STEPS: t.Final = (
    Decimal("0.08"),
    Decimal("0.25"),
    Decimal("0.5"),
    Decimal("0.75"),
)
"""Shares of the largest value from which on the shade is darker."""


@dataclass(frozen=True, slots=True)
class HeatDay:
    """One day, and its 24 hours of local time."""

    day: dt.date
    hours: tuple[Totals, ...]
    """An hour that occurs twice is the sum of both."""

    @property
    def spend_usd(self) -> Decimal:
        """The spend of the day."""
        return sum_up(self.hours).spend_usd


@dataclass(frozen=True, slots=True)
class Heat:
    """A range of days, hour by hour."""

    where: CallFilter
    days: tuple[HeatDay, ...]
    """Oldest first."""
    most_usd: Decimal
    """The spend of the most expensive hour."""
    most_tokens: int
    """The tokens of the busiest hour."""

    @own_context
    def level(self, value: Decimal | int, most: Decimal | int) -> int:
        """Return a shade from 0 (nothing) to 5, for ``most_usd`` or ``most_tokens``."""
        if not value or not most:
            return 0
        return 1 + sum(value >= step * most for step in _STEPS)


def heat(connection: sa.Connection, where: CallFilter) -> Heat:
    """Return every hour of a range.

    :param where: With both ends.
    """
    first, _ = where.day_range
    bounds = where.edges("hour")
    grid = {first + n * DAY: [Totals()] * 24 for n in range(where.day_count)}
    for start, part in zip(bounds, series(connection, where, bounds), strict=False):
        local = start.astimezone(where.zone)
        grid[local.date()][local.hour] += part
    hours = [hour for row in grid.values() for hour in row]
    return Heat(
        where=where,
        days=tuple(HeatDay(day, tuple(row)) for day, row in grid.items()),
        most_usd=max(hour.spend_usd for hour in hours),
        most_tokens=max(hour.total_tokens for hour in hours),
    )
