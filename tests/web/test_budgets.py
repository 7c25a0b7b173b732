from __future__ import annotations

import csv
import datetime as dt
import io
import re
import typing as t
from decimal import Decimal

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.attempt import Attempt
from flask_llm_cost.budgets import read_budgets
from flask_llm_cost.budgets.standing import Standing
from flask_llm_cost.config import Settings
from flask_llm_cost.money import to_pico
from flask_llm_cost.web.gauge import gauge

from .conftest import MakeSite
from .conftest import NOW
from .conftest import recorder


def page(site: Flask, path: str = "budgets", *, bars: bool = True) -> str:
    response = site.test_client().get(f"/llm-costs/{path}")
    assert response.status_code == 200
    text = response.text if bars else re.sub(r"(?s)<svg.*?</svg>", "", response.text)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


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


def test_a_budget_shows_the_amounts_spent_and_left(site: Flask) -> None:
    recorder(site)(cost="60")
    text = page(site)
    assert "monthly notifies" in text
    assert "$60.00 of $100.00" in text
    assert "Left $40.00 resets 1 Dec 00:00" in text
    # 17.5 of 30 days have passed: 60 / 17.5 * 30.
    assert "Forecast $103 over the limit" in text
    assert "Thresholds reached: 50%." in text


def test_reserved_and_lost_amounts_are_shown(make_site: MakeSite) -> None:
    entry = {"name": "all", "limit_usd": "5", "behavior": "block", "estimate": "0.25"}
    site = make_site(LLM_COST_BUDGETS=[entry])
    recorder(site)(cost="4")
    host, attempt = site.extensions["llm_cost"], Attempt("openai", "chat", "gpt-4o")
    with site.app_context():
        host.extension.begin(attempt)
        tomorrow = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
        assert host.ledger.budgets.reservations.expire(tomorrow) == 1
        host.extension.begin(attempt)
        host.extension.begin(attempt)
    text = page(site)
    assert "Reserved $0.50 for calls in progress" in text
    assert "Lost $0.25 for calls that never ended" in text
    assert "Left $0.25" in text
    assert "Thresholds reached: 50%, 80%." in text
    text = page(site, "")
    assert "all 95% used" in text
    assert "$4.00 of $5.00 · $0.50 reserved · $0.25 lost · reached 50%, 80%" in text
    assert "forecast $6.86" in text
    with site.app_context():
        host.extension.begin(attempt)
    # Nothing is left, though not everything is spent.
    assert "all Full" in page(site, "")


def test_each_value_of_a_tag_has_a_row(site: Flask) -> None:
    put = recorder(site)
    put(cost="3", tags={"user": "ada"})
    put(cost="5", tags={"user": "<b>"})
    text = page(site)
    assert text.index("&lt;b&gt;") < text.index("ada")
    assert "reached 50% · forecast $6.00 60% used" in text
    assert "each user · each day" in text
    assert "Unpriced calls are blocked." in text


def test_the_overview_shows_the_most_used_windows(site: Flask) -> None:
    recorder(site)(cost="5", tags={"user": "ada"})
    text = page(site, "")
    assert "per user · ada Exceeded" in text
    assert "monthly On track" in text


def test_budgets_per_call_are_listed(site: Flask) -> None:
    assert "call notifies $2.00" in page(site)


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
def test_an_unused_budget_is_listed(
    make_site: MakeSite, settings: dict[str, t.Any]
) -> None:
    text = page(make_site(**settings))
    assert "No budgets yet" not in text
    assert "each tenant" in text or "Per call" in text


def test_without_budgets_it_explains_how_to_add_one(make_site: MakeSite) -> None:
    site = make_site()
    assert "No budgets yet" in page(site)
    assert "LLM_COST_MONTHLY_BUDGET" in page(site)
    recorder(site)()
    assert "All budgets" not in page(site, "")


amounts = st.decimals(0, 1000, places=6)


