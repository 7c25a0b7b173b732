"""Calls added up by day and the values of the tags that ``LLM_COST_ROLLUP_TAGS`` declares.

A day is added up anew from its calls when it is over and all its hours are added up. Who
adds up an hour marks the day in the same transaction; until the day is added up again it
is read from its calls, as is a day that has an hour with a mark. So sums and calls
together are exact at any moment. All that is written here is written by who has the
rollers' turn.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from ..db.tables import calls
from ..db.tables import rollups
from ..db.tables import tag_dirty_marks
from ..db.tables import tag_keys
from ..db.tables import tag_rollups
from ..db.tables import tag_values
from ..tags import TRACE_KEY
from .measures import MEASURES
from .sums import chunks
from .sums import NotThere
from .sums import subtract

MOST_VALUES: t.Final = 10_000
"""A key with more values in a day is added up no more: its sums would outgrow the calls."""

_GOING: t.Final = "going"
"""The kind of sums of calls that are about to go with their partition."""

Values: t.TypeAlias = Mapping[str, Mapping[str, int]]
"""What the calls of each value add up to; ``""`` stands for those without the key."""

_c: t.Final = calls.c
_k: t.Final = tag_keys.c
_m: t.Final = tag_dirty_marks.c
_r: t.Final = tag_rollups.c


@dataclass(frozen=True, slots=True)
class Declared:
    """A key whose values calls are added up by."""

    key: str
    since: dt.datetime | None
    """Calls before this were pruned before the key was declared."""
    until: dt.datetime | None
    """From this day on it has too many values."""

    def covers(self, start: dt.datetime) -> bool:
        """Whether a day that begins then is to be added up."""
        return self.until is None or start < self.until

    def told(self) -> list[sa.ColumnElement[bool]]:
        """Which calls stay in its sums when they are pruned.

        One from before may be back for a while; others of its time are in no sum.
        """
        return [] if self.since is None else [calls.c.started_at >= self.since]


def declared(connection: sa.Connection) -> list[Declared]:
    """The keys that are added up, in order."""
    rows = connection.execute(sa.select(tag_keys).order_by(_k.key))
    return [Declared(row.key, row.since, row.until) for row in rows]


def declare(
    connection: sa.Connection, keys: Iterable[str], since: dt.datetime | None
) -> None:
    """Begin to add up by keys: every day that has calls is to be added up for them."""
    days = sa.select(rollups.c.start).where(rollups.c.kind == "day").distinct()
    starts = sorted(connection.scalars(days))
    for key in keys:
        values = {"key": key, "since": since, "until": None}
        connection.execute(sa.insert(tag_keys).values(values))
        for some in chunks(starts):
            connection.execute(
                sa.insert(tag_dirty_marks),
                [{"key": key, "start": start} for start in some],
            )


def forget(connection: sa.Connection, key: str) -> bool:
    """Add up by a key no more; whether it was declared."""
    for table in (tag_rollups, tag_dirty_marks):
        connection.execute(sa.delete(table).where(table.c.key == key))
    found = connection.execute(sa.delete(tag_keys).where(_k.key == key))
    return found.rowcount > 0


def start_again(connection: sa.Connection, *, since: dt.datetime | None) -> None:
    """Forget all sums by tags. The hours are added up again, and the days after them."""
    connection.execute(sa.delete(tag_rollups))
    connection.execute(sa.delete(tag_dirty_marks))
    connection.execute(sa.update(tag_keys).values(since=since, until=None))


def mark_days(connection: sa.Connection, starts: Iterable[dt.datetime]) -> None:
    """Say that these days are to be added up."""
    starts = sorted(starts)
    connection.execute(sa.delete(tag_dirty_marks).where(_m.start.in_(starts)))
    rows = [
        {"key": known.key, "start": start}
        for known in declared(connection)
        for start in starts
        if known.covers(start)
    ]
    if rows:
        connection.execute(sa.insert(tag_dirty_marks), rows)


def marked_days(
    connection: sa.Connection, key: str | None = None
) -> dict[dt.datetime, list[str]]:
    """The days that are to be added up, in order, and for which keys."""
    query = sa.select(_m.start, _m.key).order_by(_m.start, _m.key)
    if key is not None:
        query = query.where(_m.key == key)
    found: dict[dt.datetime, list[str]] = {}
    for start, name in connection.execute(query):
        found.setdefault(start, []).append(name)
    return found


def add_up_values(
    connection: sa.Connection, key: str, *where: sa.ColumnElement[bool]
) -> Values:
    """Add up calls by the values of a key: by all, or by more than are kept."""
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
    rows = connection.execute(
        sa.select(value.label("value"), *columns)
        .select_from(source)
        .where(*where)
        .group_by(value)
        .limit(MOST_VALUES + 3)
    )
    # Without the key, and with it but empty, are the same to who asks.
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        _add(found, row)
    return found


def read_values(
    connection: sa.Connection, key: str, kind: str, start: dt.datetime
) -> Values:
    """What is kept of a day."""
    query = sa.select(_r.value, *(_r[name] for name in MEASURES)).where(
        _r.key == key, _r.kind == kind, _r.start == start
    )
    found: dict[str, dict[str, int]] = {}
    for row in connection.execute(query):
        _add(found, row)
    return found


def replace_values(
    connection: sa.Connection, key: str, kind: str, start: dt.datetime, values: Values
) -> None:
    """Keep these sums of a day in the place of those that are there."""
    connection.execute(
        sa.delete(tag_rollups).where(_r.key == key, _r.kind == kind, _r.start == start)
    )
    rows = [
        {"key": key, "kind": kind, "start": start, "number": n, "value": value, **sums}
        for n, (value, sums) in enumerate(sorted(values.items()))
    ]
    for some in chunks(rows):
        connection.execute(sa.insert(tag_rollups), list(some))


def merged_values(one: Values, two: Values) -> Values:
    """Both together."""
    found = {value: dict(sums) for value, sums in one.items()}
    for value, sums in two.items():
        mine = found.setdefault(value, dict.fromkeys(MEASURES, 0))
        for name in MEASURES:
            mine[name] += sums[name]
    return found


def keep_pruned(
    connection: sa.Connection, start: dt.datetime, *where: sa.ColumnElement[bool]
) -> None:
    """Keep the sums of calls of a day that are deleted in the same transaction."""
    for known in declared(connection):
        if known.covers(start):
            there = read_values(connection, known.key, "pruned", start)
            more = add_up_values(connection, known.key, *where, *known.told())
            _keep(connection, known.key, "pruned", start, merged_values(there, more))


def take_pruned(
    connection: sa.Connection, start: dt.datetime, *where: sa.ColumnElement[bool]
) -> None:
    """Take calls of a day, which are there again, out of the sums of what was pruned.

    :raises NotThere: If they are not in them.
    """
    for known in declared(connection):
        less = add_up_values(connection, known.key, *where, *known.told())
        left = dict(read_values(connection, known.key, "pruned", start))
        try:
            for value, sums in less.items():
                mine = dict(left.pop(value, dict.fromkeys(MEASURES, 0)))
                subtract(mine, sums, f"tag {known.key}")
                if any(mine.values()):
                    left[value] = mine
        except NotThere:
            if known.covers(start):
                raise
            # It had too many values by then: what was pruned since is in no sum.
        else:
            replace_values(connection, known.key, "pruned", start, left)


def day_values(
    connection: sa.Connection, key: str, start: dt.datetime, end: dt.datetime
) -> Values:
    """What the sums of a day must be: of calls that are there, and that were pruned."""
    raw = add_up_values(connection, key, _c.started_at >= start, _c.started_at < end)
    return merged_values(raw, read_values(connection, key, "pruned", start))


def keep_day(
    connection: sa.Connection, key: str, start: dt.datetime, values: Values
) -> None:
    """Keep the sums of a day: it is added up."""
    _keep(connection, key, "day", start, values)
    connection.execute(
        sa.delete(tag_dirty_marks).where(_m.key == key, _m.start == start)
    )


def freeze(
    connection: sa.Connection,
    days: Iterable[tuple[dt.datetime, dt.datetime]],
    first: dt.datetime,
    last: dt.datetime,
) -> None:
    """Add up days of which all calls between two moments are about to go.

    What goes is kept apart: :func:`settle` makes it sums of what was pruned.
    """
    connection.execute(sa.delete(tag_rollups).where(_r.kind == _GOING))
    for start, end in days:
        part = _c.started_at >= max(start, first), _c.started_at < min(end, last)
        for known in declared(connection):
            if known.covers(start):
                found = add_up_values(connection, known.key, *part, *known.told())
                _keep(connection, known.key, _GOING, start, found)
                values = day_values(connection, known.key, start, end)
                keep_day(connection, known.key, start, values)


def settle(connection: sa.Connection) -> None:
    """The calls are gone: what was kept apart is what was pruned."""
    query = sa.select(_r.key, _r.start).where(_r.kind == _GOING).distinct()
    found = connection.execute(query).all()
    for key, start in found:
        there = read_values(connection, key, "pruned", start)
        more = read_values(connection, key, _GOING, start)
        replace_values(connection, key, "pruned", start, merged_values(there, more))
    connection.execute(sa.delete(tag_rollups).where(_r.kind == _GOING))
    mark_days(connection, {start for _, start in found})


def differ(
    connection: sa.Connection, days: Iterable[tuple[dt.datetime, dt.datetime]]
) -> list[str]:
    """Where the sums of days differ from what they must be, a line each."""
    found = []
    for known in declared(connection):
        waiting = marked_days(connection, known.key)
        for start, end in sorted(days):
            if start in waiting or not known.covers(start):
                continue
            kept = read_values(connection, known.key, "day", start)
            if kept != day_values(connection, known.key, start, end):
                found.append(
                    f"{start.isoformat()}: tag {known.key} is not the sum of its calls"
                )
    return found


def _keep(
    connection: sa.Connection, key: str, kind: str, start: dt.datetime, values: Values
) -> None:
    if len(values) > MOST_VALUES:
        _give_up(connection, key, start)
    else:
        replace_values(connection, key, kind, start, values)


def _give_up(connection: sa.Connection, key: str, start: dt.datetime) -> None:
    """From this day on the key's values are asked of the calls."""
    known = sa.and_(_k.key == key, sa.or_(_k.until.is_(None), _k.until > start))
    connection.execute(sa.update(tag_keys).where(known).values(until=start))
    later = _m.key == key, _m.start >= start
    connection.execute(sa.delete(tag_dirty_marks).where(*later))
    days = _r.key == key, _r.kind.in_(["day", _GOING]), _r.start >= start
    connection.execute(sa.delete(tag_rollups).where(*days))


def _add(found: dict[str, dict[str, int]], row: sa.Row[t.Any]) -> None:
    sums = found.setdefault(row.value or "", dict.fromkeys(MEASURES, 0))
    for name in MEASURES:
        sums[name] += int(row._mapping[name] or 0)
