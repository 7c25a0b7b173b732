from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from flask_llm_cost.errors import StorageError
from flask_llm_cost.ledger import Ledger
from tests.conftest import MakeLedger

from .samples import make_call
from .test_ledger import stored


class Line:
    """A connection to a database server that can be cut and repaired."""

    def __init__(self, host: str, port: int) -> None:
        self._server = host, port
        self._up = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._up.set()
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            if not self._up.is_set():
                client.close()
                continue
            server = socket.create_connection(self._server)
            with self._lock:
                self._sockets |= {client, server}
            for pair in ((client, server), (server, client)):
                self._threads.append(threading.Thread(target=self._pump, args=pair))
                self._threads[-1].start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        self._hang_up([source, sink])

    def _hang_up(self, sockets: list[socket.socket]) -> None:
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        self._up.clear()
        with self._lock:
            self._hang_up(list(self._sockets))

    def mend(self) -> None:
        self._up.set()

    def close(self) -> None:
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)
        for one in self._sockets:
            one.close()


@pytest.fixture
def line(database: str) -> Iterator[Line]:
    url = sa.make_url(database)
    assert url.host is not None
    made = Line(url.host, url.port or 0)
    yield made
    made.close()


@pytest.fixture
def distant(database: str, line: Line, make_ledger: MakeLedger) -> Iterator[Ledger]:
    """A ledger at the other end of the line."""
    url = sa.make_url(database).set(host="127.0.0.1", port=line.port)
    ledger = make_ledger(url.render_as_string(hide_password=False))
    yield ledger
    ledger.close()


@pytest.mark.parametrize("empty_database", ["POSTGRESQL", "MARIADB"], indirect=True)
def test_an_outage_loses_and_duplicates_nothing(distant: Ledger, line: Line) -> None:
    """Appends continue while the connection is cut repeatedly, in the middle of batches."""
    stop = threading.Event()
    made = []

    def append() -> None:
        while not stop.is_set():
            call = make_call(len(made))
            distant.append(call)
            made.append(call)
            time.sleep(0.002)

    thread = threading.Thread(target=append)
    thread.start()
    for _ in range(4):
        time.sleep(0.4)
        distant.flush(0.01)
        line.cut()
        time.sleep(0.3)
        line.mend()
    stop.set()
    thread.join()
    assert distant.flush(30)
    assert stored(distant) == made


@pytest.mark.parametrize("empty_database", ["POSTGRESQL", "MARIADB"], indirect=True)
def test_a_snapshot_reports_a_cut_connection(distant: Ledger, line: Line) -> None:
    with distant.reading():
        pass
    line.cut()
    for _ in range(2):
        with pytest.raises(StorageError, match="cannot be used"), distant.reading():
            pass
    line.mend()
    with distant.reading():
        pass


@pytest.mark.parametrize("empty_database", ["POSTGRESQL", "MARIADB"], indirect=True)
def test_a_connection_cut_during_a_snapshot_is_a_storage_error(
    distant: Ledger, line: Line
) -> None:
    def ask(connection: sa.Connection) -> None:
        line.cut()
        time.sleep(0.05)
        connection.execute(sa.text("SELECT 1"))

    with (
        pytest.raises(StorageError, match="cannot be used"),
        distant.reading() as reading,
    ):
        ask(reading)
    line.mend()
