"""The database stops for seconds or a minute, while calls continue."""

from __future__ import annotations

import shutil
import subprocess
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.servers import answers
from tests.cluster.servers import free_ports
from tests.cluster.servers import PostgreSQL
from tests.cluster.servers import wait_until
from tests.conftest import MakeLedger

from .test_crash import check
from .test_crash import run_and_kill


class Server(t.Protocol):
    uri: str

    def start(self) -> None: ...

    def stop(self) -> None: ...


class MariaDB:
    """One server, on loopback."""

    def __init__(self, folder: Path, port: int) -> None:
        self.uri = f"mysql+pymysql://t:t@127.0.0.1:{port}/ledger"
        self._port = port
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def make(self) -> None:
        """Create an empty data folder with a database and the tests' user."""
        self.folder.mkdir()
        done = subprocess.run(
            [
                "mariadb-install-db",
                "--no-defaults",
                f"--datadir={self.folder}/data",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--user=root",
            ],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        (self.folder / "init.sql").write_text(
            "CREATE DATABASE IF NOT EXISTS ledger;\n"
            "CREATE USER IF NOT EXISTS t@localhost IDENTIFIED BY 't';\n"
            "CREATE USER IF NOT EXISTS t@'127.0.0.1' IDENTIFIED BY 't';\n"
            "GRANT ALL ON ledger.* TO t@localhost;\n"
            "GRANT ALL ON ledger.* TO t@'127.0.0.1';\n"
        )

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    shutil.which("mariadbd") or "/usr/sbin/mariadbd",
                    "--no-defaults",
                    "--user=root",
                    f"--datadir={self.folder}/data",
                    f"--socket={self.folder}/socket",
                    f"--pid-file={self.folder}/pid",
                    f"--port={self._port}",
                    "--bind-address=127.0.0.1",
                    "--character-set-server=utf8mb4",
                    "--innodb-flush-log-at-trx-commit=2",
                    "--innodb-buffer-pool-size=64M",
                    f"--init-file={self.folder}/init.sql",
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: answers(self.uri), "MariaDB")

    def stop(self) -> None:
        """As a failure of its process would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture(params=["POSTGRESQL", "MARIADB"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    (port,) = free_ports(1)
    made: PostgreSQL | MariaDB
    if request.param == "POSTGRESQL":
        made = PostgreSQL(port)
    else:
        made = MariaDB(tmp_path / "server", port)
    with made:
        made.make()
        made.start()
        yield t.cast(Server, made)


def stop_in_the_middle(
    server: Server, folder: Path, make_ledger: MakeLedger, seconds: float
) -> None:
    ledger = make_ledger(server.uri)
    ledger.schema.upgrade()

    def meanwhile() -> None:
        time.sleep(1)
        server.stop()
        time.sleep(seconds)
        server.start()
        time.sleep(1)

    acked = run_and_kill(server.uri, folder / "instance", meanwhile)
    # Calls continued while it was down.
    assert len(acked) > 20 * seconds
    check(ledger, acked, 1)


def test_a_database_that_stops_for_seconds_loses_and_duplicates_nothing(
    server: Server, tmp_path: Path, make_ledger: MakeLedger
) -> None:
    stop_in_the_middle(server, tmp_path, make_ledger, 5)


@pytest.mark.stress
def test_a_database_that_stops_for_a_minute_loses_and_duplicates_nothing(
    server: Server, tmp_path: Path, make_ledger: MakeLedger
) -> None:
    stop_in_the_middle(server, tmp_path, make_ledger, 60)
