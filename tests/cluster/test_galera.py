"""Three nodes of MariaDB Galera store every call once, whichever is killed."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import threading
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest
import sqlalchemy as sa

from flask_llm_cost.call import Call
from flask_llm_cost.config import Settings
from flask_llm_cost.errors import StorageError
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter
from tests.ledger.samples import make_call
from tests.ledger.samples import NOON

from .servers import Galera
from .servers import galera
from .servers import wait_until

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Galera]]:
    with galera() as nodes:
        yield nodes


@pytest.fixture
def ledgers(nodes: list[Galera], tmp_path: Path) -> Iterator[list[Ledger]]:
    """A ledger for each node, with a spool of its own and new tables."""
    made = [
        Ledger(Settings(database_uri=node.uri), instance_path=str(tmp_path / node.name))
        for node in nodes
    ]
    if made[0].schema.current() is not None:
        made[0].schema.downgrade("base")
    made[0].schema.upgrade()
    for ledger in made:
        wait_until(
            lambda ledger=ledger: ledger.schema.current() == ledger.schema.head,
            "no tables",
        )
    yield made
    for ledger in made:
        ledger.close()


def made(count: int, worker: int) -> list[Call]:
    """Calls of a few hours; the same tags for all workers."""
    return [
        make_call(
            n % 500, started_at=NOON + dt.timedelta(seconds=n * 7, microseconds=0)
        )
        for n in range(worker, count * 3, 3)
    ]


def settled(ledger: Ledger) -> None:
    """Wait until nothing is queued or dirty."""

    def quiet() -> bool:
        try:
            ledger.queue.drain()
            ledger.rollups.build()
        except StorageError:
            return False
        return ledger.queue.count() == 0

    wait_until(quiet, f"{ledger.queue.count()} calls wait")


def check(ledger: Ledger, calls: list[Call]) -> None:
    """Check that each call is stored exactly once, and that the rollups agree."""
    settled(ledger)
    with ledger.reading() as connection:
        ids = connection.exec_driver_sql(
            "SELECT event_id FROM llm_cost_calls"
        ).scalars()
        found = sorted(ids)
        summed = totals(connection, CallFilter())
    assert found == sorted(call.event_id for call in calls)
    assert summed.calls == len(calls)
    assert summed.cost_usd == sum(c.cost.total_usd for c in calls if c.cost is not None)
    assert ledger.rollups.verify() == []
    assert ledger.queue.rejected() == []


def conflicts(nodes: list[Galera]) -> int:
    names = ("wsrep_local_cert_failures", "wsrep_local_bf_aborts")
    return sum(int(node.status(name)) for node in nodes for name in names)


def _write(ledger: Ledger, calls: list[Call], shared: list[Call]) -> None:
    """Write calls; the shared ones go through every node at once."""
    for n, call in enumerate(calls):
        ledger.append(call)
        if n % 2 == 0:
            ledger.append(shared[n // 2])
    while not ledger.flush(10):
        pass


def _build(ledger: Ledger, done: threading.Event) -> None:
    while not done.is_set():
        with contextlib.suppress(StorageError):
            ledger.rollups.build()


def test_writers_and_builders_on_every_node(
    nodes: list[Galera], ledgers: list[Ledger]
) -> None:
    assert {node.status("wsrep_cluster_size") for node in nodes} == {"3"}
    before = conflicts(nodes)
    mine = [made(600, worker) for worker in range(3)]
    shared = [make_call(n, started_at=NOON - dt.timedelta(hours=1)) for n in range(300)]
    done = threading.Event()

    writers = [
        threading.Thread(target=_write, args=(*pair, shared))
        for pair in zip(ledgers, mine, strict=True)
    ]
    builders = [threading.Thread(target=_build, args=(each, done)) for each in ledgers]
    for thread in [*writers, *builders]:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in builders:
        thread.join()
    check(ledgers[0], [*shared, *(call for calls in mine for call in calls)])
    print(f"certification conflicts: {conflicts(nodes) - before}")  # noqa: T201


def _connect(nodes: list[Galera]) -> t.Any:
    """Connect to the first node that is in sync, as an app's ``creator`` does."""
    failure: Exception | None = None
    for node in nodes:
        try:
            connection = pymysql.connect(
                host="127.0.0.1",
                port=node.port,
                user="t",
                password="t",
                database="ledger",
                connect_timeout=5,
            )
            with connection.cursor() as cursor:
                cursor.execute("SHOW STATUS LIKE 'wsrep_ready'")
                if cursor.fetchone()[1] == "ON":
                    return connection
            connection.close()
        except pymysql.OperationalError as error:
            failure = error
    raise failure or pymysql.OperationalError(1047, "no node is in step")


def test_a_node_is_killed_and_restarted(
    nodes: list[Galera], ledgers: list[Ledger], tmp_path: Path
) -> None:
    """The third is killed; one ledger waits for it, another uses the next node."""

    options = {"creator": functools.partial(_connect, nodes[::-1])}
    mobile = Ledger(
        Settings(database_uri=nodes[2].uri, engine_options=options),
        instance_path=str(tmp_path / "mobile"),
    )
    stayers = made(900, 0), made(900, 1)
    killed = threading.Event()

    def write(ledger: Ledger, calls: list[Call]) -> None:
        for n, call in enumerate(calls):
            ledger.append(call)
            if n == 300:
                killed.wait(60)
            if n % 20 == 0:
                threading.Event().wait(0.02)

    threads = [
        threading.Thread(target=write, args=(ledgers[2], stayers[0])),
        threading.Thread(target=write, args=(mobile, stayers[1])),
    ]
    for thread in threads:
        thread.start()
    threading.Event().wait(0.5)
    nodes[2].kill()
    killed.set()
    for thread in threads:
        thread.join()
    wait_until(lambda: mobile.flush(5), "the ledger finds no other node")
    assert ledgers[2].queue.count() > 0
    wait_until(lambda: nodes[0].status("wsrep_cluster_size") == "2", "nobody missed it")
    nodes[2].start(nodes)
    settled(ledgers[2])
    check(ledgers[0], [*stayers[0], *stayers[1]])
    check(mobile, [*stayers[0], *stayers[1]])
    mobile.close()


def test_months_are_dropped_while_others_write(
    nodes: list[Galera], ledgers: list[Ledger]
) -> None:
    ledgers[0].partitions.apply(ahead=1)
    now = dt.datetime.now(dt.UTC)
    old = [
        make_call(n, started_at=now - dt.timedelta(days=400, minutes=n))
        for n in range(90)
    ]
    for call in old:
        ledgers[1].append(call)
    settled(ledgers[1])
    new = [
        make_call(n, started_at=now - dt.timedelta(hours=3, seconds=n))
        for n in range(900)
    ]
    for n, call in enumerate(new):
        ledgers[n % 3].append(call)
    assert ledgers[0].prune(now - dt.timedelta(days=300)) == 90
    for ledger in ledgers:
        settled(ledger)
    assert ledgers[2].schema.check() == []
    with ledgers[2].reading() as connection:
        assert totals(connection, CallFilter()).calls == 990
        left = connection.scalar(sa.text("SELECT count(*) FROM llm_cost_calls"))
    assert left == 900
    assert ledgers[2].rollups.verify() == []
