"""What some calls add up to: found from them, or kept in tables."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ..db.tables import calls
from ..db.tables import rollup_latencies
from ..db.tables import rollups
from .measures import latency_bucket
from .measures import MEASURES

_CHUNK: t.Final = 500
_LESS: t.Final = "the sums of what was pruned have less {} of {}"
_c: t.Final = calls.c

Key: t.TypeAlias = tuple[str, str]
"""Provider and model."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What some calls add up to, by provider and model."""

    totals: Mapping[Key, Mapping[str, int]]
    latencies: Mapping[tuple[str, str, int], int]
    """Calls by provider, model and bucket."""


def add_up(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> Sums:
    """Add up calls."""
    by = (_c.provider, _c.model)
    columns = [column.label(name) for name, column in MEASURES.items()]
    rows = connection.execute(sa.select(*by, *columns).where(*where).group_by(*by))
    totals = {
        (row.provider, row.model): {n: int(row._mapping[n] or 0) for n in MEASURES}
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
        sa.select(r.provider, r.model, *(sa.func.sum(r[n]).label(n) for n in MEASURES))
        .where(r.kind.in_(kinds), r.start >= start, r.start < end)
        .group_by(r.provider, r.model)
    )
    for row in connection.execute(query):
        key = row.provider, row.model
        totals[key] = {name: int(row._mapping[name]) for name in MEASURES}
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


def take(connection: sa.Connection, kind: str, start: dt.datetime, sums: Sums) -> None:
    """Take sums out of those that are there: what :func:`add` does, undone.

    :raises NotThere: If they are not in them.
    """
    there = read(connection, [kind], start, start + dt.timedelta(milliseconds=1))
    totals = {key: dict(values) for key, values in there.totals.items()}
    for key, values in sums.totals.items():
        mine = totals.setdefault(key, dict.fromkeys(MEASURES, 0))
        subtract(mine, values, "/".join(key))
        if not any(mine.values()):
            del totals[key]
    latencies = dict(there.latencies)
    for bucket, n in sums.latencies.items():
        left = latencies.pop(bucket, 0) - n
        if left < 0:
            raise NotThere(_LESS.format("latencies", "/".join(bucket[:2])))
        if left:
            latencies[bucket] = left
    replace(connection, kind, start, Sums(totals, latencies))


class NotThere(Exception):
    """Sums cannot be taken out of others: they are no part of them."""


def subtract(mine: dict[str, int], values: Mapping[str, int], whose: str) -> None:
    """Take sums out of others of the same names.

    :raises NotThere: If something would be less than nothing.
    """
    for name in MEASURES:
        mine[name] -= values[name]
        if mine[name] < 0:
            raise NotThere(_LESS.format(name, whose))


def these(
    rows: Sequence[t.Any], table: sa.Table = calls
) -> tuple[sa.ColumnElement[bool], ...]:
    """These calls, which are sorted by time: their range first, which the key has."""
    return (
        table.c.started_at.between(rows[0].started_at, rows[-1].started_at),
        table.c.event_id.in_([row.event_id for row in rows]),
    )


def merged(one: Sums, two: Sums) -> Sums:
    """Both together."""
    totals = {key: dict(values) for key, values in one.totals.items()}
    for key, values in two.totals.items():
        mine = totals.setdefault(key, dict.fromkeys(MEASURES, 0))
        for name in MEASURES:
            mine[name] += values[name]
    latencies = dict(one.latencies)
    for bucket, n in two.latencies.items():
        latencies[bucket] = latencies.get(bucket, 0) + n
    return Sums(totals, latencies)


_T = t.TypeVar("_T")


def chunks(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Some at a time: as many as a statement takes."""
    for n in range(0, len(items), _CHUNK):
        yield items[n : n + _CHUNK]
