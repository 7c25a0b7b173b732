"""Whether the last day cost far more than the week before it, and what drove that."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import edges
from .filters import CallFilter
from .totals import series_by
from .totals import tag_series
from .totals import Totals
from .totals import UNTAGGED

_DAY: t.Final = dt.timedelta(days=1)

_WEEK: t.Final = 7

_LEAST: t.Final = Decimal(1)
"""USD: a day below this is not worth a banner."""

_TIMES: t.Final = Decimal("1.5")
"""So many times the mean is a rise, however steady the week was."""

_PART: t.Final = Decimal("0.01")
"""Of the whole range's spend: a rise by less than that is noise."""


@dataclass(frozen=True, slots=True)
class Rise:
    """A day's spend against the mean of the seven days before it."""

    latest_usd: Decimal
    mean_usd: Decimal

    @property
    def excess_usd(self) -> Decimal:
        return self.latest_usd - self.mean_usd

    @property
    def ratio(self) -> Decimal | None:
        """``None`` if the mean is 0: all of it is new."""
        return self.latest_usd / self.mean_usd if self.mean_usd else None


@dataclass(frozen=True, slots=True)
class Cause:
    """The tag value behind the most of a rise."""

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
    """``None`` if no tag value stands for at least half of the rise."""


def anomaly(
    connection: sa.Connection,
    where: CallFilter,
    spend_usd: Decimal,
    *,
    tags: Iterable[str] = (),
) -> Anomaly | None:
    """The one rise that costs the most; ``None`` if nothing is out of the ordinary.

    A model's day is, if it costs at least a dollar, one and a half times the mean of the
    seven days before and more than two standard deviations above it, and if the excess
    is at least 1 % of the range's spend.

    :param where: With both ends; one of fewer than eight days has no week to compare.
    :param spend_usd: What the range cost.
    :param tags: The keys to look for a cause in.
    """
    first, last = where.first_day, where.last_day
    if first is None or last is None or last - first < _WEEK * _DAY:
        return None
    marks = edges("day", last - _WEEK * _DAY, last, where.zone)
    daily = series_by(connection, where, marks, "provider", "model")
    rises = [
        (key, rise)
        for key, days in daily.items()
        if _stands_out(days) and (rise := _rise(days)).excess_usd >= _PART * spend_usd
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
        cause=_cause(connection, where, marks, tags, rise),
    )


def _cause(
    connection: sa.Connection,
    where: CallFilter,
    marks: Sequence[dt.datetime],
    tags: Iterable[str],
    whole: Rise,
) -> Cause | None:
    causes = [
        Cause(key, value, _rise(days))
        for key in tags
        for (value,), days in _tagged(connection, where, marks, key).items()
    ]
    likely = [c for c in causes if 2 * c.rise.excess_usd >= whole.excess_usd]
    return max(likely, key=lambda c: (c.rise.excess_usd, c.key, c.value), default=None)


def _tagged(
    connection: sa.Connection,
    where: CallFilter,
    marks: Sequence[dt.datetime],
    key: str,
) -> Mapping[tuple[str, ...], tuple[Totals, ...]]:
    found = tag_series(connection, where, marks, key)
    return {value: days for value, days in found.items() if value != (UNTAGGED,)}


def _rise(days: Sequence[Totals]) -> Rise:
    week = [day.spend_usd for day in days[-_WEEK - 1 : -1]]
    return Rise(days[-1].spend_usd, sum(week, Decimal(0)) / _WEEK)


def _stands_out(days: Sequence[Totals]) -> bool:
    rise = _rise(days)
    if rise.latest_usd < _LEAST or rise.latest_usd < _TIMES * rise.mean_usd:
        return False
    week = [day.spend_usd for day in days[-_WEEK - 1 : -1]]
    variance = sum(((day - rise.mean_usd) ** 2 for day in week), Decimal(0)) / _WEEK
    return rise.excess_usd > 2 * variance.sqrt()
