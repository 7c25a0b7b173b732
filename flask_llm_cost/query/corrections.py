"""Closed months: their totals when they were closed, and later corrections."""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
import typing as t
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Iterator

import sqlalchemy as sa

from ..rollups import closing
from ..rollups.closing import closed_months as closed_months
from ..rollups.meters import add_up
from ..rollups.meters import difference
from ..rollups.meters import MeterKey
from ..rollups.meters import MeterSum
from ..rollups.meters import MeterSums


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
    """Yield what a closed month had by the values of a tag, and its corrections, by day.

    Memory grows with what a single day has.

    :param zone: The ledger's time zone.
    :param month: The first day of the month, in UTC.
    :param key: A declared tag; ``""`` for all calls together.
    """
    found = _parts(connection, zone, month, key)
    if not key:
        yield from found
        return
    # Of each day, what has the tag comes first.
    everything = _parts(connection, zone, month, closing.TOTAL)
    both = heapq.merge(
        ((part.day, False, part) for part in found),
        ((part.day, True, part) for part in everything),
        key=lambda each: each[:2],
    )
    for day, of_day in itertools.groupby(both, lambda each: each[0]):
        sums: _ByKind = defaultdict(dict)
        for _, is_total, part in of_day:
            if not is_total:
                yield part
            each = sums[is_total, bool(part.corrected_on)]
            known = each.get(part.meter)
            each[part.meter] = part.sums if known is None else known.plus(part.sums)
        for corrected in (False, True):
            parts = [sums[False, corrected]]
            for meter, rest in rest_of(sums[True, corrected], parts):
                yield Part(day, "", "pending" if corrected else "", meter, rest)


_ByKind: t.TypeAlias = dict[tuple[bool, bool], dict[MeterKey, MeterSum]]


def _parts(
    connection: sa.Connection, zone: dt.tzinfo, month: dt.date, key: str
) -> Iterator[Part]:
    for each in closing.recorded(connection, zone, month, key):
        on = "" if each.copied else "pending"
        if not each.copied and each.at is not None:
            on = f"{each.at:%Y-%m-%d}"
        yield Part(each.key.day, each.key.value, on, each.key.meter, each.sums)


def rest_of(
    sums: MeterSums, parts: Iterable[MeterSums]
) -> Iterable[tuple[MeterKey, MeterSum]]:
    """Return what some calls have beyond parts of them."""
    return difference(sums, add_up(parts))[0].items()
