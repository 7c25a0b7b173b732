"""Close UTC months: later changes are recorded as corrections.

Closing copies the sums by meter of the month's days. Whenever an hour or a day of it is
built again, what its sums differ by is appended, with the time. So the copy and the
corrections always add up to the sums of the calls, and both outlive the calls.
"""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ..calendar import DAY
from ..calendar import day_start
from ..calendar import from_ms
from ..calendar import next_first_day
from ..calendar import utc_ms
from ..db import meta
from ..db.statements import chunks
from ..db.tables import corrections
from ..money import digits
from . import meter_sums
from .dirty_marks import dirty_hours
from .lock import lock
from .meters import add_up
from .meters import difference
from .meters import MeterKey
from .meters import MeterSum
from .tag_days import TagDays
from .tag_meter_sums import utc_day
from .tag_meter_sums import ValueKey
from .tag_meter_sums import ValueSums
from .tag_rollups import declared_keys

TOTAL: t.Final = ""
"""Instead of a tag key: the sums of all calls."""

_NAME: t.Final = "closed_months"
_r: t.Final = corrections.c
_AMOUNTS: t.Final = MeterSum._fields[1:]


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed month."""

    at: dt.datetime
    """When it was closed."""
    keys: tuple[str, ...]
    """The tag keys that were declared then, and :data:`TOTAL`."""


def closed_months(connection: sa.Connection) -> dict[dt.date, Closed]:
    """Return the closed months by their first days."""
    known = json.loads(meta.get(connection, _NAME) or "{}")
    return {
        dt.date.fromisoformat(day): Closed(from_ms(ms), tuple(keys))
        for day, (ms, *keys) in known.items()
    }


def _put(connection: sa.Connection, closed: Mapping[dt.date, Closed]) -> None:
    known = {
        day.isoformat(): [utc_ms(each.at), *each.keys] for day, each in closed.items()
    }
    meta.put(connection, _NAME, json.dumps(known))


def close(
    engine: sa.Engine, zone: dt.tzinfo, month: dt.date, now: dt.datetime
) -> Closed | None:
    """Close a month, unless it is: return that then."""
    with engine.begin() as connection:
        lock(connection)
        closed = closed_months(connection)
        if month in closed:
            return closed[month]
        keys = [TOTAL, *(each.key for each in declared_keys(connection))]
        for key in keys:
            sums = _Sums(connection, zone, key)
            for day in days_of(month):
                if sums.are_kept(day):
                    _append(connection, key, day, now, sums.of_day(day), copied=True)
        _put(connection, closed | {month: Closed(now, tuple(keys))})
    return None


def days_of(month: dt.date) -> Iterator[dt.datetime]:
    """Return the starts of the UTC days of a month."""
    day, end = (day_start(d, dt.UTC) for d in (month, next_first_day("month", month)))
    while day < end:
        yield day
        day += DAY


class _Sums:
    """The sums of all calls, or by the values of a key."""

    def __init__(self, connection: sa.Connection, zone: dt.tzinfo, key: str) -> None:
        self._connection = connection
        self._tags = TagDays(connection, zone, key) if key else None

    def are_kept(self, day: dt.datetime) -> bool:
        return self._tags is None or self._tags.are_kept(day)

    def are_built(self, day: dt.datetime) -> bool:
        if self._tags is not None:
            return self._tags.are_built(day)
        return all(utc_day(hour) != day for hour in dirty_hours(self._connection))

    def of_day(self, day: dt.datetime) -> dict[ValueKey, MeterSum]:
        if self._tags is not None:
            return self._tags.sums(day)
        hours = meter_sums.hourly(self._connection, day, day + DAY)
        total = add_up(sums for _, sums in hours)
        return {ValueKey(day, "", meter): sums for meter, sums in total.items()}


# Corrections


def correct(
    connection: sa.Connection, zone: dt.tzinfo, key: str, days: Sequence[dt.datetime]
) -> None:
    """Append what the sums of UTC days differ by, in the transaction that built them.

    A day that is not built as a whole is left for its last build.
    """
    closed = closed_months(connection)
    due = [
        day
        for day in days
        if (month := closed.get(day.date().replace(day=1))) and key in month.keys
    ]
    if not due:
        return
    sums, now = _Sums(connection, zone, key), dt.datetime.now(dt.UTC)
    for day in due:
        if sums.are_built(day):
            _append(connection, key, day, now, _open(connection, sums, key, day))


def _open(
    connection: sa.Connection, sums: _Sums, key: str, day: dt.datetime
) -> dict[ValueKey, MeterSum]:
    """Return what the sums of a day differ by from what is recorded of it."""
    known = add_up({each.key: each.sums} for each in _rows(connection, key, day))
    return difference(sums.of_day(day), known)[0]


def _append(
    connection: sa.Connection,
    key: str,
    day: dt.datetime,
    now: dt.datetime,
    sums: ValueSums,
    *,
    copied: bool = False,
) -> None:
    query = sa.select(sa.func.max(_r.number)).where(_r.tag == key, _r.day == day)
    first = (connection.scalar(query) or 0) + 1
    new = [
        {"tag": key, "day": day, "number": n, "recorded_at": now, "copied": copied}
        | {"value": each.value, **each.meter._asdict(), **total._asdict()}
        | {"quantity": digits(total.quantity)}
        for n, (each, total) in enumerate(sorted(sums.items()), first)
    ]
    for some in chunks(new):
        connection.execute(sa.insert(corrections), list(some))


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a closed month had when it was closed, or what was corrected later."""

    key: ValueKey
    sums: MeterSum
    """Of a correction, the difference: it may be negative."""
    at: dt.datetime | None
    """``None``: it was not built yet, and is appended when it is."""
    copied: bool
    """Whether the month had it when it was closed."""


