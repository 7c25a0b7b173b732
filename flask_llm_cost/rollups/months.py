"""Drop whole months of calls with their partitions; their rollups stay.

Not every database can drop a partition and change rollups in one transaction. So the rollups
stay of kind ``hour`` until the calls are gone, and become ``pruned`` afterwards:

#. Advance the horizon, so that no more calls of the month are accepted. Wait for the
   transactions that may not have seen it.
#. Build the dirty hours of the month: its rollups are exact now.
#. Announce that the month is being dropped: its rollups are final, and no longer built.
#. Drop the partition.
#. In one transaction, make the rollups ``pruned`` and withdraw the announcement.

This may be interrupted at any point; the next prune continues. Pages are always right: after
the announcement they read nothing of the month from calls.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from ..calendar import FIRST
from ..calendar import hours_touched
from ..calendar import period_of
from ..calendar import utc_hour
from ..db.partitions import drop
from ..db.partitions import Partition
from ..db.partitions import partitions
from ..db.partitions import wait_for_month
from ..db.statements import between
from ..db.tables import calls
from ..db.tables import dirty_marks
from ..db.tables import revisions
from ..db.tables import rollup_latencies
from ..db.tables import rollups
from . import days
from . import dropping
from . import horizon
from . import meter_sums
from . import tag_rollups
from .aggregates import add
from .aggregates import aggregate
from .aggregates import NOTHING
from .aggregates import read
from .aggregates import replace
from .dirty_marks import dirty_hours
from .dropping import Dropping
from .lock import lock

_BATCH = 1000


def whole_months(connection: sa.Connection, before: dt.datetime) -> list[Partition]:
    """List the partitions that end before a moment, by time."""
    return [
        part
        for part in partitions(connection)
        if part.end is not None and part.end <= before
    ]


@dataclass(frozen=True, slots=True)
class MonthDropper:
    """Drops the partitions of one ledger.

    :param build_hour: Builds the rollups of a UTC hour.
    """

    engine: sa.Engine
    zone: dt.tzinfo
    build_hour: Callable[[dt.datetime], bool]

    def drop_before(
        self, before: dt.datetime, progress: Callable[[int], None] | None = None
    ) -> int:
        """Drop the partitions before a moment; return how many calls were in them."""
        deleted = self._resume()
        with self.engine.connect() as connection:
            parts = whole_months(connection, before)
        for part in parts:
            deleted += self._drop(part)
            if progress is not None:
                progress(deleted)
        return deleted

    def _resume(self) -> int:
        """Finish an interrupted run whose partition is already dropped."""
        with self.engine.connect() as connection:
            span = dropping.dropping(connection)
            existing = {part.end for part in partitions(connection)}
        if span is None or span.end in existing:
            return 0
        return self._settle(span)

    def _drop(self, part: Partition) -> int:
        assert part.end is not None
        span = Dropping(part.start or FIRST, part.end)
        with self.engine.begin() as connection:
            lock(connection)
            horizon.advance(connection, span.end)
        wait_for_month(self.engine, part)
        while not self._announce(span):
            self._build(span)
        drop(self.engine, part)
        return self._settle(span)

    def _build(self, span: Dropping) -> None:
        with self.engine.connect() as connection:
            hours = dirty_hours(connection)
        for hour in sorted(hours):
            if span.touches(hour):
                self.build_hour(hour)

    def _announce(self, span: Dropping) -> bool:
        """Announce that a range is being dropped, unless it has dirty hours."""
        with self.engine.begin() as connection:
            lock(connection)
            dropping.end(connection)  # announced by an interrupted run
            if any(span.touches(hour) for hour in dirty_hours(connection)):
                return False
            for table in (rollups, rollup_latencies):
                connection.execute(
                    sa.delete(table).where(table.c.kind == dropping.KIND)
                )
            for start, end in self._split_hours(span):
                part = between(max(start, span.start), min(end, span.end))
                replace(connection, dropping.KIND, start, aggregate(connection, *part))
            tag_rollups.finalize_days(
                connection, self._days(connection, span), span.start, span.end
            )
            dropping.announce(connection, span)
        return True

    def _split_hours(self, span: Dropping) -> list[tuple[dt.datetime, dt.datetime]]:
        """List the hours of our zone that are only partly in a range, with their ends."""
        edges = [edge for edge in (span.start, span.end) if edge > FIRST]
        return [
            (start, end)
            for edge in edges
            for start, end in hours_touched(utc_hour(edge), self.zone)
            if start < edge < end
        ]

    def _days(
        self, connection: sa.Connection, span: Dropping
    ) -> list[tuple[dt.datetime, dt.datetime]]:
        """List the days of our zone in a range, from that of its first call."""
        where = between(max(span.start, FIRST), span.end)
        query = sa.select(sa.func.min(calls.c.started_at))
        first = connection.scalar(query.where(*where))
        if first is None:
            return []
        found = [period_of("day", first, self.zone)]
        while found[-1][1] < span.end:
            found.append(period_of("day", found[-1][1], self.zone))
        return found

    def _settle(self, span: Dropping) -> int:
        """Make the rollups of a range ``pruned``, after its calls were dropped."""
        self._delete_revisions(span)
        deleted = 0
        with self.engine.begin() as connection:
            lock(connection)
            if dropping.dropping(connection) != span:  # another prune has done so
                return 0
            split = self._split_hours(span)
            for start, end in split:
                deleted += _move(connection, dropping.KIND, start)
                left = aggregate(connection, *between(start, end))
                replace(connection, "hour", start, left)
            starts = {start for start, _ in split}
            if _starts(connection, "pruned", span):  # of calls pruned in batches
                for start in sorted(_starts(connection, "hour", span) - starts):
                    deleted += _move(connection, "hour", start)
            else:
                deleted += _move_all(connection, span, starts)
            meter_sums.settle_dropped(connection, span)
            days.mark_dropped(connection, span)
            tag_rollups.settle_dropped(connection, span)
            # Marks of changes that were too late: their calls are gone.
            late = dirty_marks.c.hour >= span.start, dirty_marks.c.hour < span.end
            connection.execute(sa.delete(dirty_marks).where(*late))
            dropping.end(connection)
        return deleted

    def _delete_revisions(self, span: Dropping) -> None:
        at = revisions.c.started_at
        where = at >= span.start, at < span.end
        some = sa.select(at).where(*where).order_by(at).limit(_BATCH)
        while True:
            with self.engine.begin() as connection:
                last = connection.scalars(some).all()[-1:]
                if not last:
                    return
                connection.execute(sa.delete(revisions).where(*where, at <= last[0]))


def _starts(connection: sa.Connection, kind: str, span: Dropping) -> set[dt.datetime]:
    """Return the starts of the rollups of a kind in a range."""
    r = rollups.c
    query = sa.select(r.start).where(
        r.kind == kind, r.start >= span.start, r.start < span.end
    )
    return set(connection.scalars(query.distinct()))


def _move_all(
    connection: sa.Connection, span: Dropping, split: set[dt.datetime]
) -> int:
    """Make all hours ``pruned``, except split ones; return their number of calls.

    There must be no ``pruned`` rollups in the range yet.
    """
    deleted = 0
    for table in (rollups, rollup_latencies):
        where = [
            table.c.kind == "hour",
            table.c.start >= span.start,
            table.c.start < span.end,
            table.c.start.not_in(sorted(split)),
        ]
        if table is rollups:
            query = sa.select(sa.func.sum(table.c.calls)).where(*where)
            deleted = int(connection.scalar(query) or 0)
        connection.execute(sa.update(table).where(*where).values(kind="pruned"))
    return deleted


def _move(connection: sa.Connection, kind: str, start: dt.datetime) -> int:
    """Move a rollup to ``pruned``; return its number of calls."""
    moved = read(connection, [kind], start)
    add(connection, "pruned", start, moved)
    replace(connection, kind, start, NOTHING)
    return sum(values["calls"] for values in moved.totals.values())
