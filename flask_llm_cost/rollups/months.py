"""How a whole month of calls goes at once, with its partition, while its sums stay.

Not every database can drop a partition and change sums in one transaction. So the sums stay
those of hours until the calls are gone, and become those of what was pruned after:

#. The horizon is moved, so that no call of that time comes in any more. Then we wait for
   the writers that may not have seen it yet.
#. All hours of that time are added up: their sums are exact now, and stay so.
#. A fact says which time is going: from now on no roller adds it up from its calls.
#. The partition is dropped.
#. In one transaction the sums become those of what was pruned, and the fact goes.

It may break off at any point; the next prune goes on. What pages add up is right at
every moment, since after the second step they read nothing of that time from calls.
"""

from __future__ import annotations

import datetime as dt
import typing as t
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
from ..db.partitions import wait_for_writers
from ..db.tables import calls
from ..db.tables import dirty_marks
from ..db.tables import revisions
from ..db.tables import rollup_latencies
from ..db.tables import rollups
from . import tag_sums
from .dirty_marks import marked
from .dropping import announce
from .dropping import Going
from .dropping import going
from .dropping import recall
from .sums import add
from .sums import add_up
from .sums import read
from .sums import replace
from .sums import Sums

_GOING: t.Final = "going"
"""The kind of sums of a part of an hour that goes, where the hour is of two months."""
_BATCH: t.Final = 1000
_MS: t.Final = dt.timedelta(milliseconds=1)
_NONE: t.Final = Sums({}, {})


def whole_months(connection: sa.Connection, before: dt.datetime) -> list[Partition]:
    """The partitions that hold nothing but calls before a moment, the oldest first."""
    return [
        part
        for part in partitions(connection)
        if part.end is not None and part.end <= before
    ]


