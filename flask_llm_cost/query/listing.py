"""Lists of calls: pages in any order, and streams of all calls."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from dataclasses import replace
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa

from ..db.day_tables import costliest_calls
from ..db.day_tables import quality_days
from ..db.tables import calls
from ..db.tables import tag_sets
from ..errors import FilterError
from ..event_id import event_time
from ..money import from_pico
from ..rollups.days import TOP
from ..rollups.measures import CEILING
from .day_sources import day_sources
from .filters import CallFilter
from .keyset import order
from .keyset import Position
from .keyset import SORTS
from .sources import ROLLED_BY


class Reader(t.Protocol):
    """Opens a read-only transaction: a ledger's ``reading``."""

    def __call__(
        self, *, since: dt.datetime | None = None, until: dt.datetime | None = None
    ) -> AbstractContextManager[sa.Connection]: ...


PER_PAGE: t.Final = (25, 50, 100, 200)


@dataclass(frozen=True, slots=True)
class CallRow:
    """One call in a list. ``None`` is unknown, never 0."""

    event_id: str
    started_at: dt.datetime
    """Aware UTC."""
    provider: str
    model: str
    operation: str
    outcome: str
    http_status: int | None
    stream: bool
    usage_source: str
    latency_ms: int | None
    input_tokens: int | None
    """Uncached input of the common modalities."""
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    cache_write_1h_tokens: int | None
    output_tokens: int | None
    """Output of the common modalities, including reasoning."""
    other_tokens: int | None
    """All rarer buckets."""
    reasoning_tokens: int | None
    """Part of the output."""
    total_input_tokens: int | None
    total_output_tokens: int | None
    cost_pico: int | None
    cost_source: str | None
    cost_complete: bool | None
    ceiling_pico: int | None
    response_id: str | None
    trace_id: str | None
    scope: str | None
    tags: Mapping[str, str]
    flags: tuple[str, ...]

    @property
    def total_tokens(self) -> int | None:
        if self.total_input_tokens is None or self.total_output_tokens is None:
            return None
        return self.total_input_tokens + self.total_output_tokens

    @property
    def cost_usd(self) -> Decimal | None:
        return None if self.cost_pico is None else from_pico(self.cost_pico)

    @property
    def ceiling_usd(self) -> Decimal | None:
        """The most that the call can have cost; ``None`` if there is no known limit."""
        return None if self.ceiling_pico is None else from_pico(self.ceiling_pico)


@dataclass(frozen=True, slots=True)
class CallPage:
    """Rows ``first`` to ``last`` of ``total``."""

    where: CallFilter
    """The calls that are listed: some sorts narrow the filter."""
    sort: str
    per: int
    rows: tuple[CallRow, ...]
    first: int
    """1 for the first call of all; 0 if the page is empty."""
    last: int
    total: int
    next: str | None
    """The cursor for ``after``; ``None`` on the last page."""
    previous: str | None
    """The cursor for ``before``; ``None`` on the first page."""


def call_page(
    connection: sa.Connection,
    where: CallFilter,
    *,
    sort: str = "recent",
    per: int = 50,
    after: str | None = None,
    before: str | None = None,
) -> CallPage:
    """Return one page of the matching calls.

    Unknown values come last in every order. Equal calls are ordered by time, latest first.

    :param per: 25, 50, 100 or 200 calls.
    :param after: The ``next`` cursor of another page in the same order.
    :param before: The ``previous`` cursor of another page.
    :raises FilterError: Naming ``sort``, ``per``, ``after`` or ``before``.
    """
    if per not in PER_PAGE:
        raise FilterError("per", f"{per!r} is not one of 25, 50, 100 and 200.")
    if after is not None and before is not None:
        raise FilterError("before", "it cannot be combined with after; give one.")
    where = narrowed(where, sort)
    rows, earlier, later = _rows(connection, where, sort, per, after, before)
    first = 1 if rows else 0
    if earlier:
        before_first = Position.of(rows[0], sort).clauses(where, backwards=True)
        first += _count(connection, before_first)
    last = first + len(rows) - 1 if rows else 0
    # The last page, and a first one without rows, need no query to count all.
    known = not later and (bool(rows) or after is None)
    return CallPage(
        where=where,
        sort=sort,
        per=per,
        rows=tuple(rows),
        first=first,
        last=last,
        total=last if known else count(connection, where),
        next=Position.of(rows[-1], sort).cursor() if later else None,
        previous=Position.of(rows[0], sort).cursor() if earlier else None,
    )


