"""Rollups by day and tag value, for the keys in ``LLM_COST_ROLLUP_TAGS``.

A day's rollup is built from its calls once the day is over and all of its hours are built.
Building an hour marks its day dirty in the same transaction. A dirty day, or one with a dirty
hour, is read from its calls, so that rollups and calls together are always exact. Everything
here that writes requires the rollup lock.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ..db import tables
from ..db.statements import between
from ..db.statements import chunks
from ..db.tables import calls
from ..db.tables import rollups
from ..db.tables import tag_dirty_marks
from ..db.tables import tag_keys
from ..db.tables import tag_rollups
from ..db.tables import tag_values
from ..money import MAX_PICO
from ..tags import TRACE_KEY
from . import tag_meter_sums
from .aggregates import difference
from .aggregates import merge
from .aggregates import NotIncluded
from .aggregates import Totals
from .dropping import Dropping
from .dropping import KIND as DROPPING
from .measures import MEASURES

MAX_VALUES: t.Final = 10_000
"""A key with more values in a day gets no more rollups: they would outgrow the calls."""

Values: t.TypeAlias = Totals[str]
"""The measures of calls by tag value; ``""`` stands for calls without the key."""

_c: t.Final = calls.c
_k: t.Final = tag_keys.c
_d: t.Final = tag_dirty_marks.c
_r: t.Final = tag_rollups.c


@dataclass(frozen=True, slots=True)
class DeclaredKey:
    """A tag key that has rollups."""

    key: str
    since: dt.datetime | None
    """Earlier calls were pruned before the key was declared."""
    until: dt.datetime | None
    """From this day on, it has too many values."""

    def covers(self, start: dt.datetime) -> bool:
        """Whether the day that starts then has a rollup."""
        return self.until is None or start < self.until

    def counted(self) -> list[sa.ColumnElement[bool]]:
        """Select the calls that are added to the rollups of pruned calls.

        Calls from before ``since`` may be restored for a while, but were never in them.
        """
        return [] if self.since is None else [_c.started_at >= self.since]

    def label(self, value: str) -> str:
        """Name one of its rollups in an error, which must not contain the value."""
        return f"tag {self.key}"


def declared_keys(connection: sa.Connection) -> list[DeclaredKey]:
    """List the keys that have rollups, in order."""
    rows = connection.execute(sa.select(tag_keys).order_by(_k.key))
    return [DeclaredKey(row.key, row.since, row.until) for row in rows]


def declare_keys(
    connection: sa.Connection, keys: Iterable[str], since: dt.datetime | None
) -> None:
    """Start building rollups of keys: every day that has calls becomes dirty."""
    days = sa.select(rollups.c.start).where(rollups.c.kind == "day").distinct()
    starts = sorted(connection.scalars(days))
    for key in keys:
        values = {"key": key, "since": since, "until": None}
        connection.execute(sa.insert(tag_keys).values(values))
        for some in chunks(starts):
            rows = [{"key": key, "start": start} for start in some]
            connection.execute(sa.insert(tag_dirty_marks), rows)


def forget_key(connection: sa.Connection, key: str) -> bool:
    """Delete a key and its rollups; return whether it was declared."""
    for table in (tag_rollups, tables.tag_meter_sums, tag_dirty_marks):
        connection.execute(sa.delete(table).where(table.c.key == key))
    return connection.execute(sa.delete(tag_keys).where(_k.key == key)).rowcount > 0


def reset(connection: sa.Connection) -> None:
    """Delete all rollups. They are built again after those of the hours."""
    for table in (tag_rollups, tables.tag_meter_sums, tag_dirty_marks):
        connection.execute(sa.delete(table))
    connection.execute(sa.update(tag_keys).values(since=None, until=None))


def mark_days_dirty(connection: sa.Connection, starts: Iterable[dt.datetime]) -> None:
    """Mark days dirty for every key that covers them."""
    starts = sorted(starts)
    connection.execute(sa.delete(tag_dirty_marks).where(_d.start.in_(starts)))
    rows = [
        {"key": declared.key, "start": start}
        for declared in declared_keys(connection)
        for start in starts
        if declared.covers(start)
    ]
    if rows:
        connection.execute(sa.insert(tag_dirty_marks), rows)


def dirty_days(
    connection: sa.Connection, key: str | None = None
) -> dict[dt.datetime, list[str]]:
    """Return the dirty days in order, each with its keys."""
    query = sa.select(_d.start, _d.key).order_by(_d.start, _d.key)
    if key is not None:
        query = query.where(_d.key == key)
    found: dict[dt.datetime, list[str]] = {}
    for start, name in connection.execute(query):
        found.setdefault(start, []).append(name)
    return found


def aggregate_values(
    connection: sa.Connection, key: str, *where: sa.ColumnElement[bool]
) -> Values:
    """Aggregate calls by the values of a key: by all, or by more than are stored."""
    source: sa.FromClause = calls
    if key == TRACE_KEY:
        value: sa.ColumnElement[t.Any] = _c.trace_id
    else:
        value = tag_values.c.value
        carried = sa.and_(
            tag_values.c.tag_set_id == _c.tag_set_id, tag_values.c.key == key
        )
        source = calls.outerjoin(tag_values, carried)
    columns = [column.label(name) for name, column in MEASURES.items()]
    return _totals(
        connection,
        sa.select(value.label("value"), *columns)
        .select_from(source)
        .where(*where)
        .group_by(value)
        .limit(MAX_VALUES + 3),
    )


def read_values(
    connection: sa.Connection, key: str, kind: str, start: dt.datetime
) -> Values:
    """Read the stored rollup of a day."""
    query = sa.select(_r.value, *(_r[name] for name in MEASURES))
    return _totals(
        connection, query.where(_r.key == key, _r.kind == kind, _r.start == start)
    )


def _totals(connection: sa.Connection, query: sa.Select[t.Any]) -> Values:
    found: dict[str, dict[str, int]] = {}
    for row in connection.execute(query):
        # NULL (without the key) and "" (with it, but empty) are the same to queries.
        sums = found.setdefault(row.value or "", dict.fromkeys(MEASURES, 0))
        for name in MEASURES:
            sums[name] = min(sums[name] + int(row._mapping[name] or 0), MAX_PICO)
    return found


def replace_values(
    connection: sa.Connection, key: str, kind: str, start: dt.datetime, values: Values
) -> None:
    """Replace the stored rollup of a day."""
    connection.execute(
        sa.delete(tag_rollups).where(_r.key == key, _r.kind == kind, _r.start == start)
    )
    rows = [
        {"key": key, "kind": kind, "start": start, "number": n, "value": value, **sums}
        for n, (value, sums) in enumerate(sorted(values.items()))
    ]
    for some in chunks(rows):
        connection.execute(sa.insert(tag_rollups), list(some))


def add_pruned(
    connection: sa.Connection, start: dt.datetime, *where: sa.ColumnElement[bool]
) -> None:
    """Add calls of a day, which the same transaction deletes, to those pruned."""
    for declared in declared_keys(connection):
        if declared.covers(start):
            key = declared.key
            stored = read_values(connection, key, "pruned", start)
            counted = [*where, *declared.counted()]
            more = aggregate_values(connection, key, *counted)
            if _store(connection, key, "pruned", start, merge(stored, more)):
                tag_meter_sums.add_pruned(connection, key, *counted)


def subtract_pruned(
    connection: sa.Connection, start: dt.datetime, *where: sa.ColumnElement[bool]
) -> None:
    """Subtract restored calls of a day from those pruned.

    :raises NotIncluded: If the rollup does not include them.
    """
    for declared in declared_keys(connection):
        key = declared.key
        counted = [*where, *declared.counted()]
        less = aggregate_values(connection, key, *counted)
        stored = read_values(connection, key, "pruned", start)
        try:
            left = difference(stored, less, declared.label)
            if not tag_meter_sums.subtract_pruned(connection, key, *counted):
                raise NotIncluded(f"the sums by meter of tag {key} have less")
        except NotIncluded:
            if declared.covers(start):
                raise
            # The key had too many values by then: later pruned calls are in no rollup.
        else:
            replace_values(connection, key, "pruned", start, left)


@dataclass(frozen=True, slots=True)
class Day:
    """What is kept of a day, by key."""

    start: dt.datetime
    end: dt.datetime
    values: Mapping[str, Values]
    sums: Mapping[str, tag_meter_sums.ValueSums]


def read_day(
    connection: sa.Connection, keys: Sequence[str], start: dt.datetime, end: dt.datetime
) -> Day:
    """Compute what is kept of a day from its calls."""
    values = {key: day_values(connection, key, start, end) for key in keys}
    kept = [key for key in keys if len(values[key]) <= MAX_VALUES]
    sums = tag_meter_sums.of_calls(connection, kept, *between(start, end))
    return Day(start, end, values, sums)


def day_values(
    connection: sa.Connection, key: str, start: dt.datetime, end: dt.datetime
) -> Values:
    """Compute the rollup of a day, from its calls and those pruned."""
    raw = aggregate_values(connection, key, *between(start, end))
    return merge(raw, read_values(connection, key, "pruned", start))


def store_day(connection: sa.Connection, day: Day) -> None:
    """Store what is kept of a day, which is not dirty any more."""
    span, stored = (day.start, day.end), tag_meter_sums.STORED
    for key, values in day.values.items():
        if _store(connection, key, "day", day.start, values):
            tag_meter_sums.replace(connection, key, stored, span, day.sums[key])
        _clean(connection, key, day.start)


def _clean(connection: sa.Connection, key: str, start: dt.datetime) -> None:
    connection.execute(
        sa.delete(tag_dirty_marks).where(_d.key == key, _d.start == start)
    )


def finalize_days(
    connection: sa.Connection,
    days: Iterable[tuple[dt.datetime, dt.datetime]],
    first: dt.datetime,
    last: dt.datetime,
) -> None:
    """Build the rollups of days before all calls between two moments are dropped.

    What the dropped calls add to a day is stored separately, for :func:`settle_dropped`.
    """
    connection.execute(sa.delete(tag_rollups).where(_r.kind == DROPPING))
    for start, end in days:
        part = between(max(start, first), min(end, last))
        for declared in declared_keys(connection):
            if declared.covers(start):
                key, counted = declared.key, declared.counted()
                found = aggregate_values(connection, key, *part, *counted)
                _store(connection, key, DROPPING, start, found)
                values = day_values(connection, key, start, end)
                if _store(connection, key, "day", start, values):
                    tag_meter_sums.finalize(
                        connection, key, (start, end), (first, last), counted
                    )
                _clean(connection, key, start)


def settle_dropped(connection: sa.Connection, span: Dropping) -> None:
    """Add what was stored by :func:`finalize_days` to the rollups of pruned calls."""
    tag_meter_sums.settle_dropped(connection, span)
    query = sa.select(_r.key, _r.start).where(_r.kind == DROPPING).distinct()
    found = connection.execute(query).all()
    for key, start in found:
        stored = read_values(connection, key, "pruned", start)
        more = read_values(connection, key, DROPPING, start)
        replace_values(connection, key, "pruned", start, merge(stored, more))
    connection.execute(sa.delete(tag_rollups).where(_r.kind == DROPPING))
    mark_days_dirty(connection, {start for _, start in found})


def differences(
    connection: sa.Connection, days: Iterable[tuple[dt.datetime, dt.datetime]]
) -> list[str]:
    """List the rollups of days that differ from their calls."""
    found = []
    for declared in declared_keys(connection):
        dirty = dirty_days(connection, declared.key)
        for start, end in sorted(days):
            if start in dirty or not declared.covers(start):
                continue
            stored = read_values(connection, declared.key, "day", start)
            if stored != day_values(connection, declared.key, start, end):
                name = f"tag {declared.key}"
                found.append(f"{start.isoformat()}: {name} is not the sum of its calls")
            if tag_meter_sums.differ(connection, declared.key, start, end):
                name = f"the sums by meter of tag {declared.key}"
                found.append(f"{start.isoformat()}: {name} are not those of its calls")
    return found


def _store(
    connection: sa.Connection, key: str, kind: str, start: dt.datetime, values: Values
) -> bool:
    """Store a rollup; return false if it has too many values."""
    if len(values) > MAX_VALUES:
        _stop(connection, key, start)
        return False
    replace_values(connection, key, kind, start, values)
    return True


def _stop(connection: sa.Connection, key: str, start: dt.datetime) -> None:
    """Build no rollups of a key from a day on: its values are read from the calls."""
    known = sa.and_(_k.key == key, sa.or_(_k.until.is_(None), _k.until > start))
    connection.execute(sa.update(tag_keys).where(known).values(until=start))
    later = _d.key == key, _d.start >= start
    connection.execute(sa.delete(tag_dirty_marks).where(*later))
    days = _r.key == key, _r.kind.in_(["day", DROPPING]), _r.start >= start
    connection.execute(sa.delete(tag_rollups).where(*days))
    tag_meter_sums.forget(connection, key, start)
