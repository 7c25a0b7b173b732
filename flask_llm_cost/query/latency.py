"""Latency percentiles from counts on a log scale, exact to 2 %."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ..db.tables import calls
from ..db.tables import rollup_latencies
from .filters import CallFilter
from .sources import sources

_EXACT: t.Final = 64
"""Below this, in ms, every value has its own bucket."""

_LARGEST: t.Final = 2**31
"""From this on (25 days), all values share one bucket."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Approximate percentiles of the known latencies."""

    p50_ms: int
    p95_ms: int


def latency_bucket(
    column: sa.ColumnElement[t.Any],
) -> sa.ColumnElement[t.Any]:
    """Return the lower end of a latency's bucket: 32 buckets for each doubling."""
    steps = [(column < _EXACT, column)]
    low = _EXACT
    while low < _LARGEST:
        width = low // 32
        rest = column % sa.literal_column(str(width), sa.BigInteger)
        steps.append((column < 2 * low, column - rest))
        low *= 2
    return sa.case(*steps, else_=sa.literal_column(str(_LARGEST)))


def percentile(counts: Mapping[int, int], part: int) -> int:
    """Return the value that ``part`` percent of the values do not exceed.

    :param counts: The number of values in each bucket, by its lower end. Not empty.
    """
    rank = -(-sum(counts.values()) * part // 100)
    seen = 0
    for low in sorted(counts):
        seen += counts[low]
        if seen >= rank:
            return low + _width(low) // 2
    raise ValueError("no values")


def _width(low: int) -> int:
    if low < _EXACT or low >= _LARGEST:
        return 1
    return 1 << low.bit_length() - 6


def percentiles(
    connection: sa.Connection, where: CallFilter, *by: str
) -> dict[tuple[str, ...], Percentiles]:
    """Return the percentiles of each group that has a known latency.

    :param by: ``"provider"``, ``"model"`` or both.
    """
    counts: dict[tuple[str, ...], dict[int, int]] = {}
    for row in _buckets(connection, where, by):
        found = counts.setdefault(tuple(row[2:]), {})
        found[int(row[0])] = found.get(int(row[0]), 0) + int(row[1])
    return {
        key: Percentiles(percentile(found, 50), percentile(found, 95))
        for key, found in counts.items()
    }


def _buckets(
    connection: sa.Connection, where: CallFilter, by: Sequence[str]
) -> Iterator[t.Any]:
    read_from = sources(connection, where, by)
    clauses = read_from.call_clauses()
    if clauses:
        columns = [calls.c[name] for name in by]
        bucket = latency_bucket(calls.c.latency_ms).label("bucket")
        yield from connection.execute(
            sa.select(bucket, sa.func.count(), *columns)
            .where(*clauses, calls.c.latency_ms.is_not(None))
            .group_by("bucket", *columns)
        )
    clauses = read_from.rolled_clauses(rollup_latencies)
    if clauses:
        table = rollup_latencies.c
        columns = [table[name] for name in by]
        yield from connection.execute(
            sa.select(table.bucket, sa.func.sum(table.calls), *columns)
            .where(*clauses)
            .group_by(table.bucket, *columns)
        )
