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
import secrets
import time
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import exc

from ..call import from_ms
from ..call import utc_ms
from ..errors import StorageError
from .engine import Engines
from .going import going
from .going import recall
from .jsonl import END
from .jsonl import FIRST
from .tables import calls
from .tables import facts
from .tables import marks
from .tables import revisions
from .tables import rollup_latencies
from .tables import rollups
from .tables import SUMS
from .tables import tag_sets
from .tables import tag_values

if t.TYPE_CHECKING:
    from .months import Months

HOUR: t.Final = dt.timedelta(hours=1)
_DAY: t.Final = dt.timedelta(days=1)
_CHUNK: t.Final = 500
_TAGS_SPARED: t.Final = dt.timedelta(days=7)
_EPOCH: t.Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

Key: t.TypeAlias = tuple[str, str]
"""Provider and model."""

SILENT: t.Final = ("http_error", "no_response")
"""Outcomes of attempts that cost nothing unless they say so."""

_c: t.Final = calls.c
_unpriced: t.Final = sa.and_(
    _c.cost_total.is_(None),
    sa.or_(_c.outcome.not_in(SILENT), _c.total_input_tokens.is_not(None)),
)
_failed: t.Final = sa.and_(
    _c.cost_total.is_(None),
    _c.total_input_tokens.is_(None),
    _c.outcome.in_(SILENT),
)

_estimated: t.Final = sa.and_(
    _c.cost_total.is_not(None), _c.usage_source == "estimated"
)
_told: t.Final = _c.usage_source != "estimated"


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[t.Any]:
    return sa.func.count(sa.case((condition, 1)))


MEASURES: t.Final[Mapping[str, sa.ColumnElement[t.Any]]] = {
    "calls": sa.func.count(),
    "priced": _count(sa.and_(_c.cost_total.is_not(None), _told)),
    "unpriced": _count(_unpriced),
    "unpriced_with_usage": _count(
        sa.and_(_unpriced, _c.total_input_tokens.is_not(None))
    ),
    "unpriced_tokens": sa.func.sum(
        sa.case((_unpriced, _c.total_input_tokens + _c.total_output_tokens))
    ),
    "incomplete": _count(sa.and_(_c.cost_complete.is_(sa.false()), _told)),
    "failed": _count(_failed),
    "with_usage": sa.func.count(_c.total_input_tokens),
    "input_tokens": sa.func.sum(_c.total_input_tokens),
    "output_tokens": sa.func.sum(_c.total_output_tokens),
    "cache_read_tokens": sa.func.sum(_c.cache_read_tokens),
    "cache_write_tokens": sa.func.sum(_c.cache_write_tokens + _c.cache_write_1h_tokens),
    "reasoning_tokens": sa.func.sum(_c.reasoning_tokens),
    "with_latency": sa.func.count(_c.latency_ms),
    "latency_sum_ms": sa.func.sum(_c.latency_ms),
    **{
        name: sa.func.sum(sa.case((_told, _c[name])))
        for name in (
            "cost_total",
            "cost_input",
            "cost_cache_read",
            "cost_cache_write",
            "cost_output",
            "cost_units",
        )
    },
    "estimated": _count(_estimated),
    "estimated_tokens": sa.func.sum(
        sa.case((_estimated, _c.total_input_tokens + _c.total_output_tokens))
    ),
    "cost_estimated": sa.func.sum(sa.case((_estimated, _c.cost_total))),
}
"""How each of :data:`.tables.SUMS` is found from calls."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What some calls add up to, by provider and model."""

    totals: Mapping[Key, Mapping[str, int]]
    latencies: Mapping[tuple[str, str, int], int]
    """Calls by provider, model and bucket."""


def latency_bucket(ms: int) -> int:
    """The lower end of the bucket that a latency falls in: 32 for each doubling."""
    if ms < 64:
        return ms
    if ms >= 2**31:
        return 2**31
    return ms - ms % (1 << ms.bit_length() - 6)


def utc_hour(moment: dt.datetime) -> dt.datetime:
    """The hour of UTC that a moment is in: what marks hold."""
    return moment - (moment - _EPOCH) % HOUR


def mark(connection: sa.Connection, moments: Iterable[dt.datetime]) -> None:
    """Say, in the transaction that changes calls of these times, that it does."""
    hours = sorted({utc_hour(moment) for moment in moments})
    connection.execute(
        sa.insert(marks),
        [{"id": secrets.randbits(63), "hour": hour} for hour in hours],
    )


