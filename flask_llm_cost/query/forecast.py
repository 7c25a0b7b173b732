"""Forecast of the month's spend, with an 80 % prediction interval."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import DAY
from ..calendar import day_start
from ..calendar import edges
from ..calendar import first_day
from ..calendar import next_first_day
from ..money import own_context
from ..money import total
from .aggregate import series
from .filters import CallFilter

_SETTLED: t.Final = 3 * DAY
"""From then on, only the month itself is used."""

_HISTORY: t.Final = 28
"""Days before the month that are used until then: whole weeks."""

_ENOUGH: t.Final = 7
"""Days that are needed to estimate the variance."""

_EIGHTY_PERCENT: t.Final = Decimal("1.2816")
"""Standard deviations to either side that contain 80 % of a normal distribution."""


@dataclass(frozen=True, slots=True)
class Projection:
    """What the current month will cost. Only ``spent_usd`` is certain."""

    spent_usd: Decimal
    projected_usd: Decimal
    low_usd: Decimal | None
    """The 80 % prediction interval, to ``high_usd``; ``None`` if too few days are known."""
    high_usd: Decimal | None
    last_day: dt.date
    """Of the month."""
    damped: bool
    """The month is younger than three days, and the weeks before it are used too."""


def projection(
    connection: sa.Connection, where: CallFilter, now: dt.datetime
) -> Projection:
    """Project the spend of the month that ``now`` is in, in the filter's zone.

    :param where: Which calls; its time range is ignored.
    """
    today = now.astimezone(where.zone).date()
    first = first_day("month", today)
    bounds = edges("day", first - _HISTORY * DAY, today, where.zone)
    days = series(connection, replace(where, start=None, end=None), bounds)
    spends = [day.spend_usd for day in days]
    end = next_first_day("month", first)
    return project(
        spent=total(spends[_HISTORY:]),
        history=_since_first_cost(spends[:_HISTORY]),
        days=spends[_HISTORY:-1],
        elapsed=now - day_start(first, where.zone),
        left=day_start(end, where.zone) - now,
        last_day=end - DAY,
    )


@own_context
def project(
    *,
    spent: Decimal,
    history: Sequence[Decimal],
    days: Sequence[Decimal],
    elapsed: dt.timedelta,
    left: dt.timedelta,
    last_day: dt.date,
) -> Projection:
    """Project a month's spend from its own days and the days before it.

    From the third day on, the month continues at its own rate. Before that, at a blend of
    its own rate and the history; without a history, an unfinished first day counts as a
    whole one.

    :param history: The spend of the days before the month; empty if there were none.
    :param days: The spend of the finished days of the month.
    """
    rest = _in_days(left)
    rate = spent / _in_days(max(elapsed, DAY))
    damped = elapsed < _SETTLED
    if damped and history:
        before = sum(history, Decimal(0)) / len(history)
        missing = 1 - _in_days(elapsed) / _in_days(_SETTLED)
        rate = spent / _in_days(_SETTLED) + missing * before
    elif elapsed <= dt.timedelta(0):
        rate = Decimal(0)
    projected = spent + rate * rest
    spread = _spread([*history, *days], rest)
    return Projection(
        spent_usd=spent,
        projected_usd=projected,
        low_usd=None if spread is None else max(spent, projected - spread),
        high_usd=None if spread is None else projected + spread,
        last_day=last_day,
        damped=damped,
    )


def _since_first_cost(days: Sequence[Decimal]) -> list[Decimal]:
    """Return the days from the first one that cost something."""
    for n, spend in enumerate(days):
        if spend:
            return list(days[n:])
    return []


@own_context
def _spread(days: Sequence[Decimal], rest: Decimal) -> Decimal | None:
    """Return how much the sum of the remaining days may deviate."""
    if len(days) < _ENOUGH:
        return None
    mean = sum(days, Decimal(0)) / len(days)
    variance = sum(((day - mean) ** 2 for day in days), Decimal(0)) / len(days)
    return _EIGHTY_PERCENT * (variance * rest).sqrt()


def _in_days(span: dt.timedelta) -> Decimal:
    # Dividing timedeltas would give a float.
    return Decimal(span // dt.timedelta(microseconds=1)) / 86_400_000_000
