"""How calls are added up by hour and day, so that a year is read in milliseconds.

An hour is always added up anew from its calls, never changed by a difference: whoever
adds, changes or deletes a call appends a mark in the same transaction, and a roller
reads the marks of an hour first, then its calls, replaces the sums, and deletes exactly
the marks that it read. A mark that remains means: this hour is to be read from its calls.
So the two together are exact at any moment, whoever wrote, rolled or died meanwhile.

What is pruned is moved, in the same transaction as the delete, to sums of its own.
"""

from __future__ import annotations

import datetime as dt
import itertools
import secrets
import time
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import exc

from ..calendar import END
from ..calendar import FIRST
from ..calendar import from_ms
from ..calendar import HOUR
from ..calendar import hours_touched
from ..calendar import period_of
from ..calendar import rollup_start
from ..calendar import utc_ms
from ..db.engine import Engines
from ..db.tables import calls
from ..db.tables import meta
from ..db.tables import revisions
from ..db.tables import rollup_latencies
from ..db.tables import rollups
from ..db.tables import tag_sets
from ..db.tables import tag_values
from ..errors import StorageError
from ..event_id import event_time
from . import tag_sums
from .dirty_marks import fact
from .dirty_marks import horizon
from .dirty_marks import mark
from .dirty_marks import marked
from .dirty_marks import marks_of
from .dirty_marks import unmark
from .dropping import going
from .dropping import recall
from .sums import add
from .sums import add_up
from .sums import chunks
from .sums import read
from .sums import replace
from .sums import Sums
from .sums import these

if t.TYPE_CHECKING:
    from ..budgets.counters import Counters
    from ..call import Call
    from ..ledger.store import Stored
    from .erase import Erased
    from .months import Months

_TAGS_SPARED: t.Final = dt.timedelta(days=7)

_c: t.Final = calls.c


