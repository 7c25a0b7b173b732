"""Aggregates of calls by provider and model: computed from calls, or stored as rollups."""

from __future__ import annotations

import datetime as dt
import itertools
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ..calendar import rollup_start
from ..db.sql import capped_sum
from ..db.statements import chunks
from ..db.statements import Key
from ..db.tables import calls
from ..db.tables import rollup_latencies
from ..db.tables import rollups
from ..money import MAX_PICO
from .measures import latency_bucket
from .measures import MEASURES

_MS: t.Final = dt.timedelta(milliseconds=1)
_c: t.Final = calls.c

K = t.TypeVar("K")
Totals: t.TypeAlias = Mapping[K, Mapping[str, int]]
"""Values of :data:`MEASURES` by some key."""

ModelKey: t.TypeAlias = tuple[str, str]
"""Provider and model."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The measures of some calls, by provider and model."""

    totals: Totals[ModelKey]
    latencies: Mapping[tuple[str, str, int], int]
    """Numbers of calls by provider, model and latency bucket."""


NOTHING: t.Final = Aggregate({}, {})


class NotIncluded(Exception):
    """An aggregate cannot be subtracted from another that does not include it."""


def aggregate(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> Aggregate:
    """Aggregate the calls that meet some conditions."""
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
    return Aggregate(totals, latencies)


def read(
    connection: sa.Connection,
    kinds: Sequence[str],
    start: dt.datetime,
    end: dt.datetime | None = None,
) -> Aggregate:
    """Sum the stored rollups of some kinds.

    :param start: The start of the rollups.
    :param end: If given, all rollups that start from ``start`` until before this.
    """
    end = end or start + _MS
    totals = {}
    r = rollups.c
    query = (
        sa.select(r.provider, r.model, *(capped_sum(r[n]).label(n) for n in MEASURES))
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
    latencies = {
        (row.provider, row.model, row.bucket): int(row.n)
        for row in connection.execute(counted)
    }
    return Aggregate(totals, latencies)


def replace(
    connection: sa.Connection, kind: str, start: dt.datetime, new: Aggregate
) -> None:
    """Replace the stored rollup of one kind and start."""
    for table in (rollups, rollup_latencies):
        connection.execute(
            sa.delete(table).where(table.c.kind == kind, table.c.start == start)
        )
    # Sorted, as every write of several rows: else two of them could deadlock.
    common = {"kind": kind, "start": start}
    totals = [
        {**common, "provider": provider, "model": model, **values}
        for (provider, model), values in sorted(new.totals.items())
    ]
    if totals:
        connection.execute(sa.insert(rollups), totals)
    latencies = [
        {**common, "provider": provider, "model": model, "bucket": bucket, "calls": n}
        for (provider, model, bucket), n in sorted(new.latencies.items())
    ]
    if latencies:
        connection.execute(sa.insert(rollup_latencies), latencies)


def add(
    connection: sa.Connection, kind: str, start: dt.datetime, more: Aggregate
) -> None:
    """Add to a stored rollup."""
    stored = read(connection, [kind], start)
    latencies = dict(stored.latencies)
    for key, n in more.latencies.items():
        latencies[key] = latencies.get(key, 0) + n
    totals = merge(stored.totals, more.totals)
    replace(connection, kind, start, Aggregate(totals, latencies))


def subtract(
    connection: sa.Connection, kind: str, start: dt.datetime, less: Aggregate
) -> None:
    """Subtract from a stored rollup what :func:`add` has added.

    :raises NotIncluded: If the rollup does not include it.
    """
    stored = read(connection, [kind], start)
    totals = difference(stored.totals, less.totals, "/".join)
    latencies = dict(stored.latencies)
    for bucket, n in less.latencies.items():
        left = latencies.pop(bucket, 0) - n
        if left < 0:
            raise NotIncluded(_too_few("latencies", "/".join(bucket[:2])))
        if left:
            latencies[bucket] = left
    replace(connection, kind, start, Aggregate(totals, latencies))


def difference(
    stored: Totals[K], less: Totals[K], name: Callable[[K], str]
) -> dict[K, dict[str, int]]:
    """Subtract the values of equal keys, and drop keys without any left.

    :param name: Names a key in an error.
    :raises NotIncluded: If a value would be negative.
    """
    left = {key: dict(values) for key, values in stored.items()}
    for key, values in less.items():
        remaining = left.setdefault(key, dict.fromkeys(MEASURES, 0))
        for measure in MEASURES:
            remaining[measure] -= values[measure]
            if remaining[measure] < 0:
                raise NotIncluded(_too_few(measure, name(key)))
        if not any(remaining.values()):
            del left[key]
    return left


def _too_few(measure: str, name: str) -> str:
    return f"the rollups of pruned calls have fewer {measure} of {name}"


def merge(one: Totals[K], two: Totals[K]) -> dict[K, dict[str, int]]:
    """Add the values of equal keys."""
    merged = {key: dict(values) for key, values in one.items()}
    for key, values in two.items():
        sums = merged.setdefault(key, dict.fromkeys(MEASURES, 0))
        for measure in MEASURES:
            sums[measure] = min(sums[measure] + values[measure], MAX_PICO)
    return merged


def by_rollup(
    span: t.Literal["hour", "day"], keys: Sequence[Key], zone: dt.tzinfo
) -> Iterator[tuple[dt.datetime, Sequence[Key]]]:
    """Group sorted keys of calls by the start of their rollup, a statement's worth each."""
    groups = itertools.groupby(keys, lambda key: rollup_start(span, key[0], zone))
    for start, group in groups:
        for some in chunks(list(group)):
            yield start, some
