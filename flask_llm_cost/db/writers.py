"""Wait for the transactions that are writing calls, and lock calls for a change.

A distributed PostgreSQL (Citus) commits on its coordinator first and on its workers after.
So what is written to two tables in one transaction may be visible in one of them before it
is in the other. And it rejects ``SELECT ... FOR UPDATE`` of many rows. The statements here
are right on every PostgreSQL.
"""

from __future__ import annotations

import time
import typing as t
from collections.abc import Callable
from collections.abc import Sequence

import sqlalchemy as sa

from ..errors import StorageError
from .distribution import is_distributed
from .statements import by_key
from .statements import chunks
from .statements import Key
from .tables import calls

_SECONDS: t.Final = 10.0
"""How long to wait for other transactions."""

_FIRST_LOOK_SECONDS: t.Final = 0.002
_LAST_LOOK_SECONDS: t.Final = 0.1

_CHANGES: t.Final = 0x6C6C6D5F63616C6C
"""The key of an advisory lock (``llm_call`` in ASCII)."""

_c: t.Final = calls.c

_WRITING: t.Final = sa.text(
    "SELECT DISTINCT virtualtransaction FROM pg_locks"
    " WHERE relation = to_regclass(:name) AND mode = 'RowExclusiveLock' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
# A commit that did not reach a worker leaves a transaction that is prepared there.
_PREPARED: t.Final = sa.text(
    "SELECT nodename, nodeport, success, result FROM run_command_on_workers("
    "$$SELECT coalesce(string_agg(gid, ' '), '') FROM pg_prepared_xacts"
    " WHERE gid LIKE 'citus%'$$)"
)


def wait_for_writers(engine: sa.Engine, seconds: float = _SECONDS) -> None:
    """Wait until every transaction that is writing calls now has ended on every node.

    Whoever has read their dirty marks, or set a horizon for them, then sees their calls.
    Unlike a lock, it does not block anyone. Only PostgreSQL may be distributed.

    :raises StorageError: If one of them takes longer.
    """
    if engine.dialect.name != "postgresql":
        return
    until = time.monotonic() + seconds
    _wait(engine, until, _writing)
    with engine.connect() as connection:
        distributed = is_distributed(connection)
    if distributed:
        _wait(engine, until, _prepared)


def _wait(
    engine: sa.Engine, until: float, look: Callable[[sa.Connection], set[str]]
) -> None:
    pause = _FIRST_LOOK_SECONDS
    left: set[str] | None = None
    while True:
        with engine.connect() as connection:
            found = look(connection)
        left = found if left is None else left & found
        if not left:
            return
        if time.monotonic() > until:
            raise StorageError(
                f"A transaction that writes to {calls.name} has not ended for some time:"
                " see pg_locks and pg_prepared_xacts, on each node if the table is"
                " distributed. Until then, sums of its calls are not built."
            )
        time.sleep(pause)
        pause = min(2 * pause, _LAST_LOOK_SECONDS)


def _writing(connection: sa.Connection) -> set[str]:
    return set(connection.scalars(_WRITING, {"name": calls.name}))


def _prepared(connection: sa.Connection) -> set[str]:
    found: set[str] = set()
    for node, port, success, result in connection.execute(_PREPARED):
        if not success:
            raise StorageError(f"The node {node}:{port} does not answer: {result}")
        found |= {f"{node}:{port} {gid}" for gid in result.split()}
    return found


def lock_calls(
    connection: sa.Connection, keys: Sequence[Key], *columns: sa.ColumnElement[t.Any]
) -> list[sa.Row[t.Any]]:
    """Lock calls until the transaction ends; return those that still exist, by key.

    Every change of stored calls begins with this. SQLite locks nothing here: its
    transaction must have written already.

    :param keys: Sorted.
    :param columns: What to return of each, as it is now, after its key.
    """
    returned = (_c.started_at, _c.event_id, *columns)
    if connection.dialect.name == "postgresql":
        # An update locks rows in no certain order: two of them could deadlock.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CHANGES)))
    found: list[sa.Row[t.Any]] = []
    for some in chunks(keys):
        found += connection.execute(_locking(connection, by_key(some), returned))
    return sorted(found, key=lambda row: (row.started_at, row.event_id))


def _locking(
    connection: sa.Connection,
    where: Sequence[sa.ColumnElement[bool]],
    columns: Sequence[sa.ColumnElement[t.Any]],
) -> t.Any:
    if connection.dialect.name == "postgresql":
        same = sa.update(calls).where(*where).values(flags=_c.flags)
        return same.returning(*columns)
    query = sa.select(*columns).where(*where)
    return query.order_by(_c.started_at, _c.event_id).with_for_update()
