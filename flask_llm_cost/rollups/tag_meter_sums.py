"""Maintain sums by meter for each value of a declared tag, by UTC day.

They are built together with the rollups of tags, so by local day: a UTC day consists of the
parts of the local days that overlap it. What pruning deletes is added to sums of kind
``pruned``, by UTC day. Everything here that writes requires the rollup lock.
"""

from __future__ import annotations

import datetime as dt
import itertools
import typing as t
from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Sequence

import sqlalchemy as sa

from ..calendar import DAY
from ..calendar import period_of
from ..db.statements import chunks
from ..db.tables import calls
from ..db.tables import tag_meter_sums
from ..db.tables import tag_values
from ..money import digits
from ..tags import TRACE_KEY
from . import meter_sums
from .dropping import Dropping
from .meters import add_up
from .meters import Adder
from .meters import difference
from .meters import lines_of
from .meters import MeterKey
from .meters import MeterSum

STORED: t.Final = "stored"
PRUNED: t.Final = "pruned"

_s: t.Final = tag_meter_sums.c
_v: t.Final = tag_values.c
_AMOUNTS: t.Final = MeterSum._fields[1:]


class ValueKey(t.NamedTuple):
    """What calls that are summed have in common."""

    day: dt.datetime
    """The start of the UTC day."""
    value: str
    """``""`` for calls without the key."""
    meter: MeterKey


ValueSums: t.TypeAlias = Mapping[ValueKey, MeterSum]


def utc_day(moment: dt.datetime) -> dt.datetime:
    """Return the start of the UTC day of a moment."""
    return period_of("day", moment, dt.UTC)[0]


# From calls


def of_calls(
    connection: sa.Connection, keys: Sequence[str], *where: sa.ColumnElement[bool]
) -> dict[str, dict[ValueKey, MeterSum]]:
    """Sum the calls that meet some conditions by the values of some tags."""
    adders: dict[tuple[str, dt.datetime, str], Adder] = defaultdict(Adder)
    for page in meter_sums.pages(connection, *where):
        known = _tags(connection, {row.tag_set_id for row in page}, keys)
        for row in page:
            day, lines = utc_day(row.started_at), list(lines_of(row))
            for key in keys:
                value = known.get((row.tag_set_id, key), "")
                if key == TRACE_KEY:
                    value = row.trace_id or ""
                adders[key, day, value].add_lines(lines)
    found: dict[str, dict[ValueKey, MeterSum]] = {key: {} for key in keys}
    for (key, day, value), adder in adders.items():
        for meter, sums in adder.sums.items():
            found[key][ValueKey(day, value, meter)] = sums
    return found


def _tags(
    connection: sa.Connection, ids: set[int | None], keys: Sequence[str]
) -> dict[tuple[int | None, str], str]:
    query = sa.select(_v.tag_set_id, _v.key, _v.value).where(
        _v.tag_set_id.in_(sorted(each for each in ids if each is not None)),
        _v.key.in_(keys),
    )
    return {(row[0], row[1]): row[2] for row in connection.execute(query)}


# Stored sums


def read(
    connection: sa.Connection,
    key: str,
    kind: str,
    start: dt.datetime,
    end: dt.datetime,
) -> dict[ValueKey, MeterSum]:
    """Read the sums that are stored for a range of time."""
    columns = [*(_s[n] for n in MeterKey._fields), *(_s[n] for n in _AMOUNTS)]
    query = sa.select(_s.start, _s.value, _s.quantity, *columns).where(
        _s.key == key, _s.kind == kind, _s.start >= start, _s.start < end
    )
    size = 3 + len(MeterKey._fields)
    # A value may have several rows: those of an erased value become those of "".
    return add_up(
        {
            ValueKey(utc_day(row.start), row.value, MeterKey(*row[3:size])): (
                MeterSum.of(row.quantity, row[size:])
            )
        }
        for row in connection.execute(query)
    )


