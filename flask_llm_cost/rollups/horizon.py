"""The prune horizon: the time before which calls were pruned."""

from __future__ import annotations

import datetime as dt
import typing as t

import sqlalchemy as sa

from ..calendar import from_ms
from ..calendar import utc_ms
from ..db import meta

_NAME: t.Final = "horizon"


def horizon(connection: sa.Connection) -> dt.datetime | None:
    """Return the horizon: before it, only rollups are complete. ``None``: none was set."""
    ms = meta.get(connection, _NAME)
    return None if ms is None else from_ms(int(ms))


def advance(connection: sa.Connection, before: dt.datetime) -> None:
    """Move the horizon up to a time, in the transaction that deletes calls.

    Inserts check the horizon after the insert, so that one of the two waits for the other.
    """
    known = horizon(connection)
    if known is None or known < before:
        meta.put(connection, _NAME, str(utc_ms(before)))


def reset(connection: sa.Connection) -> None:
    """Forget the horizon: nothing counts as pruned any longer."""
    meta.delete(connection, _NAME)
