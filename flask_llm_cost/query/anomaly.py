"""A last day that cost far more than the week before it, and what caused that."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import DAY
from ..calendar import edges
from ..money import multiply
from ..money import own_context
from .aggregate import series_by
from .aggregate import tag_series
from .aggregate import UNTAGGED
from .filters import CallFilter
from .totals import Totals

_WEEK: t.Final = 7

_LEAST: t.Final = Decimal(1)
"""USD: a day that costs less is not reported."""

_TIMES: t.Final = Decimal("1.5")
"""The minimum ratio to the mean, however steady the week was."""

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
    """A model that cost far more on the last day of a range than in the week before."""

    provider: str
    model: str
    day: dt.date
    rise: Rise
    cause: Cause | None
    """``None`` if no tag value accounts for at least half of the rise."""


def anomaly(
    connection: sa.Connection,
    where: CallFilter,
    spend_usd: Decimal,
    *,
    tags: Iterable[str] = (),
) -> Anomaly | None:
    """Return the rise of a model that costs the most; ``None`` if none is unusual.

    A day is unusual if it costs at least a dollar, at least 1.5 times the mean of the
    seven days before and more than two standard deviations above it, and if the excess
    is at least 1 % of the range's spend.

    :param where: With both ends. Fewer than eight days have no week to compare with.
    :param spend_usd: The spend of the range.
    :param tags: The tags to look for a cause in.
    """
    if where.start is None or where.end is None or where.day_count <= _WEEK:
        return None
    _, last = where.day_range
    bounds = edges("day", last - _WEEK * DAY, last, where.zone)
    daily = series_by(connection, where, bounds, "provider", "model")
    least = multiply(_PART, spend_usd)
    rises = [
        (key, rise)
        for key, days in daily.items()
        if _stands_out(days) and (rise := _rise(days)).excess_usd >= least
    ]
    if not rises:
        return None
    (provider, model), rise = max(rises, key=lambda r: (r[1].excess_usd, r[0]))
    where = replace(where, provider=provider, model=model)
    return Anomaly(
        provider=provider,
        model=model,
        day=last,
        rise=rise,
        cause=_cause(connection, where, bounds, tags, rise),
    )


def _cause(
    connection: sa.Connection,
    where: CallFilter,
    bounds: Sequence[dt.datetime],
    tags: Iterable[str],
    whole: Rise,
) -> Cause | None:
    causes = [
        Cause(key, value, _rise(days))
        for key in tags
        for (value,), days in tag_series(connection, where, bounds, key).items()
        if value != UNTAGGED
    ]
    likely = [c for c in causes if multiply(2, c.rise.excess_usd) >= whole.excess_usd]
    return max(likely, key=lambda c: (c.rise.excess_usd, c.key, c.value), default=None)


@own_context
def _rise(days: Sequence[Totals]) -> Rise:
    week = [day.spend_usd for day in days[-_WEEK - 1 : -1]]
    return Rise(days[-1].spend_usd, sum(week, Decimal(0)) / _WEEK)


@own_context
def _stands_out(days: Sequence[Totals]) -> bool:
    rise = _rise(days)
    if rise.latest_usd < _LEAST or rise.latest_usd < _TIMES * rise.mean_usd:
        return False
    week = [day.spend_usd for day in days[-_WEEK - 1 : -1]]
    variance = sum(((day - rise.mean_usd) ** 2 for day in week), Decimal(0)) / _WEEK
    return rise.excess_usd > 2 * variance.sqrt()
