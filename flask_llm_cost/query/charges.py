"""What calls used and cost by UTC day, meter, price and tags, for finance files."""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from collections import defaultdict
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ..calendar import DAY
from ..contract import METERS
from ..db.statements import between
from ..db.tables import tag_sets
from ..rollups import meter_sums
from ..rollups.meters import add_up
from ..rollups.meters import Adder
from ..rollups.meters import MeterSums

Tags: t.TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Day:
    """The charges of a UTC day that have the same tags."""

    start: dt.datetime
    tags: Tags
    """Of the asked keys, those that the calls have. Pruned calls have none."""
    sums: MeterSums
    corrected_on: str = ""
    """Of corrections of a closed month: when they were recorded."""


def charges(
    connection: sa.Connection,
    start: dt.datetime,
    end: dt.datetime,
    keys: Sequence[str] = (),
) -> Iterator[Day]:
    """Yield the charges of each UTC day that has some, in order.

    Without keys they are answered from sums; with keys, each call of the days is read, a
    page at a time. Memory grows with the distinct charges of one day only.

    :param start: Midnight in UTC, as is the end, which is excluded.
    :param keys: Tag keys to split the charges by.
    """
    while start < end:
        tomorrow = start + DAY
        if keys:
            yield from _by_tags(connection, start, tomorrow, keys)
        else:
            hours = meter_sums.hourly(connection, start, tomorrow)
            sums = add_up(found for _, found in hours)
            if sums:
                yield Day(start, (), sums)
        start = tomorrow


def _by_tags(
    connection: sa.Connection, start: dt.datetime, end: dt.datetime, keys: Sequence[str]
) -> Iterator[Day]:
    adders: dict[Tags, Adder] = defaultdict(Adder)
    known: dict[int | None, Tags] = {None: ()}
    for row in meter_sums.rows(connection, *between(start, end)):
        if row.tag_set_id not in known:
            known[row.tag_set_id] = _tags(connection, row.tag_set_id, keys)
        adders[known[row.tag_set_id]].add(row)
    found: dict[Tags, MeterSums] = {tags: a.sums for tags, a in adders.items()}
    pruned = meter_sums.read(connection, meter_sums.PRUNED, start, end)
    rest = add_up({key: sums} for _, key, sums in pruned)
    if rest:
        found[()] = add_up([found.get((), {}), rest])
    for tags, sums in sorted(found.items(), key=lambda item: item[0]):
        yield Day(start, tags, sums)


def _tags(connection: sa.Connection, set_id: int, keys: Sequence[str]) -> Tags:
    query = sa.select(tag_sets.c.tags).where(tag_sets.c.id == set_id)
    tags: dict[str, str] = json.loads(connection.scalar(query) or "{}")
    return tuple((key, tags[key]) for key in keys if key in tags)


def unit_of(meter: str) -> str:
    """The unit of a meter, as FOCUS writes units: ``Tokens``, ``Searches``."""
    if not meter:
        return "Calls"
    known = METERS.get(meter)
    if known is not None:
        name = known.unit
    elif meter.startswith(("input_", "output_", "cache_read_", "cache_write_")):
        name = "token"
    else:
        name = meter.replace("_", " ")
    plural = "es" if name.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{name}{plural}".title()
