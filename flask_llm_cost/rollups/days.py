"""Summarize a day's calls for pages: quality, tags, sessions, expensive calls.

As with the rollups of tags, building an hour marks its day in the same transaction, and a day
is built from its calls as a whole once it is over and all of its hours are built. A marked
day, or one with a dirty hour, is read from its calls. Everything here that writes requires
the rollup lock.

The values of a tag are summed if there are few of them compared to the calls of the day, so
that sums stay small beside what they save to read.
"""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ..db import meta
from ..db.day_tables import day_marks
from ..db.day_tables import DAY_TABLES
from ..db.day_tables import quality_days
from ..db.day_tables import tag_key_days
from ..db.day_tables import tag_value_days
from ..db.sql import capped_sum
from ..db.statements import between
from ..db.statements import chunks
from ..db.tables import calls
from ..db.tables import rollups
from ..db.tables import tag_values
from ..money import MAX_PICO
from .dropping import Dropping
from .measures import CEILING
from .measures import COUNTS
from .measures import MEASURES

TOP: t.Final = 201
"""How many of the most expensive calls of a day are kept: those of a page, and one more."""

_FEW: t.Final = 100
_MOST: t.Final = 10_000
_SHARE: t.Final = 5
"""The values of a day's tags that are summed are at most a fifth of its calls, or a few."""

_BEGUN: t.Final = "days"
_c: t.Final = calls.c

Rows: t.TypeAlias = list[dict[str, t.Any]]

ALIKE: t.Final[dict[str, sa.ColumnElement[t.Any]]] = {
    **{
        name: _c[name]
        for name in ("provider", "model", "operation", "outcome", "http_status")
    },
    **{name: _c[name] for name in ("usage_source", "stream", "flags")},
    "priced": _c.cost_total.is_not(None),
    "complete": _c.cost_complete,
    "used": _c.total_input_tokens.is_not(None),
}
"""What calls have in common that are counted together."""

COUNTED: t.Final[dict[str, sa.ColumnElement[t.Any]]] = {
    "calls": sa.func.count(),
    "tagged": sa.func.count(_c.tag_set_id),
    "timed": sa.func.count(_c.latency_ms),
    "identified": sa.func.count(_c.response_id),
    "unbounded": COUNTS["unbounded"],
}
AMOUNTS: t.Final[dict[str, sa.ColumnElement[t.Any]]] = {
    "pico": _c.cost_total,
    "open_pico": CEILING - _c.cost_total,
}


@dataclass(frozen=True, slots=True)
class Copies:
    """Calls with the response id of another call of the same day and model."""

    calls: int = 0
    """Those in excess of the responses."""
    pico: int = 0
    """Their cost, if the most expensive call of each response is the correct one."""


@dataclass(frozen=True, slots=True)
class Day:
    """What is stored of a day."""

    start: dt.datetime
    rows: tuple[Rows, ...]
    """Of each of the :data:`.DAY_TABLES`."""


# Marks


def begun(connection: sa.Connection) -> bool:
    """Whether days are summed."""
    return meta.get(connection, _BEGUN) is not None


def begin(connection: sa.Connection) -> None:
    """Begin: every day that has rollups is to be built."""
    found = sa.select(rollups.c.start).where(rollups.c.kind == "day").distinct()
    mark(connection, connection.scalars(found).all())
    meta.put(connection, _BEGUN, "1")


def reset(connection: sa.Connection) -> None:
    """Delete everything. Whoever calls this marks every hour that has calls dirty."""
    for table in (*DAY_TABLES, day_marks):
        connection.execute(sa.delete(table))
    meta.put(connection, _BEGUN, "1")


def mark(connection: sa.Connection, starts: Iterable[dt.datetime]) -> None:
    """Mark days to be built."""
    for some in chunks(sorted(set(starts))):
        connection.execute(sa.delete(day_marks).where(day_marks.c.start.in_(some)))
        connection.execute(sa.insert(day_marks), [{"start": each} for each in some])


def marked(connection: sa.Connection) -> list[dt.datetime]:
    """List the days that are to be built, in order."""
    return sorted(connection.scalars(sa.select(day_marks.c.start)))


