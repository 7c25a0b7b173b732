"""Create engines: their options, and how each connection is made and watched."""

from __future__ import annotations

import contextlib
import os
import time
import typing as t
from collections import deque
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy import exc

from ..config import Settings
from ..errors import StorageError
from ..file_system import warn_of_network
from ..interrupts import pass_on
from . import fork_gate
from . import timeouts
from .import_lock import loading
from .insert import copy_batches
from .location import label
from .location import Location

NETWORK_ADVICE: t.Final = (
    "SQLite needs a local disk: on a network, its file may be damaged if two machines"
    " use it. Set LLM_COST_DATABASE_URI to a file on a local disk, or to a PostgreSQL,"
    " MySQL or MariaDB database."
)
"""What to do about a SQLite file on a network file system."""

_AWAY: t.Final = frozenset(
    # PostgreSQL: a read-only transaction, on a standby or a server that became one.
    ["25006"]
    # MySQL and MariaDB: the same, a server that stops, a killed connection, and a node of
    # a cluster that is not in sync. After a packet that is too large, it hangs up.
    + [1290, 1792, 1836, 1053, 1927, 1047, 1153]
)
"""Errors of a server that is no longer the one to write to: its SQLSTATE or number."""

_LOCK_MS: t.Final = 200
_LAST_MS: t.Final = 10
"""SQLite stops waiting so long before its caller does, and says why."""

_PINGS: t.Final = 16
"""The distance of a server is the least of so many pings: others have waited, too."""

_ROUND_TRIPS: t.Final = 3
"""How many round trips a statement may take: it may begin a transaction, and be prepared."""

_CONNECT_SECONDS: t.Final = 5
_TIMEOUT_DRIVERS: t.Final = ("psycopg", "psycopg2", "pymysql", "mysqldb")


def make_engine(
    location: Location,
    settings: Settings,
    instance_path: str,
    pool: Mapping[str, t.Any],
) -> sa.Engine:
    """Create the ledger's engine, which connects like the host app's.

    :param pool: The size of its pool, as arguments of :func:`sqlalchemy.create_engine`.
    :raises StorageError: If the URL, the options or the driver cannot be used.
    """
    try:
        with loading():  # the dialect and the driver
            options = _options(location, pool, settings.engine_options)
            engine = sa.create_engine(location.url, **options)
    except (exc.ArgumentError, ImportError, TypeError) as error:
        raise StorageError(
            f"The ledger's database {label(location.url)} cannot be used: {error}. Check"
            " LLM_COST_DATABASE_URI, LLM_COST_ENGINE_OPTIONS and whether the driver is"
            " installed."
        ) from error
    if engine.dialect.name == "sqlite":  # it only waits for locks
        fork_gate.watch(engine)
        _limit_locks(engine)
        if (folder := location.folder) is not None:
            warn_of_network(folder, NETWORK_ADVICE)
    else:
        _watch(engine)
        _allow_round_trips(engine)
        copy_batches(engine)
    file = location.url.database or ""
    if location.own:
        _create_file(Path(file))
        event.listen(engine, "connect", _pragmas(fsync=settings.spool_fsync))
    elif location.host is None and engine.dialect.name == "sqlite":
        with _creating(file):
            os.makedirs(instance_path, exist_ok=True)
    return engine


def load_driver(uri: str) -> None:
    """Import the driver of a database. What is wrong with it is reported at its use."""
    with contextlib.suppress(exc.ArgumentError, ImportError), loading():
        sa.make_url(uri).get_dialect().import_dbapi()


def _options(
    location: Location, pool: Mapping[str, t.Any], engine_options: Mapping[str, t.Any]
) -> dict[str, t.Any]:
    options: dict[str, t.Any] = {
        **pool,
        "pool_recycle": 1800,
        # The text of an error must not log a call's tags.
        "hide_parameters": True,
    }
    sqlite = location.url.get_backend_name() == "sqlite"
    if not sqlite:
        options["pool_pre_ping"] = False  # _watch pings, with a time limit
        # Not the server's default, which the host may have changed for itself.
        options["isolation_level"] = "READ COMMITTED"
    if location.host is not None:
        options["creator"] = _host_creator(location.host)
        if sqlite:
            # The host's connections may be limited to the thread that made them.
            options["poolclass"] = sa.pool.NullPool
    elif location.url.get_driver_name() in _TIMEOUT_DRIVERS:
        options["connect_args"] = {"connect_timeout": _CONNECT_SECONDS}
    options = _merge(options, engine_options)
    if (make := options.get("creator")) is not None:
        options["creator"] = lambda: timeouts.connect(make)
    return options


def _merge(ours: dict[str, t.Any], theirs: Mapping[str, t.Any]) -> dict[str, t.Any]:
    merged = ours | dict(theirs)
    if "connect_args" in ours and "connect_args" in theirs:
        merged["connect_args"] = ours["connect_args"] | dict(theirs["connect_args"])
    if "poolclass" in merged and not issubclass(merged["poolclass"], sa.pool.QueuePool):
        for name in ("pool_size", "max_overflow", "pool_timeout"):
            if name not in theirs:
                merged.pop(name, None)
    return merged


