"""Distribute the table of calls over the nodes of PostgreSQL with Citus.

Calls and revisions are divided by event id. Tags, which are joined with calls, are copied to
each node. Everything else stays on the coordinator.
"""

from __future__ import annotations

import typing as t
from collections.abc import Collection
from collections.abc import Iterator

import sqlalchemy as sa

from .tables import calls
from .tables import revisions
from .tables import tag_sets
from .tables import tag_values

COPIED: t.Final = (tag_sets.name, tag_values.name)
"""The tables that each node has a copy of."""

_CATALOG: t.Final = sa.text("SELECT to_regclass('pg_dist_partition') IS NOT NULL")
_BY: t.Final = calls.c.event_id.name


def is_distributed(connection: sa.Connection) -> bool:
    """Whether the calls are distributed."""
    return calls.name in distributed(connection)


def distributed(connection: sa.Connection) -> set[str]:
    """Return the names of the tables that are distributed, or copied to each node."""
    if not _has_catalog(connection):
        return set()
    query = sa.text(
        "SELECT c.relname FROM pg_dist_partition d JOIN pg_class c"
        " ON c.oid = d.logicalrelid WHERE pg_table_is_visible(c.oid)"
    )
    return set(connection.scalars(query))


def has_citus(connection: sa.Connection) -> bool:
    """Whether this is a PostgreSQL database with the extension."""
    if connection.dialect.name != "postgresql":
        return False
    query = sa.text("SELECT count(*) FROM pg_extension WHERE extname = 'citus'")
    return bool(connection.scalar(query))


def statements(found: Collection[str], parts: Collection[str]) -> Iterator[str]:
    """Return what distributes the tables.

    :param found: The tables that are distributed already.
    :param parts: The names of the partitions.
    """
    new = []
    for name in COPIED:  # first: calls are joined with them
        if name not in found:
            yield f"SELECT create_reference_table('{name}')"
            new.append(name)
    if calls.name not in found:
        yield f"SELECT create_distributed_table('{calls.name}', '{_BY}')"
        new += parts
    if revisions.name not in found:
        yield (
            f"SELECT create_distributed_table('{revisions.name}', '{_BY}',"
            f" colocate_with => '{calls.name}')"
        )
        new.append(revisions.name)
    for name in new:  # the rows were copied, and are hidden here
        yield f"SELECT truncate_local_data_after_distributing_table('{name}')"


def missing(connection: sa.Connection) -> list[str]:
    """List the tables that are not distributed although calls are."""
    found = distributed(connection)
    if calls.name not in found:
        return []
    wanted = (*COPIED, revisions.name)
    return [f"not distributed: {name}" for name in wanted if name not in found]


def _has_catalog(connection: sa.Connection) -> bool:
    if connection.dialect.name != "postgresql":
        return False
    return bool(connection.scalar(_CATALOG))
