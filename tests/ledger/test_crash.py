from __future__ import annotations

import functools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from flask_llm_cost.ledger import Ledger
from tests.conftest import every_database
from tests.conftest import MakeLedger

from .test_ledger import stored

ROOT = Path(__file__).parents[2]


def run_and_kill(
    uri: str | None,
    folder: Path,
    meanwhile: Callable[[], object],
    *,
    pause: float = 0.005,
) -> dict[str, Decimal]:
    """Let a process with threads and children append; kill all; return what it acked.

    :param meanwhile: What happens until it is killed.
    :param pause: The longest time between two calls of a thread, in seconds.
    """
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.ledger.crash", uri or "", str(folder)),
            *("4", "2", str(pause)),
        ],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines: list[bytes] = []
    # Read meanwhile, or a long run would block on its pipe.
    reader = threading.Thread(target=lines.extend, args=(process.stdout,))
    reader.start()
    try:
        while not lines and process.poll() is None:
            time.sleep(0.01)
        meanwhile()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        reader.join()
        process.stdout.close()
        process.wait()
    acked = (line.decode().split() for line in lines if line.endswith(b"\n"))
    return {event_id: Decimal(cost) for event_id, cost in acked}


def check(ledger: Ledger, acked: dict[str, Decimal], rounds: int) -> None:
    """Drain, and check that what was acknowledged is stored once, to the pico-dollar."""
    ledger.queue.drain()
    assert ledger.queue.count() == 0
    for _, line, reason in ledger.queue.spool.rejected:
        # A kill can also interrupt the write of a line: half of it is all there is.
        assert not line.endswith(b"}"), reason
        assert not any(event_id.encode() in line for event_id in acked)
    calls = stored(ledger)
    costs = {c.event_id: c.cost.total_usd for c in calls if c.cost is not None}
    assert len(costs) == len(calls)
    assert {event_id: costs.get(event_id) for event_id in acked} == acked
    assert sum(costs[event_id] for event_id in acked) == sum(acked.values())
    # What was appended but not acknowledged may be stored: one call per thread.
    assert len(costs) - len(acked) <= 6 * rounds


def crash(ledger: Ledger, uri: str | None, folder: Path, rounds: int) -> None:
    acked: dict[str, Decimal] = {}
    for _ in range(rounds):
        pause = random.uniform(0.1, 0.7)
        new = run_and_kill(uri, folder, functools.partial(time.sleep, pause))
        assert new
        acked |= new
    check(ledger, acked, rounds)


@every_database
def test_nothing_acknowledged_is_lost_or_doubled_by_kill_9(
    database: str | None, tmp_path: Path, make_ledger: MakeLedger
) -> None:
    crash(make_ledger(database), database, tmp_path / "instance", 3)


@pytest.mark.stress
@every_database
def test_twenty_rounds_of_kill_9(
    database: str | None, tmp_path: Path, make_ledger: MakeLedger
) -> None:
    crash(make_ledger(database), database, tmp_path / "instance", 20)
