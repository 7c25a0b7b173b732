"""The tags pages: the keys that calls have, and the cost of each value of one."""

from __future__ import annotations

import typing as t
from collections import Counter
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from decimal import Decimal

import sqlalchemy as sa

from ..db.day_tables import quality_days
from ..db.day_tables import tag_key_days
from ..db.day_tables import tag_value_days
from ..db.tables import calls
from ..db.tables import tag_sets
from ..db.tables import tag_values
from ..money import quotient
from ..rollups.days import sets_of
from .aggregate import tag_breakdown
from .aggregate import tag_series
from .aggregate import UNTAGGED
from .day_sources import day_sources
from .day_sources import DaySources
from .filters import CallFilter
from .totals import change
from .totals import sum_up
from .totals import Totals


@dataclass(frozen=True, slots=True)
class TagKey:
    """A tag key and its use."""

    key: str
    calls: int
    """Calls that have it."""
    values: int
    """Its distinct values, without an empty one."""
    coverage: Decimal
    """The share of calls that have it, 0 to 1."""


@dataclass(frozen=True, slots=True)
class TagKeys:
    """Every key, most calls first."""

    where: CallFilter
    keys: tuple[TagKey, ...]
    calls: int
    """All calls."""
    untagged: int
    """Calls without any tag."""


@dataclass(frozen=True, slots=True)
class TagValue:
    """One value of a key."""

    value: str
    """``"(untagged)"`` for the calls without the key, or with an empty value."""
    totals: Totals
    share: Decimal | None
    """The share of the known spend, 0 to 1; ``None`` if that is 0."""
    previous: Totals
    """Of the previous period; zeros if the range is open."""
    days: tuple[Totals, ...]
    """Of each day; empty if the range is open."""

    @property
    def untagged(self) -> bool:
        return self.value == UNTAGGED

    @property
    def spend_change(self) -> Decimal | None:
        """In percent of the previous period's spend; ``None`` if that is 0."""
        return change(self.totals.spend_usd, self.previous.spend_usd)


@dataclass(frozen=True, slots=True)
class TagValues:
    """The values of a key, highest cost first."""

    where: CallFilter
    key: str
    values: tuple[TagValue, ...]
    """The most expensive values; untagged calls count as one."""
    others: Totals
    """Of the other values."""
    other_count: int
    """How many other values there are."""
    totals: Totals
    """Of all calls."""


def tag_keys(connection: sa.Connection, where: CallFilter) -> TagKeys:
    """Return the keys that calls have."""
    read_from = day_sources(connection, where)
    used: Counter[str] = Counter()
    values: defaultdict[str, set[str]] = defaultdict(set)
    total, tagged = _tagged(connection, read_from)
    if clauses := read_from.call_clauses():
        for key, value, count in _carried(connection, clauses):
            used[key] += count
            values[key].update([value] if value else [])
    if clauses := read_from.day_clauses(tag_key_days):
        k, v = tag_key_days.c, tag_value_days.c
        few = sa.func.min(sa.case((k.summed, 1), else_=0))
        query = sa.select(k.key, sa.func.sum(k.calls), few).where(*clauses)
        rows = connection.execute(query.group_by(k.key)).all()
        used.update({row[0]: int(row[1]) for row in rows})
        pairs = sa.select(v.key, v.value).distinct().where(v.key != "", v.value != "")
        clauses = read_from.day_clauses(tag_value_days)
        for key, value in connection.execute(pairs.where(*clauses)):
            values[key].add(value)
        if many := [row[0] for row in rows if not row[2]]:
            for key, value, _ in _carried(connection, where.clauses(), many):
                values[key].update([value] if value else [])
    found = [(key, count, len(values[key])) for key, count in used.items()]
    return TagKeys(
        where=where,
        keys=tuple(
            TagKey(key, count, values, quotient(count, total))
            for key, count, values in sorted(found, key=lambda k: (-k[1], k[0]))
        ),
        calls=total,
        untagged=total - tagged,
    )