def mark_dropped(connection: sa.Connection, span: Dropping) -> None:
    """Mark the days of a range whose calls were dropped."""
    start = quality_days.c.start
    within = start > span.start - dt.timedelta(days=2), start < span.end
    mark(connection, connection.scalars(sa.select(start).where(*within).distinct()))


def mark_key(connection: sa.Connection, key: str, value: str) -> None:
    """Delete a value of a key, and mark the days that have the key."""
    days = sa.select(tag_key_days.c.start).where(tag_key_days.c.key == key)
    mark(connection, connection.scalars(days).all())
    v = tag_value_days.c
    connection.execute(sa.delete(tag_value_days).where(v.key == key, v.value == value))


# Building


def read(connection: sa.Connection, start: dt.datetime, end: dt.datetime) -> Day:
    """Compute what is stored of a day from its calls."""
    where = between(start, end)
    keys, values = _tags(connection, where)
    rows = (_quality(connection, where), keys, values, _top(connection, where))
    for each in rows:
        for row in each:
            row["start"] = start
    return Day(start, rows)


def store(connection: sa.Connection, day: Day) -> None:
    """Replace what is stored for a day, which is then no longer marked."""
    for table, rows in zip(DAY_TABLES, day.rows, strict=True):
        connection.execute(sa.delete(table).where(table.c.start == day.start))
        for some in chunks(rows):
            connection.execute(sa.insert(table), list(some))
    connection.execute(sa.delete(day_marks).where(day_marks.c.start == day.start))


def differences(
    connection: sa.Connection, days: Iterable[tuple[dt.datetime, dt.datetime]]
) -> list[str]:
    """List the days whose sums differ from their calls, given those without dirty hours."""
    if not begun(connection):
        return []
    skipped = set(marked(connection))
    found = []
    for start, end in sorted(days):
        if start not in skipped:
            for table, rows in zip(
                DAY_TABLES, read(connection, start, end).rows, strict=True
            ):
                if _sorted(rows) != _sorted(_stored(connection, table, start)):
                    name = table.name.removeprefix("llm_cost_").replace("_", " ")
                    found.append(f"{start.isoformat()}: {name} differ from the calls")
    return found


def _stored(connection: sa.Connection, table: sa.Table, start: dt.datetime) -> Rows:
    query = sa.select(table).where(table.c.start == start)
    return [dict(row._mapping) for row in connection.execute(query)]


def _sorted(rows: Rows) -> list[str]:
    return sorted(repr(sorted(row.items())) for row in rows)


def _quality(
    connection: sa.Connection, where: Sequence[sa.ColumnElement[bool]]
) -> Rows:
    columns = [
        *(each.label(name) for name, each in ALIKE.items()),
        *(each.label(name) for name, each in COUNTED.items()),
        *(capped_sum(each).label(name) for name, each in AMOUNTS.items()),
    ]
    query = sa.select(*columns).where(*where).group_by(*ALIKE.values())
    found = connection.execute(query).all()
    copies = copies_by_model(connection, where)
    rows = []
    for number, row in enumerate(sorted(found, key=repr)):
        values = {name: row._mapping[name] for name in ALIKE}
        values |= {name: _capped(row._mapping[name]) for name in COUNTED | AMOUNTS}
        copied = copies.pop((row.provider, row.model), Copies())
        values |= {"copies": copied.calls, "excess_pico": min(copied.pico, MAX_PICO)}
        for name in ("stream", "priced", "used"):
            values[name] = bool(values[name])
        rows.append(values | {"number": number})
    return rows


def copies_by_model(
    connection: sa.Connection, where: Sequence[sa.ColumnElement[bool]]
) -> dict[tuple[str, str], Copies]:
    """Find copies among the calls of a day, by provider and model."""
    cost = _c.cost_total
    query = (
        sa.select(
            _c.provider,
            _c.model,
            sa.func.count().label("calls"),
            capped_sum(cost).label("cost"),
            sa.func.max(cost).label("most"),
        )
        .where(*where, _c.response_id.is_not(None))
        .group_by(_c.provider, _c.model, _c.response_id)
        .having(sa.func.count() > 1)
    )
    found: dict[tuple[str, str], Copies] = {}
    for row in connection.execute(query):
        key = row.provider, row.model
        old = found.get(key, Copies())
        excess = int(row.cost or 0) - int(row.most or 0)
        found[key] = Copies(old.calls + int(row.calls) - 1, old.pico + excess)
    return found