def _rows(connection: sa.Connection, key: str, day: dt.datetime) -> Iterator[Recorded]:
    columns = [*(_r[n] for n in MeterKey._fields), *(_r[n] for n in _AMOUNTS)]
    query = sa.select(_r.value, _r.recorded_at, _r.copied, _r.quantity, *columns)
    query = query.where(_r.tag == key, _r.day == day).order_by(_r.number)
    size = 4 + len(MeterKey._fields)
    for row in connection.execute(query):
        each = ValueKey(day, row.value, MeterKey(*row[4:size]))
        sums = MeterSum.of(row.quantity, row[size:])
        yield Recorded(each, sums, row.recorded_at, bool(row.copied))


def recorded(
    connection: sa.Connection, zone: dt.tzinfo, month: dt.date, key: str = TOTAL
) -> Iterator[Recorded]:
    """Return what a closed month had, and its corrections, by day and time.

    They add up to the sums of the ledger's calls. Of a key that was not declared when the
    month was closed, there is nothing.
    """
    known = closed_months(connection).get(month)
    if known is None or key not in known.keys:
        return
    sums = _Sums(connection, zone, key)
    for day in days_of(month):
        yield from _rows(connection, key, day)
        if sums.are_kept(day):
            for each, rest in sorted(_open(connection, sums, key, day).items()):
                yield Recorded(each, rest, None, False)


# Tags


def erase(connection: sa.Connection, key: str, value: str) -> None:
    """Make what is recorded of a value that of calls without the key."""
    known = _r.tag == key, _r.value == value
    connection.execute(sa.update(corrections).where(*known).values(value=""))


def forget(connection: sa.Connection, key: str) -> None:
    """Delete what is recorded by a key."""
    connection.execute(sa.delete(corrections).where(_r.tag == key))
    closed = closed_months(connection)
    if any(key in each.keys for each in closed.values()):
        _put(
            connection,
            {
                month: Closed(each.at, tuple(k for k in each.keys if k != key))
                for month, each in closed.items()
            },
        )
