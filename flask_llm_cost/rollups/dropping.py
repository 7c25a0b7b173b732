"""Which calls are on their way out: their month is being dropped."""

from __future__ import annotations

import datetime as dt
import typing as t
from dataclasses import dataclass

import sqlalchemy as sa

from ..calendar import from_ms
from ..calendar import utc_ms
from ..db.tables import meta

FACT: t.Final = "going"

_HOUR: t.Final = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Going:
    """A time whose calls go. Its sums are exact, and are not to be added up any more."""

    start: dt.datetime
    end: dt.datetime

    def touches(self, hour: dt.datetime) -> bool:
        """Whether an hour of UTC has sums that this time has a part of.

        The hours of a zone may begin within those of UTC.
        """
        return self.start - 2 * _HOUR < hour < self.end + _HOUR


def going(connection: sa.Connection) -> Going | None:
    """Which time's calls are going, if some are."""
    query = sa.select(meta.c.value).where(meta.c.name == FACT)
    value: str | None = connection.scalar(query)
    if value is None:
        return None
    start, end = (from_ms(int(ms)) for ms in value.split())
    return Going(start, end)


def announce(connection: sa.Connection, time: Going) -> None:
    """Say that a time's calls are going."""
    value = f"{utc_ms(time.start)} {utc_ms(time.end)}"
    connection.execute(sa.insert(meta).values(name=FACT, value=value))


def recall(connection: sa.Connection) -> None:
    """Say that none are."""
    connection.execute(sa.delete(meta).where(meta.c.name == FACT))
