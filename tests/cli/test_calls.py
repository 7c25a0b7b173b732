"""``calls export``: every call, for people or for machines."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import pathlib
import stat
import tracemalloc
from collections.abc import Callable

import pytest
from flask import Flask

from flask_llm_cost import jsonl
from flask_llm_cost.cli.calls import lines
from flask_llm_cost.query.detail import stream_calls
from flask_llm_cost.query.export import COLUMNS
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.state import AppState
from tests.cli.conftest import Run
from tests.conftest import MakeApp
from tests.query.samples import make_call
from tests.query.samples import NOON

Shown = Callable[..., str]


def test_csv_has_a_line_for_each_call(shown: Shown) -> None:
    rows = list(
        csv.DictReader(io.StringIO(shown("calls", "export", "--format", "csv")))
    )
    assert len(rows) == 5
    assert tuple(rows[0]) == (*COLUMNS, "tag.feature")
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


@pytest.fixture
def exported(shown: Shown, tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "calls.jsonl"
    shown("calls", "export", "--format", "jsonl", "--output", str(path))
    return path


def test_an_export_can_be_imported_elsewhere(
    exported: pathlib.Path, make_app: MakeApp, shown: Shown
) -> None:
    other = make_app()
    dry = shown("calls", "import", str(exported), "--dry-run", app=other)
    assert dry.startswith("5 calls would be new, 0 the same")
    said = shown("calls", "import", str(exported), app=other)
    assert said == "5 calls new, 0 the same, 0 different, 0 invalid lines.\n"
    assert shown("calls", "export", "--format", "jsonl", app=other) == (
        exported.read_text()
    )


def test_importing_twice_does_no_harm(exported: pathlib.Path, shown: Shown) -> None:
    assert shown("calls", "import", str(exported)).startswith("0 calls new, 5 the same")
    assert len(shown("calls", "export", "--format", "jsonl").splitlines()) == 5


def test_a_different_call_is_named_and_left_alone(
    exported: pathlib.Path, run: Run, shown: Shown
) -> None:
    before = exported.read_text()
    exported.write_text(before.replace('"outcome":"ok"', '"outcome":"failed"', 1))
    result = run("calls", "import", str(exported))
    assert result.exit_code == 1
    assert "0 calls new, 4 the same, 1 different" in result.stdout
    event_id = json.loads(before.splitlines()[0])["event_id"]
    assert result.stderr == f"In the ledger with other values: {event_id}\n"
    assert shown("calls", "export", "--format", "jsonl") == before


def test_a_bad_line_is_named_and_the_others_are_read(
    exported: pathlib.Path, make_app: MakeApp, run: Run
) -> None:
    exported.write_text("{nonsense\n\n" + exported.read_text() + '{"v": 9}\n')
    result = run("calls", "import", str(exported), app=make_app())
    assert result.exit_code == 1
    assert "5 calls new, 0 the same, 0 different, 2 invalid lines." in result.stdout
    assert "Not a call: line 1: not valid JSON" in result.stderr
    assert "Not a call: line 8: v: line format 9" in result.stderr


def test_a_call_twice_in_a_file_is_one(
    exported: pathlib.Path, make_app: MakeApp, shown: Shown
) -> None:
    exported.write_text(exported.read_text() * 2)
    said = shown("calls", "import", str(exported), app=make_app())
    assert said.startswith("5 calls new, 5 the same, 0 different")


def test_what_was_pruned_is_refused(
    exported: pathlib.Path, run: Run, shown: Shown
) -> None:
    shown("prune", "--older-than", "7d")
    old = json.loads(exported.read_text().splitlines()[-1])["event_id"]
    for more in ((), ("--dry-run",)):
        result = run("calls", "import", str(exported), *more)
        assert result.exit_code == 1
        assert "4 the same, 0 different, 0 invalid lines, 1 refused." in result.stdout
        assert "Calls before 2026-11-13 12:00:00 UTC were pruned" in result.stderr
        assert "Use --raw-only to restore them" in result.stderr
        assert f"Refused: {old}\n" in result.stderr
    assert json.loads(shown("report", "--format", "json"))["totals"]["calls"] == 5
    assert shown("ledger", "verify") == "The rollups match the calls.\n"


def test_what_was_pruned_comes_back_and_no_total_changes(
    exported: pathlib.Path, run: Run, shown: Shown
) -> None:
    totals = json.loads(shown("report", "--format", "json"))["totals"]
    shown("prune", "--older-than", "7d")
    dry = shown("calls", "import", "--raw-only", "--dry-run", str(exported))
    assert dry == "0 calls would be new, 4 the same, 0 different, 0 invalid lines," + (
        " 1 would be restored.\n"
    )
    said = shown("calls", "import", "--raw-only", str(exported))
    assert said.endswith(", 1 restored.\n")
    assert shown("calls", "export", "--format", "jsonl") == exported.read_text()
    again = shown("calls", "import", "--raw-only", str(exported))
    assert again.startswith("0 calls new, 5 the same, 0 different")
    assert json.loads(shown("report", "--format", "json"))["totals"] == totals
    assert shown("ledger", "verify") == "The rollups match the calls.\n"


def test_a_call_that_was_never_pruned_is_not_restored(
    exported: pathlib.Path, run: Run, shown: Shown
) -> None:
    shown("prune", "--older-than", "7d")
    *rest, old = exported.read_text().splitlines(keepends=True)
    model = json.loads(old)["model"]
    exported.write_text(old.replace(f'"model":"{model}"', '"model":"another"'))
    result = run("calls", "import", "--raw-only", str(exported))
    assert result.exit_code == 1
    assert "0 restored, 1 refused." in result.stdout
    assert "the rollups of pruned calls have fewer calls of" in result.stderr
    assert len(shown("calls", "export", "--format", "jsonl").splitlines()) == len(rest)


def test_an_export_says_that_calls_are_gone(run: Run, shown: Shown) -> None:
    shown("prune", "--older-than", "7d")
    result = run("calls", "export", "--format", "csv")
    assert len(result.stdout.splitlines()) == 1 + 4
    assert result.stderr.startswith("Calls before 2026-11-13 12:00 were pruned")
    assert not run("calls", "export", "--format", "csv", "--days", "7").stderr


def test_standard_input_is_a_file_too(
    exported: pathlib.Path, make_app: MakeApp
) -> None:
    runner = make_app().test_cli_runner()
    result = runner.invoke(
        args=["llm-cost", "calls", "import", "-"], input=exported.read_bytes()
    )
    assert result.stdout.startswith("5 calls new")


def test_lossless_lines_come_with_flat_memory(app: Flask, state: AppState) -> None:
    for second in range(6000):
        state.ledger.append(make_call(NOON + dt.timedelta(seconds=second)))
    assert state.ledger.flush(60)
    assert next(iter(lines(state, CallFilter(), "jsonl")))
    tracemalloc.start()
    seen = sum(1 for _ in lines(state, CallFilter(), "jsonl"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == 6000
    # A thousand calls at a time: all of them at once would be five times this.
    assert peak < 16_000_000
