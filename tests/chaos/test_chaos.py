"""Everything at once, for as long as one likes: nothing is lost, and no limit is exceeded.

``LLM_COST_CHAOS_SECONDS`` is the time for each database. The figures are
appended to the file that ``LLM_COST_CHAOS_FIGURES`` names.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import typing as t
from collections import Counter
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy import exc

from flask_llm_cost.db.budget_tables import budget_windows
from flask_llm_cost.db.tables import calls
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.money import to_pico
from tests.conftest import every_database
from tests.conftest import MakeApp
from tests.db.test_timeouts import Proxy

from .provider import Provider
from .worker import budgets

WORKER: t.Final = Path(__file__).with_name("worker.py")
SECONDS: t.Final = float(os.environ.get("LLM_COST_CHAOS_SECONDS", "60"))
WORKERS: t.Final = 3
STEP: t.Final = Decimal("0.01")
LANES: t.Final = ("closed", "open")
FAKETIME: t.Final = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


class Process:
    """A worker, and everything that it said."""

    def __init__(self, options: dict[str, t.Any], log: t.IO[bytes]) -> None:
        self.said: list[list[t.Any]] = []
        self.killed = False
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(options)],
            stdout=subprocess.PIPE,
            stderr=log,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(json.loads(line))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ready(self) -> bool:
        return bool(self.said) and self._process.poll() is None

    def signal(self, number: int) -> None:
        if self.ready:  # before that, it has no handlers
            self._process.send_signal(number)

    def kill(self) -> None:
        self.killed = True
        self._process.kill()
        self.wait()

    def wait(self, timeout: float | None = None) -> int:
        code = self._process.wait(timeout)
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code


class Chaos:
    """Workers on one ledger, and what happens to them."""

    def __init__(
        self, folder: Path, uri: str | None, direct: str | None, host: str, log: t.Any
    ) -> None:
        self.chance = random.Random()
        self.events: Counter[str] = Counter()
        self.highest = dict.fromkeys(LANES, Decimal(0))
        self.processes: list[Process] = []
        self.running: list[Process] = []
        self.proxy: Proxy | None = None
        self.folder = folder
        self._log = log
        self._options = {"folder": str(folder), "uri": uri, "host": host}
        self._direct = direct or f"sqlite:///{folder / 'llm_cost.db'}"
        self._limits = dict.fromkeys(LANES, STEP)
        self.edit_budgets()

    def start(self) -> None:
        options = self._options | {"seed": len(self.processes)}
        process = Process(options, self._log)
        self.processes.append(process)
        self.running.append(process)

    # What happens

    def edit_budgets(self) -> None:
        """Raise the limits, or lower one."""
        for lane in LANES:
            change = STEP * self.chance.choice([-1, 1, 1, 1])
            self._limits[lane] = max(STEP, self._limits[lane] + change)
            self.highest[lane] = max(self.highest[lane], self._limits[lane])
        new = self.folder / "limits.new"
        new.write_text(json.dumps({k: str(v) for k, v in self._limits.items()}))
        new.replace(self.folder / "limits.json")

    def kill(self) -> None:
        """Kill a worker, and start another."""
        victim = self.chance.choice(self.running)
        victim.kill()
        self.running.remove(victim)
        self.start()

    def replace(self) -> None:
        """End a worker as a server does, and start another."""
        victim = self.chance.choice(self.running)
        if victim.ready:
            self.running.remove(victim)
            self.start()
            self.end(victim)

    def end(self, process: Process) -> None:
        process.signal(signal.SIGCONT)
        process.signal(signal.SIGTERM)
        try:
            assert process.wait(60) == 0
        except subprocess.TimeoutExpired:
            process.signal(signal.SIGQUIT)  # it says where it hangs
            time.sleep(1)
            raise

    def stop(self) -> None:
        """Stop a worker for a moment, perhaps while it holds a lock."""
        victim = self.chance.choice(self.running)
        victim.signal(signal.SIGSTOP)
        time.sleep(self.chance.uniform(0, 1))
        victim.signal(signal.SIGCONT)

    def interrupt(self) -> None:
        """Raise an exception at random points of main threads."""
        for _ in range(self.chance.randint(1, 20)):
            self.chance.choice(self.running).signal(signal.SIGUSR1)
            time.sleep(self.chance.uniform(0, 0.02))

    def record(self) -> None:
        """Record calls in signal handlers."""
        for _ in range(self.chance.randint(1, 5)):
            self.chance.choice(self.running).signal(signal.SIGUSR2)
            time.sleep(self.chance.uniform(0, 0.02))

    def control(self, space: int | None = None, offset: float = 0) -> None:
        victim = self.chance.choice(self.running)
        if not victim.ready:
            return
        file = self.folder / f"control.{victim.pid}"
        for what in ({"space": space, "offset": offset}, {"space": None, "offset": 0}):
            file.write_text(json.dumps(what))
            victim.signal(signal.SIGHUP)
            time.sleep(self.chance.uniform(0.1, 1))

    def fill_disk(self) -> None:
        """Let a worker write no file beyond a few bytes."""
        self.control(space=self.chance.choice([0, 100, 5000]))

    def step_clock(self) -> None:
        """Step a worker's clock, and back."""
        self.control(offset=self.chance.choice([-3600, -60, 60, 3600, 86_400]))

    def lock(self) -> None:
        """Lock what reservations change."""
        engine = sa.create_engine(self._direct)
        statement = {
            "sqlite": "BEGIN IMMEDIATE",
            "postgresql": self.chance.choice(
                [
                    "LOCK TABLE llm_cost_budget_windows IN ACCESS EXCLUSIVE MODE",
                    "SELECT * FROM llm_cost_budget_windows FOR UPDATE",
                ]
            ),
        }.get(engine.dialect.name, "SELECT * FROM llm_cost_budget_windows FOR UPDATE")
        with contextlib.suppress(exc.DBAPIError), engine.connect() as connection:
            connection.exec_driver_sql(statement)
            time.sleep(self.chance.uniform(0, 3))
            connection.rollback()
        engine.dispose()

    def silence(self) -> None:
        """Let the server accept and answer nothing."""
        if self.proxy is not None:
            self.proxy.freeze()
            time.sleep(self.chance.uniform(0, 4))
            self.proxy.go_on()

    def run(self, seconds: float, check: Callable[[], None]) -> None:
        doings = [self.edit_budgets] * 4 + [
            self.kill,
            self.replace,
            self.stop,
            self.interrupt,
            self.record,
            self.fill_disk,
            self.step_clock,
            self.lock,
            self.silence,
        ]
        until = time.monotonic() + seconds
        for _ in range(WORKERS):
            self.start()
        while time.monotonic() < until:
            do = self.chance.choice(doings)
            self.events[do.__name__] += 1
            do()
            check()
            time.sleep(self.chance.uniform(0, 0.4))

    def finish(self) -> None:
        for process in self.running:
            while not process.ready:
                time.sleep(0.05)
            self.end(process)

    def abort(self) -> None:
        for process in self.processes:
            if process._process.poll() is None:
                process.kill()


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    thread = threading.Thread(target=made.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def counters(ledger: Ledger) -> dict[str, t.Any]:
    with ledger.reading() as connection:
        rows = connection.execute(sa.select(budget_windows)).all()
    return {row.name: row for row in rows}


def counted(row: t.Any) -> int:
    return row.spent + row.reserved + row.lost + row.unsettled  # type: ignore[no-any-return]


def within(chaos: Chaos, row: t.Any) -> bool:
    return counted(row) <= to_pico(chaos.highest["closed"])


def stored(ledger: Ledger) -> tuple[Counter[str], dict[str, int]]:
    """How often each response and event is in the ledger; and what events cost."""
    responses: Counter[str] = Counter()
    costs: dict[str, int] = {}
    query = sa.select(calls.c.event_id, calls.c.response_id, calls.c.cost_total)
    with ledger.reading() as connection:
        for event_id, response_id, cost in connection.execute(query):
            costs[str(event_id)] = cost or 0
            if response_id is not None:
                responses[response_id] += 1
    return responses, costs


def figures(chaos: Chaos, database: str) -> dict[str, t.Any]:
    ours: dict[str, list[float]] = defaultdict(list)
    said = [each for process in chaos.processes for each in process.said]
    for kind, *values in said:
        if kind in ("done", "refused"):
            name = "sent" if kind == "done" else "refused"
            whole, beyond = values[2]
            ours[name].append(whole)
            ours[f"{name}, beyond the control"].append(beyond)
        if kind == "done":
            ours["whole call"].append(values[3])
        elif kind == "bare":
            ours["bare call"].append(values[0])
    found: dict[str, t.Any] = {
        "database": database,
        "events": dict(chaos.events),
        "processes": len(chaos.processes),
        "said": dict(Counter(each[0] for each in said)),
    }
    slow = [each for each in said if each[0] == "slow"]
    found["slow"] = sorted(slow, key=lambda each: -each[3])[:20]
    for name, values in ours.items():
        values.sort()
        found[f"{name}, ms"] = {
            share: round(1000 * values[min(len(values) - 1, int(len(values) * at))], 1)
            for share, at in (("50%", 0.5), ("99%", 0.99), ("99.9%", 0.999), ("max", 1))
        }
    return found


def report(found: dict[str, t.Any]) -> None:
    if path := os.environ.get("LLM_COST_CHAOS_FIGURES"):
        with open(path, "a") as file:
            file.write(json.dumps(found, indent=1) + "\n")


@pytest.mark.stress
@every_database
def test_nothing_is_lost_and_no_limit_is_exceeded(
    make_app: MakeApp, empty_database: str | None, provider: Provider, tmp_path: Path
) -> None:
    folder = tmp_path / "instance0"
    app = make_app(
        LLM_COST_DATABASE_URI=empty_database, LLM_COST_BUDGETS=budgets(folder)
    )
    assert app.instance_path == str(folder)
    folder.mkdir()
    ledger: Ledger = app.extensions["llm_cost"].ledger
    ledger.schema.upgrade()
    proxy = None if empty_database is None else Proxy(empty_database)
    uri = None if proxy is None else proxy.uri
    with (tmp_path / "log").open("wb") as log:
        chaos = Chaos(folder, uri, empty_database, provider.host, log)
        chaos.proxy = proxy

        def check() -> None:
            row = counters(ledger).get("closed")
            assert row is None or within(chaos, row)

        try:
            chaos.run(SECONDS, check)
            chaos.finish()
        finally:
            chaos.abort()
            if proxy is not None:
                proxy.close()
    ledger.queue.drain()
    dialect = ledger._engines.reading().dialect.name
    verify(app, chaos, (tmp_path / "log").read_text(), figures(chaos, dialect))


def verify(app: Flask, chaos: Chaos, log: str, found: dict[str, t.Any]) -> None:
    ledger: Ledger = app.extensions["llm_cost"].ledger
    responses, costs = stored(ledger)
    done: set[str] = set()
    reported: set[str] = set()
    handled: set[str] = set()
    unreserved: set[str] = set()
    for process in chaos.processes:
        for kind, *values in process.said:
            if kind == "done":
                done.add(values[1])
            elif kind == "lost":
                reported.update(values)
            elif kind == "unreserved":
                unreserved.add(values[0])
            elif kind == "handler" and not process.killed:
                handled.add(values[0])
    rows = counters(ledger)
    over = counted(rows["open"]) - to_pico(chaos.highest["open"])
    found |= {
        "stored": len(costs),
        "acknowledged": len(done),
        "missing": len(done - responses.keys() - reported),
        "reported as lost": len(reported & done),
        "closed, $": f"{rows['closed'].spent / 1e12:.6f} of {chaos.highest['closed']}",
        "open, $": f"{rows['open'].spent / 1e12:.6f} of {chaos.highest['open']}",
        "unreserved": len(unreserved),
    }
    report(found)
    assert done
    assert done <= responses.keys() | reported
    assert handled <= costs.keys() | reported
    assert set(responses.values()) == {1}
    assert within(chaos, rows["closed"])
    # What exceeds an open budget was let through in outages, each of them logged.
    assert over <= sum(costs.get(each, 0) for each in unreserved)
    assert not unreserved or "allowing calls (on_error='open')" in log
    assert "Capture failed" not in log
    kept = ledger.budgets
    assert kept is not None
    with ledger.reading() as connection:
        assert kept.verify(connection) == ([], 0)
