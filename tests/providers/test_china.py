"""Hosts in China have the same API and other prices, in yuan."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.providers import read_exchange

ANSWER = {
    "id": "c",
    "choices": [],
    "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 1000},
}
HOSTS = [
    ("alibaba", "qwen-plus", "dashscope.aliyuncs.com/compatible-mode"),
    ("moonshot", "kimi-k2.6", "api.moonshot.cn"),
    ("minimax", "MiniMax-M3", "api.minimaxi.com"),
]


def read(host: str, model: str) -> Reading:
    reading = read_exchange(
        method="POST",
        url=f"https://{host}/v1/chat/completions",
        request_body=json.dumps({"model": model}).encode(),
        status=200,
        headers={},
        body=json.dumps({**ANSWER, "model": model}).encode(),
    )
    assert reading is not None
    return reading


@pytest.mark.parametrize(("provider", "model", "host"), HOSTS)
def test_what_a_host_in_china_costs_is_not_complete(
    provider: str, model: str, host: str
) -> None:
    reading = read(host, model)
    assert reading.provider == provider
    assert "region.cn" in reading.flags
    book = PriceBook.bundled()
    cost = book.quote(provider, model, reading.usage, flags=reading.flags).cost
    assert cost is not None
    assert not cost.complete
    assert "condition_fallback" in cost.flags


@pytest.mark.parametrize(
    ("provider", "model", "host"),
    [
        ("alibaba", "qwen-plus", "dashscope-intl.aliyuncs.com/compatible-mode"),
        ("moonshot", "kimi-k2.6", "api.moonshot.ai"),
        ("minimax", "MiniMax-M3", "api.minimax.io"),
        ("zai", "glm-5.3", "api.z.ai/api/paas"),
    ],
)
def test_their_international_hosts_bill_in_usd(
    provider: str, model: str, host: str
) -> None:
    reading = read(host, model)
    book = PriceBook.bundled()
    cost = book.quote(provider, model, reading.usage, flags=reading.flags).cost
    assert cost is not None
    assert cost.complete


def test_a_price_file_can_have_the_prices_in_china() -> None:
    rates = {
        "input": 0.4,
        "output": 1.2,
        "variants": {"region.cn": {"input": "0.11", "output": "0.28"}},
    }
    book = PriceBook.layered({"alibaba/qwen-plus": rates})
    reading = read("dashscope.aliyuncs.com/compatible-mode", "qwen-plus")
    cost = book.quote("alibaba", "qwen-plus", reading.usage, flags=reading.flags).cost
    assert cost is not None
    assert cost.complete
    assert cost.parts["input"].amount_usd == Decimal("0.11")
