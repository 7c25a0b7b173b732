"""A database that accepts connections and never answers delays no call for long."""

from __future__ import annotations

import contextlib
import socket
import threading
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_llm_cost import wait_limit
from flask_llm_cost.budgets import read_budgets
from flask_llm_cost.budgets.policy import Policy
from flask_llm_cost.config import Settings
from flask_llm_cost.db import engine as engine_module
from flask_llm_cost.db import timed_queries
from flask_llm_cost.db import timeouts
from flask_llm_cost.db.budget_tables import budget_windows
from flask_llm_cost.db.engine import Engines
from flask_llm_cost.errors import StorageError
from flask_llm_cost.ledger import Ledger
from tests.budgets.test_counters import BLOCK
from tests.budgets.test_counters import drift
from tests.budgets.test_counters import kept
from tests.budgets.test_counters import only
from tests.budgets.test_counters import take
from tests.ledger.samples import make_call

servers = pytest.mark.parametrize(
    "empty_database", ["POSTGRESQL", "MARIADB"], indirect=True
)


class Proxy:
    """Forwards everything to a server until it is frozen."""

    def __init__(self, uri: str) -> None:
        self._to = sa.make_url(uri)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._server]
        self._threads: list[threading.Thread] = []
        self._flows = threading.Event()
        self._flows.set()
        self.last_words: bytes | None = None
        """Text that freezes the proxy: it is forwarded, but its answer is not."""
        self._run(self._accept)

    @property
    def uri(self) -> str:
        url = self._to.set(host="127.0.0.1", port=self._server.getsockname()[1])
        return url.render_as_string(hide_password=False)

    def freeze(self) -> None:
        self._flows.clear()

    def go_on(self) -> None:
        self.last_words = None
        self._flows.set()

    def cut(self) -> None:
        """End all connections."""
        self._shut(self._sockets[1:])

    def _shut(self, sockets: Iterable[socket.socket]) -> None:
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.go_on()
        self._shut(list(self._sockets))
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _run(self, target: Callable[..., None], *args: t.Any) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client = self._server.accept()[0]
                self._sockets.append(client)
                server = socket.create_connection((self._to.host, self._to.port))
                self._sockets.append(server)
                self._run(self._pass, client, server, True)
                self._run(self._pass, server, client, False)

    def _pass(self, one: socket.socket, other: socket.socket, asks: bool) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                self._flows.wait()
                if asks and self.last_words is not None:
                    if data.rstrip(b"\0").endswith(self.last_words):
                        self.freeze()
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(empty_database: str) -> Iterator[Proxy]:
    made = Proxy(empty_database)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(wait_limit, "CALL_SECONDS", 1.0)
    # Longer than the test takes, even on a slow machine.
    monkeypatch.setattr(timed_queries, "_PAUSE_SECONDS", (600.0, 600.0))


@pytest.fixture(params=["own", "host"])
def ledger(
    proxy: Proxy, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Ledger]:
    """A ledger with a blocking budget, its tables and an open connection."""
    host = sa.create_engine(proxy.uri) if request.param == "host" else None
    budgets = read_budgets(Settings.read({"LLM_COST_BUDGETS": [BLOCK]}))
    ledger = Ledger(
        Settings(database_uri=None if host else proxy.uri),
        instance_path=str(tmp_path / "instance"),
        host_engine=None if host is None else lambda: host,
        policy=Policy(budgets),
    )
    ledger.schema.upgrade()
    assert take(ledger, make_call(0), "0.1")
    yield ledger
    proxy.go_on()
    ledger.close()


def go_on_querying(engines: Engines) -> None:
    for each in engines._timed_queries.values():
        each.paused_until = 0.0


def waiting(do: Callable[[], t.Any]) -> t.Any:
    """What it raises or returns. It must end by itself."""
    found: list[t.Any] = []

    def run() -> None:
        try:
            found.append(do())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert found, "it waits indefinitely"
    return found[0]


@servers
def test_a_server_that_stops_answering_is_not_waited_for(
    ledger: Ledger, proxy: Proxy
) -> None:
    proxy.freeze()
    # The first uses an open connection; then the database is not asked for a while.
    for what in ("did not answer, for", "did not answer a moment ago"):
        error = waiting(lambda: take(ledger, make_call(1), "0.1"))
        assert isinstance(error, StorageError), error
        assert what in str(error)
    proxy.go_on()
    go_on_querying(kept(ledger)._engines)
    assert take(ledger, make_call(2), "0.1")
    assert only(ledger).reserved == 2 * 10**11


