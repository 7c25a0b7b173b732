"""Where the month's spend is heading, and how sure that is."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import day_start
from ..calendar import edges
from ..calendar import first_day
from ..calendar import next_first_day
from .filters import CallFilter
from .totals import series

_DAY: t.Final = dt.timedelta(days=1)

_SETTLED: t.Final = 3 * _DAY
"""From then on a month speaks for itself."""

_HISTORY: t.Final = 28
"""Days before the month that speak for it until then: whole weeks."""

_ENOUGH: t.Final = 7
"""Days that must be known to tell how much one differs from another."""

_EIGHTY_PERCENT: t.Final = Decimal("1.2816")
"""Standard deviations either side that hold 80 % of a normal distribution."""


@dataclass(frozen=True, slots=True)
class Projection:
    """What the current month will have cost at its end. An estimate, but for ``spent``."""

    spent_usd: Decimal
    projected_usd: Decimal
    low_usd: Decimal | None
    """Four times of five it is between this and ``high_usd``; ``None`` if the days that
    are known are too few to say."""
    high_usd: Decimal | None
    last_day: dt.date
    """Of the month."""
    damped: bool
    """The month is younger than three days: the weeks before have a say."""

    def percent_of(self, limit_usd: Decimal) -> Decimal | None:
        """The projected spend in percent of a limit; ``None`` if that is 0."""
        return self.projected_usd / limit_usd * 100 if limit_usd else None


def projection(
    connection: sa.Connection, where: CallFilter, now: dt.datetime
) -> Projection:
    """Project the spend of the month that ``now`` is in, in the filter's zone.

    :param where: What calls are meant; its range of time is not.
    """
    today = now.astimezone(where.zone).date()
    first = first_day("month", today)
    marks = edges("day", first - _HISTORY * _DAY, today, where.zone)
    days = series(connection, replace(where, start=None, end=None), marks)
    spends = [day.spend_usd for day in days]
    end = next_first_day("month", first)
    return project(
        spent=sum(spends[_HISTORY:], Decimal(0)),
        history=_lived(spends[:_HISTORY]),
        days=spends[_HISTORY:-1],
        elapsed=now - day_start(first, where.zone),
        left=day_start(end, where.zone) - now,
        last_day=end - _DAY,
    )


def project(
    *,
    spent: Decimal,
    history: Sequence[Decimal],
    days: Sequence[Decimal],
    elapsed: dt.timedelta,
    left: dt.timedelta,
    last_day: dt.date,
) -> Projection:
    """Project a month's spend from what it and the days before it cost.

    A month of three days goes on as it began. A younger one goes on as a blend of that
    and of the history; without one, a first day that is not over counts as a whole one.

    :param history: The spend of the days before the month, none if there were none.
    :param days: The spend of the whole days of the month so far.
    """
    rest = _in_days(left)
    rate = spent / _in_days(max(elapsed, _DAY))
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


def _lived(days: Sequence[Decimal]) -> list[Decimal]:
    """The days from the first one that cost something."""
    for n, spend in enumerate(days):
        if spend:
            return list(days[n:])
    return []


def _spread(days: Sequence[Decimal], rest: Decimal) -> Decimal | None:
    """By how much the sum of the days that are left may be off."""
    if len(days) < _ENOUGH:
        return None
    mean = sum(days, Decimal(0)) / len(days)
    variance = sum(((day - mean) ** 2 for day in days), Decimal(0)) / len(days)
    return _EIGHTY_PERCENT * (variance * rest).sqrt()


def _in_days(span: dt.timedelta) -> Decimal:
    # A timedelta's own division would go through a float.
    return Decimal(span // dt.timedelta(microseconds=1)) / 86_400_000_000
