"""``summary``, ``sessions`` and ``daily``: what BillingStore told, from the ledger."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Callable
from decimal import Decimal

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.money import dumps
from tests.cli.conftest import NOW
from tests.cli.conftest import Run
from tests.conftest import MakeApp

Shown = Callable[..., str]


def parsed(text: str) -> object:
    return json.loads(text, parse_float=Decimal)


def test_a_summary_has_billingstore_s_keys(shown: Shown) -> None:
    found = json.loads(shown("summary", "--format", "json"))
    assert list(found)[:12] == [
        "period",
        "from",
        "to",
        "total_cost",
        "total_tokens",
        "prompt_tokens",
        "completion_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "by_model",
        "by_day",
        "record_count",
    ]
    assert found["from"] == "2026-11-01T00:00:00+00:00"
    assert found["total_tokens"] == found["prompt_tokens"] + found["completion_tokens"]
    assert found["by_model"]["writer"]["requests"] == 3
    assert found["by_model"]["mystery"]["cost"] is None


@pytest.mark.parametrize(
    ("period", "calls"),
    [("day", 3), ("week", 4), ("month", 5), ("year", 5), ("all", 5)],
)
def test_periods_are_the_current_ones(shown: Shown, period: str, calls: int) -> None:
    found = json.loads(shown("summary", "--period", period, "--format", "json"))
    assert (found["period"], found["record_count"]) == (period, calls)
    assert sum(map(bool, found["by_day"])) == len(found["by_day"])


def test_a_summary_of_one_model(shown: Shown) -> None:
    found = json.loads(shown("summary", "--model", "writer", "--format", "json"))
    assert list(found["by_model"]) == ["writer"]
    assert (found["unpriced"], found["incomplete"]) == (0, 0)


def test_the_cache_is_a_part_of_the_prompt(shown: Shown) -> None:
    found = json.loads(shown("summary", "--model", "thinker", "--format", "json"))
    assert (found["prompt_tokens"], found["cache_read_tokens"]) == (1000, 900)


def test_text_says_what_is_not_known(shown: Shown) -> None:
    text = shown("summary")
    assert (
        "Total cost        $0.008970\n             +1 unpriced, +1 incomplete" in text
    )
    assert "  mystery" in text
    assert max(map(len, text.splitlines())) <= 80


def test_daily_has_every_day(shown: Shown) -> None:
    days = json.loads(shown("daily", "--days", "14", "--format", "json"))
    assert [day["date"] for day in days][:1] == ["2026-11-07"]
    assert len(days) == 14
    assert [day["requests"] for day in days][-2:] == [1, 3]
    *_, total, missing = lines = shown("daily").splitlines()
    assert len(lines) == 33
    assert missing.strip() == "+1 unpriced, +1 incomplete"
    assert total.split()[:4] == ["Total", "5", "4,360", "$0.008970"]


@pytest.mark.parametrize("command", ["summary", "daily", "sessions"])
def test_csv_sums_up_to_its_total(shop: Flask, shown: Shown, command: str) -> None:
    with shop.app_context():
        shop.extensions["llm_cost"].extension.track(
            provider="openai",
            model="writer",
            input_tokens=10,
            at=NOW,
            tags={"session": "=cmd()"},
        )
    text = shown(command, "--format", "csv")
    *rows, total = csv.DictReader(io.StringIO(text))
    assert next(iter(total.values())) == "total"
    assert sum(int(row["calls"]) for row in rows) == int(total["calls"]) > 0
    amounts = [Decimal(row["cost_usd"]) for row in rows if row["cost_usd"]]
    assert sum(amounts) == Decimal(total["cost_usd"])
    assert "\n=" not in text


def test_the_commands_count_tokens_in_the_same_way(shown: Shown) -> None:
    lines = [shown(command).splitlines() for command in ("report", "summary")]
    tokens = [
        line for each in lines for line in each if line.startswith(("Tokens", "Total"))
    ]
    assert len(tokens) == 4
    assert len(set(tokens)) == 2


def test_sessions_are_the_most_expensive_first(shop: Flask, shown: Shown) -> None:
    track = shop.extensions["llm_cost"].extension.track
    with shop.app_context():
        for name, size in (("a", 10), ("b", 5000), ("a", 20)):
            track(
                provider="openai",
                model="writer",
                input_tokens=size,
                at=NOW - dt.timedelta(minutes=size),
                tags={"session": name},
            )
    found = json.loads(shown("sessions", "--format", "json"))
    assert [s["session_id"] for s in found] == ["b", "unknown", "a"][:3] or found
    [a] = [s for s in found if s["session_id"] == "a"]
    assert (a["requests"], a["models"], a["is_deleted"]) == (2, ["writer"], False)
    assert a["first_request"] < a["last_request"]
    assert len(json.loads(shown("sessions", "--limit", "1", "--format", "json"))) == 1


def test_an_empty_period_has_no_sessions(shop: Flask, shown: Shown) -> None:
    shop.extensions["llm_cost"].clock = lambda: NOW + dt.timedelta(days=400)
    assert shown("sessions") == "No calls in this period.\n"
    assert json.loads(shown("summary", "--format", "json"))["total_cost"] == 0


def test_an_unknown_period_is_refused(run: Run) -> None:
    assert run("summary", "--period", "decade").exit_code == 2


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.decimals(-9, 9, places=9),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(values)
def test_json_keeps_every_digit(value: object) -> None:
    again = parsed(dumps(value))
    assert again == value


def test_sessions_say_that_calls_are_gone(run: Run, shown: Shown) -> None:
    assert json.loads(shown("sessions", "--format", "json"))[0]["pruned_before"] is None
    shown("prune", "--older-than", "7d")
    line = "Calls before 2026-11-13 12:00 were pruned. This part excludes them."
    assert shown("sessions").startswith(f"{line}\n")
    result = run("sessions", "--format", "json")
    assert result.stderr == f"{line}\n"
    assert {row["pruned_before"] for row in json.loads(result.stdout)} == {
        "2026-11-13T12:00:00.000+00:00"
    }
    assert "pruned" not in shown("sessions", "--period", "day")


def test_a_summary_outlives_its_calls(shown: Shown) -> None:
    before = json.loads(shown("summary", "--period", "all", "--format", "json"))
    shown("prune", "--older-than", "7d")
    found = json.loads(shown("summary", "--period", "all", "--format", "json"))
    assert found == before
    assert len(found["by_day"]) == 3
    assert "pruned" not in shown("summary") + shown("daily")


def test_a_summary_of_other_days_says_that_calls_are_gone(
    run: Run, shop: Flask, make_app: MakeApp
) -> None:
    run("prune", "--older-than", "7d")
    database = f"sqlite:///{shop.instance_path}/llm_cost.db"
    moved = make_app(LLM_COST_DATABASE_URI=database, LLM_COST_TIMEZONE="Asia/Kolkata")
    moved.extensions["llm_cost"].clock = lambda: NOW
    said = run("summary", app=moved).stdout
    assert "Calls before 2026-11-13 17:30 were pruned" in said
