"""``db`` and ``drain``: the tables, and what waits for them."""

from __future__ import annotations

import contextlib
import pathlib
import re
import sqlite3

import pytest

from tests.cli.conftest import Run
from tests.conftest import MakeApp


def _uri(tmp_path: pathlib.Path) -> str:
    return f"sqlite:///{tmp_path / 'other.db'}"


def test_upgrade_makes_the_tables_once(
    make_app: MakeApp, run: Run, tmp_path: pathlib.Path
) -> None:
    app = make_app(LLM_COST_DATABASE_URI=_uri(tmp_path))
    before = run("db", "current", app=app)
    assert (before.exit_code, before.stdout[-11:]) == (1, ": no tables\n"[-11:])
    assert "run `db upgrade`" in before.stderr
    assert "from nothing to version" in run("db", "upgrade", app=app).stdout
    assert "already" in run("db", "upgrade", app=app).stdout
    assert run("db", "current", app=app).exit_code == 0


def test_without_tables_a_report_says_what_to_do(
    make_app: MakeApp, run: Run, tmp_path: pathlib.Path
) -> None:
    app = make_app(LLM_COST_DATABASE_URI=_uri(tmp_path))
    result = run("report", app=app)
    assert result.exit_code == 1
    assert "db upgrade" in result.stderr
    assert "Traceback" not in result.output


def test_an_unreachable_database_is_one_line(
    make_app: MakeApp, run: Run, tmp_path: pathlib.Path
) -> None:
    app = make_app(LLM_COST_DATABASE_URI=f"sqlite:///{tmp_path}/no/such/folder/x.db")
    with app.app_context():
        app.extensions["llm_cost"].extension.track(
            provider="openai", model="gpt-4o", input_tokens=1
        )
    for command in (("report",), ("drain",), ("db", "current"), ("db", "upgrade")):
        result = run(*command, app=app)
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: ")
        assert len(result.stderr.splitlines()) == 1
        assert "Traceback" not in result.output


def test_drain_writes_what_waits(
    make_app: MakeApp, run: Run, tmp_path: pathlib.Path
) -> None:
    app = make_app(LLM_COST_DATABASE_URI=_uri(tmp_path))
    llm_cost = app.extensions["llm_cost"].extension
    with app.app_context():
        llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)
    waiting = run("drain", app=app)
    assert waiting.exit_code == 1
    run("db", "upgrade", app=app)
    # The app's own writer may be first.
    assert re.match(r"(0 calls|1 call) written to", run("drain", app=app).stdout)
    assert "0 calls written to" in run("drain", app=app).stdout
    assert run("calls", "export", "--format", "jsonl", app=app).stdout.count("\n") == 1


def test_check_finds_what_was_changed_by_hand(
    make_app: MakeApp, run: Run, tmp_path: pathlib.Path
) -> None:
    app = make_app(LLM_COST_DATABASE_URI=_uri(tmp_path))
    run("db", "upgrade", app=app)
    good = run("db", "check", app=app)
    assert (good.exit_code, good.stdout[-20:]) == (0, "this version needs.\n")
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("ALTER TABLE llm_cost_calls DROP COLUMN service_tier")
    bad = run("db", "check", app=app)
    assert bad.exit_code == 1
    assert "service_tier" in bad.stdout


def test_downgrade_asks_first(
    make_app: MakeApp, run: Run, tmp_path: pathlib.Path
) -> None:
    app = make_app(LLM_COST_DATABASE_URI=_uri(tmp_path))
    run("db", "upgrade", app=app)
    assert run("db", "downgrade", "base", app=app).exit_code == 1
    assert run("db", "current", app=app).exit_code == 0
    done = run("db", "downgrade", "base", "--yes", app=app)
    assert done.stdout.endswith(": no tables\n")


@pytest.mark.parametrize(
    "args",
    [("downgrade", "nonsense", "--yes"), ("downgrade", "", "--yes"), ("sql", "no")],
)
def test_an_unknown_version_is_wrong_use(
    make_app: MakeApp, run: Run, tmp_path: pathlib.Path, args: tuple[str, ...]
) -> None:
    app = make_app(LLM_COST_DATABASE_URI=_uri(tmp_path))
    result = run("db", *args, app=app)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_sql_needs_no_database(
    make_app: MakeApp, run: Run, tmp_path: pathlib.Path
) -> None:
    app = make_app(LLM_COST_DATABASE_URI=_uri(tmp_path))
    text = run("db", "sql", "--dialect", "postgresql", app=app).stdout
    assert "CREATE TABLE llm_cost_calls" in text
    assert run("db", "sql", "--dialect", "oracle", app=app).exit_code == 2
    assert not (tmp_path / "other.db").exists()


def test_lines_set_aside_can_be_tried_again(
    make_app: MakeApp, run: Run, tmp_path: pathlib.Path
) -> None:
    app = make_app(LLM_COST_SPOOL_DIR=str(tmp_path / "spool"))
    ledger = app.extensions["llm_cost"].ledger
    ledger.queue.spool.append(b"{poison\n")
    run("drain", app=app)
    result = run("ledger", "requeue", app=app)
    assert result.exit_code == 1
    assert "1 line queued again: 0 written, 0 written before, 1 rej" in result.stdout
    for path in ledger.queue.rejected():
        path.unlink()
    assert run("ledger", "requeue", app=app).stdout.startswith("0 lines queued again")
