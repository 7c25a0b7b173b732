"""The one place where calls are aggregated for pages, reports and commands."""

from __future__ import annotations

import datetime as dt
import math
import typing as t
from bisect import bisect_right
from collections.abc import Mapping
from collections.abc import Sequence

import sqlalchemy as sa

from ..calendar import utc_ms
from ..db.day_tables import tag_value_days
from ..db.sql import quotient
from ..db.sql import same
from ..db.tables import calls
from ..db.tables import rollups
from ..db.tables import tag_rollups
from ..db.tables import tag_values
from ..errors import FilterError
from ..tags import TRACE_KEY
from .day_sources import value_sources
from .filters import CallFilter
from .filters import tag_key
from .sources import are_days
from .sources import sources
from .sources import tag_sources
from .totals import Group
from .totals import groups
from .totals import MEASURES
from .totals import rolled_measures
from .totals import rolled_spend
from .totals import SPEND
from .totals import spend_of
from .totals import Totals
from .totals import totals_of

UNTAGGED: t.Final = "(untagged)"
"""The key of calls without the tag, or with an empty one, in a breakdown."""

NONE: t.Final = "(none)"
"""The key of calls whose column is unknown or empty, in a breakdown."""

_ZERO: t.Final = Totals()


def totals(connection: sa.Connection, where: CallFilter) -> Totals:
    """Return the totals of all matching calls."""
    [found] = _ask(connection, where, ()).get((), [Totals()])
    return found


def breakdown(
    connection: sa.Connection, where: CallFilter, *by: str
) -> tuple[Group, ...]:
    """Return the totals by columns, highest cost first.

    :param by: Names of :data:`BREAKDOWNS`.
    :raises FilterError: For another name.
    """
    found = _ask(connection, where, by)
    return groups((key, part) for key, (part,) in found.items())


def tag_breakdown(
    connection: sa.Connection,
    where: CallFilter,
    key: str,
    values: Sequence[str] | None = None,
) -> tuple[Group, ...]:
    """Return the totals by the value of a tag; other calls are ``"(untagged)"``.

    :param values: Only these values. Shares are of their spend then.
    :raises FilterError: If ``key`` is not a valid tag key.
    """
    found = _ask_tag(connection, where, key, values=values)
    return groups((value, part) for value, (part,) in found.items())


def series(
    connection: sa.Connection, where: CallFilter, edges: Sequence[dt.datetime]
) -> tuple[Totals, ...]:
    """Return the totals of each period between two edges (ascending), including empty ones.

    Calls outside the edges are not counted.
    """
    found = series_by(connection, where, edges)
    return found.get((), (Totals(),) * (len(edges) - 1))


def series_by(
    connection: sa.Connection,
    where: CallFilter,
    edges: Sequence[dt.datetime],
    *by: str,
) -> dict[tuple[str, ...], tuple[Totals, ...]]:
    """Return the same for each group of a :func:`breakdown`."""
    if len(edges) < 2:
        return {}
    where = where.between(edges[0], edges[-1])
    found = _ask(connection, where, by, edges)
    return {key: tuple(parts) for key, parts in found.items()}


def tag_series(
    connection: sa.Connection,
    where: CallFilter,
    edges: Sequence[dt.datetime],
    key: str,
    values: Sequence[str] | None = None,
) -> dict[tuple[str, ...], tuple[Totals, ...]]:
    """Return the same for each value of a tag, as in :func:`tag_breakdown`.

    :param values: Only these values.
    """
    if len(edges) < 2:
        return {}
    where = where.between(edges[0], edges[-1])
    found = _ask_tag(connection, where, key, edges, values)
    return {value: tuple(parts) for value, parts in found.items()}