def marked(connection: sa.Connection) -> set[dt.datetime]:
    """The hours of UTC whose calls are to be read one by one.

    Rows of a time that no call can have, which no version writes, are in no sum. The
    sums of calls that are being dropped are right, and a mark there comes too late.
    """
    hour = marks.c.hour
    query = sa.select(hour).where(hour >= FIRST, hour < END).distinct()
    found = set(connection.scalars(query))
    time = going(connection)
    return found if time is None else {h for h in found if not time.touches(h)}


def hours_of(
    hour: dt.datetime, zone: dt.tzinfo
) -> list[tuple[dt.datetime, dt.datetime]]:
    """The hours of a zone's days that an hour of UTC touches, with their ends.

    They are counted from the day's beginning, so that whole ones make up the day also
    where its clock changes.
    """
    found = []
    day = (hour.astimezone(zone) - _DAY).date()
    while (start := _begin(day, zone)) < hour + HOUR:
        day += _DAY
        end = _begin(day, zone)
        if end > hour:
            first = max(start, start + (hour - start) // HOUR * HOUR)
            while first < min(end, hour + HOUR):
                found.append((first, min(first + HOUR, end)))
                first += HOUR
    return found


def day_of(moment: dt.datetime, zone: dt.tzinfo) -> tuple[dt.datetime, dt.datetime]:
    """When the day of a zone begins and ends that a moment is in."""
    day = moment.astimezone(zone).date()
    return _begin(day, zone), _begin(day + _DAY, zone)


def _begin(day: dt.date, zone: dt.tzinfo) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), tzinfo=zone).astimezone(dt.UTC)


