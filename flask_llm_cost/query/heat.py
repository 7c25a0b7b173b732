"""When the app spends: the last days, hour by hour."""

from __future__ import annotations

import datetime as dt
import typing as t
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import edges
from .filters import CallFilter
from .totals import series
from .totals import Totals

_STEPS: t.Final = (
    Decimal("0.08"),
    Decimal("0.25"),
    Decimal("0.5"),
    Decimal("0.75"),
)
"""Parts of the greatest value where a darker shade begins."""


@dataclass(frozen=True, slots=True)
class HeatDay:
    """One day, and its 24 hours by the zone's clock."""

    day: dt.date
    hours: tuple[Totals, ...]
    """An hour that the clock shows twice is the sum of both."""


@dataclass(frozen=True, slots=True)
class Heat:
    """A range of days, hour by hour."""

    where: CallFilter
    days: tuple[HeatDay, ...]
    """The oldest first."""
    most_usd: Decimal
    """Of the dearest hour."""
    most_tokens: int
    """Of the busiest hour."""

    def level(self, value: Decimal | int, most: Decimal | int) -> int:
        """A shade from 0 (nothing) to 5 (the most), for ``most_usd`` or ``most_tokens``."""
        if not value or not most:
            return 0
        return 1 + sum(value >= step * most for step in _STEPS)


def heat(connection: sa.Connection, where: CallFilter) -> Heat:
    """Ask for every hour of a range.

    :param where: With both ends.
    """
    first, last = where.first_day, where.last_day
    if first is None or last is None:
        raise ValueError("A heat map needs a range with both ends.")
    marks = edges("hour", first, last, where.zone)
    grid: dict[dt.date, list[Totals]] = {}
    for n in range((last - first).days + 1):
        grid[first + dt.timedelta(days=n)] = [Totals()] * 24
    for start, part in zip(marks, series(connection, where, marks), strict=False):
        local = start.astimezone(where.zone)
        grid[local.date()][local.hour] += part
    hours = [hour for row in grid.values() for hour in row]
    return Heat(
        where=where,
        days=tuple(HeatDay(day, tuple(row)) for day, row in grid.items()),
        most_usd=max(hour.spend_usd for hour in hours),
        most_tokens=max(hour.total_tokens for hour in hours),
    )
