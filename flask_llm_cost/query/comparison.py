"""The range of time that a range is compared with, part by part."""

from __future__ import annotations

import datetime as dt
import typing as t
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

import sqlalchemy as sa

from ..calendar import DAY
from ..calendar import day_start
from ..calendar import local_day
from ..calendar import next_first_day
from ..db.tables import calls
from ..db.tables import rollups
from .aggregate import series
from .aggregate import totals
from .filters import CallFilter
from .totals import sum_up
from .totals import Totals

Kind: t.TypeAlias = t.Literal["previous", "last_month", "last_year"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The totals of another range."""

    kind: str
    start: dt.datetime
    end: dt.datetime
    """For a range that is not over, only as much of the other as is over of this one."""
    cut: bool
    """Whether that is so."""
    parts: tuple[Totals, ...]
    """For each period of the range, of the corresponding one."""
    since: dt.datetime | None
    """The first call in the ledger."""

    @property
    def totals(self) -> Totals:
        """The totals of the whole."""
        return sum_up(self.parts)

    @property
    def full(self) -> bool:
        """Whether the ledger had begun when the range did."""
        return self.since is not None and self.since < self.start + DAY


def compare(
    connection: sa.Connection,
    where: CallFilter,
    edges: Sequence[dt.datetime],
    kind: Kind,
    now: dt.datetime | None = None,
) -> Comparison:
    """Return the totals of the range that a range is compared with.

    :param where: With both ends.
    :param edges: The periods of the range, from its start to its end.
    :param kind: As many days before; or the same days of the last month or year.
    :param now: The current time, unless the range is over.
    """
    moved = _moved(where, edges, kind)
    cut = now is not None and edges[0] <= now < edges[-1]
    everything = replace(where, start=None, end=None)
    parts = list(series(connection, everything, moved))
    end = moved[-1]
    if cut:
        [end] = _moved(where, [t.cast(dt.datetime, now)], kind)
        end = max(moved[0], min(end, moved[-1]))
        # Only the last part is not whole: the others are read from rollups.
        n = min(bisect_right(moved, end), len(parts)) - 1
        rest = replace(everything, start=moved[n], end=end)
        parts[n:] = [Totals()] * (len(parts) - n)
        if moved[n] < end:
            parts[n] = totals(connection, rest)
    return Comparison(
        kind, moved[0], end, cut, tuple(parts), since=first_moment(connection)
    )


def _moved(
    where: CallFilter, moments: Sequence[dt.datetime], kind: Kind
) -> list[dt.datetime]:
    """Return the corresponding moments: the same time of the corresponding days."""
    found: list[dt.datetime] = []
    for moment in moments:
        day = local_day(moment, where.zone)
        other, exact = _other_day(day, kind, where.day_count)
        at = day_start(other, where.zone)
        if exact:
            at = min(at + (moment - day_start(day, where.zone)), _end(other, where))
        # A day may be shorter there, and several days the first of the next month.
        found.append(max(at, found[-1]) if found else at)
    return found


def _end(day: dt.date, where: CallFilter) -> dt.datetime:
    return day_start(day + DAY, where.zone)


def _other_day(day: dt.date, kind: Kind, length: int) -> tuple[dt.date, bool]:
    """Return the corresponding day; or the day after, and that there is none."""
    if kind == "previous":
        return day - length * DAY, True
    month = day.month - 1 or 12 if kind == "last_month" else day.month
    year = day.year - 1 if kind == "last_year" or day.month == 1 else day.year
    try:
        return dt.date(year, month, day.day), True
    except ValueError:
        return next_first_day("month", dt.date(year, month, 1)), False


def first_moment(connection: sa.Connection) -> dt.datetime | None:
    """Return when the ledger begins, pruned calls included; ``None`` if it is empty."""
    # Each is the first entry of an index. Calls may not be in rollups yet.
    found = [
        connection.scalar(sa.select(sa.func.min(calls.c.started_at))),
        connection.scalar(
            sa.select(sa.func.min(rollups.c.start)).where(rollups.c.kind == "day")
        ),
    ]
    return min((at for at in found if at is not None), default=None)
