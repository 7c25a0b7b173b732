"""What calls used and cost by UTC day, meter, price and the value of a tag."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from ..calendar import DAY
from ..rollups.meters import MeterKey
from ..rollups.meters import MeterSum
from ..rollups.meters import MeterSums
from ..rollups.tag_days import TagDays


@dataclass(frozen=True, slots=True)
class TagDay:
    """The charges of a UTC day by the values of a tag."""

    start: dt.datetime
    values: Mapping[str, MeterSums]
    """``""`` for calls without the tag."""


def tag_charges(
    connection: sa.Connection,
    zone: dt.tzinfo,
    key: str,
    start: dt.datetime,
    end: dt.datetime,
) -> Iterator[TagDay]:
    """Yield the charges of each UTC day that has some, in order.

    Days that are over are answered from sums, if the key is declared; of other keys, each
    call is read. Of calls that were pruned before the key was declared, the values are not
    known: so they may add up to less than :func:`.charges`.

    :param zone: The ledger's time zone.
    :param start: Midnight in UTC, as is the end, which is excluded.
    """
    days = TagDays(connection, zone, key)
    while start < end:
        found: dict[str, dict[MeterKey, MeterSum]] = defaultdict(dict)
        for each, sums in days.sums(start).items():
            found[each.value][each.meter] = sums
        if found:
            yield TagDay(start, dict(sorted(found.items())))
        start += DAY
