"""The engines of the ledger's database, and the state of its tables.

They are our own even where the database is the host's: the host's pool, session and
transactions are never touched. Connections are made as the host makes them (arguments,
creator, and listeners that fetch tokens or set a search path).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import typing as t
import weakref
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy import exc

from ..config import Settings
from ..errors import SetupRequired
from ..errors import StorageError
from ..interrupts import pass_on
from . import budget_tables as budget_tables
from . import day_tables as day_tables
from .connections import make_engine
from .connections import NETWORK_ADVICE
from .import_lock import loading
from .location import find
from .location import find_replica
from .location import HostEngine
from .location import Inode
from .location import inode
from .location import label
from .location import Location
from .migrations import HEAD
from .migrations import VERSION_TABLE
from .query_threads import QueryThreads
from .snapshot import begin_snapshot
from .timed_queries import NoAnswer
from .timed_queries import TimedQueries
from .timeouts import note_answer
from .timeouts import time_limit
from .timeouts import unlimited

_R = t.TypeVar("_R")

_ANSWER_SECONDS: t.Final = 5.0
"""How long a page waits for a connection, and a sync write for its commit."""

_CONNECTED_SECONDS: t.Final = 0.05
"""How long a call waits at least once it is connected: it may be locked nevertheless."""

_LOOKING: t.Final = 2
_DECIDING: t.Final = 3
"""How many threads run queries that only read, and those that write."""

_SMALL_POOL: t.Final = {"pool_size": 2, "max_overflow": 3, "pool_timeout": 2}


class Engines:
    """The engines of one process, each created when it is first used.

    The writer has one to itself. Pages, reports and sync writes share a second one with a
    short timeout. What a call waits for has a third one, which no report can use up.
    """

    def __init__(
        self,
        settings: Settings,
        instance_path: str,
        host_engine: HostEngine | None,
        temporary_folder: Callable[[], str] | None = None,
    ) -> None:
        self._settings = settings
        self._instance_path = instance_path
        self._host_engine = host_engine
        self._temporary_folder = temporary_folder or (lambda: instance_path)
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._creating = threading.RLock()
        self._location: Location | None = None
        self._made: dict[str, sa.Engine] = {}
        # Python 3.13 warns of connections to SQLite that an app leaves open with its end.
        self._dispose = weakref.finalize(self, _dispose, self._made, self._pid)
        self._dispose.atexit = False
        self._ready: set[sa.Engine] = set()
        self._inode: Inode | None = None
        self._lost: list[None] = []
        self._upgrading = 0
        self._upgraded_at = 0.0
        self._timed_queries: dict[bool, TimedQueries] = {}

    def after_fork(self) -> None:
        """In a forked child: forget the parent's connections without closing them."""
        self._dispose()
        self._reset()

    def close(self) -> None:
        """Close all connections; the engines are created again when they are used."""
        queries, self._timed_queries = self._timed_queries, {}
        self._ready = set()
        for each in queries.values():
            each.close()
        _dispose(self._made, self._pid)

    @property
    def lost_connections(self) -> int:
        """How many connections broke. The next one may lead to another server."""
        return len(self._lost)

    @property
    def location(self) -> Location:
        """Which database this is.

        :raises StorageError: If the settings or the host app name no usable database.
        """
        with self._lock:
            if self._location is None:
                self._location = find(
                    self._settings,
                    self._instance_path,
                    self._host_engine,
                    self._temporary_folder,
                )
            return self._location

    @property
    def label(self) -> str:
        """The database's URL without user, password and options."""
        return label(self.location.url)

    def folders(self) -> dict[Path, str]:
        """Return the folder of a SQLite file, and what to do if it is on a network."""
        folder = self.location.folder
        return {} if folder is None else {folder: NETWORK_ADVICE}

    def writing(self) -> sa.Engine:
        """The engine of the writer and of migrations."""
        return self._engine("writing", {"pool_size": 1, "max_overflow": 2})

    def reading(self) -> sa.Engine:
        """The engine of pages, reports and sync writes."""
        return self._engine("reading", _SMALL_POOL)

    def answering(self) -> sa.Engine:
        """The engine of :meth:`run`."""
        pool = {"pool_size": _LOOKING, "max_overflow": _DECIDING, "pool_timeout": 1}
        return self._engine("answering", pool)

    def querying(self) -> sa.Engine:
        """The engine of pages and reports: the replica's if there is one."""
        if self._settings.read_database_uri is None:
            return self.reading()
        return self._engine("replica", _SMALL_POOL)

    def _engine(self, name: str, pool: Mapping[str, t.Any]) -> sa.Engine:
        if os.getpid() != self._pid:  # a fork that ran no hooks
            self.after_fork()
        with self._lock:
            engine = self._made.get(name)
            if engine is None:
                replica = name == "replica"
                location = find_replica(self._settings) if replica else self.location
                engine = make_engine(
                    location, self._settings, self._instance_path, pool
                )
                if replica and engine.dialect.name == "postgresql":
                    # Else snapshots set a driver's read-only flag and reset it after:
                    # from then on it sends "READ WRITE", which a standby rejects.
                    engine = engine.execution_options(postgresql_readonly=True)
                lost = self._lost  # not self, which would live as long as its engines
                event.listen(engine, "invalidate", lambda *args: lost.append(None))
                self._made[name] = engine
            return engine

    # The state of the tables

    def prepare(self, engine: sa.Engine | None = None) -> None:
        """Check that the tables exist; in our own file, create or upgrade them.

        :param engine: The replica's, if that is the one to check.
        :raises StorageError: If the database cannot be reached.
        :raises SetupRequired: If someone has to run ``flask llm-cost db upgrade``.
        """
        engine = engine or self.reading()
        if engine in self._ready:
            return
        if not self.location.own:
            self._prepare(engine)
            return
        # Other threads of this process wait until our own file has its tables.
        with self._creating:
            if engine not in self._ready:
                self._prepare(engine)

    def _prepare(self, engine: sa.Engine) -> None:
        with self.connected(engine, tables=False) as connection:
            found = version(connection)
            own = self.location.own and engine is not self._made.get("replica")
            outdated = own and (found is None or found < HEAD)
            if outdated:
                # The upgrade waits for a lock without a limit. A call does not.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
        if outdated:
            self._upgrade()
        elif found != HEAD:
            raise SetupRequired(_setup_message(label(engine.url), found))
        self._ready.add(engine)
        if self._inode is None:
            self._inode = inode(self.location)

    def _upgrade(self) -> None:
        self._upgrading += 1
        try:
            with loading():
                from .migrate import upgrade

            with unlimited(), self.explained():
                upgrade(self.writing())
        finally:
            self._upgrading -= 1
            self._upgraded_at = time.monotonic()

    def _upgraded(self, since: float) -> bool:
        return self._upgrading > 0 or self._upgraded_at > since

    def changed_file(self) -> bool:
        """Whether the SQLite file that is open was deleted or replaced meanwhile.

        SQLite does not say so: what is written then is lost.
        """
        return self._inode is not None and inode(self.location) != self._inode

    def recheck(self) -> None:
        """Check the tables again before the next use, for example after an error."""
        self._ready.clear()

    @contextlib.contextmanager
    def connected(
        self, engine: sa.Engine, *, tables: bool = True
    ) -> Iterator[sa.Connection]:
        """Connect; errors of the connection are raised as :exc:`StorageError`."""
        name = label(engine.url)
        with self.explained(name, tables=tables), contextlib.ExitStack() as stack:
            # Only connecting is limited: a query may take longer.
            with _answering(name):
                connection = stack.enter_context(engine.connect())
            yield connection

    @contextlib.contextmanager
    def explained(
        self, name: str | None = None, *, tables: bool = True
    ) -> Iterator[None]:
        """Raise driver errors as :exc:`StorageError` that names the database.

        :param name: The database's label, if it is not the one that is written to.
        :param tables: When a statement is rejected, check whether the tables exist.
        """
        try:
            yield
        except (
            exc.OperationalError,
            exc.InterfaceError,
            exc.InternalError,  # such as a read-only transaction in PostgreSQL
            exc.TimeoutError,
        ) as error:
            self.recheck()
            raise StorageError(_cannot_use(name or self.label, error)) from error
        except exc.ProgrammingError:
            self.recheck()
            if tables:
                self.prepare()
            raise

    def run(
        self,
        work: Callable[[sa.Engine], _R],
        *,
        writes: bool = True,
        keep: float = 0.0,
        in_line: bool = True,
        seconds: float | None = None,
    ) -> _R:
        """Do what a call waits for, on a thread of ours, within the time that it may wait.

        :param work: Called with the engine to use.
        :param writes: It may have to wait for locks.
        :param keep: Seconds of the call's time that are kept for its next query.
        :param in_line: As for :meth:`.QueryThreads.run`.
        :param seconds: How long to wait instead, if it is not a call that waits.
        :raises StorageError: If the database rejects a statement or does not answer in
            time. After a timeout, it is raised at once for a while.
        """
        try:
            engine = self.answering()  # it may import the driver, which has no limit
            return self._timed(engine, writes).run(
                lambda: self._answer(engine, work),
                self.label,
                keep=keep,
                in_line=in_line,
                seconds=seconds,
            )
        except StorageError:
            raise
        except Exception as error:
            pass_on(error)
            # For example of a server that became a standby in a failover, or of the
            # host's own code that connects. Anything else would not reject a call.
            raise StorageError(_cannot_use(self.label, error)) from error

    def _answer(self, engine: sa.Engine, work: Callable[[sa.Engine], _R]) -> _R:
        self._warm_up(engine)
        if engine not in self._ready:  # our own file
            began = time.monotonic()
            self.prepare(engine)
            if self._upgraded(began):  # else it was only read, which shows no lock
                note_answer()
        with self.explained():
            return work(engine)

    def _warm_up(self, engine: sa.Engine) -> None:
        """Connect and check the tables, even if no call waits any longer.

        Else a server for which that takes longer than a call may wait would never be used.
        """
        pool = engine.pool
        if engine.dialect.name == "sqlite":
            return
        connects = isinstance(pool, sa.pool.QueuePool) and not pool.checkedin()
        if connects or engine not in self._ready:
            with unlimited(), time_limit(_ANSWER_SECONDS):
                if connects:
                    with self.connected(engine, tables=False):
                        pass
                self.prepare(engine)
            for each in list(self._timed_queries.values()):
                each.go_on()
            note_answer(_CONNECTED_SECONDS)

    def _timed(self, engine: sa.Engine, writes: bool) -> TimedQueries:
        with self._lock:
            if writes not in self._timed_queries:
                sqlite = engine.dialect.name == "sqlite"  # it has one writer
                deciding = 1 if sqlite else _DECIDING
                threads = QueryThreads(deciding if writes else _LOOKING, self._upgraded)
                self._timed_queries[writes] = TimedQueries(threads, pauses=not sqlite)
            return self._timed_queries[writes]

    @contextlib.contextmanager
    def snapshot(self, *, fresh: bool = False) -> Iterator[sa.Connection]:
        """Connect in a read-only transaction that sees one state of the database.

        :param fresh: Do not use the replica, which may be behind.
        """
        engine = self.reading() if fresh else self.querying()
        self.prepare(engine)
        with self.connected(engine) as connection:
            connection = begin_snapshot(connection)
            try:
                yield connection
            finally:
                connection.rollback()


