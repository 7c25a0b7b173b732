"""Dirty marks: the UTC hours whose rollups are out of date."""

from __future__ import annotations

import datetime as dt
import secrets
import typing as t
from collections.abc import Iterable
from collections.abc import Sequence

import sqlalchemy as sa

from ..calendar import END
from ..calendar import FIRST
from ..calendar import from_ms
from ..calendar import utc_ms
from ..db.statements import chunks
from ..db.tables import dirty_marks
from .dropping import dropping

_HOUR_MS: t.Final = 3_600_000
_d: t.Final = dirty_marks.c


def mark_dirty(connection: sa.Connection, moments: Iterable[dt.datetime]) -> None:
    """Mark the hours of calls dirty, in the transaction that changes the calls."""
    mark_dirty_ms(connection, map(utc_ms, moments))


def mark_dirty_ms(connection: sa.Connection, moments: Iterable[int]) -> None:
    """Mark the hours of calls dirty, given milliseconds since 1970."""
    hours = sorted({ms // _HOUR_MS for ms in moments})
    connection.execute(
        sa.insert(dirty_marks),
        [{"id": secrets.randbits(63), "hour": from_ms(n * _HOUR_MS)} for n in hours],
    )


def dirty_hours(connection: sa.Connection) -> set[dt.datetime]:
    """Return the UTC hours that must be read from calls instead of rollups.

    Rows with times that no call can have, which no version of ours writes, have no
    rollups. Hours that are being dropped are not dirty: their rollups are final.
    """
    query = sa.select(_d.hour).where(_d.hour >= FIRST, _d.hour < END).distinct()
    found = set(connection.scalars(query))
    span = dropping(connection)
    return found if span is None else {hour for hour in found if not span.touches(hour)}


def marks_of(connection: sa.Connection, hour: dt.datetime) -> list[int]:
    """Return the ids of an hour's marks."""
    return list(connection.scalars(sa.select(_d.id).where(_d.hour == hour)))


def delete_marks(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Delete marks by their ids."""
    for some in chunks(ids):
        connection.execute(sa.delete(dirty_marks).where(_d.id.in_(some)))
