from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import settings

from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.call import Usage
from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.query.detail import call_detail
from flask_llm_cost.query.detail import CallDetail
from flask_llm_cost.query.detail import stream_calls
from flask_llm_cost.query.filters import CallFilter

from .samples import ledgers
from .samples import make_call
from .samples import NOON
from .samples import Store


def detail(store: Store, event_id: str) -> CallDetail | None:
    with store.reading() as connection:
        return call_detail(connection, event_id)


@given(ledgers)
@settings(max_examples=15, deadline=None)
def test_a_call_comes_back_as_it_was(store: Store, found: list[Call]) -> None:
    store.fill(*found)
    for call in found:
        seen = detail(store, call.event_id)
        assert seen is not None
        assert seen.call == call


@given(ledgers)
@settings(max_examples=10, deadline=None)
def test_an_export_of_calls_is_lossless(store: Store, found: list[Call]) -> None:
    store.fill(*found)
    seen = list(stream_calls(store.reading, CallFilter()))
    assert seen == sorted(found, key=lambda c: (c.started_at, c.event_id), reverse=True)


def test_everything_of_a_cost_comes_back(store: Store) -> None:
    amount = Decimal("0.000000000001")
    call = make_call(
        cost=Cost(
            total_usd=amount,
            parts={"reported": Part(Decimal(1), amount, amount)},
            source="provider",
            price_key="openrouter/x",
            valid_from=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
            tier="above_200k",
            mode="batch",
            complete=False,
            flags=frozenset({"derived"}),
            estimate_usd=Decimal("0.5"),
        ),
        reported_cost=amount,
    )
    store.fill(call)
    seen = detail(store, call.event_id)
    assert seen is not None
    assert seen.call == call


@pytest.mark.parametrize(
    "event_id",
    [
        "",
        "1",
        "x" * 36,
        "00000000-0000-4000-8000-000000000000",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
        "\0",
        "\ud800",
        "9" * 100_000,
    ],
    ids=range(8),
)
def test_what_is_no_event_id_finds_nothing(store: Store, event_id: str) -> None:
    assert detail(store, event_id) is None


def test_an_id_of_no_call_finds_nothing(store: Store) -> None:
    store.fill(make_call())
    assert detail(store, mint_event_id(NOON)) is None


def test_an_id_may_be_written_in_capitals(store: Store) -> None:
    call = make_call()
    store.fill(call)
    assert detail(store, call.event_id.upper()) is not None


def test_the_mix_of_tokens_begins_with_the_input(sqlite: Store) -> None:
    usage = Usage(
        input_tokens=50,
        cache_read_tokens=25,
        output_tokens=10,
        other_tokens={"input_video": 5, "cache_read_audio": 10, "output_video": 0},
    )
    call = make_call(usage=usage)
    sqlite.fill(call)
    seen = detail(sqlite, call.event_id)
    assert seen is not None
    assert [(s.name, s.amount, s.share) for s in seen.token_mix] == [
        ("input", 50, Decimal("0.5")),
        ("input_video", 5, Decimal("0.05")),
        ("cache_read", 25, Decimal("0.25")),
        ("cache_read_audio", 10, Decimal("0.1")),
        ("output", 10, Decimal("0.1")),
    ]


def test_the_mix_of_a_cost_begins_with_the_most_expensive(sqlite: Store) -> None:
    parts = {
        "input": Part(Decimal(1), Decimal(1), Decimal("0.25")),
        "web_search": Part(Decimal(3), Decimal("0.25"), Decimal("0.75")),
    }
    call = make_call(cost=Cost(Decimal(1), parts, "bundled"))
    sqlite.fill(call)
    seen = detail(sqlite, call.event_id)
    assert seen is not None
    assert [(s.name, s.share) for s in seen.cost_mix] == [
        ("web_search", Decimal("0.75")),
        ("input", Decimal("0.25")),
    ]


def test_what_is_not_known_has_no_mix(sqlite: Store) -> None:
    call = make_call(usage=None, cost=None)
    sqlite.fill(call)
    seen = detail(sqlite, call.event_id)
    assert seen is not None
    assert (seen.token_mix, seen.cost_mix) == ((), ())


def test_a_free_call_has_parts_without_shares(sqlite: Store) -> None:
    call = make_call()
    assert call.cost is not None
    free = dataclasses.replace(
        call.cost,
        total_usd=Decimal(0),
        parts={"input": Part(Decimal(100), Decimal(0), Decimal(0))},
    )
    sqlite.fill(dataclasses.replace(call, cost=free))
    seen = detail(sqlite, call.event_id)
    assert seen is not None
    assert [(s.name, s.share) for s in seen.cost_mix] == [("input", None)]
