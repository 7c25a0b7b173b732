from __future__ import annotations

import dataclasses
import datetime as dt
import json
import typing as t
from pathlib import Path

import pytest
from flask import Flask

from flask_llm_cost import Call
from flask_llm_cost import Usage
from flask_llm_cost.prices.requote import requote
from flask_llm_cost.query.detail import stream_calls
from flask_llm_cost.query.filters import CallFilter
from tests.conftest import MakeApp

from .conftest import NOW

PRICES = {"openai/new-model": {"input": "3", "output": "15", "batch_input": "1.5"}}


@pytest.fixture
def late(make_app: MakeApp, tmp_path: Path) -> Flask:
    """An app that recorded two calls before the price of their model was known."""
    file = tmp_path / "prices.json"
    file.write_text('{"models": {}}')
    app = make_app(LLM_COST_PRICES_FILE=str(file), LLM_COST_ON_UNKNOWN_PRICE="ignore")
    state = app.extensions["llm_cost"]
    state.clock = lambda: NOW
    with app.app_context():
        for mode in (None, "batch"):
            state.extension.track(
                provider="openai",
                model="new-model",
                input_tokens=1000,
                pricing_mode=mode,
                at=NOW,
            )
        state.extension.flush()
    file.write_text(json.dumps({"models": PRICES}))
    state.book._file._checked = 0.0
    return app


def costs(app: Flask) -> list[str]:
    with app.app_context():
        found = app.extensions["llm_cost"].extension.calls.rows(limit=9)
        return sorted(str(row.cost_usd) for row in found)


def run(app: Flask, *args: str) -> t.Any:
    return app.test_cli_runner().invoke(args=["llm-cost", "prices", "reprice", *args])


def test_reprice_uses_the_requested_mode(late: Flask) -> None:
    looked = run(late, "--from", "2026-11-01", "--dry-run")
    assert looked.exit_code == 0, looked.output
    assert "2 calls without a cost would be priced" in looked.output
    done = run(late, "--from", "2026-11-01", "--to", "2026-11-20")
    assert done.exit_code == 0, done.output
    assert "Total: $0 before, $0.0045 after." in done.output
    assert costs(late) == ["0.001500000000", "0.003000000000"]
    undo = done.output.splitlines()[-1].partition("--undo ")[2]
    back = run(late, "--undo", undo)
    assert "2 calls restored." in back.output
    assert costs(late) == ["None", "None"]
    run(late, "--undo", "last")
    assert costs(late) == ["0.001500000000", "0.003000000000"]


def test_reprice_names_models_without_a_price(late: Flask) -> None:
    late.extensions["llm_cost"].book._file.path.write_text('{"models": {}}')
    late.extensions["llm_cost"].book._file._checked = 0.0
    done = run(late, "--from", "2026-11-01")
    assert done.exit_code == 0
    assert "2 calls of openai/new-model still unpriced" in done.output


@pytest.mark.parametrize(
    "args",
    [(), ("--undo", "last", "--from", "2026-11-01"), ("--from", "yesterday")],
)
def test_wrong_usage_exits_with_2(late: Flask, args: tuple[str, ...]) -> None:
    assert run(late, *args).exit_code == 2


def test_reprice_needs_a_database(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_STORAGE="jsonl")
    done = run(app, "--from", "2026-11-01")
    assert done.exit_code == 1
    assert "calls import" in done.output


def test_a_call_of_several_models_is_repriced_from_its_parts(make_app: MakeApp) -> None:
    app = make_app(
        LLM_COST_PRICE_OVERRIDES={
            "big": {"input": "5", "output": "25", "web_search": "0.01"},
            "small": {"input": "1", "output": "5", "reasoning": "7"},
        }
    )
    state = app.extensions["llm_cost"]
    call = Call(
        event_id="",
        started_at=dt.datetime(2026, 11, 1, tzinfo=dt.UTC),
        provider="anthropic",
        model="big",
        usage=Usage(input_tokens=3),
        usage_by_model={
            "big": Usage(input_tokens=1000, output_tokens=10),
            "small": Usage(input_tokens=70, output_tokens=10, reasoning_tokens=4),
        },
    )
    first = state.intake.price(call)
    assert first.cost is not None
    assert first.usage_by_model == {}
    assert requote(state.book, first).cost == first.cost


def test_the_usage_of_several_unknown_models_is_not_stored(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_ON_UNKNOWN_PRICE="ignore")
    call = Call(
        event_id="",
        started_at=NOW,
        provider="anthropic",
        model="nobody",
        usage=Usage(input_tokens=3),
        usage_by_model={
            "nobody": Usage(input_tokens=1),
            "no-one": Usage(input_tokens=2),
        },
    )
    late = app.extensions["llm_cost"].intake.price(call)
    assert late.cost is None
    with pytest.raises(ValueError, match="several models"):
        requote(app.extensions["llm_cost"].book, late)


def flags(app: Flask) -> list[frozenset[str]]:
    ledger = app.extensions["llm_cost"].ledger
    return [call.flags for call in stream_calls(ledger.reading, CallFilter())]


def test_a_priced_call_has_no_flag_of_its_mode_any_more(late: Flask) -> None:
    assert any("pricing_mode.batch" in found for found in flags(late))
    done = run(late, "--from", "2026-11-01", "--to", "2026-11-20")
    assert done.exit_code == 0, done.output
    assert flags(late) == [frozenset(), frozenset()]


@pytest.mark.parametrize("flag", ["borrowed_price", "modality_fallback", "derived"])
def test_what_was_noted_of_an_old_price_says_nothing_of_the_new_one(
    late: Flask, flag: str
) -> None:
    book = late.extensions["llm_cost"].book
    call = Call(
        "01890000-0000-7000-8000-000000000000",
        NOW,
        "openai",
        "new-model",
        usage=Usage(input_tokens=1000),
        flags=frozenset((flag, "cut")),
    )
    cost, noted = requote(book, call)
    assert cost is not None
    assert noted == {"cut"}
    clean, _ = requote(book, dataclasses.replace(call, flags=frozenset((flag,))))
    assert clean is not None
    assert clean.complete
