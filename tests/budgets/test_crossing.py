"""Many processes reach thresholds of one budget at once: each notifies once."""

from __future__ import annotations

import json
import subprocess
import sys
import typing as t
from pathlib import Path

import sqlalchemy as sa

from flask_llm_cost.db.budget_tables import budget_windows
from flask_llm_cost.db.budget_tables import outbox
from flask_llm_cost.ledger import Ledger
from tests.conftest import MakeApp

from .test_many import database as database
from .test_many import every_database

CROSSER = Path(__file__).with_name("crosser.py")


@every_database
def test_64_simultaneous_crossings_notify_once(
    make_app: MakeApp, database: str | None, tmp_path: Path
) -> None:
    config: dict[str, t.Any] = {
        "LLM_COST_DATABASE_URI": database,
        "LLM_COST_WRITE": "sync",
        "LLM_COST_MONTHLY_BUDGET": "4",
        # Nothing listens there, so that alerts stay queued.
        "LLM_COST_ALERT_WEBHOOK_URL": "http://127.0.0.1:1/hook",
        "LLM_COST_ALERT_ALLOW_PRIVATE": True,
    }
    app = make_app(**config)
    ledger: Ledger = app.extensions["llm_cost"].ledger
    ledger.schema.upgrade()
    files = [tmp_path / f"notified.{n}" for n in range(4)]
    crowd = [
        subprocess.Popen(
            [
                sys.executable,
                str(CROSSER),
                json.dumps(
                    {
                        "folder": app.instance_path,
                        "config": config,
                        "threads": 16,
                        "notified": str(file),
                    }
                ),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for file in files
    ]
    try:
        for process in crowd:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        for process in crowd:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in crowd:
            process.communicate(timeout=120)
    finally:
        for process in crowd:
            process.kill()
    assert {process.returncode for process in crowd} == {0}
    lines = [line for f in files if f.exists() for line in f.read_text().splitlines()]
    assert sorted(lines) == ["called 1", "signal 0.5", "signal 0.8", "signal 1"]
    with ledger.reading() as connection:
        assert connection.scalar(sa.select(budget_windows.c.spent)) == 32 * 10**12
        assert connection.scalar(sa.select(sa.func.count()).select_from(outbox)) == 3
