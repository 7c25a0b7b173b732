"""Tests of what is billed and cannot be counted: it is flagged."""

from __future__ import annotations

import json
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.providers import read_exchange

GROQ = "https://api.groq.com/openai/v1/chat/completions"
USAGE = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}


def read(url: str, body: t.Any, request: dict[str, t.Any] | None = None) -> Reading:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = read_exchange(
        method="POST",
        url=url,
        request_body=json.dumps(request or {}).encode(),
        status=200,
        headers={},
        body=content,
    )
    assert found is not None
    return found


# https://console.groq.com/docs/tool-use/built-in-tools


def tool(number: int, kind: str) -> dict[str, t.Any]:
    return {"index": number, "type": kind, "arguments": "{}"}


@pytest.mark.parametrize(
    ("kinds", "searches", "flags"),
    [
        (["search", "search"], 2, set()),
        (["browser_search"], 1, set()),
        (["search", "python"], 1, {"session_fee"}),
        (["visit"], 0, {"unread_usage"}),
        ([], 0, set()),
    ],
)
def test_groqs_searches_are_counted_and_other_tools_flagged(
    kinds: list[str], searches: int, flags: set[str]
) -> None:
    tools = [tool(number, kind) for number, kind in enumerate(kinds)]
    message = {"role": "assistant", "content": "x", "executed_tools": tools}
    reading = read(GROQ, {"choices": [{"message": message}], "usage": USAGE})
    assert reading.usage is not None
    assert reading.usage.units.get("web_search", 0) == searches
    assert reading.flags == flags


def test_groqs_searches_are_counted_once_in_a_stream() -> None:
    events: list[dict[str, t.Any]] = [
        {"choices": [{"delta": {"executed_tools": [tool(0, "search")]}}]},
        *({"choices": [{"delta": {"content": "x"}}]} for _ in range(6)),
        {"choices": [{"delta": {"executed_tools": [tool(0, "search")]}}]},
        {"choices": [], "x_groq": {"usage": USAGE}},
    ]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    reading = read(GROQ, body.encode())
    assert reading.usage is not None
    assert reading.usage.units == {"web_search": Decimal(1)}


def test_groqs_searches_belong_to_one_of_several_models() -> None:
    body = {
        "model": "groq/compound",
        "choices": [{"message": {"executed_tools": [tool(0, "search")]}}],
        "usage": USAGE,
        "usage_breakdown": {
            "models": [{"model": "a", "usage": USAGE}, {"model": "b", "usage": USAGE}]
        },
    }
    parts = read(GROQ, body).usage_by_model
    assert [used.units for used in parts.values()] == [{"web_search": 1}, {}]


CONVERSE = "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse"
TOKENS = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}


@pytest.mark.parametrize(
    ("trace", "flags"),
    [({}, set()), ({"guardrail": {"inputAssessment": {"g": {}}}}, {"unread_usage"})],
)
def test_a_guardrail_is_billed_and_flagged(
    trace: dict[str, t.Any], flags: set[str]
) -> None:
    body = {"output": {}, "usage": TOKENS, "trace": trace}
    assert read(CONVERSE, body).flags == flags


@pytest.mark.parametrize(
    ("kind", "flags"),
    [("text", set()), ("image", set()), ("audio", {"unread_usage"})],
)
def test_a_recording_to_embed_is_billed_by_the_second(
    kind: str, flags: set[str]
) -> None:
    url = CONVERSE.replace("m/converse", "amazon.nova-2-multimodal-embeddings/invoke")
    body = {"embeddings": [], "inputTextTokenCount": 3}
    reading = read(url, body, {"singleEmbeddingParams": {kind: {}}})
    assert reading.usage is not None
    images = reading.usage.units.get("input_image_piece", 0)
    assert images == (1 if kind == "image" else 0)
    assert reading.flags == flags