def _tagged(connection: sa.Connection, read_from: DaySources) -> tuple[int, int]:
    """Count all calls, and those with any tag."""
    total = tagged = 0
    q = quality_days.c
    for clauses, columns in (
        (
            read_from.call_clauses(),
            (sa.func.count(), sa.func.count(calls.c.tag_set_id)),
        ),
        (
            read_from.day_clauses(quality_days),
            (sa.func.sum(q.calls), sa.func.sum(q.tagged)),
        ),
    ):
        if clauses:
            [row] = connection.execute(sa.select(*columns).where(*clauses))
            total, tagged = total + int(row[0] or 0), tagged + int(row[1] or 0)
    return total, tagged


def _carried(
    connection: sa.Connection,
    clauses: Sequence[sa.ColumnElement[bool]],
    keys: Sequence[str] | None = None,
) -> Sequence[tuple[str, str, int]]:
    """Count the calls that have each value of each key, or of some keys."""
    v, per_set = tag_values.c, sets_of(clauses)
    query = (
        sa.select(v.key, v.value, sa.func.sum(per_set.c.calls))
        .join_from(per_set, tag_values, v.tag_set_id == per_set.c.tag_set_id)
        .group_by(v.key, v.value)
    )
    if keys is not None:
        query = query.where(v.key.in_(keys))
    return [(key, value, int(n)) for key, value, n in connection.execute(query)]


def tag_page(
    connection: sa.Connection, where: CallFilter, key: str, *, limit: int = 100
) -> TagValues:
    """Return the cost of each value of a key, with its trend.

    :param limit: How many values to list.
    :raises FilterError: If ``key`` is not a valid tag key.
    """
    found = top_values(connection, where, key, limit=limit)
    return replace(found, values=with_trend(connection, where, key, found.values))


def with_trend(
    connection: sa.Connection, where: CallFilter, key: str, rows: Sequence[TagValue]
) -> tuple[TagValue, ...]:
    """Return values with their trend and their previous period; as they are, if the range
    is open."""
    if where.start is None or where.end is None:
        return tuple(rows)
    listed = [row.value for row in rows]
    daily = tag_series(connection, where, where.edges("day"), key, listed)
    before = {
        group.key: group.totals
        for group in tag_breakdown(connection, where.previous(), key, listed)
    }
    return tuple(
        replace(
            row,
            previous=before.get((row.value,), Totals()),
            days=daily.get((row.value,), ()),
        )
        for row in rows
    )


def top_values(
    connection: sa.Connection, where: CallFilter, key: str, *, limit: int | None = 5
) -> TagValues:
    """Return the cost of each value of a key, without a trend.

    :param limit: How many values to list; ``None`` for all.
    :raises FilterError: If ``key`` is not a valid tag key.
    """
    rows = tag_breakdown(connection, where, key)
    return TagValues(
        where=where,
        key=key,
        values=tuple(
            TagValue(row.key[0], row.totals, row.share, Totals(), ())
            for row in rows[:limit]
        ),
        others=sum_up(row.totals for row in rows[len(rows[:limit]) :]),
        other_count=len(rows) - len(rows[:limit]),
        totals=sum_up(row.totals for row in rows),
    )


@dataclass(frozen=True, slots=True)
class Variety:
    """How many distinct tags calls have."""

    sets: int
    """Distinct sets of tags."""
    calls: int
    """Calls in the ledger."""
    key: str | None
    """The key with the most values; ``None`` without tags."""
    values: int
    """Its distinct values."""

    @property
    def unique(self) -> bool:
        """Whether there are nearly as many sets as calls: some tag differs with each call."""
        return self.sets >= MANY_SETS and 2 * self.sets > self.calls


MANY_SETS: t.Final = 1_000
"""Fewer sets do not matter."""


def variety(connection: sa.Connection) -> Variety:
    """Ask whether calls share sets of tags, as they should."""
    count = sa.func.count()
    sets = connection.scalar(sa.select(count).select_from(tag_sets)) or 0
    present = connection.scalar(sa.select(count).select_from(calls)) or 0
    values = sa.func.count(sa.distinct(tag_values.c.value)).label("values_of_key")
    row = connection.execute(
        sa.select(tag_values.c.key, values)
        .group_by(tag_values.c.key)
        .order_by(values.desc(), tag_values.c.key)
        .limit(1)
    ).first()
    key, most = (None, 0) if row is None else (row[0], int(row[1]))
    return Variety(sets=sets, calls=present, key=key, values=most)
