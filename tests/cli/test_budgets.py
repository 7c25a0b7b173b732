from __future__ import annotations

import json
import re
import typing as t
from decimal import Decimal

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_llm_cost.budgets.definition import Reservation
from flask_llm_cost.db.budget_tables import budget_windows
from flask_llm_cost.errors import BudgetExceeded
from tests.conftest import MakeApp

EVENT = "01890a5d-ac96-774b-bcce-b302099a8057"
USER = {
    "name": "user",
    "limit_usd": "0.02",
    "tags": {"user": "*"},
    "period": "day",
    "behavior": "block",
}


@pytest.fixture
def budgeted(make_app: MakeApp) -> Flask:
    return make_app(LLM_COST_MONTHLY_BUDGET="10", LLM_COST_BUDGETS=[USER])


def run(app: Flask, *arguments: str, status: int = 0) -> str:
    result = app.test_cli_runner().invoke(args=["llm-cost", "budgets", *arguments])
    assert result.exit_code == status, result.output
    return result.output


def as_json(app: Flask, *arguments: str) -> list[dict[str, t.Any]]:
    text = run(app, *arguments, "--format", "json")
    return t.cast(list[dict[str, t.Any]], json.loads(text))


def spend(app: Flask, usd: str, user: str = "ada") -> None:
    with app.app_context():
        app.extensions["llm_cost"].extension.track(
            provider="openai", model="gpt-4o", reported_cost=usd, tags={"user": user}
        )


def test_list_shows_how_budgets_stand(budgeted: Flask) -> None:
    spend(budgeted, "0.015")
    with pytest.raises(BudgetExceeded):
        spend(budgeted, "0.025", "bob")
    text = run(budgeted, "list")
    lines = [line.split() for line in text.splitlines()]
    assert ["monthly", "month", "$0.040000", "$10.000000", "0%"] in lines
    assert ["user", "user:ada", "day", "$0.015000", "$0.020000", "75%"] in lines
    assert ["user", "user:bob", "day", "$0.025000", "$0.020000", "125%"] in lines
    assert "thresholds reached: 50%," in text
    assert text.count("EXCEEDED") == 1
    assert max(map(len, text.splitlines())) <= 80


def test_times_are_of_the_ledgers_zone(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_MONTHLY_BUDGET="10", LLM_COST_TIMEZONE="Asia/Kolkata")
    spend(app, "1")
    text = run(app, "list")
    assert "times in Asia/Kolkata" in text
    assert re.search(r"Since \d{4}-\d\d-01 00:00, until \d{4}-\d\d-01 00:00", text)


def test_json_has_exact_amounts(budgeted: Flask) -> None:
    spend(budgeted, "0.015")
    found: list[dict[str, t.Any]] = json.loads(
        run(budgeted, "show", "user", "--format", "json")
    )
    assert [(f["spent_usd"], f["tags"], f["passed"]) for f in found] == [
        ("0.015", {"user": "ada"}, ["0.5"])
    ]


def test_verify_finds_and_fixes_differences(budgeted: Flask) -> None:
    spend(budgeted, "0.015")
    assert "equal the cost of the calls" in run(budgeted, "verify")
    ledger = budgeted.extensions["llm_cost"].ledger
    with ledger._engines.writing().begin() as connection:
        connection.execute(sa.update(budget_windows).values(spent=1))
    assert "2 differences found" in run(budgeted, "verify", status=1)
    assert "2 counters corrected" in run(budgeted, "verify", "--fix")
    run(budgeted, "verify")


def test_lost_reservations_are_released(budgeted: Flask) -> None:
    spend(budgeted, "0.001")
    state = budgeted.extensions["llm_cost"]
    with budgeted.app_context():
        (call,) = state.extension.calls.rows()
        budgets = state.ledger.budgets
        windows = budgets.counters.windows(
            call.provider, call.model, {"user": "ada"}, call.started_at
        )
        wanted = [Reservation(w, 5 * 10**9) for w in windows if w.budget.name == "user"]
        assert budgets.reservations.reserve(EVENT, wanted) is None
    assert "$0.005000" in run(budgeted, "list")
    assert "0 reservations released" in run(budgeted, "release", "user")
    released = run(budgeted, "release", "--event-id", EVENT)
    assert "1 reservation released" in released
    assert (
        Decimal(
            json.loads(run(budgeted, "show", "user", "--format", "json"))[0][
                "reserved_usd"
            ]
        )
        == 0
    )


def test_an_unknown_budget_lists_the_defined_ones(budgeted: Flask) -> None:
    assert "Defined budgets: 'monthly', 'user'" in run(budgeted, "show", "x", status=2)
    assert "--event-id" in run(budgeted, "release", status=2)


def test_without_budgets_it_explains_how_to_add_one(make_app: MakeApp) -> None:
    assert "LLM_COST_MONTHLY_BUDGET" in run(make_app(), "list", status=1)


@pytest.mark.parametrize("storage", ["jsonl", "log"])
def test_without_a_database_budgets_are_not_counted(
    make_app: MakeApp, storage: str
) -> None:
    app = make_app(LLM_COST_STORAGE=storage, LLM_COST_MONTHLY_BUDGET="1")
    run = app.test_cli_runner().invoke
    listed = run(args=["llm-cost", "budgets", "list"])
    assert listed.exit_code == 1
    assert "counted only in a database" in listed.stderr
    checked = run(args=["llm-cost", "doctor"])
    assert "[ warn] budgets: budgets are counted only in a database" in checked.stdout


def test_settling_a_call_records_its_true_cost(budgeted: Flask) -> None:
    with budgeted.app_context():
        llm_cost = budgeted.extensions["llm_cost"].extension
        call = llm_cost.track(
            provider="openai",
            model="gpt-4o",
            usage_source="stream_partial",
            outcome="interrupted",
            reported_cost="0.25",
        )
        assert llm_cost.flush(60)
    (before,) = (
        each for each in as_json(budgeted, "list") if each["period"] == "month"
    )
    assert before["spent_usd"] == "0.25"
    assert (before["unsettled_usd"], before["unsettled_calls"]) == ("0.0625", 1)
    assert "$0.062500" in run(budgeted, "list")
    output = run(budgeted, "settle", "--event-id", call.event_id, "--usd", "0.4")
    assert "now costs $0.4" in output
    (after,) = (each for each in as_json(budgeted, "list") if each["period"] == "month")
    assert (after["spent_usd"], after["unsettled_usd"]) == ("0.4", "0")
    run(budgeted, "verify")
    result = budgeted.test_cli_runner().invoke(
        args=["llm-cost", *output.split("llm-cost ")[1].split()]
    )
    assert result.exit_code == 0, result.output
    (again,) = (each for each in as_json(budgeted, "list") if each["period"] == "month")
    assert again | {"forecast_usd": ""} == before | {"forecast_usd": ""}


@pytest.mark.parametrize(
    ("event_id", "usd", "status", "message"),
    [
        (EVENT, "1", 1, "No call with the event id"),
        ("nonsense", "1", 2, "--event-id"),
        (EVENT, "-1", 2, "--usd"),
        (EVENT, "much", 2, "--usd"),
    ],
)
def test_a_call_that_cannot_be_settled(
    budgeted: Flask, event_id: str, usd: str, status: int, message: str
) -> None:
    arguments = ("settle", "--event-id", event_id, "--usd", usd)
    assert message in run(budgeted, *arguments, status=status)
