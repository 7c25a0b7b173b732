"""Azure's model router: a fee for all input, beside what the chosen model costs.

https://learn.microsoft.com/azure/foundry/openai/concepts/model-router-faq: "You pay a routing
fee for each 1 million input tokens, plus the selected model's usage."
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal

import pytest

from flask_llm_cost import Call
from flask_llm_cost import Usage
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.explain import explain_call
from flask_llm_cost.prices.requote import requote

AT = dt.datetime(2026, 11, 30, tzinfo=dt.UTC)
USAGE = Usage(input_tokens=600_000, cache_read_tokens=400_000, output_tokens=1000)


def routed(
    asked: str | None, provider: str = "azure", model: str = "gpt-5-mini"
) -> Call:
    return Call(
        event_id="01a1f416-bdf9-72e5-acdf-74e949befff4",
        started_at=AT,
        provider=provider,
        model=model,
        request_model=asked,
        operation="chat",
        usage=USAGE,
        usage_source="response",
        outcome="ok",
    )


@pytest.mark.parametrize(
    "asked", ["model-router", "model-router-2025-11-18", "auto", "my-model-router"]
)
def test_a_routed_call_has_the_routers_fee(asked: str) -> None:
    book = PriceBook.bundled()
    alone = book.quote_call(routed("gpt-5-mini"), None, {}).cost
    cost = book.quote_call(routed(asked), None, {}).cost
    assert alone is not None
    assert cost is not None
    assert cost.complete
    assert cost.total_usd - alone.total_usd == Decimal("0.14")
    assert cost.parts["routed_token"].quantity == 1_000_000
    call = dataclasses.replace(routed(asked), cost=cost)
    assert explain_call(book, call).ok
    assert requote(book, call).cost == cost


@pytest.mark.parametrize(
    ("asked", "provider"),
    [("gpt-5-mini", "azure"), (None, "azure"), ("model-router", "openai")],
)
def test_no_other_call_has_it(asked: str | None, provider: str) -> None:
    cost = PriceBook.bundled().quote_call(routed(asked, provider), None, {}).cost
    assert cost is not None
    assert "routed_token" not in cost.parts


def test_a_router_whose_choice_is_unknown_is_a_floor() -> None:
    call = routed("model-router", model="model-router")
    cost = PriceBook.bundled().quote_call(call, None, {}).cost
    assert cost is not None
    assert not cost.complete
    assert "output" not in cost.parts
