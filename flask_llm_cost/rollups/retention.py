"""Delete old calls; their rollups stay.

The transaction that deletes calls adds them to the rollups of kind ``pruned``, from which
days and totals are then computed.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Callable
from collections.abc import Sequence

import sqlalchemy as sa

from ..db.engine import Engines
from ..db.statements import by_key
from ..db.statements import chunks
from ..db.statements import Key
from ..db.tables import calls
from ..db.tables import revisions
from ..db.tables import tag_sets
from ..db.tables import tag_values
from ..db.writers import lock_calls
from . import horizon
from . import meter_sums
from . import tag_rollups
from .aggregates import add
from .aggregates import aggregate
from .aggregates import by_rollup
from .build import RollupBuilder
from .dirty_marks import mark_dirty
from .lock import lock
from .months import MonthDropper
from .zone import reset_rollups

_TAGS_SPARED: t.Final = dt.timedelta(days=7)
_BATCH: t.Final = 1000

_c: t.Final = calls.c


class Retention:
    """Deletes calls from one ledger."""

    def __init__(self, builder: RollupBuilder) -> None:
        self._builder = builder

    @property
    def _engines(self) -> Engines:
        return self._builder.engines

    @property
    def _engine(self) -> sa.Engine:
        return self._engines.writing()

    def prune(
        self,
        before: dt.datetime,
        *,
        batch: int = _BATCH,
        months_only: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Delete the calls before a time; their rollups stay.

        The parameters are those of :meth:`.Ledger.prune`.
        """
        self._engines.prepare()
        with self._engines.explained():
            self._builder.check()
            months = MonthDropper(
                self._engine, self._builder.zone, self._builder.build_hour
            )
            deleted = months.drop_before(before, progress)
            while not months_only and (count := self._prune_batch(before, batch)):
                deleted += count
                if progress is not None:
                    progress(deleted)
            self._prune_tags(batch)
        return deleted

    def prunable(self, before: dt.datetime) -> int:
        """Count the calls that :meth:`prune` would delete."""
        with self._engines.snapshot(fresh=True) as connection:
            query = sa.select(sa.func.count()).select_from(calls)
            return connection.scalar(query.where(_c.started_at < before)) or 0

    def _prune_batch(self, before: dt.datetime, batch: int) -> int:
        zone = self._builder.zone
        with self._engine.begin() as connection:
            lock(connection)
            first = (
                sa.select(_c.started_at, _c.event_id)
                .where(_c.started_at < before)
                .order_by(_c.started_at, _c.event_id)
                .limit(batch)
            )
            wanted = [
                (row.started_at, row.event_id) for row in connection.execute(first)
            ]
            # The calls that are aggregated must be those that are deleted.
            found = lock_calls(connection, wanted)
            keys: list[Key] = [(row.started_at, row.event_id) for row in found]
            if not keys:
                return 0
            horizon.advance(connection, before)
            for start, some in by_rollup("day", keys, zone):
                tag_rollups.add_pruned(connection, start, *by_key(some))
            meter_sums.add_pruned(connection, keys)
            for start, some in by_rollup("hour", keys, zone):
                add(connection, "pruned", start, aggregate(connection, *by_key(some)))
                delete_calls(connection, some)
            mark_dirty(connection, (moment for moment, _ in keys))
        return len(keys)

    def _prune_tags(self, batch: int) -> None:
        """Delete tag sets without calls, except recent ones: a writer may use them next."""
        recently = dt.datetime.now(dt.UTC) - _TAGS_SPARED
        s, last = tag_sets.c, -1
        old = sa.select(s.id).where(s.seen_at < recently).order_by(s.id).limit(batch)
        while True:
            with self._engine.begin() as connection:
                ids = list(connection.scalars(old.where(s.id > last)))
                if not ids:
                    return
                last = ids[-1]
                # Apart: a correlated subquery of distributed calls is not supported.
                used = sa.select(_c.tag_set_id).where(_c.tag_set_id.in_(ids)).distinct()
                unused = sorted(set(ids) - set(connection.scalars(used)))
                for column in (tag_values.c.tag_set_id, s.id):
                    connection.execute(
                        sa.delete(column.table).where(column.in_(unused))
                    )

    def clear(self, since: dt.datetime | None) -> int:
        """Delete the calls since a moment, or all, with their rollups.

        :return: The number of deleted calls.
        """
        self._engines.prepare()
        deleted = 0
        with self._engines.explained():
            while count := self._clear_batch(since):
                deleted += count
            if since is None:
                with self._engine.begin() as connection:
                    lock(connection)
                    # Calls may have arrived meanwhile, and may have rollups.
                    horizon.reset(connection)
                    reset_rollups(connection)
                self._prune_tags(_BATCH)
        return deleted

    def _clear_batch(self, since: dt.datetime | None) -> int:
        query = sa.select(_c.started_at, _c.event_id).limit(_BATCH)
        if since is not None:
            query = query.where(_c.started_at >= since)
        query = query.order_by(_c.started_at, _c.event_id)
        with self._engine.begin() as connection:
            lock(connection)
            keys = [(row.started_at, row.event_id) for row in connection.execute(query)]
            for some in chunks(keys):
                delete_calls(connection, some)
            if keys:
                mark_dirty(connection, (moment for moment, _ in keys))
        return len(keys)


def delete_calls(connection: sa.Connection, keys: Sequence[Key]) -> None:
    """Delete calls, given their sorted keys, and their revisions."""
    for table in (revisions, calls):
        connection.execute(sa.delete(table).where(*by_key(keys, table)))
