"""The tags pages: the keys that calls have, and the cost of each value of one."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass
from dataclasses import replace
from decimal import Decimal

import sqlalchemy as sa

from ..db.tables import calls
from ..db.tables import tag_sets
from ..db.tables import tag_values
from ..money import quotient
from .aggregate import tag_breakdown
from .aggregate import tag_series
from .aggregate import UNTAGGED
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
    """Its distinct values."""
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
    # Grouped by set first: there are far fewer sets of tags than calls.
    per_set = (
        sa.select(calls.c.tag_set_id, sa.func.count().label("calls"))
        .where(*where.clauses())
        .group_by(calls.c.tag_set_id)
        .subquery()
    )
    used = sa.func.sum(per_set.c.calls)
    rows = connection.execute(
        sa.select(
            tag_values.c.key, used, sa.func.count(sa.distinct(tag_values.c.value))
        )
        .join_from(per_set, tag_values, tag_values.c.tag_set_id == per_set.c.tag_set_id)
        .group_by(tag_values.c.key)
    )
    found = [(key, int(count), int(values)) for key, count, values in rows]
    [(total, tagged)] = connection.execute(
        sa.select(sa.func.count(), sa.func.count(calls.c.tag_set_id)).where(
            *where.clauses()
        )
    )
    return TagKeys(
        where=where,
        keys=tuple(
            TagKey(key, count, values, quotient(count, total))
            for key, count, values in sorted(found, key=lambda k: (-k[1], k[0]))
        ),
        calls=total,
        untagged=total - tagged,
    )


def tag_page(
    connection: sa.Connection, where: CallFilter, key: str, *, limit: int = 100
) -> TagValues:
    """Return the cost of each value of a key, with its trend.

    :param limit: How many values to list.
    :raises FilterError: If ``key`` is not a valid tag key.
    """
    found = top_values(connection, where, key, limit=limit)
    if where.start is None or where.end is None:
        return found
    listed = [row.value for row in found.values]
    daily = tag_series(connection, where, where.edges("day"), key, listed)
    before = {
        group.key: group.totals
        for group in tag_breakdown(connection, where.previous(), key)
    }
    return replace(
        found,
        values=tuple(
            replace(
                row,
                previous=before.get((row.value,), Totals()),
                days=daily.get((row.value,), ()),
            )
            for row in found.values
        ),
    )


def top_values(
    connection: sa.Connection, where: CallFilter, key: str, *, limit: int = 5
) -> TagValues:
    """Return the cost of each value of a key, without a trend.

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
        others=sum_up(row.totals for row in rows[limit:]),
        other_count=len(rows[limit:]),
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
