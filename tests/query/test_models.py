from __future__ import annotations

import dataclasses
import typing as t
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_llm_cost.call import Call
from flask_llm_cost.errors import FilterError
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.latency import percentile
from flask_llm_cost.query.latency import Percentiles
from flask_llm_cost.query.latency import percentiles
from flask_llm_cost.query.models import Models
from flask_llm_cost.query.models import models
from flask_llm_cost.query.models import SORTS

from .samples import cost_of
from .samples import ledgers
from .samples import make_call
from .samples import Store
from .vectors import call_of
from .vectors import vectors

EVERYTHING = CallFilter()


def ask(store: Store, sort: str = "cost") -> Models:
    with store.reading() as connection:
        return models(connection, EVERYTHING, sort=sort)


@pytest.mark.parametrize(
    "vector", vectors("misc.json", "models_sort", but={"models-sort-bogus"})
)
def test_sort_vectors(store: Store, vector: dict[str, t.Any]) -> None:
    store.fill(*map(call_of, vector["rows"]))
    found = ask(store, vector["sort"])
    assert [row.model for row in found.rows] == vector["expected"]


def test_a_sort_must_exist(sqlite: Store) -> None:
    # Where "bogus" once meant "cost", a bad value is now an error.
    with pytest.raises(FilterError, match="^sort: 'bogus' is not one of cost, calls"):
        ask(sqlite, "bogus")


@given(ledgers, st.sampled_from(SORTS))
@settings(max_examples=15, deadline=None)
def test_models_add_up_and_unknown_is_last(
    store: Store, found: list[Call], sort: str
) -> None:
    store.fill(*found)
    seen = ask(store, sort)
    with store.reading() as connection:
        assert seen.totals == totals(connection, EVERYTHING)
    values = [
        {
            "cost": row.totals.cost_usd,
            "calls": row.totals.calls,
            "avg_cost": row.totals.average_usd,
            "latency": row.totals.average_latency_ms,
        }[sort]
        for row in seen.rows
    ]
    known = [t.cast(Decimal, value) for value in values if value is not None]
    assert values == sorted(known, reverse=True) + [None] * (len(values) - len(known))


def test_a_model_of_two_providers_stands_twice(store: Store) -> None:
    store.fill(
        make_call(provider="azure", cost=cost_of("3")),
        make_call(provider="openai", cost=cost_of("1")),
    )
    rows = ask(store).rows
    assert [(row.provider, row.share) for row in rows] == [
        ("azure", Decimal("0.75")),
        ("openai", Decimal("0.25")),
    ]


def test_percentiles_are_of_each_model(store: Store) -> None:
    fast = [make_call(model="fast", latency_ms=n) for n in range(1, 21)]
    slow = [make_call(model="slow", latency_ms=n * 1000) for n in range(1, 21)]
    store.fill(*fast, *slow, make_call(model="never", latency_ms=None))
    found = {row.model: row.latency for row in ask(store).rows}
    assert found["never"] is None
    assert found["fast"] == Percentiles(p50_ms=10, p95_ms=19)
    assert found["slow"] is not None
    assert found["slow"].p50_ms == pytest.approx(10_000, rel=0.02)
    assert found["slow"].p95_ms == pytest.approx(19_000, rel=0.02)


latencies = st.integers(0, 100) | st.integers(0, 2**31 - 1)


@given(st.lists(latencies, min_size=1, max_size=40))
@settings(max_examples=30, deadline=None)
def test_a_percentile_is_within_two_percent(store: Store, found: list[int]) -> None:
    plain = make_call()
    store.fill(
        *(
            dataclasses.replace(make_call(plain.started_at), latency_ms=ms)
            for ms in found
        )
    )
    with store.reading() as connection:
        seen = percentiles(connection, EVERYTHING)[()]
    ranked = sorted(found)
    for part, value in ((50, seen.p50_ms), (95, seen.p95_ms)):
        true = ranked[-(-len(ranked) * part // 100) - 1]
        assert abs(value - true) <= 0.02 * true


def test_beyond_the_largest_bucket_there_is_one_more(store: Store) -> None:
    store.fill(make_call(latency_ms=2**62))
    with store.reading() as connection:
        assert percentiles(connection, EVERYTHING)[()].p50_ms == 2**31


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile({}, 50)