@servers
def test_a_server_that_only_accepts_connections_is_not_waited_for(
    ledger: Ledger, proxy: Proxy
) -> None:
    kept(ledger)._engines.close()
    proxy.freeze()
    error = waiting(lambda: take(ledger, make_call(1), "0.1"))
    assert isinstance(error, StorageError), error
    assert "did not answer, for" in str(error)
    proxy.go_on()
    go_on_querying(kept(ledger)._engines)
    assert take(ledger, make_call(2), "0.1")


@servers
def test_a_sync_write_has_the_same_time_limit(ledger: Ledger, proxy: Proxy) -> None:
    proxy.freeze()
    assert waiting(lambda: ledger.append(make_call(1), now=True)) is False
    assert ledger.queue.count() == 1
    proxy.go_on()
    assert ledger.flush(timeout=60)


@servers
def test_no_page_waits_indefinitely(ledger: Ledger, proxy: Proxy) -> None:
    def read() -> None:
        with ledger.reading() as connection:
            connection.execute(sa.select(budget_windows)).all()

    proxy.freeze()
    error = waiting(read)
    assert isinstance(error, StorageError), error
    assert "did not answer within 1 s" in str(error)
    proxy.go_on()
    # A page alone does not report queued calls.
    assert take(ledger, make_call(1), "0.1")


@servers
def test_a_lock_of_another_transaction_is_not_waited_for(
    ledger: Ledger, empty_database: str
) -> None:
    other = sa.create_engine(empty_database)
    with other.begin() as connection:
        connection.exec_driver_sql("SELECT * FROM llm_cost_budget_windows FOR UPDATE")
        error = waiting(lambda: take(ledger, make_call(1), "0.1"))
    other.dispose()
    assert isinstance(error, StorageError), error


@servers
def test_a_reservation_whose_answer_was_lost_is_released(
    ledger: Ledger, proxy: Proxy
) -> None:
    proxy.last_words = b"COMMIT"
    error = waiting(lambda: take(ledger, make_call(1), "0.1"))
    assert isinstance(error, StorageError), error
    proxy.go_on()
    # It was made nevertheless.
    assert only(ledger).reserved == 2 * 10**11
    kept(ledger).reservations.renew()
    assert only(ledger).reserved == 10**11
    assert drift(ledger) == []


@pytest.mark.parametrize("empty_database", ["POSTGRESQL"], indirect=True)
def test_a_statement_that_the_database_rejects_is_a_storage_error(
    ledger: Ledger,
) -> None:
    engine = kept(ledger)._engines.answering()
    with engine.connect() as connection:
        found = connection.connection.dbapi_connection
        # As after a failover, on a connection to what is now a standby.
        connection.exec_driver_sql("SET default_transaction_read_only = on")
        connection.commit()
    with pytest.raises(StorageError, match="cannot be used: cannot execute UPDATE"):
        take(ledger, make_call(1), "0.1")
    with engine.connect() as connection:
        # The next connection may be to the new primary.
        assert connection.connection.dbapi_connection is not found


def test_a_connection_that_is_made_too_late_is_closed() -> None:
    go, closed = threading.Event(), threading.Event()

    class Connection:
        def close(self) -> None:
            closed.set()

    def connect() -> Connection:
        go.wait()
        return Connection()

    with timeouts.time_limit(0.05) as limit, pytest.raises(TimeoutError):
        timeouts.connect(connect)
    assert limit.expired
    go.set()
    assert closed.wait(20)


def test_only_connections_under_a_time_limit_are_broken() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(20)
        with timeouts.time_limit(0.05) as limit:
            limit.watch(one)
            assert one.recv(1) == b""
        assert limit.expired
    one, other = socket.socketpair()
    with one, other:
        with timeouts.time_limit(0.05) as limit:
            limit.watch(one)
            limit.release(one)
            with timeouts.time_limit(60) as inner:
                assert inner is limit
        with timeouts.time_limit(0) as limit:
            pass
        other.sendall(b"x")
        assert one.recv(1) == b"x"
        assert not limit.expired
