"""``partition``, and what ``prune``, ``clear`` and ``doctor`` make of partitions."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable

import pytest
from flask import Flask

from flask_llm_cost.db import partitions
from tests.cli.conftest import Run
from tests.conftest import MakeApp

Shown = Callable[..., str]


@pytest.fixture
def big(make_app: MakeApp, run: Run, postgresql_uri: str) -> Flask:
    """An app with a ledger in PostgreSQL."""
    app = make_app(LLM_COST_DATABASE_URI=postgresql_uri)
    assert run("db", "upgrade", app=app).exit_code == 0
    return app


def test_a_dry_run_prints_sql_that_does_it(big: Flask, shown: Shown) -> None:
    text = shown("partition", "--dry-run", app=big)
    assert "PARTITION BY RANGE (started_at)" in text
    ledger = big.extensions["llm_cost"].ledger
    assert ledger.partitions.existing() == []
    with ledger._engines.writing().begin() as connection:
        for line in text.splitlines():
            if not line.startswith("--"):
                connection.exec_driver_sql(line)
    assert shown("partition", app=big).endswith(" already has its partitions.\n")
    assert shown("db", "check", app=big)


def test_setting_up_tells_and_may_be_repeated(big: Flask, shown: Shown) -> None:
    assert shown("partition", "--ahead", "1", app=big).endswith("has 4 partitions.\n")
    assert "already" in shown("partition", "--ahead", "1", app=big)
    assert "has 6 partitions" in shown("partition", app=big)


def test_doctor_looks_ahead(big: Flask, run: Run) -> None:
    def said() -> list[tuple[str, str]]:
        found = json.loads(run("doctor", "--format", "json", app=big).stdout)
        return [(f["status"], f["message"]) for f in found if f["name"] == "partitions"]

    assert said() == []
    run("partition", "--ahead", "2", app=big)
    assert said()[0][0] == "ok"
    state = big.extensions["llm_cost"]
    state.clock = lambda: dt.datetime.now(dt.UTC) + dt.timedelta(days=62)
    assert said()[0][0] == "warn"
    assert "Run `flask llm-cost partition`" in said()[0][1]


def test_doctor_finds_an_unfinished_setup(big: Flask, run: Run) -> None:
    ledger = big.extensions["llm_cost"].ledger
    with ledger._engines.writing().begin() as connection:
        connection.exec_driver_sql(
            f"ALTER TABLE {partitions.TABLE} ADD CONSTRAINT {partitions._CHECK}"
            " CHECK (started_at < 9000000000000) NOT VALID"
        )
    result = run("doctor", app=big)
    assert result.exit_code == 1
    assert "the setup did not finish" in result.stdout
    run("partition", app=big)
    assert "did not finish" not in run("doctor", app=big).stdout


def test_a_dry_prune_names_the_partitions(big: Flask, shown: Shown) -> None:
    track = big.extensions["llm_cost"].extension.track
    now = dt.datetime.now(dt.UTC)
    with big.app_context():
        for days in (0, 100):
            at = now - dt.timedelta(days=days)
            track(provider="openai", model="m", input_tokens=1, at=at)
    shown("drain", app=big)
    shown("partition", app=big)
    state = big.extensions["llm_cost"]
    state.clock = lambda: now + dt.timedelta(days=100)
    said = shown("prune", "--older-than", "30d", "--dry-run", app=big)
    assert said.startswith("2 calls before ")
    assert "Partition llm_cost_calls_before would be dropped." in said
    done = shown("prune", "--older-than", "30d", "--months-only", app=big)
    assert done.startswith("2 calls before ")


def test_where_there_are_no_partitions_it_is_said(run: Run, make_app: MakeApp) -> None:
    assert "SQLite does not support partitions" in run("partition").stderr
    files = make_app(LLM_COST_STORAGE="jsonl")
    result = run("partition", app=files)
    assert (
        result.exit_code,
        "each month already has its own file" in result.stderr,
    ) == (
        1,
        True,
    )


@pytest.mark.parametrize("storage", ["database", "jsonl"])
def test_clear_says_how_many(run: Run, make_app: MakeApp, storage: str) -> None:
    app = make_app(LLM_COST_STORAGE=storage)
    track = app.extensions["llm_cost"].extension.track
    now = dt.datetime.now(dt.UTC)
    with app.app_context():
        for days in (0, 2, 40):
            at = now - dt.timedelta(days=days)
            track(provider="openai", model="m", input_tokens=1, at=at)
    assert run("clear", "--scope", "today", app=app).exit_code == 1  # nobody said yes
    assert run("clear", "--scope", "yesterday", "--yes", app=app).exit_code == 2
    assert run("clear", "--scope", "today", "--yes", app=app).stdout.startswith(
        "1 call deleted"
    )
    assert run("clear", "--scope", "all", "--yes", app=app).stdout.startswith(
        "2 calls deleted"
    )
    found = json.loads(
        run("summary", "--period", "all", "--format", "json", app=app).stdout
    )
    assert (found["record_count"], found["by_day"]) == (0, {})
