"""Find the ledger's database from the settings and the host app."""

from __future__ import annotations

import os
import typing as t
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import exc

from ..config import Settings
from ..errors import LlmCostError
from ..errors import StorageError

OWN_FILE: t.Final = "llm_cost.db"
"""The SQLite file that only we use: created, upgraded and tuned automatically."""

HostEngine: t.TypeAlias = Callable[[], sa.Engine | None]
"""Returns the host app's engine; ``None`` if the ledger is not to use its database."""


@dataclass(frozen=True, slots=True)
class Location:
    """A database, and how to connect to it."""

    url: sa.URL
    host: sa.Engine | None = None
    """The host app's engine, if the database is the host's."""

    @property
    def own(self) -> bool:
        """Whether it is our own SQLite file."""
        return (
            self.host is None
            and self.url.get_backend_name() == "sqlite"
            and Path(self.url.database or "").name == OWN_FILE
        )

    @property
    def folder(self) -> Path | None:
        """The folder of a SQLite file; ``None`` if the database is not one."""
        if self.url.get_backend_name() != "sqlite" or in_memory(self.url):
            return None
        name = (self.url.database or "").removeprefix("file:")
        return Path(name).absolute().parent


def find(
    settings: Settings,
    instance_path: str,
    host_engine: HostEngine | None,
    temporary_folder: Callable[[], str],
) -> Location:
    """Find the database that the settings name, else the host's, else our own file.

    :param temporary_folder: Where our own file is if that database is in memory.
    :raises StorageError: If the settings or the host app name no usable database.
    """
    if settings.database_uri is not None:
        url = _parse(settings.database_uri, "DATABASE_URI")
        if in_memory(url):
            return _own_in(temporary_folder())
        if url.get_backend_name() == "sqlite":
            url = url.set(database=_path(url.database or OWN_FILE, instance_path))
        return Location(url)
    host = None if host_engine is None else _call(host_engine)
    if host is None:
        return _own_in(instance_path)
    if in_memory(host.url):
        # A second engine for sqlite:// opens another, empty database, and writing through
        # the host's engine would commit the host's open transaction.
        return _own_in(temporary_folder())
    return Location(host.url, host)


def _own_in(folder: str) -> Location:
    return Location(sa.URL.create("sqlite", database=_path(OWN_FILE, folder)))


Inode: t.TypeAlias = tuple[int, int]
"""The device and the number of a file, which it keeps when it is renamed."""


def inode(location: Location) -> Inode | None:
    """Return which file a SQLite database is; ``None`` if it is not one, or is missing."""
    url = location.url
    if url.get_backend_name() != "sqlite" or in_memory(url):
        return None
    try:
        found = os.stat(url.database or "")
    except OSError:
        return None
    return found.st_dev, found.st_ino


def find_replica(settings: Settings) -> Location:
    """Find the database that pages read from instead.

    :raises StorageError: If it is not a database URL.
    """
    return Location(_parse(settings.read_database_uri or "", "READ_DATABASE_URI"))


def label(url: sa.URL) -> str:
    """Return a URL without user, password and options."""
    bare = sa.URL.create(url.drivername, None, None, url.host, url.port, url.database)
    return bare.render_as_string()


def _call(host_engine: HostEngine) -> sa.Engine | None:
    # Whatever the host app raises, the ledger cannot be used for now.
    try:
        return host_engine()
    except Exception as error:
        # Repeat only our own messages: others may contain a password.
        ours = isinstance(error, LlmCostError)
        raise StorageError(
            str(error)
            if ours
            else f"The app's own database cannot be used: {type(error).__name__}."
        ) from error


def _path(name: str, instance_path: str) -> str:
    """Resolve a path against the instance folder, as Flask-SQLAlchemy does."""
    return name if name.startswith("file:") else os.path.join(instance_path, name)


def _parse(uri: str, key: str) -> sa.URL:
    try:
        url = sa.make_url(uri)
    except (exc.ArgumentError, ValueError):
        url = None
    # After an unquoted "@", the rest of a password is parsed as the host and logged.
    if url is None or "@" in (url.host or ""):
        # The value is not repeated: it may contain a password.
        raise StorageError(
            f"LLM_COST_{key} is not a valid SQLAlchemy URL. Use the form"
            ' "postgresql+psycopg://user:password@host/name"; write "@" in a password as'
            ' "%40", and several hosts after the database name:'
            ' "?host=one:5432&host=two:5432".'
        ) from None
    return url


def in_memory(url: sa.URL) -> bool:
    """Whether a database is SQLite's in memory."""
    if url.get_backend_name() != "sqlite":
        return False
    name = url.database or ":memory:"
    return ":memory:" in name or url.query.get("mode") == "memory"
