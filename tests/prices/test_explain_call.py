from __future__ import annotations

import datetime as dt
import typing as t
from dataclasses import replace
from decimal import Decimal

from hypothesis import given

from flask_llm_cost import Call
from flask_llm_cost import Usage
from flask_llm_cost.call import Part
from flask_llm_cost.completeness import INCOMPLETE
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.explain import explain_call
from flask_llm_cost.prices.layers import make_layer
from tests.ledger.samples import usages

RATES = {
    "input": "2.5000007",
    "output": "10.1",
    "reasoning": "12",
    "input_video": "0.3333333",
    "input_above_128k": "5",
    "units": {"robot_hour": "0.1234567891234"},
    "image": "0.04",
    "request": "0.001",
    "multipliers": {"region.us": "1.1"},
}
BOOK = PriceBook([make_layer("override", {"m": RATES}, "here")])


def call(usage: Usage, **changes: t.Any) -> Call:
    bare = Call(
        event_id="",
        started_at=dt.datetime(2026, 11, 1, tzinfo=dt.UTC),
        provider="openai",
        model="m",
        usage=usage,
        flags=frozenset(("region.us",)),
    )
    cost = BOOK.quote("openai", "m", usage, at=bare.started_at, flags=bare.flags).cost
    return replace(bare, cost=cost, **changes)


@given(usages)
def test_every_cost_follows_from_its_own_parts(usage: Usage) -> None:
    found = explain_call(BOOK, call(usage))
    assert found.matches is (found.call.cost is not None)
    assert found.current == found.call.cost
    if found.call.cost is not None:
        stand_in = bool(found.call.cost.flags & set(INCOMPLETE))
        assert (bool(found.missing) or stand_in) is not found.call.cost.complete


def test_a_part_that_was_tampered_with_is_found() -> None:
    whole = call(Usage(input_tokens=100))
    assert whole.cost is not None
    wrong = {**whole.cost.parts, "input": Part(Decimal(100), Decimal(2), Decimal(1))}
    found = explain_call(BOOK, replace(whole, cost=replace(whole.cost, parts=wrong)))
    assert not found.ok
    assert "but quantity times rate is $0.0002" in str(found)
    assert "does not match the recorded cost" in str(found)


def test_what_cannot_be_computed_has_a_reason() -> None:
    lost = call(Usage(input_tokens=1), flags=frozenset(("several_models",)))
    assert "several models" in str(explain_call(BOOK, lost))


def test_a_reported_cost_is_its_own_proof() -> None:
    usage = Usage(input_tokens=100)
    said = Decimal("0.5")
    cost = BOOK.quote("openai", "m", usage, reported_cost=said).cost
    found = explain_call(BOOK, replace(call(usage), cost=cost, reported_cost=said))
    assert found.ok
    assert "from the provider's own report" in str(found)
