"""Distribute a ledger's calls over the nodes of PostgreSQL with Citus."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from ..db.distribution import distributed
from ..db.distribution import has_citus
from ..db.distribution import statements
from ..db.engine import Engines
from ..db.migrate import exclusive
from ..db.partitions import part_names
from ..db.partitions import partitions
from ..db.partitions import plan
from ..db.partitions import run
from ..db.partitions import Step
from ..errors import StorageError


@dataclass(frozen=True, slots=True)
class Distribution:
    """Plans and does what distributes one ledger."""

    engines: Engines

    def plan(self, *, ahead: int = 3) -> list[Step]:
        """List what :meth:`apply` would do; nothing if the calls are distributed.

        :param ahead: How many months after the current one get a partition.
        :raises StorageError: If the database is not PostgreSQL, or the table is distributed
            without partitions.
        """
        engines = self.engines
        engines.prepare()
        with engines.connected(engines.writing()) as connection:
            if connection.dialect.name != "postgresql":
                raise StorageError(
                    f"{engines.label} cannot be distributed: this needs PostgreSQL with"
                    " the extension citus."
                )
            found = distributed(connection)
            steps = plan(connection, dt.datetime.now(dt.UTC), ahead)
            names = [part.name for part in partitions(connection)]
        names += [name for name in part_names(steps) if name not in names]
        steps += [Step(_title(text), (text,)) for text in statements(found, names)]
        return steps

    def apply(
        self, *, ahead: int = 3, progress: Callable[[Step], None] | None = None
    ) -> None:
        """Partition the table of calls, then distribute it. It can be run again.

        :param ahead: How many months after the current one get a partition.
        :param progress: Called before each step.
        :raises StorageError: If the database has no Citus. Completed steps remain.
        """
        engines = self.engines
        engines.prepare()
        with engines.explained(), exclusive(engines.writing()) as connection:
            steps = self.plan(ahead=ahead)
            if not has_citus(connection):
                raise StorageError(
                    f"{engines.label} has no extension citus. Install Citus on each node,"
                    " run `CREATE EXTENSION citus`, and add the workers with"
                    " `SELECT citus_add_node(...)`; or print the statements with"
                    " --dry-run."
                )
            for step in steps:
                if progress is not None:
                    progress(step)
                run(engines.writing(), step)


def _title(statement: str) -> str:
    table = statement.split("'")[1]
    if "truncate" in statement:
        return f"Deleting the copy of {table} that the coordinator keeps"
    if "reference" in statement:
        return f"Copying {table} to each node"
    return f"Distributing {table}"
