"""Which hours are to be added up, and what else the ledger knows of its sums."""

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
from ..db.tables import dirty_marks
from ..db.tables import meta
from .dropping import going
from .sums import chunks

_HOUR_MS: t.Final = 3_600_000


def mark(connection: sa.Connection, moments: Iterable[dt.datetime]) -> None:
    """Say, in the transaction that changes calls of these times, that it does."""
    mark_ms(connection, map(utc_ms, moments))


def mark_ms(connection: sa.Connection, moments: Iterable[int]) -> None:
    """The same of milliseconds since 1970, as they are stored."""
    hours = sorted({ms // _HOUR_MS for ms in moments})
    connection.execute(
        sa.insert(dirty_marks),
        [{"id": secrets.randbits(63), "hour": from_ms(n * _HOUR_MS)} for n in hours],
    )


def marked(connection: sa.Connection) -> set[dt.datetime]:
    """The hours of UTC whose calls are to be read one by one.

    Rows of a time that no call can have, which no version writes, are in no sum. The
    sums of calls that are being dropped are right, and a mark there comes too late.
    """
    hour = dirty_marks.c.hour
    query = sa.select(hour).where(hour >= FIRST, hour < END).distinct()
    found = set(connection.scalars(query))
    time = going(connection)
    return found if time is None else {h for h in found if not time.touches(h)}


def marks_of(connection: sa.Connection, hour: dt.datetime) -> list[int]:
    return list(
        connection.scalars(
            sa.select(dirty_marks.c.id).where(dirty_marks.c.hour == hour)
        )
    )


def unmark(connection: sa.Connection, ids: Sequence[int]) -> None:
    for some in chunks(ids):
        connection.execute(sa.delete(dirty_marks).where(dirty_marks.c.id.in_(some)))


def fact(connection: sa.Connection, name: str) -> str | None:
    """What the ledger knows of itself by that name."""
    value: str | None = connection.scalar(
        sa.select(meta.c.value).where(meta.c.name == name)
    )
    return value


def horizon(connection: sa.Connection) -> dt.datetime | None:
    """Before this moment calls were pruned: only sums are known. ``None``: none were."""
    ms = fact(connection, "horizon")
    return None if ms is None else from_ms(int(ms))
