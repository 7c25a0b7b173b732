from __future__ import annotations

import datetime as dt
import re
import typing as t
from decimal import Decimal

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.budgets import defined
from flask_llm_cost.budgets.standing import Standing
from flask_llm_cost.call import Attempt
from flask_llm_cost.config import Settings
from flask_llm_cost.web.gauge import gauge

from .conftest import MakeSite
from .conftest import NOW
from .conftest import recorder


def page(site: Flask, path: str = "budgets") -> str:
    response = site.test_client().get(f"/llm-costs/{path}")
    assert response.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.text))


@pytest.fixture
def site(make_site: MakeSite) -> Flask:
    return make_site(
        LLM_COST_MONTHLY_BUDGET="100",
        LLM_COST_CALL_BUDGET="2",
        LLM_COST_BUDGETS=[
            {
                "name": "per user",
                "limit_usd": "5",
                "period": "day",
                "tags": {"user": "*"},
                "behavior": "block",
                "unpriced": "block",
            }
        ],
    )


def test_a_budget_shows_what_is_spent_and_left(site: Flask) -> None:
    recorder(site)(cost="60")
    text = page(site)
    assert "monthly notifies" in text
    assert "$60.00 of $100.00" in text
    assert "Left $40.00 resets 1 Dec 00:00" in text
    # Half of a day is missing to 18 of 30 days: 60 / 17.5 * 30.
    assert "Heading for $103 over the limit" in text
    assert "Passed 50%" in text


def test_what_is_held_and_lost_is_shown(make_site: MakeSite) -> None:
    entry = {"name": "all", "limit_usd": "5", "behavior": "block", "estimate": "0.25"}
    site = make_site(LLM_COST_BUDGETS=[entry])
    recorder(site)(cost="4")
    host, attempt = site.extensions["llm_cost"], Attempt("openai", "chat", "gpt-4o")
    with site.app_context():
        host.extension.begin(attempt)
        tomorrow = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
        assert host.ledger.budgets.holds.sweep(tomorrow) == 1
        host.extension.begin(attempt)
        host.extension.begin(attempt)
    text = page(site)
    assert "Held $0.50 for calls under way" in text
    assert "Lost $0.25 for calls nobody knows the end of" in text
    assert "Left $0.25" in text
    assert "Passed 50%, 80%" in text
    text = page(site, "")
    assert "all past 80%" in text
    assert "$4.00 of $5.00 · $0.50 reserved · $0.25 lost · passed 50%, 80%" in text
    assert "heading for $6.86" in text
    with site.app_context():
        host.extension.begin(attempt)
    # Nothing is left of it, though not all is spent.
    assert "all full" in page(site, "")


def test_each_value_of_a_tag_has_a_row(site: Flask) -> None:
    put = recorder(site)
    put(cost="3", tags={"user": "ada"})
    put(cost="5", tags={"user": "<b>"})
    text = page(site)
    assert text.index("&lt;b&gt;") < text.index("ada")
    assert "passed 50% · heading for $6.00 past 50%" in text
    assert "each user · each day" in text
    assert "Calls without a price are refused." in text


def test_the_overview_shows_the_fullest(site: Flask) -> None:
    recorder(site)(cost="5", tags={"user": "ada"})
    text = page(site, "")
    assert "per user · ada spent" in text
    assert "monthly within" in text


def test_a_call_budget_is_named(site: Flask) -> None:
    assert "call notify $2.00" in page(site)


@pytest.mark.parametrize(
    "settings",
    [
        {"LLM_COST_CALL_BUDGET": "2"},
        {
            "LLM_COST_BUDGETS": [
                {"name": "each", "limit_usd": "5", "tags": {"tenant": "*"}}
            ]
        },
    ],
    ids=["call", "each"],
)
def test_a_budget_of_which_nothing_is_spent_is_a_budget(
    make_site: MakeSite, settings: dict[str, t.Any]
) -> None:
    text = page(make_site(**settings))
    assert "no budgets yet" not in text
    assert "each tenant" in text or "For one call" in text


def test_without_budgets_it_says_how_to_have_one(make_site: MakeSite) -> None:
    site = make_site()
    assert "no budgets yet" in page(site)
    assert "LLM_COST_MONTHLY_BUDGET" in page(site)
    recorder(site)()
    assert "All budgets" not in page(site, "")


amounts = st.decimals(0, 1000, places=6)


@given(amounts, amounts, amounts, amounts)
def test_a_gauge_is_never_longer_than_itself(
    limit: Decimal, spent: Decimal, held: Decimal, lost: Decimal
) -> None:
    (budget,) = defined(Settings.read({"LLM_COST_MONTHLY_BUDGET": limit}))
    standing = Standing(budget, {}, NOW, None, limit, spent, held, lost, (), 0, None)
    found = t.cast(t.Any, gauge(standing))
    amounts = {"spent": spent, "held": held, "lost": lost}
    assert [p.name for p in found.pieces] == [n for n, a in amounts.items() if a]
    assert all(piece.width > 0.5 for piece in found.pieces), "something is seen of it"
    ends = [piece.x + piece.width for piece in found.pieces]
    assert all(end <= 100.01 for end in ends)
    assert sorted(ends) == ends
    assert all(0 <= mark.x <= 100.001 for mark in found.marks)
