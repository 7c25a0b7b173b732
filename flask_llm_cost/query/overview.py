"""The overview page: spend by day, provider and model, and how it compares."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import DAY
from .aggregate import breakdown
from .aggregate import series
from .anomaly import Anomaly
from .anomaly import anomaly
from .filters import CallFilter
from .forecast import Projection
from .forecast import projection
from .tags import TagValues
from .tags import top_values
from .totals import change
from .totals import Group
from .totals import groups
from .totals import sum_up
from .totals import Totals


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the chart, and the same day of the previous period."""

    day: dt.date
    totals: Totals
    previous_day: dt.date
    previous: Totals


@dataclass(frozen=True, slots=True)
class Overview:
    """What the overview shows."""

    where: CallFilter
    totals: Totals
    previous: Totals
    """Of the previous period, which has as many days."""
    days: tuple[Day, ...]
    """Every day of the range, oldest first."""
    providers: tuple[Group, ...]
    """By ``(provider,)``, highest cost first."""
    models: tuple[Group, ...]
    """The most expensive models, by ``(provider, model)``."""
    model_count: int
    """How many models there are."""
    tags: tuple[TagValues, ...] = ()
    """The most expensive values of each tag that was asked for."""
    projection: Projection | None = None
    """Of the current month, whatever the range is."""
    anomaly: Anomaly | None = None

    @property
    def spend_change(self) -> Decimal | None:
        """In percent of the previous period's spend; ``None`` if that is 0."""
        return change(self.totals.spend_usd, self.previous.spend_usd)

    @property
    def calls_change(self) -> Decimal | None:
        """In percent of the previous period's calls."""
        return change(Decimal(self.totals.calls), Decimal(self.previous.calls))


def overview(
    connection: sa.Connection,
    where: CallFilter,
    *,
    models: int = 10,
    tags: Sequence[str] = (),
    now: dt.datetime | None = None,
) -> Overview:
    """Return what the overview page shows.

    :param where: With both ends, as :meth:`.CallFilter.days` returns it.
    :param models: How many models to list.
    :param tags: The tags to list values of, and to look for an anomaly's cause in.
    :param now: The current time, for the forecast; without it, there is none.
    """
    (first, _), length = where.day_range, where.day_count
    start = first - length * DAY
    # One query for both periods, so that their days are read in the same way.
    both = replace(where, start=where.previous().start)
    days = series(connection, both, both.edges("day"))
    by_model = breakdown(connection, where, "provider", "model")
    whole = sum_up(days[length:])
    return Overview(
        where=where,
        totals=whole,
        previous=sum_up(days[:length]),
        days=tuple(
            Day(
                day=first + n * DAY,
                totals=days[length + n],
                previous_day=start + n * DAY,
                previous=days[n],
            )
            for n in range(length)
        ),
        providers=groups((group.key[:1], group.totals) for group in by_model),
        models=by_model[:models],
        model_count=len(by_model),
        tags=tuple(top_values(connection, where, key) for key in tags),
        projection=None if now is None else projection(connection, where, now),
        anomaly=anomaly(connection, where, whole.spend_usd, tags=tags),
    )
