"""Tests of what makes a cost incomplete."""

from __future__ import annotations

import datetime as dt
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost import Usage
from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.completeness import INCOMPLETE
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.layers import make_layer
from flask_llm_cost.prices.names import is_router
from flask_llm_cost.prices.quote import combine
from flask_llm_cost.prices.quote import Quote
from flask_llm_cost.web.labels import FLAG_FIXES
from flask_llm_cost.web.labels import FLAGS

ONE = Usage(input_tokens=1_000_000)


def book(entry: t.Any, name: str = "openai/m") -> PriceBook:
    return PriceBook([make_layer("override", {name: entry}, "overrides")])


def cost(entry: t.Any, usage: Usage = ONE, **known: t.Any) -> Cost:
    found = book(entry).quote("openai", "m", usage, **known).cost
    assert found is not None
    return found


@pytest.mark.parametrize("flag", sorted(INCOMPLETE))
def test_a_cost_with_one_of_the_flags_is_not_complete(flag: str) -> None:
    found = cost({"input": 1}, flags=("region.us", flag))
    assert not found.complete
    assert found.flags == {flag}
    assert found.total_usd == 1


@pytest.mark.parametrize("flag", sorted(INCOMPLETE))
def test_data_quality_explains_each_of_the_flags(flag: str) -> None:
    assert FLAGS[flag]
    assert FLAG_FIXES[flag]


@pytest.mark.parametrize("flags", [(), ("region.us",), ("derived",), ("repeated",)])
def test_other_flags_leave_a_cost_complete(flags: tuple[str, ...]) -> None:
    assert cost({"input": 1}, flags=flags).complete


def test_audio_at_the_text_rate_is_not_complete() -> None:
    usage = Usage(input_audio_tokens=2000)
    direct = book({"input": 1}).cost("openai", "m", usage)
    assert direct is not None
    assert (direct.complete, direct.flags) == (False, {"modality_fallback"})
    assert cost({"input": 1, "input_audio": 10}, usage).complete


def test_a_token_bucket_that_no_list_knows_is_not_complete() -> None:
    found = cost({"input": 1}, Usage(other_tokens={"input_smell": 5}))
    assert not found.complete


def test_a_borrowed_price_is_not_complete() -> None:
    found = book({"input": 1}, "other/m").cost("openai", "m", ONE)
    assert found is not None
    assert (found.complete, found.flags) == (False, {"borrowed_price"})


def test_a_mode_without_a_rate_is_not_complete() -> None:
    assert not cost({"input": 1}, mode="batch").complete
    assert not cost({"input": 1}, service_tier="turbo").complete


def test_a_derived_rate_is_complete() -> None:
    found = book({"input": 1}, "anthropic/m").cost(
        "anthropic", "m", Usage(cache_write_1h_tokens=10)
    )
    assert found is not None
    assert (found.complete, found.flags) == (True, {"derived"})


READ = Usage(cache_read_tokens=1_000_000)
WRITTEN = Usage(cache_write_tokens=1_000_000)


@pytest.mark.parametrize(
    ("entry", "usage", "flag", "complete", "ceiling"),
    [
        # No provider charges more for reading its cache than for other input.
        ({"input": 2}, READ, "cache_fallback", False, 2),
        ({"input": 2}, WRITTEN, "cache_write_fallback", False, None),
        # Providers whose lists have a rate for reads only bill writes as input.
        ({"input": 2, "cache_read": 1}, WRITTEN, "derived", True, 2),
        ({"input": 0}, READ, "derived", True, 0),
        ({"input": 0}, WRITTEN, "derived", True, 0),
    ],
)
def test_a_cache_without_a_rate_is_complete_only_if_its_price_is_certain(
    entry: t.Any, usage: Usage, flag: str, complete: bool, ceiling: int | None
) -> None:
    found = cost(entry, usage)
    assert found.total_usd == entry["input"]
    assert (found.flags, found.complete) == ({flag}, complete)
    assert found.ceiling_usd == ceiling


def test_a_doubt_takes_the_limit_of_a_cache_without_a_rate_away() -> None:
    assert cost({"input": 2}, READ, flags=("region.us",)).ceiling_usd == 2
    assert cost({"input": 2}, READ, flags=("usage_conflict",)).ceiling_usd is None
    both = Usage(cache_read_tokens=10, input_audio_tokens=10)
    assert cost({"input": 2}, both).ceiling_usd is None


def test_models_that_took_part_have_the_sum_of_their_limits() -> None:
    limited, whole = cost({"input": 2}, READ), cost({"input": 2})
    quotes = {"a": Quote(limited, limited.flags), "b": Quote(whole, whole.flags)}
    found = combine(quotes).cost
    assert found is not None
    assert (found.total_usd, found.complete, found.ceiling_usd) == (4, False, 4)
    unpriced = combine({**quotes, "c": Quote(None, frozenset())}).cost
    assert unpriced is not None
    assert unpriced.ceiling_usd is None


