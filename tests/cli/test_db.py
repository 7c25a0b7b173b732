"""``db`` and ``drain``: the tables, and what waits for them."""

from __future__ import annotations

import pathlib

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
    for command in (("report",), ("db", "current"), ("db", "upgrade")):
        result = run(*command, app=app)
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: ")
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
    assert "1 call written to" in run("drain", app=app).stdout
    assert "0 calls written to" in run("drain", app=app).stdout
