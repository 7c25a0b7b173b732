from __future__ import annotations

import json
import typing as t
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.budgets.bound import ASSUMED_OUTPUT
from flask_llm_cost.budgets.bound import bound
from flask_llm_cost.call import Usage


def body(**members: t.Any) -> bytes:
    return json.dumps(members).encode()


@pytest.mark.parametrize(
    "members",
    [
        {"max_tokens": 50},
        {"max_completion_tokens": 50},
        {"max_output_tokens": 50},
        {"generationConfig": {"maxOutputTokens": 50}},
        {"inferenceConfig": {"maxTokens": 50}},
        {"options": {"num_predict": 50}},
        {"max_tokens": 25, "n": 2},
    ],
)
def test_the_maximum_of_a_request_is_the_bound(members: dict[str, t.Any]) -> None:
    found = bound(body(**members), "chat")
    assert found.output_tokens == 50
    assert found.certain


@pytest.mark.parametrize("sent", [None, b"", b"{", b"[1]", body(max_tokens=-1)])
def test_a_missing_maximum_is_assumed(sent: bytes | None) -> None:
    found = bound(sent, "chat")
    assert found.output_tokens == ASSUMED_OUTPUT
    assert not found.certain


def test_embeddings_have_no_output() -> None:
    assert bound(body(input="text"), "embeddings").output_tokens == 0


@given(st.text(max_size=200), st.integers(1, 10_000), st.integers(0, 100))
def test_no_answer_within_the_request_costs_more(
    prompt: str, most: int, percent: int
) -> None:
    def price(usage: Usage, tier: str | None) -> Decimal:
        return Decimal(
            usage.input_tokens * 10
            + usage.cache_write_tokens * 12
            + usage.cache_write_1h_tokens * 20
            + usage.output_tokens * 50
        )

    sent = body(prompt=prompt, max_tokens=most)
    highest = bound(sent, "chat").cost(price)
    tokens = len(prompt.encode("utf-8", "surrogatepass"))
    used = Usage(
        cache_write_1h_tokens=tokens * percent // 100,
        input_tokens=tokens - tokens * percent // 100,
        output_tokens=most,
    )
    assert highest is not None
    assert price(used, None) <= highest


def test_without_a_price_there_is_no_bound() -> None:
    assert bound(body(max_tokens=1), "chat").cost(lambda usage, tier: None) is None
