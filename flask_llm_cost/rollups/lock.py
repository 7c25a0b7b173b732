"""The lock of all changes to rollups."""

from __future__ import annotations

import secrets
import typing as t

import sqlalchemy as sa

from ..db import meta
from ..db.tables import meta as meta_table

_NAME: t.Final = "rollup_lock"


class Overtaken(Exception):
    """Another process has changed the rollups since they were read."""


def lock(connection: sa.Connection, expected: str | None = None) -> None:
    """Exclude other changes to rollups until this transaction ends.

    It has to be the first statement of its transaction: SQLite has a single writer, and
    detects conflicts at the first write.

    :param expected: The :func:`lock_state` when this process began to read.
    :raises Overtaken: If another process has held the lock since.
    """
    update = sa.update(meta_table).where(meta_table.c.name == _NAME)
    if expected is not None:
        update = update.where(meta_table.c.value == expected)
    updated = connection.execute(update.values(value=secrets.token_hex(16)))
    if updated.rowcount != 1:
        raise Overtaken


def lock_state(connection: sa.Connection) -> str | None:
    """Return a value that changes whenever the lock is taken."""
    return meta.get(connection, _NAME)