def spend_series(
    connection: sa.Connection,
    where: CallFilter,
    edges: Sequence[dt.datetime],
    *by: str,
) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Return the spend of each period, in pico-USD, for each group of a breakdown."""
    where = where.between(edges[0], edges[-1])
    found = _ask(connection, where, by, edges, spend_only=True)
    return {key: tuple(p.spend_pico for p in parts) for key, parts in found.items()}


_Found: t.TypeAlias = dict[tuple[str, ...], list[Totals]]
"""By key, the totals of each period."""


def _ask(
    connection: sa.Connection,
    where: CallFilter,
    by: Sequence[str],
    edges: Sequence[dt.datetime] = (),
    *,
    spend_only: bool = False,
) -> _Found:
    columns = [_column(name) for name in by]
    read_from = sources(connection, where, by, edges)
    answer = _Answer(connection, edges, NONE, spend_only=spend_only)
    if clauses := read_from.call_clauses():
        answer.add(calls, columns, clauses)
    if clauses := read_from.rolled_clauses(rollups):
        answer.add(rollups, [rollups.c[name] for name in by], clauses)
    return answer.found


def _ask_tag(
    connection: sa.Connection,
    where: CallFilter,
    key: str,
    edges: Sequence[dt.datetime] = (),
    values: Sequence[str] | None = None,
) -> _Found:
    value, source = tag_column(key)
    answer = _Answer(connection, edges, UNTAGGED)
    read_from = tag_sources(connection, where, key, edges)
    if clauses := read_from.rolled_clauses(tag_rollups):
        column = tag_rollups.c.value
        answer.add(tag_rollups, [column], [*clauses, *_among(column, values)])
    clauses = read_from.call_clauses()
    if not read_from.rolled and are_days(where, edges):
        by_day = value_sources(connection, where, key)
        clauses = by_day.call_clauses()
        if of_days := by_day.value_clauses():
            column = tag_value_days.c.value
            answer.add(tag_value_days, [column], [*of_days, *_among(column, values)])
    if clauses:
        answer.add(source, [value], [*clauses, *_among(value, values)])
    return answer.found


def _among(
    column: sa.ColumnElement[t.Any], values: Sequence[str] | None
) -> list[sa.ColumnElement[bool]]:
    if values is None:
        return []
    named = [value for value in values if value != UNTAGGED]
    found: list[sa.ColumnElement[bool]] = [column.in_(named)]
    if UNTAGGED in values:
        found += [column.is_(None), column == "", column == UNTAGGED]
    return [sa.or_(*found)]


class _Answer:
    """Collects the totals of each period between edges; without edges, of all times.

    :param nothing: The name of an unknown or empty value.
    """

    def __init__(
        self,
        connection: sa.Connection,
        edges: Sequence[dt.datetime],
        nothing: str,
        *,
        spend_only: bool = False,
    ) -> None:
        self.found: _Found = {}
        self._read = spend_of if spend_only else totals_of
        self._measures = SPEND if spend_only else MEASURES
        self._rolled = rolled_spend if spend_only else rolled_measures
        self._connection = connection
        self._nothing = nothing
        self._edges = [utc_ms(edge) for edge in edges] or [0, 0]
        # The widest bucket that no edge divides: days, or hours where a clock changes.
        first = self._edges[0]
        self._step = math.gcd(*(edge - first for edge in self._edges)) if edges else 0

    def add(
        self,
        source: sa.FromClause,
        by: Sequence[sa.ColumnElement[t.Any]],
        clauses: Sequence[sa.ColumnElement[bool]],
    ) -> None:
        """Add what is read from calls, or from a table of rollups."""
        if source in (rollups, tag_rollups, tag_value_days):
            bucket, measures = self._bucket(source.c.start), self._rolled(source)
        else:
            bucket, measures = self._bucket(calls.c.started_at), self._measures
        rows = self._connection.execute(
            sa.select(bucket, *by, *measures)
            .select_from(source)
            .where(*clauses)
            .group_by("bucket", *by)
        )
        edges, width = self._edges, 1 + len(by)
        for row in rows:
            key = tuple(value or self._nothing for value in row[1:width])
            parts = self.found.setdefault(key, [_ZERO] * (len(edges) - 1))
            period = bisect_right(edges, edges[0] + int(row[0]) * self._step) - 1
            period, more = (period if self._step else 0), self._read(row)
            # Usually the first; adding takes longer than reading a row.
            parts[period] = more if parts[period] is _ZERO else parts[period] + more

    def _bucket(self, time: sa.ColumnElement[t.Any]) -> sa.ColumnElement[t.Any]:
        if not self._step:
            return sa.literal_column("0").label("bucket")
        ms = sa.type_coerce(time, sa.BigInteger)
        return quotient(ms - self._edges[0], self._step).label("bucket")


BREAKDOWNS: t.Final[Mapping[str, sa.ColumnElement[t.Any]]] = {
    name: calls.c[name]
    for name in (
        "provider",
        "model",
        "request_model",
        "operation",
        "usage_source",
        "outcome",
        "service_tier",
        "cost_source",
        "trace_id",
        "scope",
    )
}
"""The columns that totals can be broken down by, besides tags and time."""


def _column(name: str) -> sa.ColumnElement[t.Any]:
    try:
        return BREAKDOWNS[name]
    except KeyError:
        raise FilterError(
            "by", f"{name[:40]!r} is not one of {', '.join(BREAKDOWNS)}."
        ) from None


def tag_column(key: str) -> tuple[sa.ColumnElement[t.Any], sa.FromClause]:
    """Return the value of a tag (NULL without one), and what to select it from.

    :raises FilterError: If ``key`` is not a valid tag key.
    """
    if key == TRACE_KEY:
        return calls.c.trace_id, calls
    carried = sa.and_(
        tag_values.c.tag_set_id == calls.c.tag_set_id,
        same(tag_values.c.key, tag_key(key)),
    )
    return tag_values.c.value, calls.outerjoin(tag_values, carried)
