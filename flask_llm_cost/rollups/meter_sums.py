"""Maintain sums by meter and UTC hour next to the rollups.

They follow the rules of rollups: an hour is summed from its calls as a whole, and read
from them as long as it has a dirty mark. So sums and calls together are always exact. What
pruning deletes is added to sums of kind ``pruned``.

The first build of a ledger that had none begins them. Calls that were pruned before are in
none of them.
"""

from __future__ import annotations

import datetime as dt
import itertools
import typing as t
from collections.abc import Iterator
from collections.abc import Sequence

import sqlalchemy as sa

from ..calendar import END
from ..calendar import FIRST
from ..calendar import from_ms
from ..calendar import HOUR
from ..calendar import utc_hour
from ..calendar import utc_ms
from ..db import meta
from ..db.statements import between
from ..db.statements import by_key
from ..db.statements import chunks
from ..db.statements import Key
from ..db.tables import calls
from ..db.tables import meter_sums
from ..money import digits
from .aggregates import NotIncluded
from .dirty_marks import dirty_hours
from .dirty_marks import mark_dirty
from .dropping import Dropping
from .dropping import dropping
from .horizon import horizon
from .lock import lock
from .meters import add_up
from .meters import Adder
from .meters import difference
from .meters import MeterKey
from .meters import MeterSum
from .meters import MeterSums

STORED: t.Final = "stored"
PRUNED: t.Final = "pruned"

_BEGUN: t.Final = "meter_sums"
_PAGE: t.Final = 1000
_c: t.Final = calls.c
_s: t.Final = meter_sums.c
_AMOUNTS: t.Final = MeterSum._fields[1:]
_COLUMNS: t.Final = [
    *(_c.started_at, _c.event_id, _c.provider, _c.model, _c.usage_source, _c.outcome),
    *(_c.input_tokens, _c.input_audio_tokens, _c.input_image_tokens),
    *(_c.cache_read_tokens, _c.cache_write_tokens, _c.cache_write_1h_tokens),
    *(_c.output_tokens, _c.output_audio_tokens, _c.output_image_tokens),
    *(_c.total_input_tokens, _c.cost_total, _c.cost_source, _c.cost_complete),
    *(_c.cost_ceiling, _c.flags, _c.details, _c.response_id, _c.tag_set_id, _c.scope),
    _c.trace_id,
]


# Where they begin


def since(connection: sa.Connection) -> dt.datetime | None:
    """Return the moment before which calls were pruned without being summed.

    ``None``: there are no sums, and everything is read from calls.
    """
    ms = meta.get(connection, _BEGUN)
    return None if ms is None else from_ms(int(ms))


def begin(engine: sa.Engine) -> None:
    """Begin to keep sums, unless they are kept already."""
    with engine.connect() as connection:
        if since(connection) is not None:
            return
    with engine.begin() as connection:
        lock(connection)
        if since(connection) is None:
            reset(connection)
            hours = list(hours_with_calls(connection))
            if hours:
                mark_dirty(connection, hours)


def reset(connection: sa.Connection) -> None:
    """Delete all sums. Whoever calls this marks every hour that has calls dirty."""
    connection.execute(sa.delete(meter_sums))
    limit = horizon(connection)
    meta.put(connection, _BEGUN, str(0 if limit is None else utc_ms(limit)))


def hours_with_calls(connection: sa.Connection) -> Iterator[dt.datetime]:
    """Return the UTC hours that have calls, in order."""
    ms = sa.type_coerce(_c.started_at, sa.BigInteger)
    found = connection.scalars(sa.select(ms - ms % 3_600_000).distinct())
    yield from map(from_ms, sorted(map(int, found)))


# From calls


def of_calls(
    connection: sa.Connection, *where: sa.ColumnElement[bool]
) -> dict[MeterKey, MeterSum]:
    """Sum the calls that meet some conditions, a page at a time."""
    adder = Adder()
    for row in rows(connection, *where):
        adder.add(row)
    return adder.sums


def rows(
    connection: sa.Connection, *where: sa.ColumnElement[bool]
) -> Iterator[sa.Row[t.Any]]:
    """Return what sums need of the calls that meet some conditions, by time."""
    for page in pages(connection, *where):
        yield from page


def pages(
    connection: sa.Connection, *where: sa.ColumnElement[bool]
) -> Iterator[Sequence[sa.Row[t.Any]]]:
    """Return the same, as many rows at a time as are read at once."""
    at, event_id = _c.started_at, _c.event_id
    query = sa.select(*_COLUMNS).where(*where).order_by(at, event_id).limit(_PAGE)
    after: list[sa.ColumnElement[bool]] = []
    while True:
        page = connection.execute(query.where(*after)).all()
        yield page
        if len(page) < _PAGE:
            return
        last = page[-1]
        after = [
            at >= last.started_at,
            sa.or_(at > last.started_at, event_id > last.event_id),
        ]


def of_hour(connection: sa.Connection, hour: dt.datetime) -> dict[MeterKey, MeterSum]:
    """Sum the calls of a UTC hour."""
    return of_calls(connection, *between(hour, hour + HOUR))


# Stored sums


