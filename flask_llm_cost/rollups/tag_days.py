"""Answer sums by meter and tag value for a UTC day, built or not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from collections.abc import Mapping

import sqlalchemy as sa

from ..calendar import DAY
from ..calendar import hours_touched
from ..calendar import period_of
from ..db.statements import between
from . import tag_meter_sums
from .dirty_marks import dirty_hours
from .meters import add_up
from .meters import MeterSum
from .tag_meter_sums import PRUNED
from .tag_meter_sums import STORED
from .tag_meter_sums import ValueKey
from .tag_rollups import declared_keys
from .tag_rollups import dirty_days


class TagDays:
    """Reads the sums of one key.

    Days that are over are answered from sums, if the key is declared; of other keys, each
    call is read. Pruned calls are included as far as the sums count them.

    :param zone: The ledger's time zone.
    """

    def __init__(self, connection: sa.Connection, zone: dt.tzinfo, key: str) -> None:
        self._connection = connection
        self._zone = zone
        self._key = key
        known = {each.key: each for each in declared_keys(connection)}
        self._declared = known.get(key)
        self._dirty = set(dirty_days(connection, key))
        for hour in dirty_hours(connection):
            touched = hours_touched(hour, zone)
            self._dirty |= {period_of("day", start, zone)[0] for start, _ in touched}

    def are_kept(self, day: dt.datetime) -> bool:
        """Whether sums of a UTC day are kept, though they may be out of date."""
        known = self._declared
        return known is not None and all(
            known.covers(local) for local, _, _ in self._parts(day)
        )

    def are_built(self, day: dt.datetime) -> bool:
        """Whether the sums of a UTC day are kept and up to date."""
        return all(self._is_stored(local) for local, _, _ in self._parts(day))

    def sums(self, day: dt.datetime) -> dict[ValueKey, MeterSum]:
        """Return the sums of a UTC day, given its start."""
        connection, key = self._connection, self._key
        parts: list[Mapping[ValueKey, MeterSum]] = []
        if self._declared is not None:
            pruned = tag_meter_sums.read(connection, key, PRUNED, day, day + DAY)
            parts.append(pruned)
        for local, start, end in self._parts(day):
            if self._is_stored(local):
                found = tag_meter_sums.read(connection, key, STORED, start, end)
            else:
                raw = between(start, end)
                found = tag_meter_sums.of_calls(connection, [key], *raw)[key]
            parts.append(found)
        return add_up(parts)

    def _is_stored(self, local: dt.datetime) -> bool:
        known = self._declared
        return known is not None and known.covers(local) and local not in self._dirty

    def _parts(
        self, day: dt.datetime
    ) -> Iterator[tuple[dt.datetime, dt.datetime, dt.datetime]]:
        """Return the starts of local days, and the parts that overlap a UTC day."""
        at = day
        while at < day + DAY:
            local, end = period_of("day", at, self._zone)
            yield local, at, (at := min(end, day + DAY))
