from __future__ import annotations

import typing as t
from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import settings

from flask_llm_cost.call import Call
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.quality import Count
from flask_llm_cost.query.quality import Quality
from flask_llm_cost.query.quality import quality

from .samples import cost_of
from .samples import ledgers
from .samples import make_call
from .samples import Store
from .vectors import call_of
from .vectors import vectors

EVERYTHING = CallFilter()


def ask(store: Store) -> Quality:
    with store.reading() as connection:
        return quality(connection, EVERYTHING)


def missing(found: Quality) -> dict[str, int]:
    return {coverage.name: coverage.missing for coverage in found.coverage}


@pytest.mark.parametrize("vector", vectors("misc.json", "data_quality"))
def test_quality_vectors(store: Store, vector: dict[str, t.Any]) -> None:
    rows = [call_of(row) for row in vector["rows"]]
    store.fill(*rows)
    found, expected = ask(store), vector["expected"]
    gaps = missing(found)
    assert found.totals.calls == expected["total_calls"]
    assert found.totals.unpriced == expected["unknown_pricing_count"]
    assert gaps["tags"] == expected["untagged_calls_count"]
    assert gaps["latency"] == expected["missing_latency_count"]
    assert gaps["response_id"] == expected["missing_provider_response_id_count"]
    # The seed does not distinguish a missing price from missing usage.
    unknown: Counter[str] = Counter()
    for model in (*found.gaps.unpriced, *found.gaps.without_usage):
        unknown[model.key[1]] += model.calls
    unpriced = expected["unknown_pricing_by_model"]
    assert {model: unknown[model] for model in unpriced} == unpriced
    [streams] = [c for c in found.coverage if c.name == "stream_usage"]
    assert streams.of == expected["streaming_count"]


@given(ledgers)
@settings(max_examples=15, deadline=None)
def test_gaps_are_counted(store: Store, found: list[Call]) -> None:
    store.fill(*found)
    seen = ask(store)
    with store.reading() as connection:
        assert seen.totals == totals(connection, EVERYTHING)
    gaps = missing(seen)
    assert gaps["cost"] == seen.totals.unpriced
    assert gaps["tags"] == sum(not call.tags for call in found)
    assert gaps["latency"] == sum(call.latency_ms is None for call in found)
    assert gaps["usage"] == sum(count.calls for count in seen.gaps.without_usage)
    assert sum(count.calls for count in seen.failed) == seen.totals.failed
    assert sum(count.calls for count in seen.outcomes) == len(found)
    assert sum(count.calls for count in seen.sources) == len(found)


def test_failed_attempts_owe_no_data(sqlite: Store) -> None:
    attempt: dict[str, t.Any] = {"usage": None, "cost": None, "response_id": None}
    sqlite.fill(
        make_call(tags={"a": "b"}, latency_ms=1),
        make_call(outcome="http_error", http_status=429, **attempt),
        make_call(outcome="no_response", **attempt),
    )
    found = ask(sqlite)
    gaps = missing(found)
    assert (gaps["cost"], gaps["usage"], gaps["response_id"]) == (0, 0, 0)
    assert found.failed == (
        Count(("openai", "429"), 1),
        Count(("openai", "no_response"), 1),
    )


def test_missing_usage_says_why(store: Store) -> None:
    lost: dict[str, t.Any] = {"usage": None, "cost": None, "outcome": "interrupted"}
    store.fill(
        make_call(stream=True, **lost), make_call(stream=True, **lost), make_call()
    )
    [found] = ask(store).gaps.without_usage
    assert found == Count(("openai", "gpt-4o", "chat", "interrupted", "stream"), 2)


def test_a_model_without_usage_does_not_lack_a_price(store: Store) -> None:
    mute: dict[str, t.Any] = {"usage": None, "cost": None, "stream": True}
    store.fill(
        make_call(model="mute", **mute),
        make_call(model="both", **mute),
        make_call(model="both", cost=None),
    )
    found = ask(store).gaps
    assert [(model.key[1], model.calls) for model in found.unpriced] == [("both", 1)]
    assert {count.key[1] for count in found.without_usage} == {"mute", "both"}
    assert found.requestable


@pytest.mark.parametrize(
    "changes",
    [
        {"provider": "groq"},
        {"operation": "embeddings"},
        {"outcome": "interrupted"},
        {"stream": False},
    ],
)
def test_usage_is_requested_only_where_that_helps(
    sqlite: Store, changes: dict[str, t.Any]
) -> None:
    sqlite.fill(make_call(**{"usage": None, "cost": None, "stream": True, **changes}))
    assert not ask(sqlite).gaps.requestable


def test_flags_are_counted_one_by_one(store: Store) -> None:
    store.fill(
        make_call(flags=frozenset({"unpriced", "no_usage"})),
        make_call(flags=frozenset({"unpriced"})),
        make_call(),
    )
    assert ask(store).flags == (Count(("unpriced",), 2), Count(("no_usage",), 1))


def test_a_response_that_stands_twice_is_a_duplicate(store: Store) -> None:
    store.fill(
        make_call(response_id="a", cost=cost_of("3")),
        make_call(response_id="a", cost=cost_of("1")),
        make_call(response_id="a", cost=None),
        make_call(response_id="a", provider="azure"),
        make_call(response_id=None),
        make_call(response_id=None),
    )
    found = ask(store)
    assert (found.duplicates, found.duplicate_usd) == (2, Decimal(1))


def test_the_worst_comes_first(store: Store) -> None:
    store.fill(
        *(make_call(model=f"m{n % 3}", cost=None) for n in range(5)),
        make_call(model="known"),
    )
    found = ask(store).gaps.unpriced
    assert [model.key[1] for model in found] == ["m0", "m1", "m2"]


def test_an_empty_ledger_lacks_nothing(store: Store) -> None:
    store.fill()
    found = ask(store)
    assert {c.share for c in found.coverage} == {None}
    assert (found.duplicates, found.flags, found.failed) == (0, (), ())
