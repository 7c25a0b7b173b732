"""Another database server takes over: nothing is lost, doubled or rejected."""

from __future__ import annotations

import threading
import time
import typing as t
from pathlib import Path

import pymysql
import pytest
import sqlalchemy as sa

from flask_llm_cost.db import tables
from flask_llm_cost.errors import StorageError
from tests.conftest import MakeLedger

from .samples import make_call
from .test_ledger import stored
from .test_stopped import MariaDB
from .test_stopped import Server
from .test_stopped import server as server

servers = pytest.mark.parametrize(
    "empty_database", ["POSTGRESQL", "MARIADB"], indirect=True
)


class Primary:
    """Connects as the app does; the first connections lead to a standby."""

    def __init__(self, database: str, standbys: int) -> None:
        self.url = sa.make_url(database)
        self.made = 0
        self._standbys = standbys
        self._engine = sa.create_engine(self.url, poolclass=sa.pool.NullPool)

    def __call__(self) -> t.Any:
        self.made += 1
        connection: t.Any = self._engine.raw_connection()
        connection.detach()
        connection = connection.dbapi_connection
        if self.made <= self._standbys:
            cursor = connection.cursor()
            if self.url.get_backend_name() == "postgresql":
                cursor.execute("SET default_transaction_read_only = on")
            else:
                cursor.execute("SET SESSION TRANSACTION READ ONLY")
            connection.commit()
        return connection


@servers
@pytest.mark.parametrize("write", ["spool", "sync"])
def test_a_read_only_server_is_left_for_a_new_connection(
    database: str, make_ledger: MakeLedger, write: str
) -> None:
    primary = Primary(database, standbys=3)
    ledger = make_ledger(database, engine_options={"creator": primary}, write=write)
    calls = [make_call(number) for number in range(20)]
    for call in calls:
        ledger.append(call)
    assert ledger.flush(30)
    assert primary.made >= 4
    assert stored(ledger) == calls
    assert (ledger.queue.count(), ledger.queue.rejected(), ledger.lost) == (0, [], 0)


@servers
def test_a_command_on_a_read_only_server_ends_with_a_clear_error(
    database: str, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(
        database, engine_options={"creator": Primary(database, standbys=100)}
    )
    ledger.append(make_call(1))
    with pytest.raises(StorageError, match="(?i)read.only"):
        ledger.queue.drain()
    assert ledger.queue.count() == 1


def break_connections(database: str) -> None:
    """As the death of the server does."""
    name = sa.make_url(database).database
    engine = sa.create_engine(database, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT id FROM information_schema.processlist"
            f" WHERE db = '{name}' AND id <> CONNECTION_ID()"
        )
        for (number,) in found.all():
            connection.exec_driver_sql(f"KILL {number}")
    engine.dispose()


@pytest.mark.parametrize("empty_database", ["MARIADB"], indirect=True)
def test_tags_are_stored_again_where_the_replica_lacked_them(
    database: str, make_ledger: MakeLedger
) -> None:
    """A replica that was behind takes over: the last second of the primary is missing."""
    ledger = make_ledger(database)
    ledger.append(make_call(1, tags={"user": "alice"}))
    assert ledger.flush(20)
    engine = sa.create_engine(database)
    with engine.begin() as connection:
        for table in (tables.calls, tables.tag_values, tables.tag_sets):
            connection.execute(sa.delete(table))
    engine.dispose()
    break_connections(database)
    for number in range(2, 4):
        ledger.append(make_call(number, tags={"user": "alice"}))
        assert ledger.flush(20)
    assert [call.tags for call in stored(ledger)] == [{"user": "alice"}] * 2


@servers
@pytest.mark.parametrize(
    ("error", "number"), [("deadlock_detected", 1213), ("serialization_failure", 1205)]
)
def test_a_deadlock_is_retried(
    database: str, make_ledger: MakeLedger, error: str, number: int
) -> None:
    """Raised by a trigger, twice, as the server would in the middle of a batch."""
    ledger = make_ledger(database)
    ledger.append(make_call(0))
    assert ledger.flush(20)
    engine = sa.create_engine(database, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            statements = [
                f"CREATE FUNCTION raise_it() RETURNS trigger LANGUAGE plpgsql AS $$"
                f" BEGIN RAISE {error}; END $$",
                "CREATE TRIGGER trial BEFORE INSERT ON llm_cost_calls"
                " FOR EACH ROW EXECUTE FUNCTION raise_it()",
            ]
        else:
            statements = [
                "CREATE TRIGGER trial BEFORE INSERT ON llm_cost_calls FOR EACH ROW"
                f" SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = {number}",
            ]
        for statement in statements:
            connection.exec_driver_sql(statement)
        calls = [make_call(n) for n in range(1, 4)]
        for call in calls:
            ledger.append(call)
        with pytest.raises(StorageError):
            ledger.queue.drain()
        on = " ON llm_cost_calls" if engine.dialect.name == "postgresql" else ""
        connection.exec_driver_sql(f"DROP TRIGGER trial{on}")
    engine.dispose()
    assert ledger.flush(20)
    assert len(stored(ledger)) == 4
    assert (ledger.queue.count(), ledger.queue.rejected()) == (0, [])


def make_read_only(server: Server, folder: Path, on: bool) -> None:
    if not isinstance(server, MariaDB):
        value = "on" if on else "off"
        engine = sa.create_engine(server.uri, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(
                f"ALTER SYSTEM SET default_transaction_read_only = {value}"
            )
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        engine.dispose()
        return
    socket = str(folder / "server" / "socket")
    connection = pymysql.connect(unix_socket=socket, user="root")
    with connection.cursor() as cursor:
        cursor.execute(f"SET GLOBAL read_only = {int(on)}")
    connection.close()


@pytest.mark.stress
def test_a_server_that_is_demoted_and_promoted_under_load_loses_nothing(
    server: Server, tmp_path: Path, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(server.uri)
    ledger.schema.upgrade()
    calls = []
    stop = threading.Event()

    def record() -> None:
        while not stop.is_set():
            call = make_call(len(calls))
            ledger.append(call)
            calls.append(call)
            time.sleep(0.002)

    thread = threading.Thread(target=record)
    thread.start()
    for on in (True, False) * 3:
        time.sleep(1.5)
        make_read_only(server, tmp_path, on)
    stop.set()
    thread.join()
    assert ledger.flush(60)
    assert stored(ledger) == calls
    assert (ledger.queue.rejected(), ledger.lost) == ([], 0)
