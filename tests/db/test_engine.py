from __future__ import annotations

import socket
import stat
import time
import typing as t
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_llm_cost.db.tables import calls
from flask_llm_cost.errors import LlmCostError
from flask_llm_cost.errors import StorageError
from flask_llm_cost.ledger import Ledger
from tests.conftest import every_database
from tests.conftest import MakeLedger
from tests.ledger.samples import make_call
from tests.ledger.test_ledger import stored


def _host(uri: str | None, folder: Path, **options: t.Any) -> sa.Engine:
    """A host's engine. On SQLite, its file is not ours."""
    return sa.create_engine(uri or f"sqlite:///{folder}/host.db", **options)


def _count(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(calls)) or 0


@every_database
def test_connections_are_made_as_the_host_makes_them(
    empty_database: str | None, tmp_path: Path, make_ledger: MakeLedger
) -> None:
    host = _host(empty_database, tmp_path)
    wrong = {"password": "x", "dbname": "x", "port": 1} if empty_database else {}
    right = host.dialect.create_connect_args(host.url)[1]
    host = sa.create_engine(host.url, connect_args=wrong)
    seen = []

    @sa.event.listens_for(host, "do_connect")
    def token(
        dialect: t.Any, record: t.Any, args: t.Any, params: dict[str, t.Any]
    ) -> None:
        if wrong:
            params.clear()
            params.update(right)
        seen.append("do_connect")

    sa.event.listen(host, "connect", lambda *args: seen.append("connect"))
    ledger = make_ledger(host_engine=lambda: host)
    ledger.schema.upgrade()
    ledger.append(make_call())
    assert ledger.flush(60)
    assert len(stored(ledger)) == 1
    assert {"do_connect", "connect"} <= set(seen)
    host.dispose()


@every_database
def test_the_hosts_pool_and_transaction_are_not_touched(
    empty_database: str | None, tmp_path: Path, make_ledger: MakeLedger
) -> None:
    host = _host(empty_database, tmp_path, pool_size=1, max_overflow=0, pool_timeout=1)
    ledger = make_ledger(host_engine=lambda: host)
    ledger.schema.upgrade()
    with host.connect() as connection:  # the only one there is
        connection.execute(sa.text("CREATE TABLE own (n INTEGER)"))
        connection.commit()
        assert connection.scalar(sa.text("SELECT count(*) FROM own")) == 0
        if empty_database:
            connection.execute(sa.text("INSERT INTO own VALUES (1)"))
        ledger.append(make_call())
        assert ledger.flush(60)
        with ledger.reading() as ours:
            assert _count(ours) == 1
        connection.rollback()
        assert connection.scalar(sa.text("SELECT count(*) FROM own")) == 0
    host.dispose()


@every_database
def test_an_autocommit_host_does_not_break_our_transactions(
    empty_database: str | None, tmp_path: Path, make_ledger: MakeLedger
) -> None:
    host = _host(empty_database, tmp_path, isolation_level="AUTOCOMMIT")
    ledger = make_ledger(host_engine=lambda: host)
    ledger.schema.upgrade()
    row = {"name": "x", "value": "y"}
    meta = calls.metadata.tables["llm_cost_meta"]
    with ledger._engines.writing().connect() as connection:
        connection.execute(sa.insert(meta), row)
        connection.rollback()
        mine = sa.select(meta).where(meta.c.name == "x")
        assert connection.execute(mine).all() == []
    host.dispose()


