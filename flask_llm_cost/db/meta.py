"""Named values about the ledger itself, such as the time zone of its rollups."""

from __future__ import annotations

import sqlalchemy as sa

from .tables import meta


def get(connection: sa.Connection, name: str) -> str | None:
    """Return a value, ``None`` if it is not set."""
    value: str | None = connection.scalar(
        sa.select(meta.c.value).where(meta.c.name == name)
    )
    return value


def put(connection: sa.Connection, name: str, value: str) -> None:
    """Set a value."""
    delete(connection, name)
    add(connection, name, value)


def add(connection: sa.Connection, name: str, value: str) -> None:
    """Set a value that is not set.

    :raises sqlalchemy.exc.IntegrityError: If it is.
    """
    connection.execute(sa.insert(meta).values(name=name, value=value))


def delete(connection: sa.Connection, name: str) -> None:
    """Unset a value."""
    connection.execute(sa.delete(meta).where(meta.c.name == name))
