"""The month of calls that is being dropped with its partition, if there is one."""

from __future__ import annotations

import datetime as dt
import typing as t
from dataclasses import dataclass

import sqlalchemy as sa

from ..calendar import from_ms
from ..calendar import HOUR
from ..calendar import utc_ms
from ..db import meta

KIND: t.Final = "dropping"
"""The kind of rollups of the part of an hour or day that is being dropped."""

_NAME: t.Final = "dropping"


@dataclass(frozen=True, slots=True)
class Dropping:
    """A range of time whose calls are being dropped. Its rollups are final."""

    start: dt.datetime
    end: dt.datetime

    def touches(self, hour: dt.datetime) -> bool:
        """Whether rollups that overlap a UTC hour may overlap this range.

        The hours of a zone may begin within UTC hours.
        """
        return self.start - 2 * HOUR < hour < self.end + HOUR


def dropping(connection: sa.Connection) -> Dropping | None:
    """Return the range that is being dropped, if there is one."""
    value = meta.get(connection, _NAME)
    if value is None:
        return None
    start, end = (from_ms(int(ms)) for ms in value.split())
    return Dropping(start, end)


def announce(connection: sa.Connection, span: Dropping) -> None:
    """Record that a range is being dropped: its rollups are no longer built."""
    meta.put(connection, _NAME, f"{utc_ms(span.start)} {utc_ms(span.end)}")


def end(connection: sa.Connection) -> None:
    """Record that no range is being dropped."""
    meta.delete(connection, _NAME)
