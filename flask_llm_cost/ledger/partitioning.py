"""Monthly partitions of the table of calls, where the database has them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from ..db.engine import Engines
from ..db.migrate import exclusive
from ..db.partitions import Partition
from ..db.partitions import partitions
from ..db.partitions import plan
from ..db.partitions import run
from ..db.partitions import Step
from ..rollups.months import whole_months


@dataclass(frozen=True, slots=True)
class Partitions:
    """Plans, creates and lists the partitions of one ledger."""

    engines: Engines

    def existing(self) -> list[Partition]:
        """List the partitions by time; none if the table is not partitioned."""
        with self.engines.snapshot(fresh=True) as connection:
            return partitions(connection)

    def droppable(self, before: dt.datetime) -> list[Partition]:
        """List the partitions that pruning calls before a moment drops, by time."""
        with self.engines.snapshot(fresh=True) as connection:
            return whole_months(connection, before)

    def plan(self, *, ahead: int = 3) -> list[Step]:
        """List what :meth:`apply` would do.

        :param ahead: How many months after the current one get a partition.
        :raises StorageError: If the database cannot partition the table.
        """
        engines = self.engines
        engines.prepare()
        with engines.connected(engines.writing()) as connection:
            return plan(connection, dt.datetime.now(dt.UTC), ahead)

    def apply(
        self, *, ahead: int = 3, progress: Callable[[Step], None] | None = None
    ) -> None:
        """Partition the table of calls, or add the partitions that are missing.

        :param ahead: How many months after the current one get a partition.
        :param progress: Called before each step.
        :raises StorageError: If the database cannot partition the table, or a step could
            not lock it. Completed steps remain.
        """
        engines = self.engines
        engines.prepare()
        with engines.explained(), exclusive(engines.writing()):
            for step in self.plan(ahead=ahead):
                if progress is not None:
                    progress(step)
                run(engines.writing(), step)
