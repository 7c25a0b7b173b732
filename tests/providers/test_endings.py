"""Answers that do not show all that is billed, although they came to their own end."""

from __future__ import annotations

import json
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.prices.ceiling import request_ceiling
from flask_llm_cost.providers import read_exchange

from .quotes import AT
from .quotes import BOOK
from .quotes import priced

GEMINI = "https://generativelanguage.googleapis.com/v1beta"
USAGE = {"prompt_tokens": 10, "completion_tokens": 1290, "total_tokens": 1300}


def read(url: str, request: dict[str, t.Any], *events: dict[str, t.Any]) -> Reading:
    if request.get("stream") or "stream" in url:
        body = b"".join(b"data: %s\n\n" % json.dumps(e).encode() for e in events)
    else:
        body = json.dumps(events[0]).encode()
    reading = read_exchange(
        method="POST",
        url=url,
        request_body=json.dumps(request).encode(),
        status=200,
        headers={},
        body=body,
    )
    assert reading is not None
    return reading


def chunk(written: int, reason: str | None = None) -> dict[str, t.Any]:
    """A chunk of xAI, DeepSeek or Perplexity, each of which has the usage so far."""
    return {
        "object": "chat.completion.chunk",
        "model": "deepseek-chat",
        "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": reason}],
        "usage": {"prompt_tokens": 10, "completion_tokens": written},
    }


@pytest.mark.parametrize("url", ["https://api.deepseek.com", "https://api.x.ai/v1"])
def test_running_usage_is_not_final_until_the_answer_has_a_reason_to_end(
    url: str,
) -> None:
    request = {"model": "deepseek-chat", "stream": True}
    chunks = [chunk(1), chunk(2), chunk(3)]
    cut = read(f"{url}/chat/completions", request, *chunks)
    whole = read(f"{url}/chat/completions", request, *chunks, chunk(4, "stop"))
    assert (cut.usage_source, whole.usage_source) == ("stream_partial", "stream_final")


def test_usage_that_comes_after_the_reason_is_final() -> None:
    chunks = [chunk(1), chunk(2, "stop"), chunk(3)]
    request = {"model": "deepseek-chat", "stream": True}
    reading = read("https://api.deepseek.com/chat/completions", request, *chunks)
    assert reading.usage_source == "stream_final"


def gemini(written: int, reason: str | None = None) -> dict[str, t.Any]:
    return {
        "candidates": [{"content": {"parts": []}, "finishReason": reason}],
        "usageMetadata": {
            "promptTokenCount": 10,
            "candidatesTokenCount": written,
            "totalTokenCount": 10 + written,
        },
        "modelVersion": "gemini-2.5-flash-image",
    }


def test_a_stream_of_gemini_without_a_reason_to_end_was_cut() -> None:
    url = f"{GEMINI}/models/gemini-2.5-pro:streamGenerateContent?alt=sse"
    assert read(url, {}, gemini(1), gemini(2)).usage_source == "stream_partial"
    assert read(url, {}, gemini(1), gemini(2, "STOP")).usage_source == "stream_final"


def test_images_that_are_counted_like_text_are_not_complete() -> None:
    """1,290 tokens of an image cost $0.0387, and as text $0.0032."""
    compatible = read(
        f"{GEMINI}/openai/chat/completions",
        {"model": "gemini-2.5-flash-image"},
        {"model": "gemini-2.5-flash-image", "choices": [], "usage": USAGE},
    )
    own = f"{GEMINI}/models/gemini-2.5-flash-image:generateContent"
    for reading in compatible, read(own, {}, gemini(1290, "STOP")):
        assert "unread_usage" in reading.flags
        assert not priced(reading).complete


def test_voyage_bills_images_by_the_pixel() -> None:
    """Their tokens are in the total only: https://docs.voyageai.com/docs/pricing."""
    usage = {"text_tokens": 5, "image_pixels": 2_000_000, "total_tokens": 3576}
    reading = read(
        "https://api.voyageai.com/v1/multimodalembeddings",
        {"model": "voyage-multimodal-3"},
        {"object": "list", "model": "voyage-multimodal-3", "usage": usage},
    )
    assert reading.usage is not None
    assert reading.usage.total_tokens == 5
    assert reading.usage.units == {"pixel": Decimal(2_000_000)}
    assert not priced(reading).complete


@pytest.mark.parametrize(
    ("url", "model", "members", "times"),
    [
        (
            "https://api.anthropic.com/v1/messages",
            "claude-opus-4-6",
            {"max_tokens": 1000, "inference_geo": "us"},
            "1.1",
        ),
        (
            "https://bedrock-runtime.us-east-1.amazonaws.com"
            "/model/us.amazon.nova-pro-v1:0/converse-stream",
            "us.amazon.nova-pro-v1:0",
            {
                "inferenceConfig": {"maxTokens": 1000},
                "serviceTier": {"type": "priority"},
            },
            "1.75",
        ),
    ],
)
def test_a_ceiling_has_the_rates_that_the_request_asks_for(
    url: str, model: str, members: dict[str, t.Any], times: str
) -> None:
    reading = read(url, {"model": model, "stream": True, **members})
    assert reading.bound is not None
    plain = read(url, {"model": model, "stream": True, "max_tokens": 1000})
    assert plain.bound is not None
    bounds = (reading.bound, plain.bound)
    asked, usual = (
        request_ceiling(BOOK, reading.provider, model, bound, AT).usd
        for bound in bounds
    )
    assert asked is not None
    assert usual is not None
    assert asked > usual * Decimal(times)


@pytest.mark.parametrize(
    ("tool", "complete"),
    [
        ({"type": "builtin_function", "function": {"name": "$web_search"}}, False),
        ({"type": "web_search", "web_search": {"enable": True}}, False),
        ({"type": "function", "function": {"name": "web_search"}}, True),
    ],
)
def test_searches_that_an_answer_does_not_count_are_not_complete(
    tool: dict[str, t.Any], complete: bool
) -> None:
    """A search of Moonshot is $0.005: https://platform.kimi.ai/docs/pricing/tools."""
    model = "kimi-k2-0905-preview"
    request = {"model": model, "tools": [tool]}
    answer = {"model": model, "choices": [], "usage": USAGE}
    reading = read("https://api.moonshot.ai/v1/chat/completions", request, answer)
    assert priced(reading).complete is complete
