"""``distribute``: what it prints, and whom it refuses. See also ``tests/cluster``."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask

from tests.cli.conftest import Run
from tests.conftest import MakeApp

Shown = Callable[..., str]


def test_its_statements_can_be_read_without_citus(
    make_app: MakeApp, run: Run, shown: Shown, postgresql_uri: str
) -> None:
    app = make_app(LLM_COST_DATABASE_URI=postgresql_uri)
    assert run("db", "upgrade", app=app).exit_code == 0
    lines = shown("distribute", "--dry-run", app=app).splitlines()
    assert "SELECT create_distributed_table('llm_cost_calls', 'event_id');" in lines
    assert "SELECT create_reference_table('llm_cost_tag_sets');" in lines
    copies = [line for line in lines if "truncate_local_data" in line]
    assert len(copies) == 3 + 6  # tags and revisions; the partitions of the calls
    assert shown("distribute", "--sql", app=app).splitlines() == lines
    found = run("distribute", app=app)
    assert found.exit_code == 1
    assert "CREATE EXTENSION citus" in found.stderr


def test_other_databases_are_refused(app: Flask, run: Run) -> None:
    found = run("distribute", "--dry-run", app=app)
    assert found.exit_code == 1
    assert "cannot be distributed" in found.stderr or "partitions" in found.stderr
