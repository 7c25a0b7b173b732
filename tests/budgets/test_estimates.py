"""What a call may cost before that is known, and a budget without reservations."""

from __future__ import annotations

import typing as t
from decimal import Decimal

import pytest
import requests
import sqlalchemy as sa
from flask import Flask

from flask_llm_cost.attempt import Attempt
from flask_llm_cost.db.budget_tables import budget_reservations
from flask_llm_cost.errors import BudgetExceeded
from tests.conftest import MakeApp

from .test_enforcement import extension_of
from .test_enforcement import send
from .test_enforcement import spend

ATTEMPT = Attempt("openai", "chat", "gpt-4o")


def reserved(app: Flask) -> list[Decimal]:
    """What is reserved for each call, in USD."""
    with app.extensions["llm_cost"].ledger.reading() as connection:
        amounts = connection.scalars(sa.select(budget_reservations.c.amount)).all()
    return [Decimal(amount).scaleb(-12) for amount in amounts]


def blocking(make_app: MakeApp, **entry: t.Any) -> Flask:
    entry = {"name": "x", "limit_usd": 5, "behavior": "block"} | entry
    return make_app(LLM_COST_BUDGETS=[entry])


def test_an_estimate_may_be_the_moving_average_of_a_model(make_app: MakeApp) -> None:
    app = blocking(make_app, estimate="average")
    with app.app_context():
        # There is no average of the model yet: the upper bound is used.
        assert extension_of(app).begin(ATTEMPT)
        (most,) = reserved(app)
        assert most > Decimal("0.1")
    spend(app, "0.1")
    spend(app, "0.2")
    with app.app_context():
        assert extension_of(app).begin(ATTEMPT)
    assert sorted(reserved(app)) == [Decimal("0.11"), most]


def test_an_estimate_may_be_the_apps_own(make_app: MakeApp) -> None:
    asked: list[Attempt] = []

    def estimate(attempt: Attempt) -> str:
        asked.append(attempt)
        return "0.25"

    app = blocking(make_app, estimate=estimate)
    with app.app_context():
        assert extension_of(app).begin(ATTEMPT)
    assert asked == [ATTEMPT]
    assert reserved(app) == [Decimal("0.25")]


def test_a_soft_budget_reserves_nothing(make_app: MakeApp) -> None:
    app = blocking(make_app, limit_usd="0.3", hard=False, estimate="9")
    with app.app_context():
        assert extension_of(app).begin(ATTEMPT)
        assert reserved(app) == []
    spend(app, "0.2", enforce_budget=True)
    # Something is left: the cost of the call does not matter.
    spend(app, "0.2", enforce_budget=True)
    with app.app_context(), pytest.raises(BudgetExceeded) as info:
        extension_of(app).begin(ATTEMPT)
    assert info.value.spent_usd == Decimal("0.4")
    assert info.value.estimate_usd is None


def test_only_calls_of_its_models_count(make_app: MakeApp) -> None:
    app = blocking(make_app, limit_usd="0.1", models=["gpt-4o*"], estimate="0.01")
    with pytest.raises(BudgetExceeded):
        spend(app, "0.1")
    other = Attempt("openai", "chat", "o3")
    with app.app_context():
        assert extension_of(app).begin(other)
        with pytest.raises(BudgetExceeded):
            extension_of(app).begin(ATTEMPT)


def test_a_request_above_the_budget_per_call_is_not_sent(
    make_app: MakeApp, provider_url: str
) -> None:
    app = make_app(
        LLM_COST_CALL_BUDGET="0.01",
        LLM_COST_BUDGET_BEHAVIOR="block",
        LLM_COST_PROVIDER_HOSTS={provider_url.removeprefix("http://"): "openai"},
    )
    with app.app_context(), requests.Session() as session:
        llm_cost = extension_of(app)
        session.mount("http://", llm_cost.adapter())
        with pytest.raises(BudgetExceeded, match="no room for this call") as info:
            send(session, provider_url, max_tokens=10_000)
        assert info.value.retry_after() is None
        assert send(session, provider_url, max_tokens=10).ok
        # It sets no maximum, and a guess does not refuse calls.
        assert send(session, provider_url).ok