def add_up(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> Sums:
    """Add up calls."""
    by = (_c.provider, _c.model)
    columns = [column.label(name) for name, column in MEASURES.items()]
    rows = connection.execute(sa.select(*by, *columns).where(*where).group_by(*by))
    totals = {
        (row.provider, row.model): {n: int(row._mapping[n] or 0) for n in SUMS}
        for row in rows
    }
    latencies: dict[tuple[str, str, int], int] = {}
    counted = sa.select(*by, _c.latency_ms, sa.func.count().label("n"))
    known = counted.where(*where, _c.latency_ms.is_not(None))
    for provider, model, ms, n in connection.execute(
        known.group_by(*by, _c.latency_ms)
    ):
        key = provider, model, latency_bucket(ms)
        latencies[key] = latencies.get(key, 0) + n
    return Sums(totals, latencies)


class Roller:
    """Brings the rollups of one ledger up to its calls.

    :param zone: Whose hours and days.
    """

    def __init__(self, engines: Engines, zone: dt.tzinfo) -> None:
        self._engines = engines
        self._zone = zone

    def roll(self, now: dt.datetime, *, seconds: float | None = None) -> int:
        """Add up the hours that have marks and are over; how many were.

        :param seconds: Stop after about so long; the rest is for the next time.
        :raises StorageError: If the database is away, or its rollups are of another zone.
        """
        self._engines.prepare()
        until = None if seconds is None else time.monotonic() + seconds
        done = 0
        with self._engines.explained():
            self._check_zone()
            with self._engine.connect() as connection:
                hours = sorted(marked(connection))
            for hour in hours:
                if until is not None and time.monotonic() > until:
                    break
                if hour + HOUR > now:
                    self._compact(hour)
                elif self._roll(hour):
                    done += 1
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
            connection.execute(sa.delete(facts).where(facts.c.name == "timezone"))
            connection.execute(
                sa.insert(facts).values(name="timezone", value=self._zone_name)
            )
            self._start_again(connection)

    def _start_again(self, connection: sa.Connection) -> None:
        """Forget all sums; every hour that has calls is to be added up."""
        connection.execute(sa.delete(rollups))
        connection.execute(sa.delete(rollup_latencies))
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
        turn = sa.update(facts).where(facts.c.name == "roller")
        if before is not None:
            turn = turn.where(facts.c.value == before)
        # First in its transaction: SQLite has one writer, and says so at the first write.
        turned = connection.execute(turn.values(value=secrets.token_hex(16)))
        if turned.rowcount != 1:
            raise _Overtaken

    def _roll(self, hour: dt.datetime) -> bool:
        spans = hours_of(hour, self._zone)
        with self._engine.connect() as connection:
            before = fact(connection, "roller")
            ids = _marks_of(connection, hour)
            found = [
                (start, add_up(connection, *_between(start, end)))
                for start, end in spans
            ]
        try:
            with self._engine.begin() as connection:
                self._turn(connection, before)
                if self._goes(connection, hour):
                    return False
                _delete(connection, ids)
                for start, sums in found:
                    replace(connection, "hour", start, sums)
                for start, end in sorted({day_of(s, self._zone) for s, _ in spans}):
                    replace(connection, "day", start, _of_hours(connection, start, end))
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
            ids = _marks_of(connection, hour)
            # Never the largest: two at once would each keep another one of theirs,
            # and so none. Both keep the same, or the later one keeps a newer one too.
            _delete(connection, sorted(ids)[:-1])

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
        with self._engines.snapshot() as connection:
            query = sa.select(sa.func.count()).select_from(calls)
            return connection.scalar(query.where(_c.started_at < before)) or 0

    def _say_horizon(self, connection: sa.Connection, before: dt.datetime) -> None:
        """In the transaction that deletes: who inserts looks at it after the insert."""
        known = horizon(connection)
        if known is None or known < before:
            connection.execute(sa.delete(facts).where(facts.c.name == "horizon"))
            value = str(utc_ms(before))
            connection.execute(sa.insert(facts).values(name="horizon", value=value))

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
                start = _hour_at(row.started_at, self._zone)
                hours.setdefault(start, []).append(row)
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
        for some in _chunks(rows):
            these = _these(some)
            add(connection, "pruned", start, add_up(connection, *these))
            _delete_calls(connection, some)

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
                    connection.execute(
                        sa.delete(facts).where(facts.c.name == "horizon")
                    )
                self._prune_tags(1000)
        return gone

    def _clear(self, since: dt.datetime | None) -> int:
        with self._engine.begin() as connection:
            self._turn(connection)
            query = sa.select(_c.started_at, _c.event_id).limit(1000)
            if since is not None:
                query = query.where(_c.started_at >= since)
            rows = connection.execute(query.order_by(_c.started_at, _c.event_id)).all()
            for some in _chunks(rows):
                _delete_calls(connection, some)
            if rows:
                mark(connection, [row.started_at for row in rows])
        return len(rows)

    # Verifying

    def verify(self) -> list[str]:
        """Where rollups differ from the calls that they are of, a line each.

        Hours that have marks are not looked at: they are to be added up.
        """
        self._engines.prepare()
        with self._engines.snapshot() as connection:
            dirty = {s for h in marked(connection) for s, _ in hours_of(h, self._zone)}
            time = going(connection)
            starts = connection.scalars(
                sa.select(rollups.c.start).where(rollups.c.kind == "hour").distinct()
            )
            wanted = set(starts) | self._hours_with_calls(connection)
            if time is not None:
                dirty |= {start for start in wanted if time.touches(start)}
            days = {day_of(start, self._zone) for start in wanted | dirty}
            unsure = {day_of(start, self._zone) for start in dirty}
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
            ]

    def _hours_with_calls(self, connection: sa.Connection) -> set[dt.datetime]:
        minute = sa.type_coerce(_c.started_at, sa.BigInteger)
        query = sa.select(minute - minute % 60_000).where(*_between(FIRST, END))
        found = connection.scalars(query.distinct())
        return {_hour_at(from_ms(int(ms)), self._zone) for ms in found}

    def _differ(self, connection: sa.Connection, start: dt.datetime) -> Iterator[str]:
        end = min(start + HOUR, day_of(start, self._zone)[1])
        raw = add_up(connection, *_between(start, end))
        kept = read(connection, ["hour"], start, start + dt.timedelta(milliseconds=1))
        for key in sorted(set(raw.totals) | set(kept.totals)):
            if raw.totals.get(key) != kept.totals.get(key):
                yield f"{key[0]}/{key[1]} is not the sum of its calls"
        if raw.latencies != kept.latencies:
            yield "latencies are not those of its calls"


class _Overtaken(Exception):
    """Another roller has changed the rollups since they were read."""


def fact(connection: sa.Connection, name: str) -> str | None:
    """What the ledger knows of itself by that name."""
    value: str | None = connection.scalar(
        sa.select(facts.c.value).where(facts.c.name == name)
    )
    return value


def horizon(connection: sa.Connection) -> dt.datetime | None:
    """Before this moment calls were pruned: only sums are known. ``None``: none were."""
    ms = fact(connection, "horizon")
    return None if ms is None else from_ms(int(ms))