def _dispose(made: dict[str, sa.Engine], pid: int) -> None:
    while made:
        # A fork's connections are still its parent's.
        made.popitem()[1].dispose(close=os.getpid() == pid)


def version(connection: sa.Connection) -> str | None:
    """Return the revision of the tables, ``None`` if there are none."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    table = sa.table(VERSION_TABLE, sa.column("version_num"))
    found: str | None = connection.scalar(sa.select(table.c.version_num))
    return found


def brief(error: BaseException) -> str:
    """Return the driver's message in one line."""
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split())[:300] or type(cause).__name__


def _setup_message(name: str, found: str | None) -> str:
    if found is None:
        return (
            f"The ledger has no tables in {name} yet."
            " Run `flask llm-cost db upgrade` once."
        )
    if found < HEAD:
        return (
            f"The ledger's tables in {name} have version {found}, but version {HEAD} is"
            " required. Run `flask llm-cost db upgrade`."
        )
    return (
        f"The ledger's tables in {name} have version {found}, made by a newer"
        f" Flask-LLM-Cost; this one supports {HEAD}. Upgrade the package, or run"
        " `flask llm-cost db downgrade` with the newer one."
    )


def _cannot_use(name: str, error: Exception) -> str:
    # The message of an error that is not the driver's may contain a password.
    ours = isinstance(error, exc.SQLAlchemyError)
    reason = brief(error) if ours else type(error).__name__
    return f"The ledger's database {name} cannot be used: {reason}"


@contextlib.contextmanager
def _answering(name: str) -> Iterator[None]:
    with time_limit(_ANSWER_SECONDS) as limit:
        # A driver or the host's own code may raise anything for a broken connection.
        try:
            yield
        except Exception as error:
            pass_on(error)
            if limit.expired:
                raise NoAnswer(
                    f"The ledger's database {name} did not answer within"
                    f" {limit.seconds:g} s."
                ) from error
            if isinstance(error, (StorageError, exc.SQLAlchemyError)):
                raise
            raise StorageError(_cannot_use(name, error)) from error
