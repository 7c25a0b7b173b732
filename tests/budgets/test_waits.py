"""How long calls may wait: the limits that drivers are given, and what is left of a call's.

No clock is read. A database that is away stays away until its calls have returned.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
import threading
import time
import typing as t
from collections.abc import Callable
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy import event

from flask_llm_cost import wait_limit
from flask_llm_cost.budgets.reservations import LEASE
from flask_llm_cost.db import timeouts
from flask_llm_cost.db.budget_tables import budget_reservations
from flask_llm_cost.db.query_threads import _Last
from flask_llm_cost.db.query_threads import QueryThreads
from flask_llm_cost.db.timeouts import TimeLimit
from flask_llm_cost.errors import StorageError
from flask_llm_cost.ledger import Ledger
from tests.conftest import MakeApp
from tests.db.test_timeouts import go_on_querying
from tests.db.test_timeouts import Proxy
from tests.ledger.samples import make_call

from .test_counters import alerts as alerts
from .test_counters import BLOCK
from .test_counters import budgeted as budgeted
from .test_counters import costing
from .test_counters import drift
from .test_counters import kept
from .test_counters import MakeBudgeted
from .test_counters import take
from .test_counters import windows
from .test_counters import write
from .test_enforcement import extension_of
from .test_enforcement import spend
from .test_locked import ATTEMPT
from .test_locked import blocking
from .test_locked import ENTRY
from .test_locked import locking
from .test_locks import ledger_of
from .test_locks import WINDOWS

CALL_S = 0.1
CLOSED = ENTRY | {"on_error": "closed"}
servers = pytest.mark.parametrize(
    "empty_database", ["POSTGRESQL", "MARIADB"], indirect=True
)


def begin(app: Flask, monkeypatch: pytest.MonkeyPatch) -> float:
    """Send a call that no budget stops; return how long it waited for the database."""
    with monkeypatch.context() as real, app.app_context():
        real.setattr(wait_limit, "CALL_SECONDS", CALL_S)
        snapshot = extension_of(app).begin(ATTEMPT)
    assert snapshot is not None
    return CALL_S - snapshot.wait_limit.left


# SQLite: the time that it is given to wait for locks


def lock_waits(app: Flask) -> list[int]:
    """Collect how long SQLite waits for the lock to write, in ms, for each UPDATE."""
    waits: list[int] = []
    statement = "PRAGMA busy_timeout = "

    def connect(connection: sqlite3.Connection, record: object) -> None:
        given = [0]

        def trace(sql: str) -> None:
            if sql.startswith(statement):
                given[0] = int(sql.removeprefix(statement))
            elif sql.startswith("UPDATE"):  # readers wait for no lock
                waits.append(given[0])

        connection.set_trace_callback(trace)

    engines = ledger_of(app)._engines
    engines.close()
    event.listen(engines.answering(), "connect", connect)
    return waits


def test_calls_that_meet_a_locked_file_one_after_another_wait_once(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = blocking(make_app)
    spend(app, "0.1")
    waits = lock_waits(app)
    begin(app, monkeypatch)
    lock = locking(app)
    try:
        waits.clear()
        monkeypatch.setattr(
            "flask_llm_cost.db.timed_queries._PAUSE_SECONDS", (600.0, 600)
        )
        begin(app, monkeypatch)
        assert 0 < max(waits) <= 1000 * CALL_S
        waits.clear()
        for _ in range(10):
            begin(app, monkeypatch)
        assert set(waits) == {0}
    finally:
        lock.close()
    begin(app, monkeypatch)
    waits.clear()
    begin(app, monkeypatch)  # it is free again: the next lock is waited for
    assert 0 not in waits


def test_who_waited_in_line_behind_a_lock_does_not_wait_for_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timeouts, "BUSY_SECONDS", 60.0)
    threads = QueryThreads(1, lambda since: False)
    queued, limits = threading.Event(), []

    def fail() -> t.NoReturn:
        queued.wait(20)
        raise StorageError("The database is locked.")

    def wait_in_vain() -> None:
        with pytest.raises(StorageError):
            threads.run(fail, TimeLimit(20))

    first = threading.Thread(target=wait_in_vain)
    first.start()
    second = TimeLimit(20)
    queued.set()
    threads.run(lambda: limits.append(second.until - second.began), second)
    first.join()
    threads.close()
    assert limits == [pytest.approx(20)]


def test_who_waits_in_line_expects_an_answer_at_the_pace_of_the_last_one() -> None:
    last = _Last()
    last.note(time.monotonic())
    assert last.pace < 1
    last.note(time.monotonic() - 10)
    assert last.pace == pytest.approx(3 * 10, rel=0.1)
    limit = TimeLimit(0.2)
    until = limit.until
    limit.note_answer(limit.began + 0.1, 0.05)
    assert limit.until == until
    limit.note_answer(limit.began + 0.19, 0.05)
    assert limit.until == pytest.approx(limit.began + 0.24)
    limit.note_answer(limit.began + 0.19, last.pace)  # but not longer than alone
    assert limit.until == pytest.approx(limit.began + 0.39)


def test_what_is_only_read_shows_no_lock(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeouts, "BUSY_SECONDS", 60.0)
    engines = ledger_of(blocking(make_app))._engines
    engines.run(lambda engine: None)
    engines.recheck()  # as after an error: the tables are looked at again
    limit = engines.run(lambda engine: timeouts.current())
    assert limit is not None
    assert limit.until == limit.began + limit.seconds


def test_a_server_that_is_far_away_is_not_silent() -> None:
    limit = TimeLimit(0.2)
    until = limit.until
    limit.allow(0.3)
    assert limit.until == pytest.approx(until + 0.3)
    limit.allow(60)
    assert limit.until == pytest.approx(limit.began + timeouts.BUSY_SECONDS)


# Servers


def locked(uri: str, proxy: Proxy) -> Callable[[], None]:
    engine = sa.create_engine(uri)
    connection = engine.connect()
    connection.exec_driver_sql(f"SELECT * FROM {WINDOWS} FOR UPDATE")

    def unlock() -> None:
        connection.close()
        engine.dispose()

    return unlock


def silent(uri: str, proxy: Proxy) -> Callable[[], None]:
    proxy.freeze()
    return proxy.go_on


def cut_and_silent(uri: str, proxy: Proxy) -> Callable[[], None]:
    """All connections end. New ones are accepted, and get no answer."""
    proxy.freeze()
    proxy.cut()
    return proxy.go_on


FAULTS = {each.__name__: each for each in (locked, silent, cut_and_silent)}


@pytest.fixture
def proxy(empty_database: str) -> Iterator[Proxy]:
    made = Proxy(empty_database)
    yield made
    made.close()


@servers
@pytest.mark.parametrize("fault", FAULTS)
def test_no_call_waits_longer_than_its_limit(
    make_app: MakeApp,
    empty_database: str,
    proxy: Proxy,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flask_llm_cost.db.timed_queries._PAUSE_SECONDS", (600.0, 600))
    config = {"LLM_COST_DATABASE_URI": proxy.uri, "LLM_COST_BUDGETS": [ENTRY]}
    warm, cold = make_app(**config), make_app(**config)
    ledger_of(warm).schema.upgrade()
    spend(warm, "0.1")
    end = FAULTS[fault](empty_database, proxy)
    try:
        for app in (cold, warm):
            begin(app, monkeypatch)
            go_on_querying(ledger_of(app)._engines)
            begin(app, monkeypatch)  # the probe of a server that was away
            if fault != "locked":
                assert begin(app, monkeypatch) == 0  # it was asked a moment ago
    finally:
        end()


def reserved(app: Flask) -> set[str]:
    with ledger_of(app).reading() as connection:
        return set(connection.scalars(sa.select(budget_reservations.c.event_id)))


@servers
def test_connections_that_were_cut_are_made_again_within_the_call(
    make_app: MakeApp, empty_database: str, proxy: Proxy
) -> None:
    app = make_app(LLM_COST_DATABASE_URI=proxy.uri, LLM_COST_BUDGETS=[CLOSED])
    ledger_of(app).schema.upgrade()
    spend(app, "0.1")
    proxy.cut()
    with app.app_context():
        snapshot = extension_of(app).begin(ATTEMPT)
    assert snapshot is not None
    assert snapshot.event_id in reserved(app)


@servers
def test_a_server_that_refuses_connections_is_asked_by_each_call(
    make_app: MakeApp, empty_database: str, proxy: Proxy
) -> None:
    app = make_app(LLM_COST_DATABASE_URI=proxy.uri, LLM_COST_BUDGETS=[ENTRY])
    ledger_of(app).schema.upgrade()
    spend(app, "0.1")
    proxy.close()
    with app.app_context():
        assert extension_of(app).begin(ATTEMPT)  # on_error="open"
    queries = ledger_of(app)._engines._timed_queries
    # It did answer: no call waited, so none has to be spared the wait.
    assert [each.paused_until for each in queries.values()] == [0.0] * len(queries)


@servers
def test_a_ping_that_waits_puts_a_server_no_farther_away(
    make_app: MakeApp, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(LLM_COST_DATABASE_URI=empty_database, LLM_COST_BUDGETS=[ENTRY])
    engine = ledger_of(app)._engines.answering()

    def distance() -> float:
        with engine.connect() as connection:
            found: float = connection.info["ping"]
        return found

    distance()  # a new connection is not pinged
    near = distance()
    ping = engine.dialect.do_ping

    def wait(connection: t.Any) -> bool:
        until = time.monotonic() + near
        while time.monotonic() <= until:
            time.sleep(near)
        return ping(connection)

    monkeypatch.setattr(engine.dialect, "do_ping", wait)
    assert distance() == near


# What waits in the background


@servers
def test_a_server_that_takes_longer_than_a_call_may_wait_is_used_afterwards(
    make_app: MakeApp, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_llm_cost.db.timed_queries._PAUSE_SECONDS", (600.0, 600))
    app = make_app(LLM_COST_DATABASE_URI=empty_database, LLM_COST_BUDGETS=[ENTRY])
    engines = ledger_of(app)._engines
    ledger_of(app).schema.upgrade()
    engines.close()
    answer = threading.Event()

    def delay(connection: sa.Connection, *args: t.Any) -> None:
        assert answer.wait(20)

    engine = engines.answering()
    event.listen(engine, "before_cursor_execute", delay)
    begin(app, monkeypatch)
    answer.set()
    while engine not in engines._ready:
        time.sleep(0.01)
    with app.app_context():
        snapshot = extension_of(app).begin(ATTEMPT)
    assert snapshot is not None
    assert snapshot.event_id in reserved(app)


# Leases


def expiring(ledger: Ledger) -> None:
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=60)
    with ledger._engines.writing().begin() as connection:
        connection.execute(sa.update(budget_reservations).values(expires_at=soon))


def leased_until(ledger: Ledger, event_id: str) -> dt.datetime:
    r = budget_reservations.c
    with ledger.reading() as connection:
        query = sa.select(r.expires_at).where(r.event_id == event_id)
        found: dt.datetime = connection.scalars(query).one()
    return found


@servers
def test_a_lease_is_renewed_while_its_window_is_locked(
    budgeted: MakeBudgeted, empty_database: str
) -> None:
    ledger = budgeted(BLOCK)
    stream, lost = make_call(0), make_call(1)
    assert take(ledger, stream, "0.1")
    assert take(ledger, lost, "0.1")
    budgets = kept(ledger)
    del budgets.counters.in_progress[lost.event_id]
    budgets.reservations._doubtful.append(lost.event_id)
    expiring(ledger)
    before = leased_until(ledger, stream.event_id)
    engine = sa.create_engine(empty_database)
    renewing = threading.Thread(target=budgets.reservations.renew)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT * FROM {WINDOWS} FOR UPDATE")
        renewing.start()
        while leased_until(ledger, stream.event_id) == before:
            time.sleep(0.01)
    renewing.join()
    engine.dispose()


def test_a_lease_is_renewed_amid_a_long_drain(budgeted: MakeBudgeted) -> None:
    ledger = budgeted(BLOCK)
    stream = make_call(0)
    assert take(ledger, stream, "0.1")
    expiring(ledger)
    before = leased_until(ledger, stream.event_id)
    kept(ledger)._renew_at = 0.0
    ledger.queue.append(make_call(1))
    ledger.queue.drain()
    assert leased_until(ledger, stream.event_id) > before


@servers
def test_what_expires_while_the_writer_waits_for_a_lock_counts_nevertheless(
    budgeted: MakeBudgeted, empty_database: str
) -> None:
    user = BLOCK | {"name": "user", "tags": {"user": "*"}}
    ledger, other = budgeted(BLOCK, user), budgeted(BLOCK, user)
    stream = costing("0.6", 0)
    assert take(ledger, stream, "0.6")
    ledger.queue.append(costing("0.1", 1))
    draining = threading.Thread(target=ledger.queue.drain)
    engine = sa.create_engine(empty_database)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT * FROM {WINDOWS} FOR UPDATE")
        draining.start()
        later = dt.datetime.now(dt.UTC) + 2 * LEASE
        expiring = threading.Thread(
            target=kept(other).reservations.expire, args=(later,)
        )
        expiring.start()  # another process, whose clock is right
        time.sleep(0.05)
        assert draining.is_alive()
        assert expiring.is_alive()
    for each in (draining, expiring):
        each.join()
    engine.dispose()
    assert {row.lost for row in windows(other).values()} == {0, 6 * 10**11}
    assert not take(other, make_call(0), "0.6")
    write(ledger, stream)
    assert {row.lost for row in windows(other).values()} == {0}
    assert drift(other) == []
