from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import MakeLedger

from .test_ledger import stored

LOADER = """
import importlib.abc, os, sys, threading, time
from flask_llm_cost.config import Settings
from flask_llm_cost.ledger import Ledger
from tests.ledger.samples import make_call

name, folder = sys.argv[1:]
begun = threading.Event()

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, wanted, path, target=None):
        if wanted == name:
            begun.set()
            time.sleep(1.5)

sys.meta_path.insert(0, Slow())
assert name not in sys.modules
ledger = Ledger(Settings(), instance_path=folder)
ledger.append(make_call(0))
assert begun.wait(30), "the writer did not load it"
pid = os.fork()
ledger.append(make_call(1 if pid else 2))
if not pid:
    os._exit(0 if ledger.flush(timeout=20) else 1)
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 0, "the child could not store its call"
assert ledger.flush(timeout=20)
"""


def test_a_fork_waits_for_imports_of_the_writer(
    tmp_path: Path, make_ledger: MakeLedger
) -> None:
    names = (
        "flask_llm_cost.db.rows",  # in the midst of the store
        "sqlalchemy.dialects.sqlite.pysqlite",  # of the engine
        "flask_llm_cost.db.partitions",  # of the migrations
    )
    root = Path(__file__).parents[2]
    for n, name in enumerate(names):
        folder = tmp_path / str(n)
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-c", LOADER, name, str(folder)],
            check=True,
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)},
            timeout=120,
        )
        ledger = make_ledger(f"sqlite:///{folder}/llm_cost.db")
        assert len(stored(ledger)) == 3


LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = wal")
connection.execute("BEGIN IMMEDIATE")
print(flush=True)
sys.stdin.read()
"""

MIGRATING = """
import os, subprocess, sys, time
from flask_llm_cost.config import Settings
from flask_llm_cost.db import migrate
from flask_llm_cost.ledger import Ledger
from tests.ledger.samples import make_call

folder, locker = sys.argv[1:]
other = subprocess.Popen(
    [sys.executable, "-c", locker, f"{folder}/llm_cost.db"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
)
other.stdout.readline()
ledger = Ledger(Settings(), instance_path=folder)
ledger.append(make_call(0))
until = time.monotonic() + 30
while not migrate._one_at_a_time.locked():
    assert time.monotonic() < until, "the writer makes no tables"
    time.sleep(0.01)
pid = os.fork()
ledger.append(make_call(1 if pid else 2))
if not pid:
    other.stdin.close()
    os._exit(0 if ledger.flush(timeout=20) else 1)
other.communicate()
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 0, "the child could not store its call"
assert ledger.flush(timeout=20)
"""


def test_a_child_forked_during_a_migration_can_store_calls(
    tmp_path: Path, make_ledger: MakeLedger
) -> None:
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", MIGRATING, str(tmp_path), LOCKER],
        check=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        timeout=120,
    )
    ledger = make_ledger(f"sqlite:///{tmp_path}/llm_cost.db")
    assert len(stored(ledger)) == 3
