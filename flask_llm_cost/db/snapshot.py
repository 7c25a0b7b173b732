"""Transactions that see one state of the ledger, including months that are being dropped.

They begin with a lock that keeps a month from being dropped between reading its rollups and
its calls: no snapshot keeps a dropped table or partition.
"""

from __future__ import annotations

import sqlalchemy as sa

from .migrations import VERSION_TABLE
from .tables import calls


def begin_snapshot(connection: sa.Connection) -> sa.Connection:
    """Begin a read-only snapshot on a connection without a transaction."""
    name = connection.dialect.name
    if name == "sqlite":
        # The driver begins no transaction for a SELECT.
        connection.exec_driver_sql("BEGIN")
        return connection
    if name == "postgresql":
        # Not the calls: a lock of a distributed table needs all of its nodes, and what
        # sums answer does not. Dropping a month locks this table, too.
        connection = connection.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        connection.exec_driver_sql(f"LOCK TABLE {VERSION_TABLE} IN ACCESS SHARE MODE")
        return connection
    connection = connection.execution_options(isolation_level="REPEATABLE READ")
    connection.exec_driver_sql("START TRANSACTION READ ONLY")
    # Locks the table, and reads nothing: the first query of the caller takes the snapshot.
    connection.execute(sa.select(calls.c.event_id).limit(0))
    return connection