@pytest.mark.parametrize(
    ("flag", "complete"), [("cut", False), ("usage_conflict", True), ("derived", True)]
)
def test_a_reported_cost_is_complete_unless_its_stream_was_cut(
    flag: str, complete: bool
) -> None:
    found = cost({"input": 1}, reported_cost=Decimal(3), flags=(flag,))
    assert (found.total_usd, found.complete) == (3, complete)


# Conditions


@pytest.mark.parametrize(
    ("condition", "multipliers", "complete"),
    [
        ("size.1024x1024", {"size.1024x1024": 1}, True),
        ("size.512x512", {"size.1024x1024": 1}, False),
        ("quality.hd", {}, False),
        ("search_context.high", {"size.512x512": 1}, False),
        # Most providers charge the same in each region.
        ("region.eu", {}, True),
    ],
)
def test_a_condition_that_a_price_does_not_provide_for_is_not_complete(
    condition: str, multipliers: dict[str, int], complete: bool
) -> None:
    entry: dict[str, t.Any] = {"image": "0.04"}
    if multipliers:
        entry["multipliers"] = multipliers
    found = cost(entry, Usage(units={"image": Decimal(1)}), flags=(condition,))
    assert found.complete is complete
    assert found.flags == (set() if complete else {"condition_fallback"})


# A model that answered and has no price


def call(**known: t.Any) -> Call:
    return Call(
        event_id="",
        started_at=dt.datetime(2026, 11, 1, tzinfo=dt.UTC),
        provider="openai",
        usage=ONE,
        **known,
    )


def test_a_served_model_without_a_price_costs_what_the_requested_one_does() -> None:
    served = call(model="m-internal", request_model="m")
    quote = book({"input": 1}).quote_call(served, None, {})
    assert quote.cost is not None
    assert (quote.cost.total_usd, quote.cost.complete) == (1, False)
    assert quote.flags == {"model_fallback"}


@pytest.mark.parametrize(
    "known",
    [
        {"request_model": None},
        {"request_model": "unknown"},
        {"request_model": "auto"},
        {"request_model": "openrouter/auto"},
        {"request_model": "my-router"},
        {"request_model": "m", "flags": frozenset(("other_model",))},
    ],
)
def test_a_call_that_the_requested_model_does_not_describe_is_unpriced(
    known: dict[str, t.Any],
) -> None:
    prices = {name: {"input": 1} for name in ("m", "auto", "my-router")}
    routers = PriceBook([make_layer("override", prices, "overrides")])
    quote = routers.quote_call(call(model="m-internal", **known), None, {})
    assert (quote.cost, quote.flags) == (None, {"unpriced"})


def test_a_served_model_whose_price_lacks_the_meter_keeps_its_own_price() -> None:
    prices = {"m": {"input": 1}, "n": {"image": 1}}
    both = PriceBook([make_layer("override", prices, "overrides")])
    quote = both.quote_call(call(model="n", request_model="m"), None, {})
    assert quote.cost is None


def test_one_of_several_models_without_a_price_is_not_replaced() -> None:
    several = call(model="m-internal", request_model="m")
    quote = book({"input": 1}).quote_call(several, None, {"m-internal": ONE, "m": ONE})
    assert quote.cost is not None
    assert (quote.cost.total_usd, quote.cost.complete) == (1, False)
    assert "model_fallback" not in quote.flags


@pytest.mark.parametrize(
    ("model", "router"),
    [
        ("auto", True),
        ("openrouter/auto", True),
        ("openrouter/auto:online", True),
        ("switchpoint/router", True),
        ("model-router", True),
        ("model-router-2025-11-18", True),
        ("moonshot-v1-auto", False),
        ("accounts/fireworks/routers/glm-5p3-fast", False),
        ("gpt-5", False),
    ],
)
def test_a_router_is_known_by_its_name(model: str, router: bool) -> None:
    assert is_router(model) is router


@pytest.mark.parametrize(
    ("source", "flag"),
    [
        ("estimated", "estimated"),
        ("stream_partial", "cut"),
        ("stream_final", None),
        ("response", None),
        ("manual", None),
    ],
)
def test_usage_that_is_not_final_makes_a_cost_incomplete(
    source: str, flag: str | None
) -> None:
    recorded = call(model="m", usage_source=source)
    quote = book({"input": 1}).quote_call(recorded, None, {})
    assert quote.cost is not None
    assert quote.cost.complete is (flag is None)
    assert quote.flags == (frozenset() if flag is None else {flag})
