from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


BUSY = """
import os, sys, threading, time
from sqlalchemy import event
from flask_llm_cost.config import Settings
from flask_llm_cost.ledger import Ledger
from tests.ledger.samples import make_call

engine, statement, write, folder = sys.argv[1:]
busy = threading.Event()

def hold(connection, cursor, text, *rest):
    if text.lstrip().startswith(statement) and not busy.is_set():
        busy.set()
        time.sleep(0.5)

ledger = Ledger(Settings.read({"LLM_COST_WRITE": write}), instance_path=folder)
event.listen(getattr(ledger._engines, engine)(), "after_cursor_execute", hold)
thread = threading.Thread(target=ledger.append, args=(make_call(0),))
thread.start()
assert busy.wait(30), "the statement is not executed"
pid = os.fork()
ledger.append(make_call(1 if pid else 2))
if not pid:
    os._exit(0 if ledger.flush(timeout=20) else 1)
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 0, "the child could not store its call"
thread.join()
assert ledger.flush(timeout=20)
"""


@pytest.mark.parametrize(
    ("engine", "statement", "write"),
    [
        ("writing", "CREATE TABLE", "spool"),
        ("writing", "INSERT INTO llm_cost_calls", "spool"),
        ("answering", "INSERT INTO llm_cost_calls", "sync"),
    ],
)
def test_a_fork_waits_for_statements_in_other_threads(
    tmp_path: Path, make_ledger: MakeLedger, engine: str, statement: str, write: str
) -> None:
    """SQLite would count the locks of the parent's threads as the child's, forever."""
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", BUSY, engine, statement, write, str(tmp_path)],
        check=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        timeout=120,
    )
    ledger = make_ledger(f"sqlite:///{tmp_path}/llm_cost.db")
    assert len(stored(ledger)) == 3
