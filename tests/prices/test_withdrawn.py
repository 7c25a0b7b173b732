"""A sync follows a source's other spellings, and names the rates that it withdrew."""

from __future__ import annotations

import datetime as dt
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost.prices.fetch import FetchResult
from flask_llm_cost.prices.sources import Sheet
from flask_llm_cost.prices.sync_plan import plan_sync
from flask_llm_cost.prices.sync_plan import SyncPlan

NOW = dt.datetime(2026, 11, 30, tzinfo=dt.UTC)
STAMP = {"_source": "litellm", "_source_version": "v1", "_fetched_at": "2026-11-01"}
MODEL = "openai/m"

Entries = dict[str, dict[str, t.Any]]


def answer(listed: Entries | None, name: str = "litellm") -> FetchResult:
    if listed is None:
        return FetchResult(name, name, NOW, error="timed out")
    prices = {
        model: [
            {
                k: v if isinstance(v, (dict, list)) else Decimal(v)
                for k, v in each.items()
            }
        ]
        for model, each in listed.items()
    }
    return FetchResult(name, name, NOW, version="v2", sheet=Sheet(prices))


def synced(
    file: Entries, listed: Entries, *others: FetchResult, **options: t.Any
) -> SyncPlan:
    results = [answer(listed), *others]
    return plan_sync({"models": file}, results, now=NOW, **options)


def newest(plan: SyncPlan, model: str = MODEL) -> dict[str, t.Any]:
    entry = plan.document["models"][model]
    return t.cast("dict[str, t.Any]", entry[-1] if isinstance(entry, list) else entry)


# Spellings


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("anthropic/claude-3-5-sonnet", "anthropic/claude-3.5-sonnet"),
        ("anthropic/claude-3.5-sonnet", "anthropic/claude-3-5-sonnet"),
        ("claude-sonnet-4.6", "anthropic/claude-sonnet-4-6"),
        ("openai/gpt-4.1-mini", "openai/GPT-4-1-mini"),
        ("google/gemini-2-5-pro", "gemini/gemini-2.5-pro"),
        ("bedrock/qwen.qwen3-32b", "bedrock/qwen.qwen3-32b-v1:0"),
    ],
)
def test_a_sync_follows_another_spelling(ours: str, theirs: str) -> None:
    plan = synced({ours: {"input": 3}}, {theirs: {"input": 4, "output": 15}})
    assert [(each.model, each.rate) for each in plan.changes] == [
        (ours, "input"),
        (ours, "output"),
    ]
    assert not plan.orphaned
    assert newest(plan, ours)["input"] == 4


def test_the_exact_name_precedes_other_spellings() -> None:
    listed = {"openai/m-3-5": {"input": 3}, "openai/m-3.5": {"input": 2}}
    plan = synced({"openai/m-3.5": {"input": 1}}, listed)
    assert newest(plan, "openai/m-3.5")["input"] == 2


def test_two_other_spellings_with_different_prices_are_ambiguous() -> None:
    listed = {"openai/m-3-5-x": {"input": 9}, "openai/M-3-5-x": {"input": 4}}
    plan = synced({"openai/m-3.5-x": {"input": 3}}, listed)
    assert plan.orphaned == ("openai/m-3.5-x",)
    listed["openai/M-3-5-x"] = {"input": 9}
    assert synced({"openai/m-3.5-x": {"input": 9}}, listed).up_to_date


def test_a_model_is_added_in_one_spelling() -> None:
    other = answer({"openai/m-3-5": {"input": 3}}, "openrouter")
    plan = synced({}, {"openai/m-3.5": {"input": 3}}, other, add=["openai/*"])
    assert plan.added == ("openai/m-3.5",)
    plan = synced({"openai/m-3-5": {"input": 3}}, {}, other, add=["openai/*"])
    assert plan.added == ()


# Rates that a source withdrew


FILE: Entries = {MODEL: {"input": "2", "output": "8", "cache_read": "1", **STAMP}}


def test_a_withdrawn_rate_is_named_and_stays_in_the_old_price() -> None:
    plan = synced(FILE, {MODEL: {"input": 2, "output": 8}})
    assert plan.document["models"] == FILE
    line = "cache_read no longer listed by litellm; kept until its price changes"
    assert plan.lines == (f"? {MODEL}: {line}",)
    assert plan.document["metadata"]["synced_sha256"] is None


@pytest.mark.parametrize(
    "listed", [{"input": 3, "output": 8}, {"input": 2, "output": 8, "image": "0.1"}]
)
def test_a_new_price_does_not_have_a_withdrawn_rate(listed: dict[str, t.Any]) -> None:
    plan = synced(FILE, {MODEL: listed})
    old, new = plan.document["models"][MODEL]
    assert old == FILE[MODEL]
    assert "cache_read" not in new
    assert new["_source_version"] == "v2"
    assert f"~ {MODEL}: cache_read 1 -> none" in plan.lines
    assert "not in the new price" in plan.withdrawn[MODEL]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("windows", [{"hours": ["01:00-02:00"], "input": "1"}]),
        ("variants", {"size.small": {"image": "0.01"}}),
    ],
)
def test_withdrawn_windows_and_variants_are_rates(name: str, value: t.Any) -> None:
    file: Entries = {MODEL: {"input": "2", name: value, **STAMP}}
    assert MODEL in synced(file, {MODEL: {"input": 2}}).withdrawn
    new = newest(synced(file, {MODEL: {"input": 3}}))
    assert name not in new


def test_rates_of_ones_own_are_no_sources() -> None:
    own = {"input": "2", "web_search": "9", "multipliers": {"region.us": "1.1"}}
    plan = synced({MODEL: own}, {MODEL: {"input": 1}})
    assert not plan.withdrawn
    new = newest(plan)
    assert (new["input"], new["web_search"]) == (1, "9")
    # Nothing says that the source lists them, so a later sync keeps them, too.
    assert "_source" not in new
    later = plan_sync(
        plan.document, [answer({MODEL: {"input": 3}})], now=NOW + dt.timedelta(days=1)
    )
    assert (newest(later)["input"], newest(later)["web_search"]) == (3, "9")


def test_a_rate_that_only_another_source_lists_is_not_withdrawn() -> None:
    gap = {MODEL: {"cache_read": "1"}}
    listed: Entries = {MODEL: {"input": 3, "output": 8}}
    assert not synced(FILE, listed, answer(gap, "openrouter")).withdrawn
    # It may be that other source's, which did not answer.
    plan = synced(FILE, listed, answer(None, "openrouter"))
    assert not plan.withdrawn
    assert newest(plan)["cache_read"] == "1"


def test_a_held_back_price_does_not_lose_its_rates() -> None:
    plan = synced(FILE, {MODEL: {"input": 9, "output": 8}})
    assert MODEL in plan.held_back
    assert "kept" in plan.withdrawn[MODEL]
    assert plan.document["models"] == FILE
