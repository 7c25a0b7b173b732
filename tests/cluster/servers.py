"""Start database servers for tests, several at once, on loopback."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

_WAIT: t.Final = 120.0


def free_ports(count: int) -> list[int]:
    """Find ports that are free."""
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            for _ in range(count)
        ]
        return [each.getsockname()[1] for each in sockets]


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Poll; give up after two minutes."""
    end = time.monotonic() + _WAIT
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def scalar(uri: str, query: str) -> t.Any:
    """Run a query on a connection of its own."""
    engine = sa.create_engine(
        uri, poolclass=sa.pool.NullPool, isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        return connection.exec_driver_sql(query).scalar()


def answers(uri: str, query: str = "SELECT 1") -> bool:
    """Whether it can be queried."""
    try:
        scalar(uri, query)
    except sa.exc.DBAPIError:
        return False
    return True


def _folder(user: str) -> Path:
    """Create a folder for a server's data, to be removed at the end.

    It is not among pytest's: those are closed to other users, again and again, by whatever
    runs of pytest there are beside this one.
    """
    path = Path(tempfile.mkdtemp(prefix="llm-cost-server-"))
    if os.geteuid() == 0:
        shutil.chown(path, user)
    return path


def _as(user: str) -> dict[str, t.Any]:
    """The servers refuse to run as root."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class PostgreSQL:
    """One server; a standby if it is copied from another. Its data is deleted on exit."""

    def __init__(self, port: int) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            pytest.skip("PostgreSQL is not installed")
        self.bin = found[-1].parent
        self.port = port
        self.data = _folder("postgres")

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        shutil.rmtree(self.data)

    @property
    def uri(self) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.bin / program), *arguments],
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=_WAIT,
            **_as("postgres"),
        )
        assert done.returncode == 0, done.stderr

    def make(self) -> None:
        """Create an empty one."""
        options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        self.run("initdb", "-D", str(self.data), *options, "--no-sync")
        with (self.data / "pg_hba.conf").open("a") as file:
            file.write("host replication all 127.0.0.1/32 trust\n")

    def copy(self, primary: PostgreSQL) -> None:
        """Create a standby of a running server."""
        source = f"host=127.0.0.1 port={primary.port} user=postgres"
        # Without "fast" it would wait for the next checkpoint.
        self.run(
            "pg_basebackup", "-D", str(self.data), "-d", source, "-R", "-c", "fast"
        )

    def start(self, *settings: str) -> None:
        options = f"-p {self.port} -h 127.0.0.1 -k '' -c fsync=off"
        options += "".join(f" -c {setting}" for setting in settings)
        log = str(self.data / "server.log")
        self.run(
            "pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-l", log, "-o", options, "start"
        )  # fmt: skip

    def promote(self) -> None:
        self.run("pg_ctl", "-D", str(self.data), "-w", "promote")

    def stop(self, mode: str = "immediate") -> None:
        if (self.data / "postmaster.pid").exists():
            self.run("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "stop")


class Galera:
    """One node of a cluster of MariaDB."""

    PROVIDER: t.Final = Path("/usr/lib/galera/libgalera_smm.so")

    def __init__(self, name: str, ports: list[int]) -> None:
        if not self.PROVIDER.exists() or shutil.which("rsync") is None:
            pytest.skip("galera-4 or rsync is not installed")
        self.name = name
        self.port, self.group_port, self.ist_port, self.sst_port = ports
        self.root = _folder("mysql")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"mysql+pymysql://t:t@127.0.0.1:{self.port}/ledger"

    def make(self) -> None:
        """Create an empty data folder."""
        done = subprocess.run(
            [
                "mariadb-install-db",
                "--no-defaults",
                f"--datadir={self.root}/data",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=_WAIT,
            **_as("mysql"),
        )
        assert done.returncode == 0, done.stderr + done.stdout

    def start(self, peers: list[Galera], *, first: bool = False) -> None:
        address = ",".join(f"127.0.0.1:{peer.group_port}" for peer in peers)
        provider = ";".join(
            (
                f"base_port={self.group_port}",
                f"gmcast.listen_addr=tcp://127.0.0.1:{self.group_port}",
                f"ist.recv_addr=127.0.0.1:{self.ist_port}",
                "gcache.size=64M",
            )
        )
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    shutil.which("mariadbd") or "/usr/sbin/mariadbd",
                    "--no-defaults",
                    f"--datadir={self.root}/data",
                    f"--socket={self.root}/socket",
                    f"--pid-file={self.root}/pid",
                    f"--port={self.port}",
                    "--bind-address=127.0.0.1",
                    "--character-set-server=utf8mb4",
                    "--binlog-format=ROW",
                    "--innodb-autoinc-lock-mode=2",
                    "--innodb-flush-log-at-trx-commit=0",
                    "--innodb-buffer-pool-size=64M",
                    "--wsrep-on=ON",
                    f"--wsrep-provider={self.PROVIDER}",
                    f"--wsrep-provider-options={provider}",
                    "--wsrep-cluster-name=ledger",
                    f"--wsrep-cluster-address=gcomm://{address}",
                    f"--wsrep-node-name={self.name}",
                    "--wsrep-node-address=127.0.0.1",
                    f"--wsrep-node-incoming-address=127.0.0.1:{self.port}",
                    f"--wsrep-sst-receive-address=127.0.0.1:{self.sst_port}",
                    "--wsrep-sst-method=rsync",
                    "--wsrep-slave-threads=2",
                    *(["--wsrep-new-cluster"] if first else []),
                ],
                cwd="/",
                stdout=log,
                stderr=log,
                start_new_session=True,
                **_as("mysql"),
            )
        if first:
            self._admit()
        wait_until(self.ready, f"{self.name}: {self.log()[-2000:]}")

    def _admit(self) -> None:
        """Create the database and the tests' user."""
        text = (
            "CREATE DATABASE ledger; CREATE USER t@localhost IDENTIFIED BY 't';"
            " CREATE USER t@'127.0.0.1' IDENTIFIED BY 't';"
            " GRANT ALL ON ledger.* TO t@localhost; GRANT ALL ON ledger.* TO t@'127.0.0.1';"
        )
        client = ["mariadb", "--no-defaults", "-u", "root", "-S", f"{self.root}/socket"]
        asked = [*client, "-e", "SELECT 1"]

        def up() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.log()[-3000:]
            return subprocess.run(asked, capture_output=True).returncode == 0

        wait_until(up, self.name)
        subprocess.run(client, input=text.encode(), check=True)

    def ready(self) -> bool:
        """Whether it is in sync with the others."""
        assert self._process is not None
        assert self._process.poll() is None, self.log()[-3000:]
        try:
            return self.status("wsrep_ready") == "ON"
        except sa.exc.DBAPIError:
            return False

    def status(self, name: str) -> str:
        query = (
            "SELECT variable_value FROM information_schema.global_status"
            f" WHERE variable_name = '{name}'"
        )
        return str(scalar(self.uri, query))

    def log(self) -> str:
        return (self.root / "log").read_text("utf-8", "replace")

    def kill(self) -> None:
        """Kill it, as a power failure would."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(_WAIT)


@contextlib.contextmanager
def galera(count: int = 3) -> Iterator[list[Galera]]:
    """Start a cluster; its data is deleted at the end."""
    ports = free_ports(4 * count)
    nodes = [Galera(f"node{n}", ports[4 * n : 4 * n + 4]) for n in range(count)]
    try:
        for node in nodes:
            node.make()
            node.start(nodes, first=node is nodes[0])
        yield nodes
    finally:
        for node in nodes:
            node.kill()
            shutil.rmtree(node.root)
