"""``prices explain`` and ``prices list``: what models cost, and why."""

from __future__ import annotations

import csv
import io
import json
import pathlib
from collections.abc import Callable
from decimal import Decimal

import pytest
from flask import Flask

from flask_llm_cost.query.detail import stream_calls
from flask_llm_cost.query.filters import CallFilter
from tests.cli.conftest import NOW
from tests.cli.conftest import Run
from tests.conftest import MakeApp
from tests.web.conftest import a_call

Shown = Callable[..., str]


def test_a_price_is_explained(shown: Shown) -> None:
    text = shown("prices", "explain", "openai", "writer")
    assert "openai/writer" in text
    assert "the overrides" in text


def test_a_model_can_be_named_as_it_is_printed(shown: Shown, run: Run) -> None:
    expected = shown("prices", "explain", "openai", "writer")
    assert shown("prices", "explain", "openai/writer") == expected
    nested = run("prices", "explain", "openrouter/meta/llama").stdout
    assert "openrouter/meta/llama" in nested


@pytest.mark.parametrize("given", ["writer", "openai/", "/writer"])
def test_half_a_name_is_a_usage_error(run: Run, given: str) -> None:
    result = run("prices", "explain", given)
    assert result.exit_code == 2
    assert "PROVIDER/MODEL" in result.stderr


def test_a_call_of_a_given_size_is_priced(shown: Shown) -> None:
    text = shown(
        *("prices", "explain", "openai", "writer"),
        *("--input-tokens", "1000", "--output-tokens", "100"),
    )
    assert "input: 1000 at 2 = $0.002\n" in text
    assert "Total: $0.0028\n" in text


def test_without_a_price_it_fails_and_suggests_similar_ones(run: Run) -> None:
    result = run("prices", "explain", "openai", "writr")
    assert result.exit_code == 1
    assert "No price is known for openai/writr" in result.stdout
    assert "openai/writer" in result.stdout


def test_a_missing_rate_fails_too(run: Run) -> None:
    args = ("prices", "explain", "anthropic", "thinker", "--output-tokens", "5")
    result = run(*args)
    assert result.exit_code == 1
    assert "output" in result.stdout


def test_a_call_is_explained_by_its_row_and_by_the_book(
    shown: Shown, shop: Flask
) -> None:
    shown("drain")
    ledger = shop.extensions["llm_cost"].ledger
    [call] = stream_calls(ledger.reading, CallFilter(model="thinker"))
    result = shop.test_cli_runner().invoke(
        args=["llm-cost", "prices", "explain", "--call", call.event_id]
    )
    assert f"Call {call.event_id}, 2026-11-20 12:00:00 UTC" in result.stdout
    assert (
        "Cost: at least $0.00057, without a known limit, from the overrides,"
        " key anthropic/thinker" in result.stdout
    )
    assert "Valid from: no date; mode: standard; tier: base" in result.stdout
    assert "  cache_read: 900 at 0.3 = $0.00027" in result.stdout
    assert "Recomputed: $0.00057, matches to the pico-dollar." in result.stdout
    assert "No rate for: output" in result.stdout
    assert "Current price book:\nanthropic/thinker is" in result.stdout
    assert result.exit_code == 1


def explained_call(app: Flask, event_id: str) -> tuple[int, str]:
    args = ["llm-cost", "prices", "explain", "--call", event_id]
    result = app.test_cli_runner().invoke(args=args)
    return result.exit_code, result.stdout


def test_a_priced_call_is_recomputed(shown: Shown, shop: Flask) -> None:
    shown("drain")
    ledger = shop.extensions["llm_cost"].ledger
    call, *_ = stream_calls(ledger.reading, CallFilter(model="writer"))
    code, text = explained_call(shop, call.event_id)
    assert code == 0
    assert "  output: 100 at 8 = $0.0008" in text
    assert "Recomputed: $0.0028, matches to the pico-dollar." in text
    assert "At current prices: unchanged." in text


def test_an_unpriced_call_has_no_price(shown: Shown, shop: Flask) -> None:
    shown("drain")
    ledger = shop.extensions["llm_cost"].ledger
    [call] = stream_calls(ledger.reading, CallFilter(model="mystery"))
    code, text = explained_call(shop, call.event_id)
    assert code == 1
    assert "Cost: unknown. No price is known for the model." in text
    assert "No rate for: input" in text
    assert "No price is known for openai/mystery." in text


def test_a_call_without_usage_needs_no_price(shop: Flask) -> None:
    ledger = shop.extensions["llm_cost"].ledger
    ledger.append(call := a_call(at=NOW, cost=None, usage=None, stream=True))
    assert ledger.flush(60)
    code, text = explained_call(shop, call.event_id)
    assert code == 1
    assert "Cost: unknown. The response reported no usage" in text
    assert "no price" not in text.lower()


