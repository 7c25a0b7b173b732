"""Compare rollups with the calls that they aggregate."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterator

import sqlalchemy as sa

from ..calendar import END
from ..calendar import FIRST
from ..calendar import from_ms
from ..calendar import HOUR
from ..calendar import hours_touched
from ..calendar import period_of
from ..calendar import rollup_start
from ..db.statements import between
from ..db.tables import calls
from ..db.tables import rollups
from . import days as sums_of_days
from . import meter_sums
from . import tag_rollups
from .aggregates import aggregate
from .aggregates import read
from .dirty_marks import dirty_hours
from .dropping import dropping

_c: t.Final = calls.c


def verify(connection: sa.Connection, zone: dt.tzinfo) -> list[str]:
    """List the rollups that differ from their calls.

    Dirty hours are skipped: their rollups are out of date by definition.
    """
    dirty = {s for h in dirty_hours(connection) for s, _ in hours_touched(h, zone)}
    query = sa.select(rollups.c.start).where(rollups.c.kind == "hour")
    starts = set(connection.scalars(query.distinct()))
    starts |= _hours_with_calls(connection, zone)
    span = dropping(connection)
    if span is not None:
        dirty |= {start for start in starts if span.touches(start)}
    days = {period_of("day", start, zone) for start in starts | dirty}
    days -= {period_of("day", start, zone) for start in dirty}
    return [
        *(
            f"{start.isoformat()}: {line}"
            for start in sorted(starts - dirty)
            for line in _differences(connection, zone, start)
        ),
        *(
            f"{start.isoformat()}: the day is not the sum of its hours"
            for start, end in sorted(days)
            if read(connection, ["day"], start, end)
            != read(connection, ["hour", "pruned"], start, end)
        ),
        *tag_rollups.differences(connection, days),
        *sums_of_days.differences(connection, days),
        *meter_sums.differences(connection),
    ]


def _hours_with_calls(connection: sa.Connection, zone: dt.tzinfo) -> set[dt.datetime]:
    ms = sa.type_coerce(_c.started_at, sa.BigInteger)
    query = sa.select(ms - ms % 60_000).where(*between(FIRST, END))
    found = connection.scalars(query.distinct())
    return {rollup_start("hour", from_ms(int(minute)), zone) for minute in found}


def _differences(
    connection: sa.Connection, zone: dt.tzinfo, start: dt.datetime
) -> Iterator[str]:
    end = min(start + HOUR, period_of("day", start, zone)[1])
    raw = aggregate(connection, *between(start, end))
    stored = read(connection, ["hour"], start)
    for key in sorted(set(raw.totals) | set(stored.totals)):
        if raw.totals.get(key) != stored.totals.get(key):
            yield f"{key[0]}/{key[1]} is not the sum of its calls"
    if raw.latencies != stored.latencies:
        yield "latencies differ from those of its calls"
