"""Where the ledger's database is, and how we connect to it.

Our engines are our own even where the database is the host's: its pool, session and
transactions are never touched. What the host does to make a connection (arguments,
creator, listeners that fetch tokens or set a search path) is done for ours, too.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy import exc

from ..config import Settings
from ..errors import LlmCostError
from ..errors import SetupRequired
from ..errors import StorageError
from . import timeouts as patience
from .import_lock import loading
from .migrations import HEAD
from .migrations import VERSION_TABLE
from .tables import calls

OWN_FILE: t.Final = "llm_cost.db"
"""The SQLite file that is ours alone: made, upgraded and tuned by itself."""

_CONNECT_SECONDS: t.Final = 5
_ANSWER_SECONDS: t.Final = 5.0
"""How long a call waits for the database."""

_HUNG_SECONDS: t.Final = 5.0, 30.0
"""How long nobody waits again, after once and at the most."""

_SMALL: t.Final = {"pool_size": 2, "max_overflow": 3, "pool_timeout": 2}
"""The second pool: whoever waits for a connection longer is told."""

_TIMEOUT_DRIVERS: t.Final = ("psycopg", "psycopg2", "pymysql", "mysqldb")


@dataclass(frozen=True, slots=True)
class Place:
    """Which database, and how it is connected to."""

    url: sa.URL
    host: sa.Engine | None = None
    """The host's engine, if the database is the host's."""

    @property
    def own(self) -> bool:
        """Whether it is our own SQLite file."""
        return (
            self.host is None
            and self.url.get_backend_name() == "sqlite"
            and Path(self.url.database or "").name == OWN_FILE
        )


class Engines:
    """Two engines per process, made when first asked for.

    The writer has one to itself. Pages, reports and sync writes share a small second
    one that gives up soon, since someone waits for them.
    """

    def __init__(
        self,
        settings: Settings,
        instance_path: str,
        host_engine: Callable[[], sa.Engine] | None,
    ) -> None:
        self._settings = settings
        self._instance_path = instance_path
        self._host_engine = host_engine
        self._fresh()

    def _fresh(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._place: Place | None = None
        self._made: dict[str, sa.Engine] = {}
        self._ready: set[sa.Engine] = set()
        self._hung_until = 0.0
        self._hung_for = 0.0

    def let_go(self) -> None:
        """In a forked child: forget the parent's connections without closing them."""
        made = self._made
        self._fresh()
        for engine in made.values():
            engine.dispose(close=False)

    def close(self) -> None:
        """Close all connections; they are made again if someone asks."""
        made, self._made = self._made, {}
        self._ready = set()
        for engine in made.values():
            engine.dispose()

    @property
    def place(self) -> Place:
        """Which database this is.

        :raises StorageError: If the settings name none that could be.
        """
        with self._lock:
            if self._place is None:
                self._place = self._find()
            return self._place

    @property
    def label(self) -> str:
        """The database's URL without user, password and options."""
        return _label(self.place.url)

    def writing(self) -> sa.Engine:
        """The engine of the writer and of migrations."""
        return self._engine("writing", {"pool_size": 1, "max_overflow": 2})

    def reading(self) -> sa.Engine:
        """The engine of pages, reports and sync writes."""
        return self._engine("reading", _SMALL)

    def asking(self) -> sa.Engine:
        """The engine of pages and reports: the replica's, if there is one."""
        if self._settings.read_database_uri is None:
            return self.reading()
        return self._engine("replica", _SMALL)

    def _engine(self, name: str, pool: Mapping[str, t.Any]) -> sa.Engine:
        if os.getpid() != self._pid:  # forked by something that ran no hooks
            self.let_go()
        with self._lock:
            engine = self._made.get(name)
            if engine is None:
                replica = name == "replica"
                place = self._replica() if replica else self.place
                engine = self._make(place, pool)
                if replica and engine.dialect.name == "postgresql":
                    # Once a driver has been told, it says one or the other each time,
                    # and a standby refuses "READ WRITE".
                    engine = engine.execution_options(postgresql_readonly=True)
                self._made[name] = engine
            return engine

    def _find(self) -> Place:
        own = Place(sa.URL.create("sqlite", database=self._path(OWN_FILE)))
        uri = self._settings.database_uri
        if uri is not None:
            url = _parse(uri)
            if _in_memory(url):
                return own
            if url.get_backend_name() == "sqlite":
                url = url.set(database=self._path(url.database or OWN_FILE))
            return Place(url)
        if self._host_engine is None:
            return own
        host = self._ask_host(self._host_engine)
        # Another engine on sqlite:// is another, empty database, and writing on the
        # host's one would commit what it has open.
        return own if _in_memory(host.url) else Place(host.url, host)

    def _ask_host(self, get: Callable[[], sa.Engine]) -> sa.Engine:
        # Whatever the host raises, to us it is a ledger that cannot be used for now.
        try:
            return get()
        except Exception as error:
            # Only our own words are repeated: there may be a password in others'.
            ours = isinstance(error, LlmCostError)
            raise StorageError(
                str(error)
                if ours
                else f"The app's own database cannot be used: {type(error).__name__}."
            ) from error

    def _path(self, name: str) -> str:
        """A path relative to the instance folder, as Flask-SQLAlchemy has it."""
        return (
            name
            if name.startswith("file:")
            else os.path.join(self._instance_path, name)
        )

    def _replica(self) -> Place:
        return Place(
            _parse(self._settings.read_database_uri or "", "READ_DATABASE_URI")
        )

    def _make(self, place: Place, pool: Mapping[str, t.Any]) -> sa.Engine:
        try:
            with loading():  # the dialect and the driver
                engine = sa.create_engine(place.url, **self._options(place, pool))
        except (exc.ArgumentError, ImportError, TypeError) as error:
            raise StorageError(
                f"The ledger's database {_label(place.url)} cannot be used: {error}. Look at"
                " LLM_COST_DATABASE_URI, LLM_COST_ENGINE_OPTIONS and whether the driver"
                " is installed."
            ) from error
        if engine.dialect.name != "sqlite":  # which waits for locks alone
            _watch(engine)
        if place.own:
            _touch(Path(place.url.database or ""))
            event.listen(engine, "connect", self._tune)
        elif place.host is None and engine.dialect.name == "sqlite":
            os.makedirs(self._instance_path, exist_ok=True)
        return engine

    def _options(self, place: Place, pool: Mapping[str, t.Any]) -> dict[str, t.Any]:
        options: dict[str, t.Any] = {
            **pool,
            "pool_recycle": 1800,
            # An error's text must not carry a call's tags into the log.
            "hide_parameters": True,
        }
        sqlite = place.url.get_backend_name() == "sqlite"
        if not sqlite:
            options["pool_pre_ping"] = False  # we do, where it is watched
            # Not the server's default, which a host may have changed for itself.
            options["isolation_level"] = "READ COMMITTED"
        if place.host is not None:
            options["creator"] = _borrow(place.host)
            if sqlite:
                # The host's connections may be for one thread only.
                options["poolclass"] = sa.pool.NullPool
        elif place.url.get_driver_name() in _TIMEOUT_DRIVERS:
            options["connect_args"] = {"connect_timeout": _CONNECT_SECONDS}
        options = _merge(options, self._settings.engine_options)
        if (make := options.get("creator")) is not None:
            options["creator"] = lambda: patience.connected(make)
        return options

    def _tune(self, connection: t.Any, record: object) -> None:
        """Our own file only: readers never wait, writers wait for each other."""
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout = 10000")
        cursor.execute("PRAGMA journal_mode = WAL")
        # A spool line is gone once its row is committed, so it must be as durable.
        level = "FULL" if self._settings.spool_fsync else "NORMAL"
        cursor.execute(f"PRAGMA synchronous = {level}")
        cursor.close()

    # The state of the tables

    def prepare(self, engine: sa.Engine | None = None) -> None:
        """See that the tables are there; our own file gets them.

        :param engine: The replica's, if it is to be asked.
        :raises StorageError: If the database cannot be reached.
        :raises SetupRequired: If someone has to run ``flask llm-cost db upgrade``.
        """
        engine = engine or self.reading()
        if engine in self._ready:
            return
        with self.connected(engine, tables=False) as connection:
            found = version(connection)
        own = self.place.own and engine is not self._made.get("replica")
        if found != HEAD and own and (found is None or found < HEAD):
            with loading():
                from .migrate import upgrade

            with self.explained():
                upgrade(self.writing())
        elif found != HEAD:
            raise SetupRequired(_explain(_label(engine.url), found))
        self._ready.add(engine)

    def doubt(self) -> None:
        """Look at the tables again before the next use: something went wrong."""
        self._ready.clear()

    @contextlib.contextmanager
    def connected(
        self, engine: sa.Engine, *, tables: bool = True
    ) -> Iterator[sa.Connection]:
        """A connection; what keeps it from working is a :exc:`StorageError`."""
        label = _label(engine.url)
        with self.explained(label, tables=tables), contextlib.ExitStack() as stack:
            # What is asked then may take its time.
            with _answering(label):
                connection = stack.enter_context(engine.connect())
            yield connection

    @contextlib.contextmanager
    def explained(
        self, label: str | None = None, *, tables: bool = True
    ) -> Iterator[None]:
        """Say which database it was that failed, without its password.

        :param label: The database's, if it is not the one that is written.
        :param tables: If a statement was refused, see whether the tables are there.
        """
        try:
            yield
        except (
            exc.OperationalError,
            exc.InterfaceError,
            exc.TimeoutError,
        ) as error:
            self.doubt()
            raise StorageError(
                f"The ledger's database {label or self.label} cannot be used:"
                f" {brief(error)}"
            ) from error
        except exc.ProgrammingError:
            self.doubt()
            if tables:
                self.prepare()
            raise

    @contextlib.contextmanager
    def hurried(self) -> Iterator[None]:
        """A call waits for what is done in here.

        :raises StorageError: If the database refuses it, or does not answer in time. Then
            nobody waits for it for a while, in which it is raised at once.
        """
        if time.monotonic() < self._hung_until:
            raise StorageError(
                f"The ledger's database {self.label} did not answer a moment ago."
            )
        try:
            with _answering(self.label):
                yield
        except _Silent:
            self._hangs()
            raise
        except exc.DBAPIError as error:
            # Such as one that is a standby since a failover: it cannot be used either.
            raise StorageError(
                f"The ledger's database {self.label} cannot be used: {brief(error)}"
            ) from error
        self._hung_for = 0.0

    def _hangs(self) -> None:
        first, most = _HUNG_SECONDS
        with self._lock:
            now = time.monotonic()
            if now >= self._hung_until:  # not by all who waited together
                self._hung_for = min(max(first, self._hung_for * 2), most)
                self._hung_until = now + self._hung_for

    @contextlib.contextmanager
    def snapshot(self, *, fresh: bool = False) -> Iterator[sa.Connection]:
        """One read-only transaction in which nothing changes.

        :param fresh: Not of a replica, which may be behind.
        """
        engine = self.reading() if fresh else self.asking()
        self.prepare(engine)
        with self.connected(engine) as connection:
            name = connection.dialect.name
            if name == "postgresql":
                connection = connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
                # Before anything is seen: else a month could be dropped between a look at
                # what is added up and one at its calls, which no snapshot holds then.
                connection.exec_driver_sql(
                    f"LOCK TABLE {calls.name} IN ACCESS SHARE MODE"
                )
            elif name == "sqlite":
                # The driver begins nothing for a SELECT: each would be of its own time.
                connection.exec_driver_sql("BEGIN")
            else:
                connection = connection.execution_options(
                    isolation_level="REPEATABLE READ"
                )
                connection.exec_driver_sql(
                    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
                )
            try:
                yield connection
            finally:
                connection.rollback()


