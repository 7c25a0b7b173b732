"""The tags pages: which keys calls carry, and what each value of one costs."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import edges
from ..db.tables import calls
from ..db.tables import tag_sets
from ..db.tables import tag_values
from .filters import CallFilter
from .totals import change
from .totals import sum_up
from .totals import tag_breakdown
from .totals import tag_series
from .totals import Totals
from .totals import UNTAGGED


@dataclass(frozen=True, slots=True)
class TagKey:
    """A key, and how much it is used."""

    key: str
    calls: int
    """Calls that carry it."""
    values: int
    """How many different values it has there."""
    coverage: Decimal
    """The part of all calls that carry it, 0 to 1."""


@dataclass(frozen=True, slots=True)
class TagKeys:
    """Every key, the most used first."""

    where: CallFilter
    keys: tuple[TagKey, ...]
    calls: int
    """All calls."""
    untagged: int
    """Those without any tag."""


@dataclass(frozen=True, slots=True)
class TagValue:
    """One value of a key."""

    value: str
    """``"(untagged)"`` for the calls without the key, or with an empty value."""
    totals: Totals
    share: Decimal | None
    """The part of the known spend, 0 to 1; ``None`` if that is 0."""
    previous: Totals
    """Of the period of as many days before; zeros if the range is open."""
    days: tuple[Totals, ...]
    """Of each day of the range; none if it is open."""

    @property
    def untagged(self) -> bool:
        return self.value == UNTAGGED

    @property
    def spend_change(self) -> Decimal | None:
        """In percent of the previous period's spend; ``None`` if that was nothing."""
        return change(self.totals.spend_usd, self.previous.spend_usd)


@dataclass(frozen=True, slots=True)
class TagValues:
    """The values of a key, the dearest first."""

    where: CallFilter
    key: str
    values: tuple[TagValue, ...]
    """The dearest ones, and among them the row of the untagged calls."""
    others: Totals
    """Of the values that are not listed."""
    other_count: int
    """How many those are."""
    totals: Totals
    """Of all calls."""


def tag_keys(connection: sa.Connection, where: CallFilter) -> TagKeys:
    """Ask which keys there are, and how much each is used."""
    # By set first: there are far fewer sets of tags than calls.
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
            TagKey(key, count, values, Decimal(count) / total)
            for key, count, values in sorted(found, key=lambda k: (-k[1], k[0]))
        ),
        calls=total,
        untagged=total - tagged,
    )


def tag_page(
    connection: sa.Connection, where: CallFilter, key: str, *, limit: int = 100
) -> TagValues:
    """Ask what the values of one key cost.

    :param limit: How many values to list.
    :raises FilterError: If ``key`` can be no tag's.
    """
    first, last = where.first_day, where.last_day
    if first is None or last is None:
        rows = tag_breakdown(connection, where, key)
        before: dict[tuple[str, ...], Totals] = {}
        daily: dict[tuple[str, ...], tuple[Totals, ...]] = {}
    else:
        marks = edges("day", first, last, where.zone)
        rows = tag_breakdown(connection, where, key)
        listed = [row.key[0] for row in rows[:limit]]
        daily = tag_series(connection, where, marks, key, listed)
        before = {
            row.key: row.totals
            for row in tag_breakdown(connection, where.previous(), key)
        }
    return TagValues(
        where=where,
        key=key,
        values=tuple(
            TagValue(
                value=row.key[0],
                totals=row.totals,
                share=row.share,
                previous=before.get(row.key, Totals()),
                days=daily.get(row.key, ()),
            )
            for row in rows[:limit]
        ),
        others=sum_up(row.totals for row in rows[limit:]),
        other_count=len(rows[limit:]),
        totals=sum_up(row.totals for row in rows),
    )


def top_values(
    connection: sa.Connection, where: CallFilter, key: str, *, limit: int = 5
) -> TagValues:
    """The dearest values of a key, without a trend: for the overview.

    :raises FilterError: If ``key`` can be no tag's.
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
    """How much tags differ from call to call."""

    sets: int
    """Distinct sets of tags."""
    calls: int
    """Calls that are there."""
    key: str | None
    """The key with the most values; ``None`` without tags."""
    values: int
    """How many those are."""

    @property
    def unique(self) -> bool:
        """Sets are nearly as many as calls: some tag differs with each call."""
        return self.sets >= MANY_SETS and 2 * self.sets > self.calls


MANY_SETS: t.Final = 1_000
"""Below this it does not matter."""


def variety(connection: sa.Connection) -> Variety:
    """Ask whether sets of tags are shared by calls, as they should be."""
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
