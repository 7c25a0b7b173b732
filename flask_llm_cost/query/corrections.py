"""Closed months: their totals when they were closed, and later corrections."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Iterator

import sqlalchemy as sa

from ..rollups import closing
from ..rollups.closing import closed_months as closed_months
from ..rollups.closing import Recorded as Recorded
from ..rollups.meters import add_up
from ..rollups.meters import difference
from ..rollups.meters import MeterKey
from ..rollups.meters import MeterSum
from ..rollups.meters import MeterSums


def corrections(
    connection: sa.Connection, zone: dt.tzinfo, month: dt.date, key: str = ""
) -> list[Recorded]:
    """Return what was corrected in a month after it was closed, by day and time.

    :param zone: The ledger's time zone.
    :param month: The first day of the month, in UTC.
    :param key: A declared tag, to have them by its values.
    """
    return [each for each in _recorded(connection, zone, month, key) if not each.copied]


def as_closed(
    connection: sa.Connection, zone: dt.tzinfo, month: dt.date, key: str = ""
) -> list[Recorded]:
    """Return what a month had when it was closed."""
    return [each for each in _recorded(connection, zone, month, key) if each.copied]


def _recorded(
    connection: sa.Connection, zone: dt.tzinfo, month: dt.date, key: str
) -> list[Recorded]:
    known = closed_months(connection).get(month)
    if known is None or key not in known.keys:
        return []
    return list(closing.recorded(connection, zone, month, key))


class Part(t.NamedTuple):
    """What a month has of one meter, by day and tag value."""

    day: dt.datetime
    value: str
    corrected_on: str
    meter: MeterKey
    sums: MeterSum


def closed_parts(
    connection: sa.Connection, zone: dt.tzinfo, month: dt.date, key: str
) -> Iterator[Part]:
    """Yield what a closed month had by the values of a tag, and its corrections.

    :param key: A declared tag; ``""`` for all calls together.
    """
    found = [*_parts(connection, zone, month, key)]
    yield from found
    everything = _by_day(_parts(connection, zone, month, ""))
    known = _by_day(found)
    for (day, corrected), sums in everything.items():
        for meter, each in rest_of(sums, [known.get((day, corrected), {})]):
            yield Part(day, "", "pending" if corrected else "", meter, each)


def _parts(
    connection: sa.Connection, zone: dt.tzinfo, month: dt.date, key: str
) -> Iterator[Part]:
    for each in as_closed(connection, zone, month, key):
        yield Part(each.key.day, each.key.value, "", each.key.meter, each.sums)
    for each in corrections(connection, zone, month, key):
        on = "pending" if each.at is None else f"{each.at:%Y-%m-%d}"
        yield Part(each.key.day, each.key.value, on, each.key.meter, each.sums)


_ByDay: t.TypeAlias = dict[tuple[dt.datetime, bool], dict[MeterKey, MeterSum]]


def _by_day(parts: Iterable[Part]) -> _ByDay:
    found: _ByDay = defaultdict(dict)
    for part in parts:
        each = found[part.day, bool(part.corrected_on)]
        more, known = part.sums, each.get(part.meter)
        each[part.meter] = more if known is None else known.plus(more)
    return found


def rest_of(
    sums: MeterSums, parts: Iterable[MeterSums]
) -> Iterable[tuple[MeterKey, MeterSum]]:
    """Return what some calls have beyond parts of them."""
    return difference(sums, add_up(parts))[0].items()