def _tags(
    connection: sa.Connection, where: Sequence[sa.ColumnElement[bool]]
) -> tuple[Rows, Rows]:
    """Return the rows of the keys of a day, and those of their values."""
    values = _values(connection, "", sa.literal_column("''"), calls, where)
    total = sum(row["calls"] or 0 for row in values)
    room = max(_FEW, min(total // _SHARE, _MOST))
    keys = []
    for key, count, size in _keys(connection, where):
        summed = size <= room
        keys.append({"key": key, "calls": count, "summed": summed})
        if summed:
            room -= size
            carried = sa.and_(
                tag_values.c.tag_set_id == _c.tag_set_id, tag_values.c.key == key
            )
            source = calls.outerjoin(tag_values, carried)
            values += _values(connection, key, tag_values.c.value, source, where)
    return keys, values


def _keys(
    connection: sa.Connection, where: Sequence[sa.ColumnElement[bool]]
) -> list[tuple[str, int, int]]:
    """Count the calls and the values of each key, fewest values first."""
    per_set = sets_of(where)
    v = tag_values.c
    query = (
        sa.select(
            v.key, sa.func.sum(per_set.c.calls), sa.func.count(sa.distinct(v.value))
        )
        .join_from(per_set, tag_values, v.tag_set_id == per_set.c.tag_set_id)
        .group_by(v.key)
    )
    found = [(key, int(n), int(size)) for key, n, size in connection.execute(query)]
    return sorted(found, key=lambda each: (each[2], each[0]))


def sets_of(where: Sequence[sa.ColumnElement[bool]]) -> sa.Subquery:
    """Count calls by their set of tags: there are far fewer sets than calls."""
    return (
        sa.select(_c.tag_set_id, sa.func.count().label("calls"))
        .where(*where)
        .group_by(_c.tag_set_id)
        .subquery()
    )


def _values(
    connection: sa.Connection,
    key: str,
    value: sa.ColumnElement[t.Any],
    source: sa.FromClause,
    where: Sequence[sa.ColumnElement[bool]],
) -> Rows:
    """Sum calls by a value; NULL and an empty one are the same."""
    columns = [column.label(name) for name, column in MEASURES.items()]
    times = [sa.func.min(_c.started_at), sa.func.max(_c.started_at)]
    query = sa.select(value, *times, *columns).select_from(source).where(*where)
    if key:
        query = query.group_by(value)
    found: dict[str, dict[str, t.Any]] = {}
    for name, first, last, *sums in connection.execute(query):
        if first is None:  # there are no calls
            continue
        row = {"key": key, "value": name or "", "first_at": first, "last_at": last}
        row |= dict(zip(MEASURES, map(_capped, sums), strict=True))
        old = found.get(name or "")
        found[name or ""] = row if old is None else _sum(old, row)
    models: defaultdict[str, set[str]] = defaultdict(set)
    pairs = sa.select(value, _c.model).select_from(source).where(*where).distinct()
    for name, model in connection.execute(pairs):
        models[name or ""].add(model)
    return [
        {name: n or None if name in MEASURES else n for name, n in row.items()}
        | {"number": number, "models": json.dumps(sorted(models[row["value"]]))}
        for number, row in enumerate(sorted(found.values(), key=lambda r: r["value"]))
    ]


def _capped(number: t.Any) -> int:
    """Return a sum, or the largest that a column holds."""
    return max(-MAX_PICO, min(int(number or 0), MAX_PICO))


def _sum(one: dict[str, t.Any], two: dict[str, t.Any]) -> dict[str, t.Any]:
    sums = {name: min(one[name] + two[name], MAX_PICO) for name in MEASURES}
    first = min(one["first_at"], two["first_at"])
    return (
        one | sums | {"first_at": first, "last_at": max(one["last_at"], two["last_at"])}
    )


def _top(connection: sa.Connection, where: Sequence[sa.ColumnElement[bool]]) -> Rows:
    query = (
        sa.select(_c.started_at, _c.event_id, _c.cost_total)
        .where(*where, _c.cost_total.is_not(None))
        .order_by(_c.cost_total.desc(), _c.started_at.desc(), _c.event_id.desc())
        .limit(TOP)
    )
    return [dict(row._mapping) for row in connection.execute(query)]
