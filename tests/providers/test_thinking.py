"""Alibaba's models cost more where they think, and xAI's where they search."""

from __future__ import annotations

import json
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost.call import Cost
from flask_llm_cost.call import Reading
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.layers import make_layer
from flask_llm_cost.providers import read_exchange


def read(url: str, model: str, usage: t.Any) -> Reading:
    reading = read_exchange(
        method="POST",
        url=url,
        request_body=json.dumps({"model": model}).encode(),
        status=200,
        headers={},
        body=json.dumps({"id": "a", "model": model, "usage": usage}).encode(),
    )
    assert reading is not None
    return reading


def cost_of(reading: Reading, book: PriceBook | None = None) -> Cost:
    assert reading.model is not None
    cost = (
        (book or PriceBook.bundled())
        .quote(reading.provider, reading.model, reading.usage, flags=reading.flags)
        .cost
    )
    assert cost is not None
    return cost


QWEN = "https://dashscope-intl.aliyuncs.com/compatible-mode/v1/"


def thought(model: str, tokens: int) -> Reading:
    details = {"reasoning_tokens": tokens}
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000}
    usage |= {"completion_tokens_details": details}
    return read(QWEN + "chat/completions", model, usage)


@pytest.mark.parametrize(("tokens", "usd"), [(0, "1.6"), (400_000, "4.4")])
def test_all_output_of_a_thinking_model_has_the_rate_of_thinking(
    tokens: int, usd: str
) -> None:
    # https://www.alibabacloud.com/help/en/model-studio/models: qwen-plus has output at
    # 1.2, and thoughts and answer at 4 in thinking mode.
    cost = cost_of(thought("qwen-plus-2025-07-14", tokens))
    assert (cost.total_usd, cost.complete) == (Decimal(usd), True)


def test_thinking_is_complete_only_if_its_rate_is_known() -> None:
    layer = make_layer(
        "file", {"alibaba/qwen9-next": {"input": 1, "output": 2}}, "test"
    )
    book = PriceBook([layer])
    plain = cost_of(thought("qwen9-next", 0), book)
    assert (plain.total_usd, plain.complete) == (3, True)
    cost = cost_of(thought("qwen9-next", 10), book)
    assert (cost.total_usd, cost.complete) == (3, False)
    assert "condition_fallback" in cost.flags


@pytest.mark.parametrize("model", ["qwen9-thinking", "qwq-plus", "deepseek-r1"])
def test_a_model_that_always_thinks_has_one_price(model: str) -> None:
    assert thought(model, 10).flags == frozenset()


def test_a_response_that_was_thought_about_is_flagged() -> None:
    usage = {"input_tokens": 1, "output_tokens": 9}
    usage |= {"output_tokens_details": {"reasoning_tokens": 3}}  # type: ignore[dict-item]
    assert read(QWEN + "responses", "qwen-plus", usage).flags == {"thinking.on"}


@pytest.mark.parametrize(
    ("more", "flags"),
    [
        ({}, set()),
        ({"num_sources_used": 0}, set()),
        ({"num_sources_used": 3}, {"unread_usage"}),
        ({"num_server_side_tools_used": 2}, {"unread_usage"}),
        ({"num_sources_used": 3, "cost_in_usd_ticks": 37_756_000}, set()),
    ],
)
def test_xais_searches_without_its_own_cost_are_not_complete(
    more: dict[str, int], flags: set[str]
) -> None:
    # https://docs.x.ai/docs/models#tools-pricing
    usage = {"prompt_tokens": 199, "completion_tokens": 1, **more}
    reading = read("https://api.x.ai/v1/chat/completions", "grok-4", usage)
    assert reading.flags == flags