def _explain(label: str, found: str | None) -> str:
    if found is None:
        return (
            f"The ledger has no tables in {label} yet."
            " Run `flask llm-cost db upgrade` once."
        )
    if found < HEAD:
        return (
            f"The ledger's tables in {label} are of version {found}, and"
            f" {HEAD} is needed. Run `flask llm-cost db upgrade`."
        )
    return (
        f"The ledger's tables in {label} are of version {found}, which a newer"
        f" Flask-LLM-Cost made; this one knows {HEAD}. Upgrade the package, or run"
        " `flask llm-cost db downgrade` with the newer one."
    )


def version(connection: sa.Connection) -> str | None:
    """The version of the tables, ``None`` if there are none."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    table = sa.table(VERSION_TABLE, sa.column("version_num"))
    found: str | None = connection.scalar(sa.select(table.c.version_num))
    return found


def brief(error: BaseException) -> str:
    """What the driver said, in one line."""
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split())[:300] or type(cause).__name__


def _label(url: sa.URL) -> str:
    bare = sa.URL.create(url.drivername, None, None, url.host, url.port, url.database)
    return bare.render_as_string()


def _parse(uri: str, key: str = "DATABASE_URI") -> sa.URL:
    try:
        url = sa.make_url(uri)
    except (exc.ArgumentError, ValueError):
        url = None
    # The rest of a password with an "@" would be taken for the host, and be logged.
    if url is None or "@" in (url.host or ""):
        # The text is not repeated: there may be a password in it.
        raise StorageError(
            f"LLM_COST_{key} cannot be read as an SQLAlchemy URL. Write it like"
            ' "postgresql+psycopg://user:password@host/name"; in a password, "@" is'
            ' written "%40", and several hosts go behind the name:'
            ' "?host=one:5432&host=two:5432".'
        ) from None
    return url


def _in_memory(url: sa.URL) -> bool:
    if url.get_backend_name() != "sqlite":
        return False
    name = url.database or ":memory:"
    return ":memory:" in name or url.query.get("mode") == "memory"


def _merge(ours: dict[str, t.Any], theirs: Mapping[str, t.Any]) -> dict[str, t.Any]:
    merged = ours | dict(theirs)
    if "connect_args" in ours and "connect_args" in theirs:
        merged["connect_args"] = ours["connect_args"] | dict(theirs["connect_args"])
    if "poolclass" in merged and not issubclass(merged["poolclass"], sa.pool.QueuePool):
        for name in ("pool_size", "max_overflow", "pool_timeout"):
            if name not in theirs:
                merged.pop(name, None)
    return merged


class _Silent(StorageError):
    """The database did not answer in time."""


@contextlib.contextmanager
def _answering(label: str) -> Iterator[None]:
    with patience.hurried(_ANSWER_SECONDS) as wait:
        # Whatever a driver or a host's own code makes of it.
        try:
            yield
        except Exception as error:
            if not wait.over:
                raise
            raise _Silent(
                f"The ledger's database {label} did not answer within"
                f" {_ANSWER_SECONDS:g} s."
            ) from error


def _watch(engine: sa.Engine) -> None:
    """Let nobody wait for its connections for longer than they can."""

    def connect(
        dialect: sa.Dialect, record: t.Any, args: t.Any, options: t.Any
    ) -> t.Any:
        return patience.connected(lambda: dialect.connect(*args, **options))

    def made(connection: t.Any, record: t.Any) -> None:
        record.info["new"] = True
        watch(connection)

    def out(connection: t.Any, record: t.Any, proxy: object) -> None:
        watch(connection)
        if record.info.pop("new", False):
            return
        try:
            # Not by the pool itself, which does so before anyone can watch it.
            engine.dialect.do_ping(connection)
        except Exception as error:
            # Whatever the driver says of it: another one is made.
            raise exc.DisconnectionError from error

    def watch(connection: t.Any) -> None:
        if (wait := patience.current()) is not None:
            wait.watch(connection)

    def back(connection: t.Any, record: object) -> None:
        if (wait := patience.current()) is not None:
            wait.let_go(connection)

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", made, insert=True)
    event.listen(engine, "checkout", out)
    event.listen(engine, "checkin", back)


def _borrow(host: sa.Engine) -> Callable[[], t.Any]:
    """A creator that connects as the host does, on a pool that only makes connections."""
    donor = host.pool.recreate()
    sqlite = host.dialect.name == "sqlite"

    def connect() -> t.Any:
        fairy = donor.connect()
        fairy.detach()
        connection: t.Any = fairy.dbapi_connection
        if sqlite:
            # Hosts switch off the driver's own BEGIN where they send one themselves.
            if hasattr(connection, "autocommit"):
                connection.autocommit = -1  # sqlite3.LEGACY_TRANSACTION_CONTROL
            connection.isolation_level = ""
        return connection

    return connect


def _touch(path: Path) -> None:
    """Make our own file before SQLite does: it is for its owner's eyes only."""
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StorageError(
            f"The ledger's file {path} cannot be made: {error.strerror}. Let the app"
            " write to its instance folder, or set LLM_COST_DATABASE_URI."
        ) from error
