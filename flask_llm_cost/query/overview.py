"""The overview page: spend by day, provider and model, and how it compares."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from .aggregate import breakdown
from .anomaly import anomalies
from .anomaly import Anomaly
from .change import Change
from .change import what_changed
from .comparison import Kind
from .explore import explore
from .explore import Explored
from .explore import Grain
from .filters import CallFilter
from .forecast import Projection
from .forecast import projection
from .tags import TagValues
from .tags import top_values
from .totals import Group
from .totals import groups
from .totals import sum_up
from .totals import Totals


@dataclass(frozen=True, slots=True)
class Overview:
    """What the overview shows."""

    where: CallFilter
    totals: Totals
    explored: Explored
    """Its periods, by group, and what they are compared with."""
    providers: tuple[Group, ...]
    """By ``(provider,)``, highest cost first."""
    models: tuple[Group, ...]
    """The most expensive models, by ``(provider, model)``."""
    model_count: int
    """How many models there are."""
    other_models: Totals
    """Of those that are not listed."""
    tags: tuple[TagValues, ...] = ()
    """The most expensive values of each requested tag."""
    projection: Projection | None = None
    """Of the current month, whatever the range is."""
    anomalies: tuple[Anomaly, ...] = ()
    """Of every day of the range; those that cost most come first."""
    change: Change | None = None
    """Why it differs from what it is compared with; ``None`` if that cost nothing."""


def overview(
    connection: sa.Connection,
    where: CallFilter,
    *,
    models: int = 10,
    tags: Sequence[str] = (),
    now: dt.datetime | None = None,
    group: str | None = None,
    grain: Grain = "day",
    versus: Kind | None = "previous",
    week_start: str = "monday",
) -> Overview:
    """Return what the overview page shows.

    :param where: With both ends, as :meth:`.CallFilter.days` returns it.
    :param models: How many models to list.
    :param tags: The tags to list values of, and to look for an anomaly's cause in.
    :param now: The current time, for the forecast; without it, there is none.
    :param group: As in :func:`.explore`, like the following ones.
    """
    explored = explore(
        connection,
        where,
        group=group,
        grain=grain,
        versus=versus,
        now=now,
        week_start=week_start,
    )
    by_model = breakdown(connection, where, "provider", "model")
    whole = explored.totals
    return Overview(
        where=where,
        totals=whole,
        explored=explored,
        providers=groups((row.key[:1], row.totals) for row in by_model),
        models=by_model[:models],
        model_count=len(by_model),
        other_models=sum_up(row.totals for row in by_model[models:]),
        tags=tuple(top_values(connection, where, key) for key in tags),
        projection=None if now is None else projection(connection, where, now),
        anomalies=anomalies(connection, where, whole.spend_usd, tags=tags),
        change=_change(connection, where, explored, tags),
    )


def _change(
    connection: sa.Connection,
    where: CallFilter,
    explored: Explored,
    tags: Sequence[str],
) -> Change | None:
    before = explored.before
    if before is None or not before.full or not before.totals.spend_pico:
        return None
    return what_changed(connection, where, before, tags=tags)