def read(
    connection: sa.Connection,
    kinds: Sequence[str],
    start: dt.datetime,
    end: dt.datetime,
) -> Sums:
    """The sums of these kinds that begin between two moments, together."""
    totals = {}
    r = rollups.c
    query = (
        sa.select(r.provider, r.model, *(sa.func.sum(r[n]).label(n) for n in SUMS))
        .where(r.kind.in_(kinds), r.start >= start, r.start < end)
        .group_by(r.provider, r.model)
    )
    for row in connection.execute(query):
        key = row.provider, row.model
        totals[key] = {name: int(row._mapping[name]) for name in SUMS}
    x = rollup_latencies.c
    by = (x.provider, x.model, x.bucket)
    counted = (
        sa.select(*by, sa.func.sum(x.calls).label("n"))
        .where(x.kind.in_(kinds), x.start >= start, x.start < end)
        .group_by(*by)
    )
    latencies = {tuple(row[:3]): int(row.n) for row in connection.execute(counted)}
    return Sums(totals, t.cast("Mapping[tuple[str, str, int], int]", latencies))


def replace(
    connection: sa.Connection, kind: str, start: dt.datetime, sums: Sums
) -> None:
    """Put sums in the place of those that are there."""
    for table in (rollups, rollup_latencies):
        connection.execute(
            sa.delete(table).where(table.c.kind == kind, table.c.start == start)
        )
    # Sorted, as every multi-row write: two at once must not wait for each other.
    totals = [
        {"kind": kind, "start": start, "provider": key[0], "model": key[1], **values}
        for key, values in sorted(sums.totals.items())
    ]
    if totals:
        connection.execute(sa.insert(rollups), totals)
    latencies = [
        {
            "kind": kind,
            "start": start,
            "provider": key[0],
            "model": key[1],
            "bucket": key[2],
            "calls": n,
        }
        for key, n in sorted(sums.latencies.items())
    ]
    if latencies:
        connection.execute(sa.insert(rollup_latencies), latencies)


def add(connection: sa.Connection, kind: str, start: dt.datetime, sums: Sums) -> None:
    """Add sums to those that are there."""
    there = read(connection, [kind], start, start + dt.timedelta(milliseconds=1))
    replace(connection, kind, start, merged(there, sums))


def merged(one: Sums, two: Sums) -> Sums:
    """Both together."""
    totals = {key: dict(values) for key, values in one.totals.items()}
    for key, values in two.totals.items():
        mine = totals.setdefault(key, dict.fromkeys(SUMS, 0))
        for name in SUMS:
            mine[name] += values[name]
    latencies = dict(one.latencies)
    for bucket, n in two.latencies.items():
        latencies[bucket] = latencies.get(bucket, 0) + n
    return Sums(totals, latencies)


def _of_hours(connection: sa.Connection, start: dt.datetime, end: dt.datetime) -> Sums:
    return read(connection, ["hour", "pruned"], start, end)


def _marks_of(connection: sa.Connection, hour: dt.datetime) -> list[int]:
    return list(connection.scalars(sa.select(marks.c.id).where(marks.c.hour == hour)))


def _delete(connection: sa.Connection, ids: Sequence[int]) -> None:
    for some in _chunks(ids):
        connection.execute(sa.delete(marks).where(marks.c.id.in_(some)))


def _between(start: dt.datetime, end: dt.datetime) -> list[sa.ColumnElement[bool]]:
    return [_c.started_at >= start, _c.started_at < end]


def _delete_calls(connection: sa.Connection, rows: Sequence[t.Any]) -> None:
    """Delete calls, and what they had cost before they were priced again."""
    for table in (revisions, calls):
        connection.execute(sa.delete(table).where(*_these(rows, table)))


def _these(
    rows: Sequence[t.Any], table: sa.Table = calls
) -> tuple[sa.ColumnElement[bool], ...]:
    """These calls, which are sorted by time: their range first, which the key has."""
    return (
        table.c.started_at.between(rows[0].started_at, rows[-1].started_at),
        table.c.event_id.in_([row.event_id for row in rows]),
    )


def _hour_at(moment: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    if not FIRST <= moment < END:
        return utc_hour(moment)
    start = day_of(moment, zone)[0]
    return start + (moment - start) // HOUR * HOUR


_T = t.TypeVar("_T")


def _chunks(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for n in range(0, len(items), _CHUNK):
        yield items[n : n + _CHUNK]
