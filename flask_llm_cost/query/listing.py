"""The calls page: one page of calls in an order of choice, and the way to the next."""

from __future__ import annotations

import base64
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

from ..db.tables import calls
from ..db.tables import tag_sets
from ..errors import FilterError
from ..event_id import event_time
from ..money import from_pico
from .filters import CallFilter

Sort: t.TypeAlias = t.Literal[
    "recent", "expensive", "input", "output", "slow", "unknown_pricing"
]

SORTS: t.Final[tuple[str, ...]] = t.get_args(Sort)


class Reading(t.Protocol):
    """Opens one read-only transaction: a ledger's ``reading``."""

    def __call__(
        self, *, since: dt.datetime | None = None, until: dt.datetime | None = None
    ) -> AbstractContextManager[sa.Connection]: ...


PER_PAGE: t.Final = (25, 50, 100, 200)


@dataclass(frozen=True, slots=True)
class CallRow:
    """One call in a list or an export. ``None`` is unknown, never 0."""

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
    """Fresh input of every modality with a bucket of its own."""
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    cache_write_1h_tokens: int | None
    output_tokens: int | None
    """Of every modality with a bucket of its own, reasoning included."""
    other_tokens: int | None
    """All rarer buckets together."""
    reasoning_tokens: int | None
    """A part of the output."""
    total_input_tokens: int | None
    total_output_tokens: int | None
    cost_pico: int | None
    cost_source: str | None
    cost_complete: bool | None
    response_id: str | None
    trace_id: str | None
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


