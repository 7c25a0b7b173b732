"""Streams that do not say what they used are estimated, if the app wants it."""

from __future__ import annotations

import json
import sys
import types
import typing as t

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.call import Usage
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import route

CHAT = "https://api.openai.com/v1/chat/completions"
REQUEST = {
    "model": "gpt-4o",
    "stream": True,
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "x" * 40},
                {
                    "type": "image_url",
                    "image_url": {"url": "data:image/png;base64,AAAA"},
                },
            ],
        }
    ],
}


def chunk(**members: t.Any) -> dict[str, t.Any]:
    return {"id": "c1", "model": "gpt-4o-1", **members}


CHUNKS = [
    chunk(choices=[{"delta": {"role": "assistant", "content": ""}}]),
    *(chunk(choices=[{"delta": {"content": "four"}}]) for _ in range(9)),
    chunk(choices=[{"delta": {"tool_calls": [{"function": {"arguments": "fours"}}]}}]),
]


def follow(
    chunks: list[dict[str, t.Any]], *, estimate: bool = True, url: str = CHAT
) -> Reading:
    found = route("POST", url)
    assert found is not None
    body = json.dumps(REQUEST).encode()
    exchange = Exchange(found, request_body=body, estimate=estimate)
    exchange.respond(200, {})
    for each in chunks:
        exchange.feed(b"data: " + json.dumps(each).encode() + b"\n\n", decoded=True)
    return exchange.reading(ended=True)


def test_four_characters_are_a_token() -> None:
    reading = follow(CHUNKS)
    assert reading.usage == Usage(input_tokens=10, output_tokens=11)
    assert reading.usage_source == "estimated"
    assert reading.flags == {"estimated"}


def test_without_the_option_usage_is_unknown() -> None:
    reading = follow(CHUNKS, estimate=False)
    assert (reading.usage, reading.usage_source) == (None, "unknown")


def test_what_the_provider_says_goes_first() -> None:
    told = chunk(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 1})
    reading = follow([*CHUNKS, told])
    assert reading.usage == Usage(input_tokens=7, output_tokens=1)
    assert (reading.usage_source, reading.flags) == ("stream_final", frozenset())


def test_responses_show_their_text_in_deltas() -> None:
    deltas = [{"type": "response.output_text.delta", "delta": "four"}] * 3
    reading = follow(deltas, url="https://api.openai.com/v1/responses")
    assert reading.usage == Usage(input_tokens=10, output_tokens=3)


def test_nothing_seen_is_nothing_estimated() -> None:
    assert follow([]).usage is None


def test_an_encoding_that_the_app_has_loaded_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Words:
        def encode(self, text: str, **options: object) -> list[str]:
            return list(text)

    registry = types.ModuleType("tiktoken.registry")
    registry.ENCODINGS = {"o200k_base": Words()}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tiktoken.registry", registry)
    assert follow(CHUNKS).usage == Usage(input_tokens=40, output_tokens=41)
