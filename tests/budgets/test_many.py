"""Many processes against one limit, killed at random: it holds in every observed state."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import signal
import subprocess
import sys
import time
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_llm_cost import LlmCost
from flask_llm_cost.db.budget_tables import budget_reservations
from flask_llm_cost.db.budget_tables import budget_windows
from flask_llm_cost.ledger import Ledger
from tests.conftest import MakeApp

SPENDER = Path(__file__).with_name("spender.py")
ESTIMATE = Decimal("0.01")


class Crowd:
    """Processes that spend, some of which are killed and replaced."""

    def __init__(
        self, folder: str, config: dict[str, t.Any], threads: int, *, cut: bool
    ) -> None:
        self._options = {
            "folder": folder,
            "config": config,
            "threads": threads,
            "cut": cut,
        }
        self._running: list[subprocess.Popen[bytes]] = []
        self.killed = 0
        self._seed = 0

    def start(self, calls: int) -> None:
        self._seed += 1
        options = self._options | {"calls": calls, "seed": self._seed}
        self._running.append(
            subprocess.Popen([sys.executable, str(SPENDER), json.dumps(options)])
        )

    def kill_one(self, chance: random.Random) -> None:
        victim = chance.choice(self._running)
        if victim.poll() is None:
            os.kill(victim.pid, signal.SIGKILL)
            victim.wait()
            self.killed += 1
        self._running.remove(victim)

    @property
    def busy(self) -> bool:
        return any(process.poll() is None for process in self._running)

    def codes(self) -> set[int]:
        return {process.wait() for process in self._running}

    def stop(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
                process.wait()


def observed(ledger: Ledger) -> t.Any:
    with ledger.reading() as connection:
        return connection.execute(sa.select(budget_windows)).first()


def crowded(
    make_app: MakeApp,
    database: str | None,
    *,
    processes: int,
    threads: int,
    calls: int,
    cut: bool = False,
) -> tuple[Flask, Crowd]:
    """Run a crowd while observing the counters; return the app and the crowd.

    :param cut: Most calls are streams that are cut.
    """
    limit = ESTIMATE * processes * threads * calls / 4
    config = {
        "LLM_COST_DATABASE_URI": database,
        "LLM_COST_BUDGETS": [
            {
                "name": "all",
                "limit_usd": str(limit),
                "period": "total",
                "behavior": "block",
                "estimate": "bound" if cut else str(ESTIMATE),
                "on_error": "closed",
            }
        ],
    }
    app = make_app(**config)
    ledger: Ledger = app.extensions["llm_cost"].ledger
    ledger.schema.upgrade()
    crowd = Crowd(app.instance_path, config, threads, cut=cut)
    chance = random.Random(1)
    try:
        for _ in range(processes):
            crowd.start(calls)
        # The first is killed once something is spent, however fast the machine is.
        until, kill_at, seen = time.monotonic() + 240, 0.0, 0
        while crowd.busy and time.monotonic() < until:
            row = observed(ledger)
            if row is not None:
                seen += 1
                counts = row.spent, row.reserved, row.lost, row.unsettled
                assert sum(counts) <= row.allowed
                assert min(counts) >= 0
            spending = row is not None and (row.spent or row.reserved)
            if spending and crowd.killed < processes and time.monotonic() > kill_at:
                crowd.kill_one(chance)
                crowd.start(calls)
                kill_at = time.monotonic() + chance.uniform(0.2, 0.8)
            time.sleep(0.005)
        assert crowd.codes() <= {0, -signal.SIGKILL}
        assert seen
    finally:
        crowd.stop()
    return app, crowd


def settles(app: Flask) -> None:
    """Check the counters once all processes have ended."""
    ledger: Ledger = app.extensions["llm_cost"].ledger
    budgets = ledger.budgets
    assert budgets is not None
    ledger.queue.drain()
    budgets.reservations.expire(dt.datetime.now(dt.UTC) + dt.timedelta(days=1))
    row = observed(ledger)
    with app.app_context():
        llm_cost: LlmCost = app.extensions["llm_cost"].extension
        total = llm_cost.calls.total_cost()
        assert llm_cost.calls.count()
    assert Decimal(row.spent).scaleb(-12) == total
    assert row.reserved == 0
    assert row.spent + row.lost + row.unsettled <= row.allowed
    with ledger.reading() as connection:
        assert budgets.verify(connection) == ([], 0)
        left = (
            connection.execute(sa.select(budget_reservations.c.state)).scalars().all()
        )
    # Only calls whose process was killed before it had recorded them.
    assert set(left) <= {"lost", "open"}
    assert ("open" in left) == (row.unsettled > 0)
    assert budgets.release(name="all") == len(left)
    after = observed(ledger)
    counts = after.spent, after.reserved, after.lost, after.unsettled
    assert counts == (row.spent, 0, 0, 0)


@pytest.fixture
def database(request: pytest.FixtureRequest) -> t.Iterator[str | None]:
    from tests.conftest import empty_database as make

    yield from make.__wrapped__(request)  # type: ignore[attr-defined]


every_database = pytest.mark.parametrize(
    "database", ["SQLITE", "POSTGRESQL", "MARIADB"], indirect=True
)


@every_database
def test_a_limit_holds(make_app: MakeApp, database: str | None) -> None:
    app, crowd = crowded(make_app, database, processes=4, threads=4, calls=19)
    assert crowd.killed
    settles(app)


@every_database
def test_a_limit_holds_where_streams_are_cut(
    make_app: MakeApp, database: str | None
) -> None:
    app, crowd = crowded(make_app, database, processes=4, threads=4, calls=19, cut=True)
    assert crowd.killed
    assert observed(app.extensions["llm_cost"].ledger).unsettled
    settles(app)


@pytest.mark.stress
@every_database
def test_a_limit_holds_for_long_where_streams_are_cut(
    make_app: MakeApp, database: str | None
) -> None:
    app, crowd = crowded(
        make_app, database, processes=16, threads=4, calls=60, cut=True
    )
    assert crowd.killed == 16
    settles(app)


@pytest.mark.stress
@every_database
def test_a_limit_holds_for_long(make_app: MakeApp, database: str | None) -> None:
    app, crowd = crowded(make_app, database, processes=16, threads=4, calls=60)
    assert crowd.killed == 16
    settles(app)