@given(amounts, amounts, amounts, amounts)
def test_a_gauge_is_never_longer_than_itself(
    limit: Decimal, spent: Decimal, reserved: Decimal, lost: Decimal
) -> None:
    (budget,) = read_budgets(Settings.read({"LLM_COST_MONTHLY_BUDGET": limit}))
    amounts = {"spent": spent, "reserved": reserved, "lost": lost}
    standing = Standing(
        budget=budget,
        tags={},
        starts_at=NOW,
        ends_at=None,
        limit=to_pico(limit),
        **{name: to_pico(amount) for name, amount in amounts.items()},
    )
    found = t.cast(t.Any, gauge(standing))
    used = [n for n, a in amounts.items() if a]
    # A limit of 0 is exceeded before anything is spent, and is drawn in full.
    assert [p.name for p in found.pieces] == (used if used or limit else ["spent"])
    assert all(piece.width > 0.5 for piece in found.pieces), "something is seen of it"
    ends = [piece.x + piece.width for piece in found.pieces]
    assert all(end <= 100.01 for end in ends)
    assert sorted(ends) == ends
    assert all(0 <= mark.x <= 100.001 for mark in found.marks)


def test_the_limits_of_each_value_can_be_searched(site: Flask) -> None:
    record = recorder(site)
    for number in range(60):
        record(cost="0.01", tags={"user": f"user-{number:02}"})
    record(cost="0.001", tags={"user": "needle"})
    assert "needle" not in page(site)
    found = page(site, "budgets?q=NEEDLE")
    assert "needle" in found
    assert "user-01" not in found
    assert "monthly" in found
    assert "No value matches nobody" in page(site, "budgets?q=nobody")


def file(site: Flask, query: str = "") -> list[dict[str, str]]:
    response = site.test_client().get(f"/llm-costs/budgets.csv{query}")
    assert response.mimetype == "text/csv"
    return list(csv.DictReader(io.StringIO(response.text, newline="")))


def test_past_periods_show_what_was_spent_of_the_limit(site: Flask) -> None:
    record = recorder(site)
    record(cost="120", at=NOW - dt.timedelta(days=31))
    record(cost="30", at=NOW - dt.timedelta(days=50))
    record(cost="4", at=NOW - dt.timedelta(days=1), tags={"user": "ada"})
    record(cost="60")
    text = page(site, bars=False)
    past = text[text.index("Past periods") :]
    assert "1 Oct – 31 Oct 2026 Exceeded $120.00 $100.00" in past
    assert "1 Sep – 30 Sep 2026 On track $30.00 $100.00" in past
    assert "Tue 17 Nov 2026 ada 80% used $4.00 $5.00" in past
    rows = {(row["starts_at"][:10], row["tags"]): row for row in file(site)}
    assert rows["2026-10-01", ""]["spent_usd"] == "120"
    assert rows["2026-10-01", ""]["state"] == "Exceeded"
    assert rows["2026-11-17", "user:ada"]["limit_usd"] == "5"
    assert rows["2026-11-01", ""]["thresholds_reached"] == "50%"
    assert {row["budget"] for row in file(site, "?q=nobody")} == {"monthly"}


def test_the_budget_that_is_nearest_to_its_limit_comes_first(
    make_site: MakeSite,
) -> None:
    names = ("half", "full", "unused", "most")
    site = make_site(
        LLM_COST_BUDGETS=[
            {"name": name, "limit_usd": limit, "tags": {"user": user}}
            for name, limit, user in zip(
                names, ("10", "5", "9", "6"), ("*", "*", "nobody", "ada"), strict=True
            )
        ]
    )
    recorder(site)(cost="5", tags={"user": "ada"})
    text = page(site)
    places = [text.index(f" {name} ") for name in ("full", "most", "half", "unused")]
    assert places == sorted(places)
    assert [row["budget"] for row in file(site)] == ["full", "most", "half", "unused"]


def test_an_exceeded_budget_draws_its_bar(make_site: MakeSite) -> None:
    budgets = [
        {"name": "over", "limit_usd": "5", "period": "day"},
        {"name": "nothing", "limit_usd": "0", "period": "month"},
    ]
    site = make_site(LLM_COST_BUDGETS=budgets)
    recorder(site)(cost="7")
    for path in ("budgets", ""):
        found = site.test_client().get(f"/llm-costs/{path}").text
        bars = re.findall(r'class="gauge over".*?</svg>', found, re.S)
        assert len(bars) == 2
        assert all('<rect class="spent" x="0.0%" width="100.0%"' in bar for bar in bars)
