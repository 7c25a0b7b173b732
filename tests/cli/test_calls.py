"""``calls export``: every call, for people or for machines."""

from __future__ import annotations

import csv
import io
import json
import pathlib
import stat
from collections.abc import Callable

from flask import Flask

from flask_llm_cost.ledger import jsonl
from flask_llm_cost.query.detail import stream_calls
from flask_llm_cost.query.export import COLUMNS
from flask_llm_cost.query.filters import CallFilter
from tests.cli.conftest import Run

Shown = Callable[..., str]


def test_csv_has_a_line_for_each_call(shown: Shown) -> None:
    rows = list(
        csv.DictReader(io.StringIO(shown("calls", "export", "--format", "csv")))
    )
    assert len(rows) == 5
    assert tuple(rows[0]) == COLUMNS
    assert rows[-1]["started_at"] == "2026-11-08T12:00:00.000Z"
    assert {row["cost_usd"] for row in rows} == {"0.0028", "0.00057", ""}


def test_jsonl_loses_nothing(shown: Shown, shop: Flask) -> None:
    text = shown("calls", "export", "--format", "jsonl")
    found = [jsonl.decode(line) for line in text.splitlines()]
    with shop.app_context():
        ledger = shop.extensions["llm_cost"].ledger
        assert found == list(stream_calls(ledger.reading, CallFilter()))
    assert len(found) == 5


def test_days_choose_the_calls(shown: Shown) -> None:
    text = shown("calls", "export", "--format", "jsonl", "--days", "1")
    days = {json.loads(line)["started_at"][:10] for line in text.splitlines()}
    assert days == {"2026-11-20"}


def test_a_file_is_for_its_owner_alone(shown: Shown, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "calls.csv"
    assert shown("calls", "export", "--format", "csv", "--output", str(path)) == ""
    assert len(path.read_text().splitlines()) == 6
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_cannot_be_made_is_a_clear_error(
    run: Run, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "nowhere" / "calls.csv"
    result = run("calls", "export", "--format", "csv", "--output", str(path))
    assert result.exit_code == 1
    assert "No such file" in result.stderr


def test_the_form_must_be_said(run: Run) -> None:
    result = run("calls", "export")
    assert result.exit_code == 2
    assert "--format" in result.stderr
