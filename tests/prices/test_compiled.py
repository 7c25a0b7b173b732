from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import pickle
import typing as t
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost import Usage
from flask_llm_cost.call import Cost
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.layers import make_layer

JULY = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)


def book(**models: t.Any) -> PriceBook:
    entries = {key.replace("__", "/"): value for key, value in models.items()}
    return PriceBook([make_layer("override", entries, "here")])


PLAIN = book(m={"input": "2.5", "cache_read": "1.25", "output": "10"})


def cost(usage: Usage | None = None, **options: t.Any) -> Cost:
    used = usage or Usage(input_tokens=834, cache_read_tokens=400, output_tokens=567)
    found = options.pop("book", PLAIN).cost("openai", "m", used, **options)
    assert found is not None
    return t.cast(Cost, found)


def test_a_cost_is_whole_whichever_field_is_read_first() -> None:
    names = [field.name for field in dataclasses.fields(Cost)]
    whole = {name: getattr(cost(), name) for name in names}
    assert whole["total_usd"] == Decimal("0.008255")
    assert sum(p.amount_usd for p in whole["parts"].values()) == whole["total_usd"]
    assert (whole["source"], whole["price_key"]) == ("override", "m")
    assert cost() == Cost(**whole)


def test_a_cost_can_be_copied_pickled_and_replaced_but_not_changed() -> None:
    for same in (
        copy.copy(cost()),
        copy.deepcopy(cost()),
        pickle.loads(pickle.dumps(cost())),
        dataclasses.replace(cost()),
    ):
        assert same == cost()
        assert repr(same) == repr(cost())
    with pytest.raises(dataclasses.FrozenInstanceError):
        cost().total_usd = Decimal(0)  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        cost().parts = {}  # type: ignore[misc]
    assert not hasattr(cost(), "price")
    assert dataclasses.replace(cost(), mode="batch").mode == "batch"


def test_a_usage_can_be_copied_and_pickled_and_costs_the_same() -> None:
    used = Usage(input_tokens=834, cache_read_tokens=400, output_tokens=567)
    for same in (
        copy.copy(used),
        copy.deepcopy(used),
        pickle.loads(pickle.dumps(used)),
    ):
        assert cost(same) == cost(used)
    assert not hasattr(used, "tokens")


counts = st.integers(0, 10**7)
rates = st.decimals(0, 100, places=7)


@given(st.tuples(counts, counts, counts), st.lists(rates, min_size=3, max_size=3))
def test_the_fast_path_and_the_full_one_agree(
    used: tuple[int, int, int], given_rates: list[Decimal]
) -> None:
    table = dict(zip(("input", "cache_read", "output"), given_rates, strict=True))
    fresh, cached, out = used
    usage = Usage(input_tokens=fresh, cache_read_tokens=cached, output_tokens=out)
    quick = cost(usage, book=book(m=table))
    # An unused rate, which rules out the fast path.
    long = cost(usage, book=book(m={**table, "request": "0"}))
    parts = {name: part for name, part in long.parts.items() if name != "request"}
    assert quick.total_usd == long.total_usd
    assert dict(quick.parts) == parts


@given(
    st.lists(st.integers(0, 400), unique=True, min_size=1, max_size=4),
    st.lists(st.integers(-50, 450), min_size=1, max_size=12),
    st.booleans(),
)
def test_each_call_gets_the_price_of_its_own_time(
    starts: list[int], days: list[int], begun: bool
) -> None:
    entry: list[dict[str, t.Any]] = [
        {
            "valid_from": (JULY + dt.timedelta(days=start)).isoformat(),
            "input": str(start + 1),
        }
        for start in starts
    ]
    if begun:
        entry.append({"input": "1000"})
    dated = book(m=entry)
    for day in days:
        at = JULY + dt.timedelta(days=day)
        held = [start for start in starts if start <= day]
        rate = max(held) + 1 if held else (1000 if begun else None)
        for moment in (at, at.astimezone(dt.timezone(dt.timedelta(hours=9)))):
            found = dated.cost("openai", "m", Usage(input_tokens=10**6), at=moment)
            assert (found and found.total_usd) == rate
            naive = moment.astimezone(dt.UTC).replace(tzinfo=None)
            same = dated.cost("openai", "m", Usage(input_tokens=10**6), at=naive)
            assert same == found


def test_the_rates_of_a_window_are_not_cached_for_the_next_hour() -> None:
    night = book(
        m={"input": "2", "windows": [{"hours": "00:00-08:00", "input": "1"}]},
    )
    usage = Usage(input_tokens=10**6)
    for _ in range(2):
        for hour, rate in ((7, 1), (8, 2), (0, 1), (23, 2)):
            at = JULY.replace(hour=hour)
            assert cost(usage, book=night, at=at).total_usd == rate


def test_a_used_meter_without_a_whole_rate_takes_the_full_path() -> None:
    bare = book(m={"input": "3", "output": "0.0000007"})
    found = cost(Usage(cache_read_tokens=100), book=bare)
    assert found.flags == {"cache_fallback"}
    assert cost(Usage(output_tokens=2), book=bare).total_usd == Decimal("1e-12")
    only = book(m={"input": "3"})
    assert only.cost("openai", "m", Usage(output_tokens=1)) is None
    floor = cost(Usage(input_tokens=1, output_tokens=1), book=only)
    assert not floor.complete
