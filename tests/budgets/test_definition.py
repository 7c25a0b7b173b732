from __future__ import annotations

import datetime as dt
import typing as t
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.budgets import Budget
from flask_llm_cost.budgets import read_budgets
from flask_llm_cost.config import Settings
from flask_llm_cost.errors import ConfigError


def budget(**entry: t.Any) -> Budget:
    entry = {"name": "one", "limit_usd": 1} | entry
    return read_budgets(Settings.read({"LLM_COST_BUDGETS": [entry]}))[0]


def test_the_plain_settings_are_budgets_too() -> None:
    config = {
        "LLM_COST_MONTHLY_BUDGET": "100",
        "LLM_COST_DAILY_BUDGET": 5,
        "LLM_COST_CALL_BUDGET": "0.5",
        "LLM_COST_BUDGET_BEHAVIOR": "raise",
    }
    found = read_budgets(Settings.read(config))
    assert [(b.name, b.period, b.limit_usd) for b in found] == [
        ("monthly", "month", Decimal(100)),
        ("daily", "day", Decimal(5)),
        ("call", "call", Decimal("0.5")),
    ]
    assert {b.behavior for b in found} == {"raise"}


def test_a_star_is_a_budget_for_each_value() -> None:
    per_user = budget(tags={"user": "*", "feature": "chat"})
    assert per_user.match("openai", "o3", {"user": "7", "feature": "chat"}) == {
        "user": "7"
    }
    assert per_user.match("openai", "o3", {"user": "7", "feature": "mail"}) is None
    assert per_user.match("openai", "o3", {"feature": "chat"}) is None


def test_a_budget_without_tags_counts_all_calls() -> None:
    assert budget().match("openai", "o3", {"user": "7"}) == {}


def test_models_are_patterns_of_any_name() -> None:
    some = budget(models=["gpt-4o*", "anthropic/*"])
    assert some.covers("openai", "gpt-4o-mini")
    assert some.covers("anthropic", "claude-sonnet-4-5")
    assert not some.covers("openai", "gpt-5")
    assert not some.covers("openai", None)


def test_each_value_and_window_has_its_own_id() -> None:
    one = budget(tags={"user": "*"}, period="day")
    noon = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
    times = (noon, noon + dt.timedelta(days=1))
    assert len({one.window({"user": u}, at).id for u in "ab" for at in times}) == 4


def test_another_definition_is_another_budget() -> None:
    assert budget().definition != budget(models=["gpt-4o"]).definition
    assert budget().definition == budget(limit_usd=7, behavior="raise").definition


@given(st.lists(st.sampled_from([0.1, "0.5", 1, 0.8]), max_size=4))
def test_the_limit_itself_is_always_a_threshold(thresholds: list[t.Any]) -> None:
    found = budget(thresholds=thresholds).thresholds
    assert found[-1] == 1
    assert list(found) == sorted(set(found))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"limit_usd": "ten"}, r"BUDGETS\[0\]\['limit_usd'\].*'ten'"),
        ({"limits": 1}, "Did you mean 'limit_usd'"),
        ({"period": "year"}, r"\['period'\]"),
        ({"tags": {"a b": "*"}}, "'a b'"),
        ({"tags": ["user"]}, r"\['tags'\]"),
        ({"models": "gpt-4o"}, r"\['models'\]"),
        ({"thresholds": [0]}, "above 0 and up to 1"),
        ({"thresholds": [1.5]}, "above 0 and up to 1"),
        ({"hard": 1}, "True or False"),
        ({"estimate": "guess"}, "'bound', 'average'"),
        ({"timezone": "Mars/Olympus"}, "Europe/Berlin"),
        ({"on_error": "shut"}, "'open', 'closed'"),
        ({"unpriced": "block"}, "behavior is 'notify'"),
        ({"unpriced": "estimate"}, "set 'estimate'"),
        ({"name": ""}, r"\['name'\]"),
    ],
)
def test_an_invalid_entry_is_explained(entry: dict[str, t.Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        budget(**entry)


def test_duplicate_names_are_rejected() -> None:
    config = {
        "LLM_COST_DAILY_BUDGET": 1,
        "LLM_COST_BUDGETS": [{"name": "daily", "limit_usd": 2}],
    }
    with pytest.raises(ConfigError, match="more than one budget named 'daily'"):
        read_budgets(Settings.read(config))


def test_a_budget_needs_a_name_and_a_limit() -> None:
    with pytest.raises(ConfigError, match="no 'limit_usd'"):
        read_budgets(Settings.read({"LLM_COST_BUDGETS": [{"name": "x"}]}))