def top_calls(
    connection: sa.Connection, where: CallFilter, *, sort: str, limit: int
) -> tuple[CallRow, ...]:
    """Return the first calls in an order."""
    where = narrowed(where, sort)
    return tuple(_fetch(connection, where, sort, limit))


def latest(
    connection: sa.Connection, where: CallFilter, limit: int, after: str | None = None
) -> list[CallRow]:
    """Return the latest calls, or those after a call in that order.

    :param after: The event id of that call.
    :raises FilterError: If it is not an event id.
    """
    if after is None:
        return _fetch(connection, where, "recent", limit)
    try:
        event_time(after)
    except (ValueError, OverflowError):
        raise FilterError("after", f"{after[:40]!r} is not a valid event id.") from None
    position = Position("recent", str(UUID(after)))
    return _fetch(connection, where, "recent", limit, position)


def time_range(
    connection: sa.Connection, where: CallFilter
) -> tuple[dt.datetime, dt.datetime] | None:
    """Return when the first and the last matching call were sent (aware UTC)."""
    time = calls.c.started_at
    [row] = connection.execute(
        sa.select(sa.func.min(time), sa.func.max(time)).where(*where.clauses())
    )
    return None if row[0] is None else (row[0], row[1])


def narrowed(where: CallFilter, sort: str) -> CallFilter:
    """Return the filter of a sort: two of them list only calls without a full cost.

    :raises FilterError: If there is no such sort.
    """
    if sort not in SORTS:
        raise FilterError("sort", f"{sort[:40]!r} is not one of {', '.join(SORTS)}.")
    if sort == "unknown_pricing":
        return replace(where, unpriced=True)
    return replace(where, incomplete=True) if sort == "incomplete" else where


def walk(
    reading: Reader,
    where: CallFilter,
    columns: Sequence[sa.ColumnElement[t.Any]],
    size: int = 1000,
) -> Iterator[Sequence[sa.Row[t.Any]]]:
    """Yield batches of rows, latest call first; ``event_id`` must be a column.

    Each batch is read in its own transaction: memory use stays flat, and a slow client
    does not keep an old snapshot open.
    """
    position: Position | None = None
    while True:
        query = select(where, "recent", size, position, columns=columns)
        with reading(since=where.start, until=where.end) as connection:
            rows = connection.execute(query).all()
        if rows:
            yield rows
        if len(rows) < size:
            return
        position = Position("recent", str(UUID(str(rows[-1]._mapping["event_id"]))))


def _rows(
    connection: sa.Connection,
    where: CallFilter,
    sort: str,
    per: int,
    after: str | None,
    before: str | None,
) -> tuple[list[CallRow], bool, bool]:
    """Return the rows of a page, and whether there are earlier and later ones."""
    if before is not None:
        position = Position.read("before", before, sort)
        rows = _fetch(connection, where, sort, per + 1, position, backwards=True)
        if len(rows) > per:
            return rows[1:], True, True
        # Fewer rows than a page are left: show a full first page.
    start = None if after is None else Position.read("after", after, sort)
    rows = _fetch(connection, where, sort, per + 1, start)
    return rows[:per], after is not None and bool(rows), len(rows) > per


def _fetch(
    connection: sa.Connection,
    where: CallFilter,
    sort: str,
    limit: int,
    position: Position | None = None,
    *,
    backwards: bool = False,
) -> list[CallRow]:
    """Return rows from the start, or from a position on."""
    if sort == "expensive" and position is None and not backwards:
        found = _most_expensive(connection, where, limit)
        if found is not None:
            return found
    query = select(where, sort, limit, position, backwards=backwards)
    rows = list(map(_row, connection.execute(query)))
    return rows[::-1] if backwards else rows