def replace(
    connection: sa.Connection,
    key: str,
    kind: str,
    span: tuple[dt.datetime, dt.datetime],
    sums: ValueSums,
) -> None:
    """Replace the sums that are stored for a range of time."""
    start, end = span
    within = _s.key == key, _s.kind == kind, _s.start >= start, _s.start < end
    connection.execute(sa.delete(tag_meter_sums).where(*within))
    new = [
        {"key": key, "kind": kind, "start": max(start, each.day), "number": number}
        | {"value": each.value, **each.meter._asdict(), **total._asdict()}
        | {"quantity": digits(total.quantity)}
        for number, (each, total) in enumerate(sorted(sums.items()))
    ]
    for some in chunks(new):
        connection.execute(sa.insert(tag_meter_sums), list(some))


def forget(connection: sa.Connection, key: str, start: dt.datetime) -> None:
    """Delete the sums of a key from a day on, but those of pruned calls."""
    later = _s.key == key, _s.kind == STORED, _s.start >= start
    connection.execute(sa.delete(tag_meter_sums).where(*later))


def erase(connection: sa.Connection, key: str, value: str) -> None:
    """Make the sums of a value those of calls without the key."""
    known = _s.key == key, _s.value == value
    connection.execute(sa.update(tag_meter_sums).where(*known).values(value=""))


def differ(
    connection: sa.Connection, key: str, start: dt.datetime, end: dt.datetime
) -> bool:
    """Whether the sums of a local day are not those of its calls."""
    within = calls.c.started_at >= start, calls.c.started_at < end
    raw = of_calls(connection, [key], *within)[key]
    return raw != read(connection, key, STORED, start, end)


# Pruning


def counted(connection: sa.Connection) -> list[sa.ColumnElement[bool]]:
    """Select the calls that the sums of pruned calls count."""
    since = meter_sums.since(connection)
    return [sa.false()] if since is None else [calls.c.started_at >= since]


def add_pruned(
    connection: sa.Connection, key: str, *where: sa.ColumnElement[bool]
) -> None:
    """Add calls, which the same transaction deletes, to those pruned."""
    more = of_calls(connection, [key], *where, *counted(connection))[key]
    _add_pruned(connection, key, more)


def _add_pruned(connection: sa.Connection, key: str, more: ValueSums) -> None:
    for day in sorted({each.day for each in more}):
        span = day, day + DAY
        of_day = {each: sums for each, sums in more.items() if each.day == day}
        known = read(connection, key, PRUNED, *span)
        replace(connection, key, PRUNED, span, add_up([known, of_day]))


def subtract_pruned(
    connection: sa.Connection, key: str, *where: sa.ColumnElement[bool]
) -> bool:
    """Subtract restored calls from those pruned; return whether those include them."""
    less = of_calls(connection, [key], *where, *counted(connection))[key]
    days = sorted({each.day for each in less})
    left: dict[dt.datetime, ValueSums] = {}
    for day in days:
        of_day = {each: sums for each, sums in less.items() if each.day == day}
        known = read(connection, key, PRUNED, day, day + DAY)
        left[day], missing = difference(known, of_day)
        if missing:
            return False
    for day, rest in left.items():
        replace(connection, key, PRUNED, (day, day + DAY), rest)
    return True


def finalize(
    connection: sa.Connection,
    key: str,
    span: tuple[dt.datetime, dt.datetime],
    dropped: tuple[dt.datetime, dt.datetime],
    where: Sequence[sa.ColumnElement[bool]],
) -> None:
    """Build a local day before the part of it that overlaps a range is dropped."""
    (start, end), (first, last) = span, dropped
    edges = sorted({start, end, *(each for each in dropped if start < each < end)})
    for part in itertools.pairwise(edges):
        within = [calls.c.started_at >= part[0], calls.c.started_at < part[1]]
        if first <= part[0] < last:
            within += [*where, *counted(connection)]
        sums = of_calls(connection, [key], *within)[key]
        replace(connection, key, STORED, part, sums)


def settle_dropped(connection: sa.Connection, span: Dropping) -> None:
    """Make the sums of a range those of pruned calls, after its calls were dropped."""
    within = _s.kind == STORED, _s.start >= span.start, _s.start < span.end
    for key in sorted(connection.scalars(sa.select(_s.key).where(*within).distinct())):
        dropped = read(connection, key, STORED, span.start, span.end)
        _add_pruned(connection, key, dropped)
    connection.execute(sa.delete(tag_meter_sums).where(*within))
