"""The time zone of the rollups' hours and days."""

from __future__ import annotations

import datetime as dt
import typing as t

import sqlalchemy as sa

from ..db import meta
from ..db.tables import rollup_latencies
from ..db.tables import rollups
from ..errors import StorageError
from . import days
from . import dropping
from . import meter_sums
from . import tag_rollups
from .dirty_marks import mark_dirty
from .lock import lock

_NAME: t.Final = "timezone"


def zone_name(zone: dt.tzinfo) -> str:
    """Return the name that a zone is recorded by."""
    return getattr(zone, "key", None) or str(zone)


def rollup_zone(connection: sa.Connection) -> str | None:
    """Return the name of the rollups' zone, ``None`` before the first were built."""
    return meta.get(connection, _NAME)


def check_zone(engine: sa.Engine, zone: dt.tzinfo) -> None:
    """Check that the rollups are those of a zone; record it if they have none.

    :raises StorageError: If they are of another zone.
    """
    with engine.connect() as connection:
        found = rollup_zone(connection)
    if found is None:
        rezone(engine, zone)
    elif found != zone_name(zone):
        raise StorageError(
            f"The rollups use the days of {found}, but LLM_COST_TIMEZONE is"
            f" {zone_name(zone)}. Run `flask llm-cost ledger rezone`, or restore the"
            " setting."
        )


def rezone(engine: sa.Engine, zone: dt.tzinfo) -> None:
    """Delete all rollups, to be rebuilt with the days of a zone.

    :raises StorageError: If calls were pruned: their rollups cannot be rebuilt.
    """
    with engine.begin() as connection:
        lock(connection)
        pruned = sa.select(rollups.c.start).where(rollups.c.kind == "pruned")
        if (
            connection.execute(pruned.limit(1)).first()
            or dropping.dropping(connection) is not None
        ):
            raise StorageError(
                "Calls were pruned, and their hourly rollups use the zone"
                f" {rollup_zone(connection)}. The zone can no longer be changed: restore"
                " LLM_COST_TIMEZONE."
            )
        meta.put(connection, _NAME, zone_name(zone))
        reset_rollups(connection)


def reset_rollups(connection: sa.Connection) -> None:
    """Delete all rollups, and mark every hour that has calls dirty."""
    connection.execute(sa.delete(rollups))
    connection.execute(sa.delete(rollup_latencies))
    tag_rollups.reset(connection)
    days.reset(connection)
    meter_sums.reset(connection)
    dropping.end(connection)
    found = list(meter_sums.hours_with_calls(connection))
    if found:
        mark_dirty(connection, found)