def _host_creator(host: sa.Engine) -> Callable[[], t.Any]:
    """Return a creator that connects as the host does, listeners included.

    It uses a second pool of the host's kind, which keeps none of the connections.
    """
    donor = host.pool.recreate()
    sqlite = host.dialect.name == "sqlite"

    def connect() -> t.Any:
        fairy = donor.connect()
        fairy.detach()
        connection: t.Any = fairy.dbapi_connection
        if sqlite:
            # A host that sends its own BEGIN switches off the driver's.
            if hasattr(connection, "autocommit"):
                connection.autocommit = -1  # sqlite3.LEGACY_TRANSACTION_CONTROL
            connection.isolation_level = ""
        return connection

    return connect


def _create_file(path: Path) -> None:
    """Create our own file before SQLite does, readable by its owner only."""
    if path.exists():
        return
    with _creating(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


@contextlib.contextmanager
def _creating(file: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"The ledger's file {file} cannot be created: {error.strerror}. Let the app"
            " write to its instance folder, or set LLM_COST_DATABASE_URI."
        ) from error


def _pragmas(*, fsync: bool) -> Callable[[t.Any, object], None]:
    """For our own file only: readers never wait, writers wait for each other."""

    def connect(connection: t.Any, record: object) -> None:
        cursor = connection.cursor()
        # Changing the mode takes a lock, for which a call must not wait, either.
        cursor.execute(f"PRAGMA busy_timeout = {_lock_ms(10_000)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        # The spool line is deleted once its row is committed, so the row must be as
        # durable as the line was.
        cursor.execute(f"PRAGMA synchronous = {'FULL' if fsync else 'NORMAL'}")
        cursor.execute("PRAGMA busy_timeout = 10000")
        cursor.close()

    return connect


def _lock_ms(usual: int) -> int:
    """How long to wait for a lock: only briefly under a time limit, since a call waits."""
    limit = timeouts.current()
    if limit is None:
        return usual
    if not limit.locks:
        return 0
    return max(0, min(usual, _LOCK_MS, int(limit.left * 1000) - _LAST_MS))


def _limit_locks(engine: sa.Engine) -> None:
    """Apply the current thread's time limit to the engine's locks."""

    def checked_out(connection: t.Any, record: t.Any, proxy: object) -> None:
        if timeouts.current() is not None:
            [usual] = connection.execute("PRAGMA busy_timeout").fetchone()
            record.info["busy_timeout"] = usual
            connection.execute(f"PRAGMA busy_timeout = {_lock_ms(usual)}")

    def checked_in(connection: t.Any, record: t.Any) -> None:
        usual = record.info.pop("busy_timeout", None)
        if usual is not None and connection is not None:
            connection.execute(f"PRAGMA busy_timeout = {usual}")

    event.listen(engine, "checkout", checked_out)
    event.listen(engine, "checkin", checked_in)


def _watch(engine: sa.Engine) -> None:
    """Apply the current thread's time limit to the engine's connections."""
    pings: deque[float] = deque(maxlen=_PINGS)

    def do_connect(
        dialect: sa.Dialect, record: t.Any, args: t.Any, options: t.Any
    ) -> t.Any:
        return timeouts.connect(lambda: dialect.connect(*args, **options))

    def connected(connection: t.Any, record: t.Any) -> None:
        record.info["new"] = True
        watch(connection)

    def checked_out(connection: t.Any, record: t.Any, proxy: object) -> None:
        watch(connection)
        if record.info.pop("new", False):
            record.info["ping"] = min(list(pings), default=0.0)
            return
        began = time.monotonic()
        try:
            # The pool's own ping comes before the connection can be watched.
            engine.dialect.do_ping(connection)
        except Exception as error:
            pass_on(error)
            # Whatever the driver raises, the pool makes another connection.
            raise exc.DisconnectionError from error
        pings.append(time.monotonic() - began)
        record.info["ping"] = distance = min(list(pings))
        _allow(distance)

    def watch(connection: t.Any) -> None:
        if (limit := timeouts.current()) is not None:
            limit.watch(connection)

    def checked_in(connection: t.Any, record: object) -> None:
        if (limit := timeouts.current()) is not None:
            limit.release(connection)

    event.listen(engine, "handle_error", _leave_standby)
    event.listen(engine, "do_connect", do_connect)
    event.listen(engine, "connect", connected, insert=True)
    event.listen(engine, "checkout", checked_out)
    event.listen(engine, "checkin", checked_in)


def _allow_round_trips(engine: sa.Engine) -> None:
    """Do not count the time of round trips: a server that is far away is not silent."""

    def executing(connection: sa.Connection, *args: t.Any) -> None:
        connection.info["began"] = time.monotonic()

    def executed(connection: sa.Connection, *args: t.Any) -> None:
        # What takes longer has waited for something.
        took = time.monotonic() - connection.info["began"]
        _allow(min(took, _ROUND_TRIPS * connection.info.get("ping", 0)))

    def committing(connection: sa.Connection) -> None:
        _allow(connection.info.get("ping", 0))

    event.listen(engine, "before_cursor_execute", executing)
    event.listen(engine, "after_cursor_execute", executed)
    event.listen(engine, "commit", committing)


def _allow(seconds: float) -> None:
    if (limit := timeouts.current()) is not None:
        limit.allow(seconds)


def _leave_standby(context: t.Any) -> None:
    """After a failover, treat a server that accepts no writes as unavailable.

    Otherwise its connection would be reused, although the address now leads to another server.
    """
    error = context.original_exception
    code = getattr(error, "sqlstate", None) or next(iter(error.args), None)
    if isinstance(code, (str, int)) and code in _AWAY:
        context.is_disconnect = True