@dataclass(frozen=True, slots=True)
class Months:
    """Lets whole months of one ledger go. Its roller lends a hand."""

    engine: sa.Engine
    zone: dt.tzinfo
    turn: Callable[[sa.Connection], None]
    say_horizon: Callable[[sa.Connection, dt.datetime], None]
    roll_hour: Callable[[dt.datetime], bool]

    def prune(
        self, before: dt.datetime, progress: Callable[[int], None] | None = None
    ) -> int:
        """Drop the partitions before a moment; how many calls were in them."""
        gone = self._resume()
        with self.engine.connect() as connection:
            parts = whole_months(connection, before)
        for part in parts:
            gone += self._prune(part)
            if progress is not None:
                progress(gone)
        return gone

    def _resume(self) -> int:
        """End what an earlier run has begun, if its partition is dropped."""
        with self.engine.connect() as connection:
            time = going(connection)
            there = {part.end for part in partitions(connection)}
        if time is None or time.end in there:
            return 0
        return self._settle()

    def _prune(self, part: Partition) -> int:
        assert part.end is not None
        time = Going(part.start or FIRST, part.end)
        with self.engine.begin() as connection:
            self.turn(connection)
            self.say_horizon(connection, time.end)
        wait_for_writers(self.engine, part)
        while not self._announce(time):
            self._add_up(time)
        drop(self.engine, part)
        return self._settle()

    def _add_up(self, time: Going) -> None:
        with self.engine.connect() as connection:
            hours = marked(connection)
        for hour in sorted(hours):
            if time.touches(hour):
                self.roll_hour(hour)

    def _announce(self, time: Going) -> bool:
        """Say that this time goes, unless it has hours that are to be added up."""
        with self.engine.begin() as connection:
            self.turn(connection)
            recall(connection)  # by a run that broke off
            if any(time.touches(hour) for hour in marked(connection)):
                return False
            for table in (rollups, rollup_latencies):
                connection.execute(sa.delete(table).where(table.c.kind == _GOING))
            for start, end in self._cut(time):
                part = _between(max(start, time.start), min(end, time.end))
                sums = add_up(connection, *part)
                replace(connection, _GOING, start, sums)
            days = self._days(connection, time)
            tag_sums.freeze(connection, days, time.start, time.end)
            announce(connection, time)
        return True

    def _cut(self, time: Going) -> list[tuple[dt.datetime, dt.datetime]]:
        """The hours of our days that this time has only a part of, with their ends."""
        edges = [edge for edge in (time.start, time.end) if edge > FIRST]
        return [
            (start, end)
            for edge in edges
            for start, end in hours_touched(utc_hour(edge), self.zone)
            if start < edge < end
        ]

    def _days(
        self, connection: sa.Connection, time: Going
    ) -> list[tuple[dt.datetime, dt.datetime]]:
        """The days of our zone that have calls of this time, with their ends."""
        at = calls.c.started_at
        these = _between(max(time.start, FIRST), time.end)
        first = connection.scalar(sa.select(sa.func.min(at)).where(*these))
        if first is None:
            return []
        found = [period_of("day", first, self.zone)]
        while found[-1][1] < time.end:
            found.append(period_of("day", found[-1][1], self.zone))
        return found

    def _settle(self) -> int:
        """The calls are gone: their sums become those of what was pruned."""
        gone = 0
        with self.engine.connect() as connection:
            time = going(connection)
        if time is None:
            return 0
        self._forget_revisions(time)
        with self.engine.begin() as connection:
            self.turn(connection)
            cut = self._cut(time)
            for start, end in cut:
                gone += self._move(connection, _GOING, start)
                left = add_up(connection, *_between(start, end))
                replace(connection, "hour", start, left)
            parted = {start for start, _ in cut}
            if self._has_pruned(connection, time):
                for start in self._hours(connection, time, parted):
                    gone += self._move(connection, "hour", start)
            else:
                gone += self._move_all(connection, time, parted)
            tag_sums.settle(connection)
            # Whoever changed one of these calls at the last moment was too late.
            late = dirty_marks.c.hour >= time.start, dirty_marks.c.hour < time.end
            connection.execute(sa.delete(dirty_marks).where(*late))
            recall(connection)
        return gone

    def _forget_revisions(self, time: Going) -> None:
        """What calls had cost before they were priced again goes with them."""
        at = revisions.c.started_at
        these = at >= time.start, at < time.end
        some = sa.select(at).where(*these).order_by(at).limit(_BATCH)
        while True:
            with self.engine.begin() as connection:
                last = connection.scalars(some).all()[-1:]
                if not last:
                    return
                connection.execute(sa.delete(revisions).where(*these, at <= last[0]))

    def _hours(
        self, connection: sa.Connection, time: Going, cut: set[dt.datetime]
    ) -> list[dt.datetime]:
        r = rollups.c
        query = sa.select(r.start).where(
            r.kind == "hour", r.start >= time.start, r.start < time.end
        )
        return sorted(set(connection.scalars(query.distinct())) - cut)

    def _has_pruned(self, connection: sa.Connection, time: Going) -> bool:
        """Whether calls of that time were pruned before, by the batch."""
        r = rollups.c
        known = sa.select(r.start).where(
            r.kind == "pruned", r.start >= time.start, r.start < time.end
        )
        return connection.execute(known.limit(1)).first() is not None

    def _move_all(
        self, connection: sa.Connection, time: Going, but: set[dt.datetime]
    ) -> int:
        """Make all hours those of what was pruned, where there are none of these yet."""
        r = rollups.c
        gone = 0
        for table in (rollups, rollup_latencies):
            these = [
                table.c.kind == "hour",
                table.c.start >= time.start,
                table.c.start < time.end,
                table.c.start.not_in(sorted(but)),
            ]
            if table is rollups:
                gone = int(
                    connection.scalar(sa.select(sa.func.sum(r.calls)).where(*these))
                    or 0
                )
            connection.execute(sa.update(table).where(*these).values(kind="pruned"))
        return gone

    def _move(self, connection: sa.Connection, kind: str, start: dt.datetime) -> int:
        sums = read(connection, [kind], start, start + _MS)
        add(connection, "pruned", start, sums)
        replace(connection, kind, start, _NONE)
        return sum(values["calls"] for values in sums.totals.values())


def _between(start: dt.datetime, end: dt.datetime) -> list[sa.ColumnElement[bool]]:
    return [calls.c.started_at >= start, calls.c.started_at < end]
