"""Create, upgrade, downgrade and check the ledger's tables."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import threading
import typing as t
from collections.abc import Iterator

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.util import CommandError

from ..errors import StorageError
from .migrations import VERSION_TABLE
from .partitions import is_partition
from .tables import metadata
from .tables import PREFIX

DIALECTS: t.Final = ("sqlite", "postgresql", "mysql", "mariadb")

LOCATION: t.Final = "flask_llm_cost.db:migrations"
"""The bundled Alembic environment."""

_LOCK_SECONDS: t.Final = 60

# Alembic's `op` and `context` are global.
_one_at_a_time = threading.Lock()


def _after_fork() -> None:
    """In a forked child: replace a lock that a thread of the parent may hold."""
    global _one_at_a_time
    _one_at_a_time = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def upgrade(
    engine: sa.Engine, revision: str = "head", *, location: str = LOCATION
) -> None:
    """Upgrade the tables. Processes that upgrade at the same time wait for each other.

    :param location: The Alembic environment that has the revisions.
    """
    with _one_at_a_time, _revisions(), exclusive(engine) as connection:
        command.upgrade(_config(location, connection=connection), revision)


def downgrade(engine: sa.Engine, revision: str, *, location: str = LOCATION) -> None:
    """Downgrade the tables; ``"base"`` drops them, and leaves nothing behind.

    :param location: As in :func:`upgrade`.
    :raises ValueError: If there is no such revision.
    """
    if not revision.strip():
        raise ValueError(
            "The version to downgrade to must not be empty; use base or 0001."
        )
    with _one_at_a_time, _revisions(), exclusive(engine) as connection:
        command.downgrade(_config(location, connection=connection), revision)
        # Alembic leaves its table, which the host's next autogenerate would drop.
        version = sa.Table(VERSION_TABLE, sa.MetaData(), sa.Column("version_num"))
        if not connection.execute(sa.select(version)).first():
            version.drop(connection)


def check(connection: sa.Connection) -> list[str]:
    """List the differences between the tables and what this package needs."""
    context = MigrationContext.configure(
        connection,
        opts={
            "version_table": VERSION_TABLE,
            "include_name": _is_ours,
            "compare_type": True,
            "target_metadata": metadata,
        },
    )
    return [_describe(change) for change in _flat(compare_metadata(context, metadata))]


def dialect_name(connection: sa.Connection) -> str:
    """Return the name that :func:`sql` takes for this database."""
    mariadb = getattr(connection.dialect, "is_mariadb", False)
    return "mariadb" if mariadb else connection.dialect.name


def sql(dialect: str, revisions: str = "head", *, location: str = LOCATION) -> str:
    """Return the upgrade as SQL text, to be run by hand.

    :param dialect: ``sqlite``, ``postgresql``, ``mysql`` or ``mariadb``.
    :param revisions: The target revision, or ``from:to``.
    :param location: As in :func:`upgrade`.
    :raises ValueError: If there is no such dialect or revision.
    """
    if dialect not in DIALECTS:
        raise ValueError(f"{dialect!r} is not one of {', '.join(DIALECTS)}")
    output = io.StringIO()
    with _one_at_a_time, _revisions():
        config = _config(location, dialect=dialect, output=output)
        command.upgrade(config, revisions, sql=True)
    return output.getvalue()


@contextlib.contextmanager
def _revisions() -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        raise ValueError(str(error)) from error


def _config(location: str = LOCATION, **attributes: t.Any) -> Config:
    config = Config()
    config.set_main_option("script_location", location)
    config.attributes.update(attributes)
    return config


@contextlib.contextmanager
def exclusive(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Begin a transaction that excludes other schema changes.

    The lock is taken before the version is read.
    """
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()
        elif connection.dialect.name == "postgresql":
            connection.execute(
                sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _key(connection)}
            )
            yield connection
            connection.commit()
        else:
            with _named_lock(connection):
                yield connection
                connection.commit()


@contextlib.contextmanager
def _named_lock(connection: sa.Connection) -> Iterator[None]:
    # The name is global to the server, so it includes the database.
    name = f"llm_cost.{_key(connection)}"
    got = connection.scalar(
        sa.text("SELECT GET_LOCK(:name, :wait)"), {"name": name, "wait": _LOCK_SECONDS}
    )
    if got != 1:
        raise StorageError(
            f"Another upgrade of the ledger's tables has been running for more than"
            f" {_LOCK_SECONDS} seconds. Try again when it has finished."
        )
    try:
        yield
    finally:
        # A broken connection has released its lock.
        if not connection.invalidated:
            connection.rollback()
            connection.execute(sa.text("DO RELEASE_LOCK(:name)"), {"name": name})


def _key(connection: sa.Connection) -> int:
    name = f"{connection.engine.url.database}/{VERSION_TABLE}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])


def _is_ours(name: str | None, kind: str, parents: t.Any) -> bool:
    if kind == "table":
        return (
            name is not None
            and name.startswith(PREFIX)
            and name != VERSION_TABLE
            and not is_partition(name)
        )
    return True


def _flat(changes: t.Any) -> Iterator[tuple[t.Any, ...]]:
    for change in changes:
        if isinstance(change, tuple):
            yield change
        else:
            yield from _flat(change)


def _describe(change: tuple[t.Any, ...]) -> str:
    kind, *rest = change
    names = [
        item if isinstance(item, str) else str(getattr(item, "name", item))
        for item in rest
        if item is not None and not isinstance(item, dict)
    ]
    return f"{kind.replace('_', ' ')}: {' '.join(names)}"