def read(
    connection: sa.Connection, kind: str, start: dt.datetime, end: dt.datetime
) -> Iterator[tuple[dt.datetime, MeterKey, MeterSum]]:
    """Read the stored sums of the hours from one moment until before another."""
    columns = [*(_s[n] for n in MeterKey._fields), *(_s[n] for n in _AMOUNTS)]
    query = sa.select(_s.hour, _s.quantity, *columns).where(
        _s.kind == kind, _s.hour >= start, _s.hour < end
    )
    size = 2 + len(MeterKey._fields)
    for row in connection.execute(query.order_by(_s.hour, _s.number)):
        key = MeterKey(*row[2:size])
        yield row.hour, key, MeterSum.of(row.quantity, row[size:])


def read_hour(connection: sa.Connection, kind: str, hour: dt.datetime) -> MeterSums:
    """Read the stored sums of one hour."""
    return {key: sums for _, key, sums in read(connection, kind, hour, hour + HOUR)}


def replace(
    connection: sa.Connection, kind: str, hour: dt.datetime, sums: MeterSums
) -> None:
    """Replace the stored sums of an hour."""
    connection.execute(sa.delete(meter_sums).where(_s.kind == kind, _s.hour == hour))
    new = [
        {"kind": kind, "hour": hour, "number": number}
        | {**key._asdict(), **each._asdict(), "quantity": digits(each.quantity)}
        for number, (key, each) in enumerate(sorted(sums.items()))
    ]
    for some in chunks(new):
        connection.execute(sa.insert(meter_sums), list(some))


# Pruning


def add_pruned(connection: sa.Connection, keys: Sequence[Key]) -> None:
    """Add calls, which the same transaction deletes, to the sums of pruned calls."""
    for hour, more in _by_hour(connection, keys):
        stored = read_hour(connection, PRUNED, hour)
        replace(connection, PRUNED, hour, add_up([stored, more]))


def subtract_pruned(connection: sa.Connection, keys: Sequence[Key]) -> None:
    """Subtract restored calls from the sums of pruned calls.

    :raises NotIncluded: If the sums do not include them.
    """
    for hour, less in _by_hour(connection, keys):
        left, missing = difference(read_hour(connection, PRUNED, hour), less)
        if missing:
            raise NotIncluded(
                "the rollups of pruned calls have fewer calls of"
                f" {missing[0].provider}/{missing[0].model}"
            )
        replace(connection, PRUNED, hour, left)


def _by_hour(
    connection: sa.Connection, keys: Sequence[Key]
) -> Iterator[tuple[dt.datetime, MeterSums]]:
    """Sum calls by hour, given their sorted keys: those that the sums count."""
    start = since(connection)
    counted = [key for key in keys if start is not None and key[0] >= start]
    for hour, group in itertools.groupby(counted, lambda key: utc_hour(key[0])):
        for some in chunks(list(group)):
            yield hour, of_calls(connection, *by_key(some))


def settle_dropped(connection: sa.Connection, span: Dropping) -> None:
    """Make the sums of a month ``pruned``, after its calls were dropped."""
    within = _s.hour >= span.start, _s.hour < span.end
    query = sa.select(_s.hour).where(_s.kind == PRUNED, *within).distinct()
    for hour in sorted(connection.scalars(query)):
        merged = add_up(read_hour(connection, kind, hour) for kind in (PRUNED, STORED))
        replace(connection, PRUNED, hour, merged)
        replace(connection, STORED, hour, {})
    rest = sa.update(meter_sums).where(_s.kind == STORED, *within)
    connection.execute(rest.values(kind=PRUNED))


# Reading


def hourly(
    connection: sa.Connection, start: dt.datetime, end: dt.datetime
) -> Iterator[tuple[dt.datetime, MeterSums]]:
    """Return the sums of the UTC hours from one until before another, in order.

    They include every call of the ledger, and those pruned after :func:`since`.
    """
    start, end = max(start, FIRST), min(end, END)
    begun = since(connection) is not None
    dirty = dirty_hours(connection) if begun else set(hours_with_calls(connection))
    hours = set(dirty)
    if begun:
        query = sa.select(_s.hour).where(_s.hour >= start, _s.hour < end)
        hours.update(connection.scalars(query.distinct()))
    for hour in sorted(hours):
        if start <= hour < end:
            yield hour, _of_both(connection, hour, dirty)


def _of_both(
    connection: sa.Connection, hour: dt.datetime, dirty: set[dt.datetime]
) -> MeterSums:
    if hour in dirty:
        found: MeterSums = of_hour(connection, hour)
    else:
        found = read_hour(connection, STORED, hour)
    return add_up([found, read_hour(connection, PRUNED, hour)])


# Checking


def differences(connection: sa.Connection) -> Iterator[str]:
    """List the hours whose sums differ from their calls."""
    if since(connection) is None:
        return
    dirty, span = dirty_hours(connection), dropping(connection)
    hours = set(hours_with_calls(connection))
    query = sa.select(_s.hour).where(_s.kind == STORED).distinct()
    hours |= set(connection.scalars(query))
    for hour in sorted(hours - dirty):
        if not FIRST <= hour < END or (span is not None and span.touches(hour)):
            continue
        raw, stored = of_hour(connection, hour), read_hour(connection, STORED, hour)
        for key in sorted(set(raw) | set(stored)):
            if raw.get(key) != stored.get(key):
                name = key.meter or "calls"
                yield (
                    f"{hour.isoformat()}: {name} of {key.provider}/{key.model} is not"
                    " the sum of its calls"
                )
