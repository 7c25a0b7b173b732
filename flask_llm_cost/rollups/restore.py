"""Take restored calls out of the rollups of pruned calls.

The transaction that inserts a pruned call again subtracts it from the rollups that pruning
added it to, so that no total changes. Pruning it once more adds it again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa

from ..calendar import utc_hour
from ..db.statements import by_key
from ..db.statements import Key
from ..errors import StorageError
from . import meter_sums
from . import tag_rollups
from .aggregates import aggregate
from .aggregates import by_rollup
from .aggregates import NotIncluded
from .aggregates import subtract
from .dropping import dropping
from .horizon import horizon


def subtract_pruned(
    connection: sa.Connection, keys: Sequence[Key], zone: dt.tzinfo
) -> None:
    """Subtract calls that were inserted in this transaction, which began with the lock.

    :raises NotIncluded: If a call cannot be among those that were pruned.
    :raises StorageError: If the month of a call is being dropped.
    """
    keys = sorted(keys)
    _check(connection, keys)
    meter_sums.subtract_pruned(connection, keys)
    for start, some in by_rollup("day", keys, zone):
        tag_rollups.subtract_pruned(connection, start, *by_key(some))
    for start, some in by_rollup("hour", keys, zone):
        subtract(connection, "pruned", start, aggregate(connection, *by_key(some)))


def _check(connection: sa.Connection, keys: Sequence[Key]) -> None:
    limit = horizon(connection)
    if limit is None or keys[-1][0] >= limit:
        raise NotIncluded("it falls in a period from which nothing was pruned")
    span = dropping(connection)
    if span is not None and any(span.touches(utc_hour(moment)) for moment, _ in keys):
        raise StorageError(
            "The month of these calls is being dropped. If no `prune` is running, one was"
            " interrupted: run it again, then retry."
        )
