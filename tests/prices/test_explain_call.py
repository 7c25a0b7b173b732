from __future__ import annotations

import datetime as dt
import typing as t
from dataclasses import replace
from decimal import Decimal

from hypothesis import given

from flask_llm_cost import Call
from flask_llm_cost import Usage
from flask_llm_cost.bound import Bound
from flask_llm_cost.call import Cost
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


def test_a_call_that_was_cut_shows_its_floor_ceiling_and_estimate() -> None:
    bare = replace(
        call(Usage(input_tokens=100)),
        cost=None,
        flags=frozenset(("cut",)),
        bound=Bound(input_tokens=200, output_tokens=1000),
        estimate=Usage(input_tokens=100, output_tokens=50),
    )
    cut = replace(bare, cost=BOOK.quote_call(bare, None, {}).cost)
    assert cut.cost is not None
    said = str(explain_call(BOOK, cut))
    # The request, and 100 tokens of input and 1,000 or 50 of output at the rates above.
    assert "Cost: at least $0.00125000007, at most $0.01325000007, probably $0." in said
    assert "Incomplete: the response was cut before its final usage." in said
    free = replace(cut.cost, ceiling_usd=None, estimate_usd=None)
    said = str(explain_call(BOOK, replace(cut, cost=free)))
    assert "Cost: at least $0.00125000007, without a known limit, from" in said


def test_a_settled_call_names_the_bill() -> None:
    usd = Decimal("0.01")
    settled = Cost(usd, {"reported": Part(Decimal(1), usd, usd)}, "bill")
    found = explain_call(BOOK, call(Usage(input_tokens=1), reported_cost=None))
    found = explain_call(BOOK, replace(found.call, cost=settled))
    assert "Cost: $0.01, from a bill" in str(found)


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