def _most_expensive(
    connection: sa.Connection, where: CallFilter, limit: int
) -> list[CallRow] | None:
    """Return the most expensive calls, if those that are kept of each day suffice."""
    read_from = day_sources(connection, where)
    stored = read_from.day_clauses(costliest_calls)
    if not stored or limit > TOP:
        return None
    top = costliest_calls.c
    by_cost = (top.cost_total.desc(), top.started_at.desc(), top.event_id.desc())
    keys = sa.select(top.started_at, top.event_id).where(*stored)
    found = connection.execute(keys.order_by(*by_cost).limit(limit)).all()
    queries = [
        sa.select(*_ROW).where(
            calls.c.started_at.in_([row.started_at for row in found]),
            calls.c.event_id.in_([row.event_id for row in found]),
        )
    ]
    if clauses := read_from.call_clauses():
        rest = sa.select(*_ROW).where(*clauses, calls.c.cost_total.is_not(None))
        queries.append(rest.order_by(*order("expensive")).limit(limit))
    rows = [
        _row(row)
        for query in queries
        for row in connection.execute(query.select_from(CALLS_WITH_TAGS))
    ]
    rows.sort(key=lambda r: (r.cost_pico, r.started_at, r.event_id), reverse=True)
    # With fewer, calls of unknown cost follow.
    return rows[:limit] if len(rows) >= limit else None


def select(
    where: CallFilter,
    sort: str,
    limit: int,
    position: Position | None = None,
    *,
    backwards: bool = False,
    columns: Sequence[sa.ColumnElement[t.Any]] | None = None,
) -> t.Any:
    """Return the SELECT of calls in an order, from the start or from a position on."""
    if position is None:
        clauses = where.clauses()
    else:
        clauses = position.clauses(where, backwards=backwards)
    return (
        sa.select(*(_ROW if columns is None else columns))
        .select_from(CALLS_WITH_TAGS)
        .where(*clauses)
        .order_by(*order(sort, backwards=backwards))
        .limit(limit)
    )


def count(connection: sa.Connection, where: CallFilter) -> int:
    """Count the matching calls."""
    read_from = day_sources(connection, where, ROLLED_BY)
    found = 0
    if clauses := read_from.call_clauses():
        found += _count(connection, clauses)
    if clauses := read_from.day_clauses(quality_days):
        query = sa.select(sa.func.sum(quality_days.c.calls)).where(*clauses)
        found += int(connection.scalar(query) or 0)
    return found


def _count(connection: sa.Connection, clauses: Sequence[sa.ColumnElement[bool]]) -> int:
    statement = sa.select(sa.func.count()).select_from(calls)
    return connection.scalar(statement.where(*clauses)) or 0


CALLS_WITH_TAGS: t.Final[sa.FromClause] = calls.outerjoin(
    tag_sets, tag_sets.c.id == calls.c.tag_set_id
)

SHOWN: t.Final[Mapping[str, sa.ColumnElement[t.Any]]] = {
    **{column.name: column for column in calls.c},
    "input_tokens": calls.c.input_tokens
    + calls.c.input_audio_tokens
    + calls.c.input_image_tokens,
    "output_tokens": calls.c.output_tokens
    + calls.c.output_audio_tokens
    + calls.c.output_image_tokens,
    "total_tokens": calls.c.total_input_tokens + calls.c.total_output_tokens,
    "cost_pico": calls.c.cost_total,
    "ceiling_pico": CEILING,
    "tags": tag_sets.c.tags,
}
"""The fields of calls, as lists and CSV files show them, by name."""

_ROW: t.Final[list[sa.ColumnElement[t.Any]]] = [
    SHOWN[field.name].label(field.name) for field in dataclasses.fields(CallRow)
]


def _row(row: sa.Row[t.Any]) -> CallRow:
    values = dict(row._mapping)
    values["flags"] = tuple(values["flags"].split())
    values["tags"] = json.loads(values["tags"]) if values["tags"] else {}
    return CallRow(**values)
