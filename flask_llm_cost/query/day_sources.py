"""Which days are read from their sums, and which calls are read for the rest."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from ..calendar import period_of
from ..db.day_tables import tag_key_days
from ..db.day_tables import tag_value_days
from ..db.sql import same
from ..rollups import days as sums
from ..tags import TRACE_KEY
from .filters import CallFilter
from .sources import bounds
from .sources import dirty_spans
from .sources import MANY
from .sources import Plan
from .sources import ROLLED_BY
from .sources import rolls
from .sources import Sources


@dataclass(frozen=True, slots=True)
class DaySources:
    """Whole days with sums, and the calls of the rest."""

    where: CallFilter
    read: Sources

    def day_clauses(self, table: sa.Table) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on a table of sums by day; none if it is not read."""
        start = table.c.start
        found: list[sa.ColumnElement[bool]] = []
        for part in self.read.rolled:
            if part.kinds == ("day",):
                found = [start.not_in(part.without)] if part.without else []
                found += [] if part.start is None else [start >= part.start]
                found += [sa.true()] if part.end is None else [start < part.end]
                for name in ROLLED_BY:
                    value = getattr(self.where, name)
                    if value is not None:
                        found.append(same(table.c[name], value))
        return found

    def call_clauses(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on calls; none if they are not read."""
        return self.read.call_clauses()


def day_sources(
    connection: sa.Connection,
    where: CallFilter,
    by: Iterable[str] = (),
    without: Iterable[dt.datetime] = (),
) -> DaySources:
    """Decide where to read from. Sums by day include no pruned calls, as calls do.

    :param by: The conditions that the sums can be filtered by.
    :param without: The starts of more days to read from calls.
    """
    only_calls = DaySources(where, Sources(where, (), ((None, None),)))
    plain = {name: getattr(where, name) for name in by}
    plain |= {"start": where.start, "end": where.end, "zone": where.zone}
    if where != CallFilter(**plain) or not rolls(connection, where.zone):
        return only_calls
    if not sums.begun(connection):
        return only_calls
    found = {_day(start, where) for start, _ in dirty_spans(connection, where)}
    found |= {_day(start, where) for start in sums.marked(connection)}
    found |= {_day(start, where) for start in without}
    if len(found) > MANY:
        return only_calls
    plan = Plan(sorted(found))
    plan.cover(*bounds(where), [("day", lambda moment: _day(moment, where))])
    return DaySources(where, plan.sources(where))


def _day(moment: dt.datetime, where: CallFilter) -> tuple[dt.datetime, dt.datetime]:
    return period_of("day", moment, where.zone)


@dataclass(frozen=True, slots=True)
class ValueSources:
    """Where the values of one tag are read from."""

    key: str
    days: DaySources
    present: tuple[dt.datetime, ...]
    """The days on which calls have the key."""

    def value_clauses(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on the sums of values; none if they are not read."""
        found = self.days.day_clauses(tag_value_days)
        if not found:
            return []
        v = tag_value_days.c
        # On other days, all calls are without the key.
        absent = sa.and_(v.key == "", v.start.not_in(self.present))
        return [*found, sa.or_(same(v.key, self.key), absent)]

    def call_clauses(self) -> list[sa.ColumnElement[bool]]:
        return self.days.call_clauses()


def value_sources(
    connection: sa.Connection, where: CallFilter, key: str
) -> ValueSources:
    """Decide where to read the values of a tag from."""
    if key == TRACE_KEY:  # its values are not summed, since each call may have its own
        only_calls = Sources(where, (), ((None, None),))
        return ValueSources(key, DaySources(where, only_calls), ())
    k = tag_key_days.c
    query = sa.select(k.start, k.summed).where(same(k.key, key))
    if where.start is not None:
        query = query.where(k.start >= where.start)
    if where.end is not None:
        query = query.where(k.start < where.end)
    rows = connection.execute(query).all()
    many = [row.start for row in rows if not row.summed]
    days = day_sources(connection, where, without=many)
    return ValueSources(key, days, tuple(sorted(row.start for row in rows)))