def test_the_ledger_of_a_host_in_memory_ends_with_it(
    tmp_path: Path, make_ledger: MakeLedger
) -> None:
    host = sa.create_engine("sqlite://")
    ledger = make_ledger(host_engine=lambda: host)
    ledger.append(make_call())
    assert ledger.flush(60)
    assert len(stored(ledger)) == 1
    file = Path(ledger.label.removeprefix("sqlite:///"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    other = make_ledger(host_engine=lambda: host)
    assert stored(other) == []
    # A host's tests must not reach the ledger of the app that they test.
    assert stored(make_ledger()) == []
    ledger.close()
    assert not file.parent.exists()


def test_our_own_file_is_private(tmp_path: Path, make_ledger: MakeLedger) -> None:
    ledger = make_ledger()
    ledger.append(make_call())
    assert ledger.flush(60)
    file = tmp_path / "instance" / "llm_cost.db"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_pragmas_are_set_on_our_own_file_only(
    tmp_path: Path, make_ledger: MakeLedger
) -> None:
    def mode(ledger: Ledger) -> t.Any:
        with ledger._engines.writing().connect() as connection:
            return connection.exec_driver_sql("PRAGMA journal_mode").scalar()

    host = sa.create_engine(f"sqlite:///{tmp_path}/host.db")
    assert mode(make_ledger()) == "wal"
    assert mode(make_ledger(host_engine=lambda: host)) == "delete"
    assert mode(make_ledger(f"sqlite:///{tmp_path}/other.db")) == "delete"


def test_a_host_that_locks_its_file_does_not_delay_calls(
    tmp_path: Path, make_ledger: MakeLedger
) -> None:
    host = _host(None, tmp_path, connect_args={"timeout": 5})
    ledger = make_ledger(host_engine=lambda: host)
    ledger.schema.upgrade()
    with host.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        ledger.append(make_call())
        began = time.monotonic()
        ledger.append(make_call(1))
        assert time.monotonic() - began < 3
        assert not ledger.flush(0.5)
        connection.rollback()
    assert ledger.flush(60)
    assert len(stored(ledger)) == 2
    host.dispose()


@every_database
def test_a_snapshot_sees_one_state(
    database: str | None, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(database)
    with ledger.reading() as connection:
        assert _count(connection) == 0
        ledger.append(make_call())
        assert ledger.flush(60)
        assert _count(connection) == 0
    with ledger.reading() as connection:
        assert _count(connection) == 1


@pytest.mark.parametrize("empty_database", ["POSTGRESQL", "MARIADB"], indirect=True)
def test_a_snapshot_cannot_write(database: str, make_ledger: MakeLedger) -> None:
    ledger = make_ledger(database)
    with (
        pytest.raises((StorageError, sa.exc.InternalError)),
        ledger.reading() as reading,
    ):
        reading.execute(sa.delete(calls))
    ledger.append(make_call())  # and leaves no connection read-only
    assert ledger.flush(60)


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "mysql+pymysql"])
def test_an_unreachable_database_is_named_without_its_password(
    make_ledger: MakeLedger, driver: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    told: list[Exception] = []
    ledger = make_ledger(
        f"{driver}://me:hush@127.0.0.1:{port}/costs",
        failed=lambda call, error: told.append(error),
    )
    with pytest.raises(StorageError) as caught, ledger.reading():
        pass
    label = f"{driver}://127.0.0.1:{port}/costs"
    assert label in str(caught.value)
    assert "hush" not in str(caught.value) + ledger.label
    ledger.append(make_call())
    assert not ledger.flush(3)
    assert ledger.queue.count() == 1
    assert [label in str(error) for error in told] == [True]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"database_uri": "nonsense://x:hush@y"}, "LLM_COST_DATABASE_URI"),
        ({"database_uri": "mysql+mysqldb://x:hush@y/z"}, "the driver is installed"),
        ({"engine_options": {"color": 1}}, "'color'.*LLM_COST_ENGINE_OPTIONS"),
    ],
)
def test_unusable_engine_settings_are_an_error(
    make_ledger: MakeLedger, settings: dict[str, t.Any], message: str
) -> None:
    ledger = make_ledger(**settings)
    with pytest.raises(StorageError, match=message) as caught, ledger.reading():
        pass
    assert "hush" not in str(caught.value)


def test_an_unusable_instance_folder_is_an_error(tmp_path: Path) -> None:
    from flask_llm_cost.config import Settings

    (tmp_path / "file").touch()
    told: list[Exception] = []
    ledger = Ledger(
        Settings(),
        instance_path=str(tmp_path / "file" / "instance"),
        failed=lambda call, error: told.append(error),
    )
    with pytest.raises(StorageError, match="Let the app write to its instance folder"):
        ledger.queue.drain() if ledger.append(
            make_call()
        ) else ledger.reading().__enter__()
    assert ledger.lost == 1
    assert "A call was lost" in str(told[0])
    ledger.close()


def test_the_host_error_is_raised(make_ledger: MakeLedger) -> None:
    def host() -> sa.Engine:
        raise LlmCostError("no such bind")

    with pytest.raises(LlmCostError, match="no such bind"):
        make_ledger(host_engine=host).schema.current()


def test_relative_files_are_in_the_instance_folder(
    tmp_path: Path, make_ledger: MakeLedger
) -> None:
    make_ledger("sqlite:///costs.db").schema.upgrade()
    assert (tmp_path / "instance" / "costs.db").exists()


def test_pages_read_from_the_replica(tmp_path: Path, make_ledger: MakeLedger) -> None:
    replica = make_ledger(f"sqlite:///{tmp_path}/replica.db")
    replica.schema.upgrade()
    replica.append(make_call(1))
    assert replica.flush(60)
    ledger = make_ledger(read_database_uri=f"sqlite:///{tmp_path}/replica.db")
    for n in range(3):
        ledger.append(make_call(n))
    assert ledger.flush(60)
    assert len(stored(ledger)) == 1
    assert len(stored(make_ledger())) == 3


def test_a_replica_that_cannot_be_read_is_named(
    tmp_path: Path, make_ledger: MakeLedger
) -> None:
    gone = f"sqlite:///{tmp_path}/gone/replica.db"
    ledger = make_ledger(read_database_uri=gone)
    with (
        pytest.raises(StorageError, match="gone/replica.db cannot be"),
        ledger.reading(),
    ):
        pass
    ledger.append(make_call())
    assert ledger.flush(60)