@dataclass(frozen=True, slots=True)
class CallPage:
    """Rows ``first`` to ``last`` of ``total``."""

    where: CallFilter
    """What is listed: the sort ``unknown_pricing`` narrows it."""
    sort: str
    per: int
    rows: tuple[CallRow, ...]
    first: int
    """1 for the first row of all; 0 if the page is empty."""
    last: int
    total: int
    next: str | None
    """The cursor to give as ``after``, ``None`` on the last page."""
    previous: str | None
    """The cursor to give as ``before``, ``None`` on the first page."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a call stands in an order: all that a cursor holds."""

    value: int | None
    event_id: str

    @classmethod
    def of(cls, row: CallRow, sort: str) -> _Place:
        field = _VALUES[sort]
        return cls(None if field is None else getattr(row, field), row.event_id)

    @classmethod
    def read(cls, name: str, cursor: str, sort: str) -> _Place:
        """:raises FilterError: Naming the parameter, for a cursor that none of ours is."""
        try:
            text = _decode(cursor)
            _, value, event_id = text.split(" ")
            event_time(event_id)
            place = cls(int(value) if value else None, str(UUID(event_id)))
        except (ValueError, OverflowError):
            place = None
        # What we write is the only spelling we read.
        if place is None or not place.fits(sort) or place.cursor(sort) != cursor:
            raise FilterError(
                name, "it marks no place in this list; go back to the first page."
            )
        return place

    def fits(self, sort: str) -> bool:
        return self.value is None or (
            _VALUES[sort] is not None and -_BIGINT <= self.value < _BIGINT
        )

    def cursor(self, sort: str) -> str:
        """The same as text for a link; it says which sort it is of."""
        value = "" if self.value is None else self.value
        text = f"{sort} {value} {self.event_id}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def call_page(
    connection: sa.Connection,
    where: CallFilter,
    *,
    sort: str = "recent",
    per: int = 50,
    after: str | None = None,
    before: str | None = None,
) -> CallPage:
    """One page of the calls that fit.

    Unknown values come last in every order; calls alike are ordered by time, the latest
    first.

    :param per: 25, 50, 100 or 200.
    :param after: The ``next`` of another page of the same sort.
    :param before: The ``previous`` of another.
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
        place = _Place.of(rows[0], sort)
        first += _count(connection, _beyond(where, sort, place, True))
    last = first + len(rows) - 1 if rows else 0
    # The last page, and one without rows at all, say by themselves how many there are.
    known = not later and (bool(rows) or after is None)
    return CallPage(
        where=where,
        sort=sort,
        per=per,
        rows=tuple(rows),
        first=first,
        last=last,
        total=last if known else count(connection, where),
        next=_Place.of(rows[-1], sort).cursor(sort) if later else None,
        previous=_Place.of(rows[0], sort).cursor(sort) if earlier else None,
    )


def top_calls(
    connection: sa.Connection, where: CallFilter, *, sort: str, limit: int
) -> tuple[CallRow, ...]:
    """The first calls in an order."""
    where = narrowed(where, sort)
    return tuple(_fetch(connection, where, sort, limit))


def latest(
    connection: sa.Connection, where: CallFilter, limit: int, after: str | None = None
) -> list[CallRow]:
    """The latest calls, or those that come after one.

    :param after: The event id of a call.
    :raises FilterError: If it is none.
    """
    if after is None:
        return _fetch(connection, where, "recent", limit)
    try:
        event_time(after)
    except (ValueError, OverflowError):
        raise FilterError("after", f"{after[:40]!r} is no event id.") from None
    place = _Place(None, str(UUID(after)))
    return _fetch(connection, where, "recent", limit, place)


def time_range(
    connection: sa.Connection, where: CallFilter
) -> tuple[dt.datetime, dt.datetime] | None:
    """When the first and the last call that fit were sent (aware UTC)."""
    time = calls.c.started_at
    [row] = connection.execute(
        sa.select(sa.func.min(time), sa.func.max(time)).where(*where.clauses())
    )
    return None if row[0] is None else (row[0], row[1])


def narrowed(where: CallFilter, sort: str) -> CallFilter:
    """What a sort lists: ``unknown_pricing`` only unpriced calls, the others all.

    :raises FilterError: If there is no such sort.
    """
    if sort not in SORTS:
        raise FilterError("sort", f"{sort[:40]!r} is not one of {', '.join(SORTS)}.")
    return replace(where, unpriced=True) if sort == "unknown_pricing" else where


def walk(
    reading: Reading,
    where: CallFilter,
    columns: Sequence[sa.ColumnElement[t.Any]],
    source: sa.FromClause,
    size: int = 1000,
) -> Iterator[Sequence[sa.Row[t.Any]]]:
    """Batches of rows from the latest to the first; ``event_id`` must be a column.

    Each is read in a transaction of its own: memory stays flat, and a slow reader holds
    no old snapshot open.
    """
    place: _Place | None = None
    while True:
        clauses = where.clauses() if place is None else _beyond(where, "recent", place)
        with reading(since=where.start, until=where.end) as connection:
            rows = connection.execute(
                sa.select(*columns)
                .select_from(source)
                .where(*clauses)
                .order_by(*_order("recent"))
                .limit(size)
            ).all()
        if rows:
            yield rows
        if len(rows) < size:
            return
        place = _Place(None, str(UUID(str(rows[-1]._mapping["event_id"]))))


def _decode(cursor: str) -> str:
    padded = cursor[:200].encode() + b"=" * (-len(cursor) % 4)
    return base64.b64decode(padded, b"-_", validate=True).decode()


_BIGINT: t.Final = 2**63

_VALUES: t.Final[Mapping[str, str | None]] = {
    "recent": None,
    "expensive": "cost_pico",
    "input": "total_input_tokens",
    "output": "total_output_tokens",
    "slow": "latency_ms",
    "unknown_pricing": None,
}
"""The value that each sort goes by, before the time: a field of :class:`CallRow`."""


def _rows(
    connection: sa.Connection,
    where: CallFilter,
    sort: str,
    per: int,
    after: str | None,
    before: str | None,
) -> tuple[list[CallRow], bool, bool]:
    """The rows of a page, and whether there are earlier and later ones."""
    if before is not None:
        place = _Place.read("before", before, sort)
        rows = _fetch(connection, where, sort, per + 1, place, backwards=True)
        if len(rows) > per:
            return rows[1:], True, True
        # Not a page's worth is left there: show the first page, and a full one.
    start = None if after is None else _Place.read("after", after, sort)
    rows = _fetch(connection, where, sort, per + 1, start)
    return rows[:per], after is not None and bool(rows), len(rows) > per


def _fetch(
    connection: sa.Connection,
    where: CallFilter,
    sort: str,
    limit: int,
    place: _Place | None = None,
    *,
    backwards: bool = False,
) -> list[CallRow]:
    """Rows from the first, or from a place on."""
    found = connection.execute(_select(where, sort, limit, place, backwards))
    rows = list(map(_row, found))
    return rows[::-1] if backwards else rows


def _select(
    where: CallFilter,
    sort: str,
    limit: int,
    place: _Place | None = None,
    backwards: bool = False,
) -> t.Any:
    clauses = (
        where.clauses() if place is None else _beyond(where, sort, place, backwards)
    )
    return (
        sa.select(*_ROW)
        .select_from(_SOURCE)
        .where(*clauses)
        .order_by(*_order(sort, backwards))
        .limit(limit)
    )


def count(connection: sa.Connection, where: CallFilter) -> int:
    """How many calls fit."""
    return _count(connection, where.clauses())


def _count(connection: sa.Connection, clauses: Sequence[sa.ColumnElement[bool]]) -> int:
    statement = sa.select(sa.func.count()).select_from(calls)
    return connection.scalar(statement.where(*clauses)) or 0


def _order(sort: str, backwards: bool = False) -> list[sa.ColumnElement[t.Any]]:
    time = [calls.c.started_at, calls.c.event_id]
    if backwards:
        steps = [column.asc() for column in time]
    else:
        steps = [column.desc() for column in time]
    column = _sorted_by(sort)
    if column is None:
        return list(steps)
    if backwards:
        return [column.is_(None).desc(), column.asc(), *steps]
    return [column.is_(None), column.desc(), *steps]


def _beyond(
    where: CallFilter, sort: str, place: _Place, backwards: bool = False
) -> list[sa.ColumnElement[bool]]:
    """The conditions of what comes after a place in an order, or before it."""
    if _VALUES[sort] is None:
        # Of two bounds on one side SQLite takes the first, and would read all that was
        # passed again for each page.
        moment = event_time(place.event_id)
        if backwards and where.start is not None:
            where = replace(where, start=max(where.start, moment))
        elif not backwards and where.end is not None and moment < where.end:
            where = replace(where, end=moment + _MS)
    return [*where.clauses(), _past(sort, place, backwards)]


_MS: t.Final = dt.timedelta(milliseconds=1)


def _past(sort: str, place: _Place, backwards: bool = False) -> sa.ColumnElement[bool]:
    """What comes after a place in an order, or before it.

    The expanded form: MariaDB uses no index for ``(a, b) < (x, y)``.
    """
    time, event = calls.c.started_at, calls.c.event_id
    moment, event_id = event_time(place.event_id), place.event_id
    if backwards:
        past = sa.and_(time >= moment, sa.or_(time > moment, event > event_id))
    else:
        past = sa.and_(time <= moment, sa.or_(time < moment, event < event_id))
    column, value = _sorted_by(sort), place.value
    if column is None:
        return past
    if value is None:
        unknown = column.is_(None)
        if backwards:
            return sa.or_(column.is_not(None), past)
        return sa.and_(unknown, past)
    if backwards:
        return sa.and_(column >= value, sa.or_(column > value, past))
    return sa.or_(
        column.is_(None), sa.and_(column <= value, sa.or_(column < value, past))
    )


def _sorted_by(sort: str) -> sa.ColumnElement[t.Any] | None:
    field = _VALUES[sort]
    if field is None:
        return None
    return calls.c["cost_total" if field == "cost_pico" else field]


_SOURCE: t.Final[sa.FromClause] = calls.outerjoin(
    tag_sets, tag_sets.c.id == calls.c.tag_set_id
)

_DERIVED: t.Final[Mapping[str, sa.ColumnElement[t.Any]]] = {
    "input_tokens": calls.c.input_tokens
    + calls.c.input_audio_tokens
    + calls.c.input_image_tokens,
    "output_tokens": calls.c.output_tokens
    + calls.c.output_audio_tokens
    + calls.c.output_image_tokens,
    "cost_pico": calls.c.cost_total,
    "tags": tag_sets.c.tags,
}

_ROW: t.Final[list[sa.ColumnElement[t.Any]]] = [
    (_DERIVED[f.name] if f.name in _DERIVED else calls.c[f.name]).label(f.name)
    for f in dataclasses.fields(CallRow)
]


def _row(row: sa.Row[t.Any]) -> CallRow:
    values = dict(row._mapping)
    values["flags"] = tuple(values["flags"].split())
    values["tags"] = json.loads(values["tags"]) if values["tags"] else {}
    return CallRow(**values)
