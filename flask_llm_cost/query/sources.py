"""Where a total is read from: rollups of days and hours, and calls for the rest."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

import sqlalchemy as sa

from ..calendar import hours_touched
from ..calendar import period_of
from ..calendar import Span
from ..db.sql import same
from ..db.tables import calls
from ..db.tables import rollups
from ..rollups.dirty_marks import dirty_hours
from ..rollups.horizon import horizon
from ..rollups.tag_rollups import declared_keys
from ..rollups.tag_rollups import DeclaredKey
from ..rollups.tag_rollups import dirty_days
from ..rollups.zone import rollup_zone
from ..rollups.zone import zone_name
from .filters import CallFilter
from .filters import ceil_ms

ROLLED_BY: t.Final = ("provider", "model")
"""The columns of rollups: what they can be filtered and broken down by."""

MANY: t.Final = 200
"""With more dirty hours (or days) than this, all calls are read instead."""

_Span: t.TypeAlias = tuple[dt.datetime | None, dt.datetime | None]
_Unit: t.TypeAlias = Callable[[dt.datetime], tuple[dt.datetime, dt.datetime]]


@dataclass(frozen=True, slots=True)
class Rolled:
    """Rollups that start in a time range, except for some."""

    kinds: tuple[str, ...]
    start: dt.datetime | None
    end: dt.datetime | None
    without: tuple[dt.datetime, ...] = ()
    only: tuple[dt.datetime, ...] = ()

    def clause(self, table: sa.Table) -> sa.ColumnElement[bool]:
        """Return the condition on a table of rollups."""
        found: list[sa.ColumnElement[bool]] = [table.c.kind.in_(self.kinds)]
        if self.start is not None:
            found.append(table.c.start >= self.start)
        if self.end is not None:
            found.append(table.c.start < self.end)
        if self.without:
            found.append(table.c.start.not_in(self.without))
        if self.only:
            found.append(table.c.start.in_(self.only))
        return sa.and_(*found)


@dataclass(frozen=True, slots=True)
class Sources:
    """Disjoint parts that together cover a time range."""

    where: CallFilter
    rolled: tuple[Rolled, ...]
    spans: tuple[_Span, ...]
    """The parts that are read from calls."""
    tag: str | None = None
    """The tag whose rollups are read."""

    def rolled_clauses(self, table: sa.Table) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on a table of rollups; none if it is not read."""
        if not self.rolled:
            return []
        found = [sa.or_(*(part.clause(table) for part in self.rolled))]
        if self.tag is not None:
            return [table.c.key == self.tag, *found]
        for name in ROLLED_BY:
            value = getattr(self.where, name)
            if value is not None:
                found.append(same(table.c[name], value))
        return found

    def call_clauses(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on calls; none if they are not read."""
        if not self.spans:
            return []
        return [*self.where.clauses(), sa.or_(*map(_within, self.spans))]


def sources(
    connection: sa.Connection,
    where: CallFilter,
    by: Iterable[str] = (),
    edges: Sequence[dt.datetime] = (),
) -> Sources:
    """Decide where to read the totals of a filter from.

    Rollups by day cover whole days, rollups by hour the rest. Calls are read where rollups
    are dirty, and for what rollups do not contain.

    :param by: The columns to break down by.
    :param edges: Of the periods to return totals for.
    """
    only_calls = Sources(where, (), ((None, None),))
    if not _can_roll(where, by) or not rolls(connection, where.zone):
        return only_calls
    units = _units(where.zone, edges)
    if not units:
        return only_calls
    dirty = dirty_spans(connection, where)
    if len(dirty) > MANY:
        return replace(only_calls, rolled=(_pruned(where),))
    plan = Plan(dirty)
    plan.cover(*bounds(where), units)
    return plan.sources(where)


def tag_sources(
    connection: sa.Connection,
    where: CallFilter,
    key: str,
    edges: Sequence[dt.datetime] = (),
) -> Sources:
    """Decide where to read the totals by the values of a tag from.

    Rollups by day cover whole days, if calls are aggregated by the tag. Calls are read for
    the rest.
    """
    only_calls = Sources(where, (), ((None, None),))
    known = _declared(connection, where, key)
    units = [unit for unit in _units(where.zone, edges) if unit[0] == "day"]
    if known is None or not units:
        return only_calls
    day = units[0][1]
    days = {day(start) for start, _ in dirty_spans(connection, where)}
    days |= {day(start) for start in dirty_days(connection, key)}
    if len(days) > MANY:
        return replace(only_calls, rolled=(_pruned(where),), tag=key)
    start, end = bounds(where)
    plan = Plan(sorted(days))
    if known.until is None or not _before(known.until, end):
        plan.cover(start, end, units)
    else:
        # From then on it has too many values to be aggregated.
        first = known.until if start is None else max(start, known.until)
        if _before(start, known.until):
            plan.cover(start, known.until, units)
        plan.spans.append((first, end))
        plan.rolled.append(Rolled(("pruned",), first, end))
    return replace(plan.sources(where), tag=key)


def _pruned(where: CallFilter) -> Rolled:
    """The rollups of pruned calls, which cannot be read otherwise."""
    return Rolled(("pruned",), where.start, where.end)


def bounds(where: CallFilter) -> _Span:
    """Return the range of a filter in whole milliseconds."""
    return (
        None if where.start is None else ceil_ms(where.start),
        None if where.end is None else ceil_ms(where.end),
    )


def _declared(
    connection: sa.Connection, where: CallFilter, key: str
) -> DeclaredKey | None:
    """Return the tag if rollups by its values can answer."""
    plain = CallFilter(start=where.start, end=where.end, zone=where.zone)
    if where != plain or not rolls(connection, where.zone):
        return None
    return next((one for one in declared_keys(connection) if one.key == key), None)


def pruned_before(
    connection: sa.Connection, where: CallFilter, by: Iterable[str] = ()
) -> dt.datetime | None:
    """Return the time before which an answer excludes pruned calls; ``None`` if it
    includes all.

    Rollups by provider and model outlive their calls, and so do those by the tags of
    ``LLM_COST_ROLLUP_TAGS``. Everything else (single calls, outcomes, ...) is only known of
    calls that have not been pruned.

    :param by: What is broken down by; ``"event_id"`` for the calls themselves,
        ``"tag:KEY"`` for the values of a tag.
    """
    limit = horizon(connection)
    if limit is None or (where.start is not None and where.start >= limit):
        return None
    by = tuple(by)
    if len(by) == 1 and by[0].startswith("tag:"):
        return _tag_pruned_before(connection, where, by[0].removeprefix("tag:"), limit)
    rolled = _can_roll(where, by) and rolls(connection, where.zone)
    return None if rolled and not _cuts(where, "hour", limit) else limit


def _tag_pruned_before(
    connection: sa.Connection, where: CallFilter, key: str, limit: dt.datetime
) -> dt.datetime | None:
    known = _declared(connection, where, key)
    if known is None or (known.until is not None and known.until < limit):
        return limit
    if _cuts(where, "day", limit):
        return limit
    since = known.since
    return None if since is None or not _before(where.start, since) else since


def _cuts(where: CallFilter, span: Span, limit: dt.datetime) -> bool:
    """Whether the range starts or ends within an hour or day of pruned calls."""
    return any(
        edge is not None and period_of(span, edge, where.zone)[0] < min(limit, edge)
        for edge in bounds(where)
    )


def pruned_range(
    connection: sa.Connection, where: CallFilter
) -> tuple[dt.datetime, dt.datetime] | None:
    """Return the first and the last hour that has pruned calls, if that is known."""
    if not _can_roll(where, ()) or not rolls(connection, where.zone):
        return None
    pruned = Sources(where, (_pruned(where),), ())
    [row] = connection.execute(
        sa.select(sa.func.min(rollups.c.start), sa.func.max(rollups.c.start)).where(
            *pruned.rolled_clauses(rollups)
        )
    )
    return None if row[0] is None else (row[0], row[1])


def _can_roll(where: CallFilter, by: Iterable[str]) -> bool:
    plain = CallFilter(
        start=where.start,
        end=where.end,
        zone=where.zone,
        provider=where.provider,
        model=where.model,
    )
    return where == plain and set(by) <= set(ROLLED_BY)


def rolls(connection: sa.Connection, zone: dt.tzinfo) -> bool:
    """Whether the rollups are those of a zone."""
    return rollup_zone(connection) == zone_name(zone)


def _units(zone: dt.tzinfo, edges: Sequence[dt.datetime]) -> list[tuple[str, _Unit]]:
    """The units that no edge divides, the largest first."""
    units: list[tuple[str, _Unit]] = [
        ("day", lambda moment: period_of("day", moment, zone)),
        ("hour", lambda moment: period_of("hour", moment, zone)),
    ]
    return [
        (kind, unit)
        for kind, unit in units
        if all(unit(edge)[0] == edge for edge in edges)
    ]


def are_days(where: CallFilter, edges: Sequence[dt.datetime]) -> bool:
    """Whether periods between edges consist of whole days."""
    return any(unit[0] == "day" for unit in _units(where.zone, edges))


def dirty_spans(
    connection: sa.Connection, where: CallFilter
) -> list[tuple[dt.datetime, dt.datetime]]:
    """Return the dirty hours in range, with their ends."""
    found = {
        span
        for hour in dirty_hours(connection)
        for span in hours_touched(hour, where.zone)
    }
    return sorted(
        (start, end)
        for start, end in found
        if (where.end is None or start < where.end)
        and (where.start is None or end > where.start)
    )


class Plan:
    """Covers a time range by rollups, and by calls where those are dirty.

    :param dirty: The dirty hours, with their ends.
    """

    def __init__(self, dirty: Sequence[tuple[dt.datetime, dt.datetime]]) -> None:
        self._dirty = dirty
        self.rolled: list[Rolled] = []
        self.spans: list[_Span] = []

    def cover(
        self,
        start: dt.datetime | None,
        end: dt.datetime | None,
        units: Sequence[tuple[str, _Unit]],
    ) -> None:
        """Cover a span by whole, clean units, and the rest by smaller ones."""
        (kind, unit), *smaller = units
        first, last = start, end
        broken: list[tuple[dt.datetime, dt.datetime]] = []
        if start is not None and unit(start)[0] != start:
            first = unit(start)[1]
            broken.append((start, first if end is None else min(first, end)))
        if end is not None and unit(end)[0] != end and _before(first, end):
            last = unit(end)[0]
            broken.append((last, end))
        if not _before(first, last):
            last = first
        dirty = self._units_of_dirty(unit, first, last)
        if first is None or last is None or first < last:
            kinds = ("hour", "pruned") if kind == "hour" else (kind,)
            without = tuple(begin for begin, _ in dirty)
            self.rolled.append(Rolled(kinds, first, last, without))
        for span in broken:
            self._rest(span, smaller)
        for span in dirty:
            self._rest(span, smaller)
        if dirty and not smaller:
            # What was pruned of these hours is in the rollups only.
            begins = tuple(begin for begin, _ in dirty)
            self.rolled.append(Rolled(("pruned",), None, None, only=begins))

    def sources(self, where: CallFilter) -> Sources:
        """Return the parts of the range that was covered."""
        return Sources(where, tuple(self.rolled), tuple(_joined(self.spans)))

    def _rest(
        self,
        span: tuple[dt.datetime, dt.datetime],
        smaller: Sequence[tuple[str, _Unit]],
    ) -> None:
        if smaller:
            self.cover(*span, smaller)
        else:
            self.spans.append(span)

    def _units_of_dirty(
        self, unit: _Unit, first: dt.datetime | None, last: dt.datetime | None
    ) -> list[tuple[dt.datetime, dt.datetime]]:
        found = {unit(start) for start, _ in self._dirty}
        return sorted(
            (start, end)
            for start, end in found
            if (first is None or start >= first) and (last is None or start < last)
        )


def _before(one: dt.datetime | None, other: dt.datetime | None) -> bool:
    return one is None or other is None or one < other


def _joined(spans: Iterable[_Span]) -> list[_Span]:
    """Join adjacent spans, for fewer conditions."""
    found: list[_Span] = []
    for start, end in sorted(spans, key=lambda s: (s[0] is not None, s[0])):
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def _within(span: _Span) -> sa.ColumnElement[bool]:
    time, (start, end) = calls.c.started_at, span
    found: list[sa.ColumnElement[bool]] = [sa.true()]
    if start is not None:
        found.append(time >= start)
    if end is not None:
        found.append(time < end)
    return sa.and_(*found)