class Roller:
    """Brings the rollups of one ledger up to its calls.

    :param zone: Whose hours and days.
    :param tags: Keys to add up the values of, beside those that are declared already.
    """

    def __init__(
        self, engines: Engines, zone: dt.tzinfo, tags: Sequence[str] = ()
    ) -> None:
        self._engines = engines
        self._zone = zone
        self._tags = tags

    def roll(
        self, now: dt.datetime | None = None, *, seconds: float | None = None
    ) -> int:
        """Add up the hours that have marks and are over; how many were.

        :param seconds: Stop after about so long; the rest is for the next time.
        :raises StorageError: If the database is away, or its rollups are of another zone.
        """
        now = now or dt.datetime.now(dt.UTC)
        self._engines.prepare()
        until = None if seconds is None else time.monotonic() + seconds
        done = 0
        with self._engines.explained():
            self._check_zone()
            self._declare()
            with self._engine.connect() as connection:
                hours = sorted(marked(connection))
            for hour in hours:
                if until is not None and time.monotonic() > until:
                    break
                if hour + HOUR > now:
                    self._compact(hour)
                elif self._roll(hour):
                    done += 1
            self._roll_tags(now, until)
        return done

    @property
    def _engine(self) -> sa.Engine:
        return self._engines.writing()

    @property
    def _zone_name(self) -> str:
        return getattr(self._zone, "key", None) or str(self._zone)

    def _check_zone(self) -> None:
        with self._engine.connect() as connection:
            found = fact(connection, "timezone")
        if found is None:
            self.rezone()
        elif found != self._zone_name:
            raise StorageError(
                f"The ledger's days are those of {found}, and LLM_COST_TIMEZONE is"
                f" {self._zone_name}. Run `flask llm-cost ledger rezone`, or set it back."
            )

    def rezone(self) -> None:
        """Make the days those of this zone: all hours are to be added up again."""
        with self._engine.begin() as connection:
            self._turn(connection)
            pruned = rollups.c.kind == "pruned"
            known = sa.select(rollups.c.start).where(pruned)
            if connection.execute(known).first() or going(connection) is not None:
                raise StorageError(
                    "Some calls were pruned, and their sums by hour are of the zone"
                    f" {fact(connection, 'timezone')}: they cannot be of another."
                )
            connection.execute(sa.delete(meta).where(meta.c.name == "timezone"))
            connection.execute(
                sa.insert(meta).values(name="timezone", value=self._zone_name)
            )
            self._start_again(connection)

    def _start_again(self, connection: sa.Connection) -> None:
        """Forget all sums; every hour that has calls is to be added up."""
        connection.execute(sa.delete(rollups))
        connection.execute(sa.delete(rollup_latencies))
        tag_sums.start_again(connection, since=None)
        recall(connection)
        moment = sa.type_coerce(_c.started_at, sa.BigInteger)
        hours = connection.scalars(sa.select(moment - moment % 3_600_000).distinct())
        found = [from_ms(int(ms)) for ms in hours]
        if found:
            mark(connection, found)

    def _turn(self, connection: sa.Connection, before: str | None = None) -> None:
        """Let no other change the rollups until this transaction ends.

        :param before: What the turn was when this roller began to read; if another had
            it since, it read something old.
        """
        turn = sa.update(meta).where(meta.c.name == "rollup_lock")
        if before is not None:
            turn = turn.where(meta.c.value == before)
        # First in its transaction: SQLite has one writer, and says so at the first write.
        turned = connection.execute(turn.values(value=secrets.token_hex(16)))
        if turned.rowcount != 1:
            raise _Overtaken

    def _roll(self, hour: dt.datetime) -> bool:
        spans = hours_touched(hour, self._zone)
        with self._engine.connect() as connection:
            before = fact(connection, "rollup_lock")
            ids = marks_of(connection, hour)
            found = [
                (start, add_up(connection, *_between(start, end)))
                for start, end in spans
            ]
        try:
            with self._engine.begin() as connection:
                self._turn(connection, before)
                if self._goes(connection, hour):
                    return False
                unmark(connection, ids)
                for start, sums in found:
                    replace(connection, "hour", start, sums)
                days = sorted({period_of("day", s, self._zone) for s, _ in spans})
                for start, end in days:
                    replace(connection, "day", start, _of_hours(connection, start, end))
                tag_sums.mark_days(connection, (start for start, _ in days))
        except (_Overtaken, exc.IntegrityError):
            return False  # its marks are there; another roller is at work
        return True

    def _goes(self, connection: sa.Connection, hour: dt.datetime) -> bool:
        """Whether its calls are being dropped: what is left of them adds up to nothing."""
        time = going(connection)
        return time is not None and time.touches(hour)

    def _compact(self, hour: dt.datetime) -> None:
        """Of the hour that still runs keep one mark: that it is not added up is enough."""
        with self._engine.begin() as connection:
            ids = marks_of(connection, hour)
            # Never the largest: two at once would each keep another one of theirs,
            # and so none. Both keep the same, or the later one keeps a newer one too.
            unmark(connection, sorted(ids)[:-1])

    # Tags

    def _declare(self) -> None:
        """See that the keys are declared. One that was stays so until it is forgotten:
        what was pruned could not be added up again."""
        with self._engine.connect() as connection:
            known = {found.key for found in tag_sums.declared(connection)}
        if known.issuperset(self._tags):
            return
        with self._engine.begin() as connection:
            self._turn(connection)
            known = {found.key for found in tag_sums.declared(connection)}
            new = [key for key in self._tags if key not in known]
            tag_sums.declare(connection, new, horizon(connection))

    def forget(self, key: str) -> bool:
        """Add up by a key no more; whether it was declared."""
        self._engines.prepare()
        with self._engines.explained(), self._engine.begin() as connection:
            self._turn(connection)
            return tag_sums.forget(connection, key)

    def erase(
        self,
        key: str,
        value: str,
        erased: Erased,
        progress: Callable[[Erased], None],
    ) -> None:
        """Take a value of a tag out of the tables."""
        from .erase import Eraser

        self._engines.prepare()
        with self._engines.explained():
            Eraser(self._engine, self._turn, key, value).run(erased, progress)

    def _roll_tags(self, now: dt.datetime, until: float | None) -> None:
        """Add up by tags the days that are over and have no hour that is to be added up."""
        with self._engine.connect() as connection:
            days = tag_sums.marked_days(connection)
        for start, keys in reversed(days.items()):
            if until is not None and time.monotonic() > until:
                return
            end = period_of("day", start, self._zone)[1]
            if end <= now:
                self._roll_tag_day(start, end, keys)

    def _roll_tag_day(
        self, start: dt.datetime, end: dt.datetime, keys: Sequence[str]
    ) -> None:
        with self._engine.connect() as connection:
            before = fact(connection, "rollup_lock")
            if any(start - HOUR < hour < end for hour in marked(connection)):
                return  # its hours come first, and then it is marked again
            if self._goes(connection, start) or self._goes(connection, end):
                return
            found = {
                key: tag_sums.day_values(connection, key, start, end) for key in keys
            }
        try:
            with self._engine.begin() as connection:
                self._turn(connection, before)
                if self._goes(connection, start) or self._goes(connection, end):
                    return
                for key, values in found.items():
                    tag_sums.keep_day(connection, key, start, values)
        except _Overtaken:
            return  # its mark is there

    # Pruning

    def prune(
        self,
        before: dt.datetime,
        *,
        batch: int = 1000,
        months_only: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Delete the calls before a moment; how many they were.

        Whole months go with their partitions, others batch by batch. Their sums are kept.
        It may break off at any time, and go on later.

        :param months_only: Leave those that are not in a partition of such calls only.
        """
        self._engines.prepare()
        with self._engines.explained():
            self._check_zone()
            self._declare()
            gone = self._months.prune(before, progress)
            while not months_only and (count := self._prune(before, batch)):
                gone += count
                if progress is not None:
                    progress(gone)
            self._prune_tags(batch)
        return gone

    @property
    def _months(self) -> Months:
        from .months import Months

        return Months(
            self._engine, self._zone, self._turn, self._say_horizon, self._roll
        )

    def prunable(self, before: dt.datetime) -> int:
        """How many calls :meth:`prune` would delete."""
        with self._engines.snapshot(fresh=True) as connection:
            query = sa.select(sa.func.count()).select_from(calls)
            return connection.scalar(query.where(_c.started_at < before)) or 0

    def _say_horizon(self, connection: sa.Connection, before: dt.datetime) -> None:
        """In the transaction that deletes: who inserts looks at it after the insert."""
        known = horizon(connection)
        if known is None or known < before:
            connection.execute(sa.delete(meta).where(meta.c.name == "horizon"))
            value = str(utc_ms(before))
            connection.execute(sa.insert(meta).values(name="horizon", value=value))

    def _prune_tags(self, batch: int) -> None:
        """Delete sets of tags that no call has. One seen lately may be a writer's next."""
        lately = dt.datetime.now(dt.UTC) - _TAGS_SPARED
        s = tag_sets.c
        used = sa.exists().where(_c.tag_set_id == s.id)
        unused = sa.select(s.id).where(s.seen_at < lately, ~used).limit(batch)
        while True:
            with self._engine.begin() as connection:
                ids = sorted(connection.scalars(unused))
                if not ids:
                    return
                for table, column in (
                    (tag_values, tag_values.c.tag_set_id),
                    (tag_sets, s.id),
                ):
                    connection.execute(sa.delete(table).where(column.in_(ids)))

    def _prune(self, before: dt.datetime, batch: int) -> int:
        with self._engine.begin() as connection:
            self._turn(connection)
            rows = connection.execute(
                sa.select(_c.started_at, _c.event_id)
                .where(_c.started_at < before)
                .order_by(_c.started_at, _c.event_id)
                .limit(batch)
                # What is added up now must be what is deleted then.
                .with_for_update()
            ).all()
            if not rows:
                return 0
            self._say_horizon(connection, before)
            hours: dict[dt.datetime, list[t.Any]] = {}
            for row in rows:
                start = rollup_start("hour", row.started_at, self._zone)
                hours.setdefault(start, []).append(row)
            for start, of_day in itertools.groupby(
                rows, lambda row: rollup_start("day", row.started_at, self._zone)
            ):
                for some in chunks(list(of_day)):
                    tag_sums.keep_pruned(connection, start, *these(some))
            for start, found in sorted(hours.items()):
                self._move(connection, start, found)
            mark(connection, [row.started_at for row in rows])
        return len(rows)

    def _move(
        self,
        connection: sa.Connection,
        start: dt.datetime,
        rows: Sequence[sa.Row[t.Any]],
    ) -> None:
        for some in chunks(rows):
            add(connection, "pruned", start, add_up(connection, *these(some)))
            _delete_calls(connection, some)

    def put_back(self, old: Iterable[Call]) -> Stored:
        """Store calls that were pruned, and take them out of the sums of what was."""
        from ..ledger.store import Store
        from .restore import PutBack

        self._engines.prepare()
        with self._engines.explained():
            self._check_zone()
        return Store(self._engines, put_back=PutBack(self._turn, self._zone)).write(old)

    def clear(self, since: dt.datetime | None) -> int:
        """Delete the calls since a moment, or all of them, and their sums."""
        self._engines.prepare()
        gone = 0
        with self._engines.explained():
            while count := self._clear(since):
                gone += count
            if since is None:
                with self._engine.begin() as connection:
                    self._turn(connection)
                    # Calls may have come meanwhile, and may be added up already.
                    self._start_again(connection)
                    connection.execute(sa.delete(meta).where(meta.c.name == "horizon"))
                self._prune_tags(1000)
        return gone

    def _clear(self, since: dt.datetime | None) -> int:
        with self._engine.begin() as connection:
            self._turn(connection)
            query = sa.select(_c.started_at, _c.event_id).limit(1000)
            if since is not None:
                query = query.where(_c.started_at >= since)
            rows = connection.execute(query.order_by(_c.started_at, _c.event_id)).all()
            for some in chunks(rows):
                _delete_calls(connection, some)
            if rows:
                mark(connection, [row.started_at for row in rows])
        return len(rows)

    def withdraw(
        self, event_ids: Sequence[str], counters: Counters | None = None
    ) -> int:
        """Delete these calls, and what they added to the sums, as if they had not been.

        :param counters: Of the budgets that they count in, if there are any.
        """
        from ..ledger.reprice import withdrawn

        self._engines.prepare()
        gone = 0
        with self._engines.explained():
            for some in chunks(sorted(event_ids)):
                with self._engine.begin() as connection:
                    self._turn(connection)
                    query = sa.select(calls)
                    # The time is in the id, and the key begins with it.
                    times = {event_time(each) for each in some}
                    query = query.where(_c.event_id.in_(some), _c.started_at.in_(times))
                    rows = connection.execute(query.order_by(_c.started_at)).all()
                    if rows:
                        trials = [row._asdict() for row in rows]
                        changed = withdrawn(connection, trials)
                        _delete_calls(connection, rows)
                        mark(connection, [row.started_at for row in rows])
                        if counters is not None:
                            counters.change(connection, changed)
                gone += len(rows)
        return gone

    # Verifying

    def verify(self) -> list[str]:
        """Where rollups differ from the calls that they are of, a line each.

        Hours that have marks are not looked at: they are to be added up.
        """
        self._engines.prepare()
        with self._engines.snapshot(fresh=True) as connection:
            dirty = {
                s for h in marked(connection) for s, _ in hours_touched(h, self._zone)
            }
            time = going(connection)
            starts = connection.scalars(
                sa.select(rollups.c.start).where(rollups.c.kind == "hour").distinct()
            )
            wanted = set(starts) | self._hours_with_calls(connection)
            if time is not None:
                dirty |= {start for start in wanted if time.touches(start)}
            days = {period_of("day", start, self._zone) for start in wanted | dirty}
            unsure = {period_of("day", start, self._zone) for start in dirty}
            return [
                *(
                    f"{start.isoformat()}: {line}"
                    for start in sorted(wanted - dirty)
                    for line in self._differ(connection, start)
                ),
                *(
                    f"{start.isoformat()}: the day is not the sum of its hours"
                    for start, end in sorted(days - unsure)
                    if read(connection, ["day"], start, end)
                    != _of_hours(connection, start, end)
                ),
                *tag_sums.differ(connection, days - unsure),
            ]

    def _hours_with_calls(self, connection: sa.Connection) -> set[dt.datetime]:
        minute = sa.type_coerce(_c.started_at, sa.BigInteger)
        query = sa.select(minute - minute % 60_000).where(*_between(FIRST, END))
        found = connection.scalars(query.distinct())
        return {rollup_start("hour", from_ms(int(ms)), self._zone) for ms in found}

    def _differ(self, connection: sa.Connection, start: dt.datetime) -> Iterator[str]:
        end = min(start + HOUR, period_of("day", start, self._zone)[1])
        raw = add_up(connection, *_between(start, end))
        kept = read(connection, ["hour"], start, start + dt.timedelta(milliseconds=1))
        for key in sorted(set(raw.totals) | set(kept.totals)):
            if raw.totals.get(key) != kept.totals.get(key):
                yield f"{key[0]}/{key[1]} is not the sum of its calls"
        if raw.latencies != kept.latencies:
            yield "latencies are not those of its calls"


class _Overtaken(Exception):
    """Another roller has changed the rollups since they were read."""


def _of_hours(connection: sa.Connection, start: dt.datetime, end: dt.datetime) -> Sums:
    return read(connection, ["hour", "pruned"], start, end)


def _between(start: dt.datetime, end: dt.datetime) -> list[sa.ColumnElement[bool]]:
    return [_c.started_at >= start, _c.started_at < end]


def _delete_calls(connection: sa.Connection, rows: Sequence[t.Any]) -> None:
    """Delete calls, and what they had cost before they were priced again."""
    for table in (revisions, calls):
        connection.execute(sa.delete(table).where(*these(rows, table)))
