from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest

from flask_llm_cost.ledger import Ledger

from .conftest import every_database
from .conftest import MakeLedger
from .test_ledger import stored

ROOT = Path(__file__).parents[2]


def run_and_kill(uri: str | None, folder: Path, seconds: float) -> set[str]:
    """Let a process with threads and children append, kill all, give what it acked."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.ledger.crash", uri or "", str(folder), "4", "2"],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    acked = {line.strip() for line in [first, *process.stdout] if line.endswith(b"\n")}
    process.stdout.close()
    process.wait()
    return {line.decode() for line in acked}


def crash(ledger: Ledger, uri: str | None, folder: Path, rounds: int) -> None:
    """Kill so many processes, drain, and see that what they acknowledged is there once."""
    acked: set[str] = set()
    for _ in range(rounds):
        new = run_and_kill(uri, folder, random.uniform(0.1, 0.7))
        assert new
        acked |= new
    ledger.drain()
    assert ledger.waiting() == 0
    assert ledger.set_aside() == []
    calls = stored(ledger)
    ids = [call.event_id for call in calls]
    assert len(ids) == len(set(ids))
    assert acked <= set(ids)
    # What was appended and not acknowledged when it died may be there: one a thread.
    assert len(ids) - len(acked) <= 6 * rounds
    assert all(c.cost is not None and c.cost.total_usd > Decimal(0) for c in calls)


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
