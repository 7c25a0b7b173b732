"""Build rollups: totals by hour and day, so that a year is read in milliseconds.

An hour is always aggregated from its calls as a whole, never updated by differences. Every
change to a call appends a dirty mark of its hour in the same transaction. Building an hour
reads its marks first and its calls next, then replaces the rollup and deletes exactly the
marks that were read. (In between, it waits for whoever is writing then: see ``writers.py``.)
As long as a mark remains, the hour is read from its calls. So rollups and calls together are
exact at any moment, whoever writes, builds or crashes meanwhile.

Pruned calls have separate rollups: see ``retention.py``.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import exc

from ..calendar import HOUR
from ..calendar import hours_touched
from ..calendar import period_of
from ..db.engine import Engines
from ..db.statements import between
from ..db.writers import wait_for_writers
from . import closing
from . import days as sums_of_days
from . import meter_sums
from . import metrics
from . import tag_rollups
from .aggregates import aggregate
from .aggregates import read
from .aggregates import replace
from .closing import Closed
from .dirty_marks import delete_marks
from .dirty_marks import dirty_hours
from .dirty_marks import marks_of
from .dropping import dropping
from .horizon import horizon
from .lock import lock
from .lock import lock_state
from .lock import Overtaken
from .tag_meter_sums import utc_day
from .verify import verify
from .zone import check_zone
from .zone import rezone


class RollupBuilder:
    """Keeps the rollups of one ledger up to date with its calls.

    :param zone: The time zone of hours and days.
    :param tags: Keys to declare for rollups, besides those that are declared already.
    """

    def __init__(
        self, engines: Engines, zone: dt.tzinfo, tags: Sequence[str] = ()
    ) -> None:
        self.engines = engines
        self.zone = zone
        self._tags = tags

    @property
    def _engine(self) -> sa.Engine:
        return self.engines.writing()

    def build(
        self, now: dt.datetime | None = None, *, seconds: float | None = None
    ) -> int:
        """Build the dirty hours that are over, and then the dirty days of tags.

        :param seconds: Stop after about this long, to continue the next time.
        :return: The number of hours that were built.
        :raises StorageError: If the database cannot be used, or its rollups are of another
            zone.
        """
        now = now or dt.datetime.now(dt.UTC)
        until = None if seconds is None else time.monotonic() + seconds
        built = 0
        self.engines.prepare()
        with self.engines.explained():
            self.check()
            with self._engine.connect() as connection:
                hours = sorted(dirty_hours(connection))
            for hour in hours:
                if until is not None and time.monotonic() > until:
                    break
                if hour + HOUR > now:
                    self._compact(hour)
                elif self.build_hour(hour):
                    built += 1
            self._build_days(now, until)
            metrics.merge(self._engine)
        return built

    def check(self) -> None:
        """Check the zone, begin sums by meter, and declare the keys for rollups.

        :raises StorageError: If the rollups are of another zone.
        """
        check_zone(self._engine, self.zone)
        meter_sums.begin(self._engine)
        with self._engine.connect() as connection:
            begun = sums_of_days.begun(connection)
        if not begun:
            with self._engine.begin() as connection:
                lock(connection)
                sums_of_days.begin(connection)
        with self._engine.connect() as connection:
            known = {each.key for each in tag_rollups.declared_keys(connection)}
        if known.issuperset(self._tags):
            return
        # A key stays declared until it is forgotten explicitly: its rollups of pruned
        # calls could not be built again.
        with self._engine.begin() as connection:
            lock(connection)
            known = {each.key for each in tag_rollups.declared_keys(connection)}
            new = [key for key in self._tags if key not in known]
            tag_rollups.declare_keys(connection, new, horizon(connection))

    def rezone(self) -> None:
        """Rebuild all rollups with the days of this zone.

        :raises StorageError: If calls were pruned: their rollups cannot be rebuilt.
        """
        self.engines.prepare()
        with self.engines.explained():
            rezone(self._engine, self.zone)
        self.build()

    def verify(self) -> list[str]:
        """List the rollups that differ from their calls."""
        with self.engines.snapshot(fresh=True) as connection:
            return verify(connection, self.zone)

    def forget_tag(self, key: str) -> bool:
        """Delete a key's rollups, and build none; return whether it was declared."""
        self.engines.prepare()
        with self.engines.explained(), self._engine.begin() as connection:
            lock(connection)
            closing.forget(connection, key)
            return tag_rollups.forget_key(connection, key)

    def close(self, month: dt.date, now: dt.datetime) -> Closed | None:
        """Close a UTC month, given its first day: see :mod:`.closing`.

        :return: If it was closed before: when.
        """
        self.engines.prepare()
        with self.engines.explained():
            self.check()
            return closing.close(self._engine, self.zone, month, now)

    def build_hour(self, hour: dt.datetime) -> bool:
        """Build the rollups that overlap a UTC hour; return whether they were replaced.

        If another process is building rollups, the marks stay for the next time.
        """
        spans = hours_touched(hour, self.zone)
        with self._engine.connect() as connection:
            before = lock_state(connection)
            ids = marks_of(connection, hour)
        # Where nodes commit one after the other, marks are visible before their calls.
        wait_for_writers(self._engine)
        with self._engine.connect() as connection:
            found = [
                (start, aggregate(connection, *between(start, end)))
                for start, end in spans
            ]
            meters = meter_sums.of_hour(connection, hour)
        try:
            with self._engine.begin() as connection:
                lock(connection, before)
                if _is_dropping(connection, hour):
                    return False  # the calls that are left give no complete rollup
                delete_marks(connection, ids)
                for start, new in found:
                    replace(connection, "hour", start, new)
                meter_sums.replace(connection, meter_sums.STORED, hour, meters)
                closing.correct(connection, self.zone, closing.TOTAL, [utc_day(hour)])
                days = sorted({period_of("day", s, self.zone) for s, _ in spans})
                for start, end in days:
                    day = read(connection, ["hour", "pruned"], start, end)
                    replace(connection, "day", start, day)
                starts = [start for start, _ in days]
                tag_rollups.mark_days_dirty(connection, starts)
                sums_of_days.mark(connection, starts)
        except (Overtaken, exc.IntegrityError):
            return False
        return True

    def _compact(self, hour: dt.datetime) -> None:
        """Keep one mark of the current hour: it only has to stay dirty."""
        with self._engine.begin() as connection:
            ids = marks_of(connection, hour)
            # Always the largest id. If two processes kept a mark of their choice, they
            # could delete each other's.
            delete_marks(connection, sorted(ids)[:-1])

    def _build_days(self, now: dt.datetime, until: float | None) -> None:
        """Build the dirty days of tags that are over, latest first."""
        with self._engine.connect() as connection:
            days = tag_rollups.dirty_days(connection)
        for start, keys in reversed(days.items()):
            if until is not None and time.monotonic() > until:
                return
            end = period_of("day", start, self.zone)[1]
            if end <= now:
                self._build_day(start, end, keys)
        with self._engine.connect() as connection:
            marked = sums_of_days.marked(connection)
        for start in reversed(marked):
            if until is not None and time.monotonic() > until:
                return
            end = period_of("day", start, self.zone)[1]
            if end <= now:
                self._sum_day(start, end)

    def _sum_day(self, start: dt.datetime, end: dt.datetime) -> None:
        with self._engine.connect() as connection:
            before = lock_state(connection)
            if not self._is_final(connection, start, end):
                return
            day = sums_of_days.read(connection, start, end)
        with contextlib.suppress(Overtaken), self._engine.begin() as connection:
            lock(connection, before)
            if not _is_dropping(connection, start, end):
                sums_of_days.store(connection, day)

    def _is_final(
        self, connection: sa.Connection, start: dt.datetime, end: dt.datetime
    ) -> bool:
        """Whether all hours of a day are built, and none is being dropped."""
        # Building an hour marks its days again.
        dirty = any(start - HOUR < hour < end for hour in dirty_hours(connection))
        return not dirty and not _is_dropping(connection, start, end)

    def _build_day(
        self, start: dt.datetime, end: dt.datetime, keys: Sequence[str]
    ) -> None:
        with self._engine.connect() as connection:
            before = lock_state(connection)
            if not self._is_final(connection, start, end):
                return
            day = tag_rollups.read_day(connection, keys, start, end)
        try:
            with self._engine.begin() as connection:
                lock(connection, before)
                if _is_dropping(connection, start, end):
                    return
                tag_rollups.store_day(connection, day)
                days = sorted({utc_day(start), utc_day(end - HOUR)})
                for key in keys:
                    closing.correct(connection, self.zone, key, days)
        except Overtaken:
            return  # the day is still dirty


def _is_dropping(connection: sa.Connection, *hours: dt.datetime) -> bool:
    """Whether calls of one of these hours are being dropped."""
    span = dropping(connection)
    return span is not None and any(span.touches(hour) for hour in hours)
