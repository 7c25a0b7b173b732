"""The overview page: what was spent, on what, and how that compares."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import edges
from .anomaly import Anomaly
from .anomaly import anomaly
from .filters import CallFilter
from .forecast import Projection
from .forecast import projection
from .tags import TagValues
from .tags import top_values
from .totals import breakdown
from .totals import change
from .totals import Group
from .totals import groups
from .totals import series
from .totals import sum_up
from .totals import Totals


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the chart, and its twin as many days before as the range is long."""

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
    """Of the period of as many days that ends where this one begins."""
    days: tuple[Day, ...]
    """Every day of the range in its zone, the oldest first."""
    providers: tuple[Group, ...]
    """By ``(provider,)``, the dearest first."""
    models: tuple[Group, ...]
    """By ``(provider, model)``, the dearest first: the top ones."""
    model_count: int
    """How many there are."""
    tags: tuple[TagValues, ...] = ()
    """The dearest values of each key asked for."""
    projection: Projection | None = None
    """Of the current month, whatever the range."""
    anomaly: Anomaly | None = None

    @property
    def spend_change(self) -> Decimal | None:
        """In percent of the previous period's spend; ``None`` if that was nothing."""
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
    """Ask all that the overview page shows.

    :param where: With both ends, such as :meth:`.CallFilter.days` gives.
    :param models: How many of the models to list.
    :param tags: The keys to list values of, and to look for an anomaly's cause in.
    :param now: The current time, for the projection; without it there is none.
    """
    first, last = where.first_day, where.last_day
    if first is None or last is None:
        raise ValueError("The overview needs a range with both ends.")
    length = (last - first).days + 1
    start = first - dt.timedelta(days=length)
    # One question about both periods, so that a day is read in one way in either.
    both = replace(where, start=where.previous().start)
    days = series(connection, both, edges("day", start, last, where.zone))
    by_model = breakdown(connection, where, "provider", "model")
    whole = sum_up(days[length:])
    return Overview(
        where=where,
        totals=whole,
        previous=sum_up(days[:length]),
        days=tuple(
            Day(
                day=first + dt.timedelta(days=n),
                totals=days[length + n],
                previous_day=start + dt.timedelta(days=n),
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
