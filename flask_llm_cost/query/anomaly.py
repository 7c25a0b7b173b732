"""Days that cost far more than the week before them, and what caused that."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import DAY
from ..calendar import edges
from ..money import from_pico
from ..money import multiply
from ..money import own_context
from .aggregate import spend_series
from .aggregate import tag_series
from .aggregate import UNTAGGED
from .filters import CallFilter

_WEEK: t.Final = 7

_LEAST: t.Final = 10**12
"""In pico-USD: a day that costs less than a dollar is not reported."""

_PART: t.Final = Decimal("0.01")
"""The minimum share of the range's spend: a smaller rise is noise."""


@dataclass(frozen=True, slots=True)
class Rise:
    """A day's spend compared with the mean of the seven days before it."""

    latest_usd: Decimal
    mean_usd: Decimal

    @property
    @own_context
    def excess_usd(self) -> Decimal:
        return self.latest_usd - self.mean_usd

    @property
    @own_context
    def ratio(self) -> Decimal | None:
        """``None`` if the mean is 0."""
        return self.latest_usd / self.mean_usd if self.mean_usd else None


@dataclass(frozen=True, slots=True)
class Cause:
    """The tag value behind most of a rise."""

    key: str
    value: str
    rise: Rise


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A model that cost far more on a day than in the week before it."""

    provider: str
    model: str
    day: dt.date
    rise: Rise
    cause: Cause | None
    """``None`` if no tag value accounts for at least half of the rise, or if it is not
    among those that causes are looked for of."""


def anomalies(
    connection: sa.Connection,
    where: CallFilter,
    spend_usd: Decimal,
    *,
    tags: Sequence[str] = (),
    most: int = 3,
) -> tuple[Anomaly, ...]:
    """Return the unusual rises of every day of a range, those that cost most first.

    A day is unusual if a model costs at least a dollar, at least 1.5 times the mean of the
    seven days before and more than two standard deviations above it, and if the excess
    is at least 1 % of the range's spend.

    :param where: With both ends.
    :param spend_usd: The spend of the range.
    :param tags: The tags to look for causes in.
    :param most: How many to look for causes of.
    """
    if where.start is None or where.end is None:
        return ()
    first, last = where.day_range
    bounds = edges("day", first - _WEEK * DAY, last, where.zone)
    everything = replace(where, start=None, end=None)
    daily = spend_series(connection, everything, bounds, "provider", "model")
    least = multiply(_PART, spend_usd)
    found = [
        Anomaly(provider, model, first + (n - _WEEK) * DAY, rise, None)
        for (provider, model), days in daily.items()
        for n in range(_WEEK, len(days))
        if (rise := _unusual(days[n - _WEEK : n + 1])) and rise.excess_usd >= least
    ]
    found.sort(key=lambda each: (-each.rise.excess_usd, each.day, each.model))
    return (
        *(
            replace(one, cause=_cause(connection, where, one, tags))
            for one in found[:most]
        ),
        *found[most:],
    )


def _cause(
    connection: sa.Connection, where: CallFilter, found: Anomaly, tags: Sequence[str]
) -> Cause | None:
    where = replace(
        where, start=None, end=None, provider=found.provider, model=found.model
    )
    bounds = edges("day", found.day - _WEEK * DAY, found.day, where.zone)
    causes = [
        Cause(key, value, _rise([day.spend_pico for day in days]))
        for key in tags
        for (value,), days in tag_series(connection, where, bounds, key).items()
        if value != UNTAGGED
    ]
    whole = found.rise.excess_usd
    likely = [c for c in causes if multiply(2, c.rise.excess_usd) >= whole]
    return max(likely, key=lambda c: (c.rise.excess_usd, c.key, c.value), default=None)


@own_context
def _rise(days: Sequence[int]) -> Rise:
    week = from_pico(sum(days[:-1]))
    return Rise(from_pico(days[-1]), week / _WEEK)


@own_context
def _unusual(days: Sequence[int]) -> Rise | None:
    # Most days of most models are not: nothing is computed for them.
    if days[-1] < _LEAST or 2 * _WEEK * days[-1] < 3 * sum(days[:-1]):
        return None
    rise = _rise(days)
    week = [from_pico(day) for day in days[:-1]]
    variance = sum(((day - rise.mean_usd) ** 2 for day in week), Decimal(0)) / _WEEK
    return rise if rise.excess_usd > 2 * variance.sqrt() else None
