from __future__ import annotations

from decimal import Decimal

import pytest

from flask_llm_cost import Usage
from flask_llm_cost.prices import explain
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.explain import similar_keys
from flask_llm_cost.prices.layers import make_layer


def book(**models: object) -> PriceBook:
    entries = {name.replace("_", "-"): value for name, value in models.items()}
    return PriceBook([make_layer("override", entries, "test")])


def test_a_price_is_explained_part_by_part() -> None:
    entry = {"input": "2.5", "output": 10, "_source": "manual"}
    usage = Usage(input_tokens=1000, output_tokens=500)
    found = explain(book(gpt_x=entry), "openai", "gpt-x", usage)
    assert found.ok
    assert found.message == (
        "openai/gpt-x is priced as gpt-x, from the overrides (exact match)."
    )
    text = str(found)
    assert "input: 1000 at 2.5 = $0.0025" in text
    assert "Total: $0.0075" in text
    assert "_source: manual" in text


def test_a_missing_rate_is_named() -> None:
    usage = Usage(input_tokens=1, units={"page": Decimal(1)})
    found = explain(book(m={"input": 1}), "x", "m", usage)
    assert not found.ok
    assert found.missing == ("page",)
    assert "a rate is missing for page" in found.message
    assert "Total: at least $" in str(found)


def test_an_unknown_model_has_similar_names() -> None:
    found = explain(PriceBook.bundled(), "openai", "gpt-4o-minni")
    assert not found.ok
    assert found.message == "No price is known for openai/gpt-4o-minni."
    assert "openai/gpt-4o-mini" in found.similar
    assert "LLM_COST_MODEL_ALIASES" in str(found)


def test_reserved_capacity_is_explained() -> None:
    found = explain(book(m={"input": 1}), "vertex", "m", mode="provisioned")
    assert not found.ok
    assert "there is no rate for provisioned capacity" in found.message


def test_reasoning_with_a_part_is_not_missing() -> None:
    usage = Usage(output_tokens=5, reasoning_tokens=5)
    found = explain(book(m={"output": 1, "reasoning": 2}), "x", "m", usage)
    assert found.missing == ()


def test_a_snapshot_and_a_discount_are_shown() -> None:
    entries = {"openai/m": {"input": 1}, "openai/*": {"multiplier": "0.5"}}
    layered = PriceBook([make_layer("override", entries, "test")])
    text = str(explain(layered, "openai", "m-2026-01-01", Usage(input_tokens=10)))
    assert "(dated snapshot)" in text
    assert "Negotiated multiplier: 0.5" in text


def test_an_unknown_mode_is_an_error() -> None:
    with pytest.raises(ValueError, match="pricing_mode must be"):
        explain(book(m={"input": 1}), "x", "m", mode="bulk")


def test_each_similar_name_is_listed_once() -> None:
    names = similar_keys(PriceBook.bundled(), "openai", "gpt-9")
    assert names
    assert len(set(names)) == len(names)