def test_an_unknown_call_is_an_error(run: Run) -> None:
    for event_id in ("nonsense", "01a1f416-bdf9-72e5-acdf-74e949befff4"):
        result = run("prices", "explain", "--call", event_id)
        assert result.exit_code == 1
        assert f"No call '{event_id}' in the ledger." in result.stderr


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ((), "Give PROVIDER and MODEL"),
        (("openai",), "Give PROVIDER and MODEL"),
        (("openai", "writer", "--call", "x"), "not both"),
        (("openai", "writer", "--at", "yesterday"), "'yesterday' is not a valid time"),
        (("openai", "writer", "--mode", "magic"), "magic"),
        (("openai", "writer", "--input-tokens", "-1"), "--input-tokens"),
    ],
)
def test_wrong_usage_exits_with_2(run: Run, args: tuple[str, ...], named: str) -> None:
    result = run("prices", "explain", *args)
    assert result.exit_code == 2
    assert named in result.stderr


def test_prices_are_those_of_the_given_time(make_app: MakeApp, run: Run) -> None:
    dated = [
        {"valid_from": "2026-01-01", "input": "5"},
        {"valid_from": "2026-07-01", "input": "4"},
    ]
    app = make_app(LLM_COST_PRICE_OVERRIDES={"openai/dated": dated})
    args = ("prices", "explain", "openai", "dated", "--input-tokens", "1000000")
    assert "Total: $4\n" in run(*args, app=app).stdout
    assert "Total: $5\n" in run(*args, "--at", "2026-03-01", app=app).stdout
    assert run(*args, "--at", "2025-03-01", app=app).exit_code == 1


def test_a_list_can_be_narrowed_and_sorted(shown: Shown, run: Run) -> None:
    def keys(*args: str) -> list[str]:
        rows = json.loads(shown("prices", "list", *args, "--format", "json"))
        return [row["key"] for row in rows]

    ours = keys("--source", "override")
    assert ours == ["anthropic/thinker", "openai/writer"]
    assert keys("--source", "override", "--sort", "output") == ours[::-1]
    assert keys("--source", "override", "--sort", "input") == ours
    assert keys("--provider", "OpenAI", "--source", "override") == ["openai/writer"]
    dear = json.loads(
        shown("prices", "list", "gpt-4", "--sort", "output", "--format", "json"),
        parse_float=Decimal,
    )
    rates = [row["rates"].get("output", -1) for row in dear]
    assert rates == sorted(rates, reverse=True)
    assert run("prices", "list", "--provider", "nobody").exit_code == 1


def test_prices_are_listed(shown: Shown) -> None:
    text = shown("prices", "list", "WRITER")
    assert "openai/writer" in text
    assert "override" in text
    assert "thinker" not in text
    assert max(map(len, text.splitlines())) <= 80
    [row] = json.loads(
        shown("prices", "list", "openai/writer", "--format", "json"),
        parse_float=Decimal,
    )
    assert row["rates"] == {"input": 2, "output": 8}
    rows = csv.DictReader(
        io.StringIO(shown("prices", "list", "thinker", "--format", "csv"))
    )
    assert next(rows)["cache_read"] == "0.3"


def test_an_empty_list_fails(run: Run) -> None:
    result = run("prices", "list", "nonesuch")
    assert result.exit_code == 1
    assert "No model name contains 'nonesuch'." in result.stderr


def test_a_broken_price_file_is_one_line(
    make_app: MakeApp, run: Run, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "prices.json"
    path.write_text('{"models": {"openai/writer": {"input": "1"}}}')
    app = make_app(LLM_COST_PRICES_FILE=str(path))
    app.extensions["llm_cost"]._book = None
    path.write_text("{nonsense")
    result = run("prices", "list", app=app)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: LLM_COST_PRICES_FILE: {path}")


def test_an_impossibly_large_call_is_a_usage_error(run: Run) -> None:
    args = ("prices", "explain", "openai", "writer", "--input-tokens", str(2**53 + 1))
    result = run(*args)
    assert result.exit_code == 2
    assert "--input-tokens" in result.stderr


def test_a_model_of_several_names_is_listed_once(shown: Shown) -> None:
    rows = json.loads(shown("prices", "list", "--format", "json"))
    keys = [row["key"] for row in rows]
    assert len(keys) == len(set(keys))


def test_multipliers_and_hours_are_listed_and_explained(
    make_app: MakeApp, run: Run
) -> None:
    entry = {
        "input": "2",
        "multipliers": {"region.us": "1.1"},
        "windows": [{"hours": "16:30-00:30", "weekdays": [6, 7], "input": "1"}],
    }
    app = make_app(LLM_COST_PRICE_OVERRIDES={"openai/moody": entry})
    listed = run("prices", "list", "openai/moody", "--format", "json", app=app).stdout
    (row,) = json.loads(listed, parse_float=Decimal)
    window = "input at 16:30-00:30 on 6,7"
    assert row["rates"] == {
        "input": 2,
        "multipliers.region.us": Decimal("1.1"),
        window: 1,
    }
    text = run("prices", "explain", "openai", "moody", app=app).stdout
    assert "  multipliers.region.us: 1.1\n" in text
    assert f"  {window}: 1\n" in text
