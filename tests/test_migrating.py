"""The script of the docs brings the calls of the Ruby gem into the ledger, once."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import MakeApp

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "from_llm_cost_tracker.py"

# The gem's tables of two versions; the later one has more columns.
OLD = """CREATE TABLE llm_api_calls (id INTEGER PRIMARY KEY, provider VARCHAR NOT NULL,
    model VARCHAR NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL, total_cost DECIMAL(20, 8), latency_ms INTEGER,
    stream BOOLEAN NOT NULL, usage_source VARCHAR, tags TEXT NOT NULL,
    tracked_at DATETIME NOT NULL)"""
NEW = OLD.replace(
    "tracked_at",
    "cache_read_input_tokens INTEGER, cache_write_input_tokens INTEGER,"
    " provider_response_id VARCHAR, tracked_at",
)
CALL = {
    "provider": "openai",
    "model": "gpt-4o",
    "input_tokens": 1000,
    "output_tokens": 200,
    "total_tokens": 1200,
    "total_cost": 0.0045,
    "latency_ms": 248,
    "stream": False,
    "usage_source": "response",
    "tags": '{"feature": "chat", "user_id": 7}',
    "tracked_at": "2026-10-05 12:30:00.123456",
}
MORE = {
    "cache_read_input_tokens": 400,
    "cache_write_input_tokens": 0,
    "provider_response_id": "chatcmpl-1",
}


@pytest.mark.parametrize(("table", "more"), [(OLD, {}), (NEW, MORE)])
def test_the_gems_calls_can_be_imported(
    table: str, more: dict[str, object], tmp_path: Path, make_app: MakeApp
) -> None:
    url = f"sqlite:///{tmp_path / 'rails.db'}"
    unknown = {"usage_source": "unknown", "total_cost": None, "input_tokens": 0}
    rows = [CALL | more, CALL | more | unknown | {"output_tokens": 0}]
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(table)
        columns = sa.table("llm_api_calls", *map(sa.column, rows[0]))
        connection.execute(sa.insert(columns), rows)
    engine.dispose()
    printed = subprocess.run([sys.executable, SCRIPT, url], capture_output=True)
    assert printed.returncode == 0, printed.stderr
    (tmp_path / "calls.jsonl").write_bytes(printed.stdout)
    app = make_app()
    for _ in range(2):
        args = ["llm-cost", "calls", "import", str(tmp_path / "calls.jsonl")]
        result = app.test_cli_runner().invoke(args=args)
        assert result.exit_code == 0, result.output
    calls = app.extensions["llm_cost"].extension.calls
    totals = calls.totals()
    assert (totals.calls, totals.spend_usd) == (2, Decimal("0.0045"))
    assert totals.input_tokens == 1000 + (400 if more else 0)
    assert calls.by_tag("user_id", "7").count() == 2
    assert calls.missing_usage().count() == 1
    assert {row.response_id for row in calls.rows()} == {
        more.get("provider_response_id")
    }
