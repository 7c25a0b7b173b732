"""Tests of numbers that would stop the process if anything were calculated with them.

Attacks that succeeded before: ``"cost": "1e999990"`` took 14 s in integer arithmetic, and a
count of a million digits took 41 s where the app had lifted Python's limit.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
import typing as t
from collections.abc import Iterator
from decimal import Decimal

import pytest

from flask_llm_cost.call import Call
from flask_llm_cost.call import Reading
from flask_llm_cost.call import Usage
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.providers import read_exchange

LONG = "1" * 1_000_000
BAD = [
    '"1e999990"',
    '"1e-999990"',
    '"0e-999990"',
    '"1E+999999999999999999"',
    f'"{LONG}"',
    f'"0.{LONG}"',
    LONG,
    f"0.{LONG}e400",
    "1e400",
    "-1",
    '"-1e999990"',
    '"NaN"',
    "Infinity",
]
SECONDS = 0.5


@pytest.fixture(autouse=True)
def unlimited() -> Iterator[None]:
    """An app may have lifted Python's limit on the digits of a number."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    yield
    sys.set_int_max_str_digits(before)


def read(url: str, body: str, headers: dict[str, str] | None = None) -> Reading:
    reading = read_exchange(
        method="POST",
        url=url,
        request_body=None,
        status=200,
        headers=headers or {},
        body=body.encode(),
    )
    assert reading is not None
    return reading


USAGE: dict[str, t.Any] = {
    "prompt_tokens": 9,
    "completion_tokens": 9,
    "total_tokens": 18,
}
N = "NUMBER"
ANSWERS: dict[str, dict[str, t.Any]] = {
    "https://openrouter.ai/api/v1/chat/completions": {"usage": {**USAGE, "cost": N}},
    "https://api.x.ai/v1/chat/completions": {
        "usage": {**USAGE, "cost_in_usd_ticks": N}
    },
    "https://api.perplexity.ai/chat/completions": {
        "usage": {**USAGE, "cost": {"total_cost": N}}
    },
    "https://api.openai.com/v1/chat/completions": {
        "usage": {**USAGE, "prompt_tokens": N}
    },
    "https://api.openai.com/v1/audio/transcriptions": {"usage": {"seconds": N}},
    "https://api.anthropic.com/v1/messages": {"usage": {"output_tokens": N}},
    "https://api.cohere.com/v2/rerank": {"meta": {"billed_units": {"search_units": N}}},
    "https://api.mistral.ai/v1/ocr": {"usage_info": {"pages_processed": N}},
}


@pytest.mark.parametrize("url", ANSWERS)
@pytest.mark.parametrize("number", BAD, ids=lambda number: number[:12])
def test_a_number_out_of_bounds_is_flagged_before_any_arithmetic(
    url: str, number: str
) -> None:
    begun = time.process_time()
    body = json.dumps({"model": "m", **ANSWERS[url]}).replace(f'"{N}"', number)
    reading = read(url, body)
    quote = PriceBook.bundled().quote(
        reading.provider,
        reading.model or "x",
        reading.usage or Usage(),
        reported_cost=reading.reported_cost,
        flags=reading.flags,
    )
    assert time.process_time() - begun < SECONDS
    assert "usage_conflict" in reading.flags
    assert reading.reported_cost is None
    assert quote.cost is None or not quote.cost.complete


def test_a_users_own_key_does_not_hide_the_upstream_cost() -> None:
    usage = USAGE | {"is_byok": True, "cost": 0.1}
    usage["cost_details"] = {"upstream_inference_cost": "1e999990"}
    body = json.dumps({"usage": usage})
    reading = read("https://openrouter.ai/api/v1/chat/completions", body)
    assert reading.reported_cost is None
    assert "usage_conflict" in reading.flags


@pytest.mark.parametrize("number", ["1e999990", LONG, "9" * 30])
def test_a_header_out_of_bounds_is_flagged(number: str) -> None:
    reading = read(
        "https://bedrock-runtime.us-east-1.amazonaws.com"
        "/model/amazon.titan-text-lite-v1/invoke",
        "{}",
        {"x-amzn-bedrock-input-token-count": number},
    )
    assert "usage_conflict" in reading.flags


def test_a_sum_of_counts_that_are_each_in_bounds_is_valid() -> None:
    most = (1 << 48) - 1
    body = {"input_tokens": most, "output_tokens": most} | dict.fromkeys(
        ("cache_read_input_tokens", "cache_creation_input_tokens"), most
    )
    reading = read(
        "https://api.anthropic.com/v1/messages",
        json.dumps({"model": "claude-sonnet-4-5", "usage": body}),
    )
    assert reading.usage is not None
    assert reading.usage.total_tokens == 4 * most


def test_a_session_without_end_keeps_the_usage_that_can_be_added() -> None:
    most = (1 << 48) - 1
    usage = {"input_tokens": most, "output_tokens": 0}
    event = {"type": "response.done", "response": {"usage": usage}}
    reading = read_exchange(
        method="WS",
        url="wss://api.openai.com/v1/realtime",
        request_body=None,
        status=101,
        headers={},
        body=b"\n".join([json.dumps(event).encode()] * 40),
    )
    assert reading is not None
    assert reading.usage is not None
    assert reading.usage.input_tokens == 32 * most
    assert "usage_conflict" in reading.flags


@pytest.mark.parametrize("number", ["1e999990", "1e-999990", "0e-999990", LONG])
def test_units_out_of_bounds_are_refused_with_a_short_error(number: str) -> None:
    begun = time.process_time()
    with pytest.raises(ValueError, match="units") as error:
        Usage(units={"page": Decimal(number)})
    assert time.process_time() - begun < SECONDS
    assert len(str(error.value)) < 200


def test_a_cost_that_no_ledger_can_store_is_unknown() -> None:
    call = Call(
        event_id="x",
        started_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        provider="openai",
        model="gpt-4o",
        usage=Usage(output_tokens=1 << 53),
    )
    quote = PriceBook.bundled().quote_call(call, None, {})
    assert quote.cost is None
    assert {"unpriced", "usage_conflict"} <= quote.flags
