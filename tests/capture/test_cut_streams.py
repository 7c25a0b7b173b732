"""Streams that the app stops reading, or that break: what they cost is only a floor."""

from __future__ import annotations

import json
import typing as t
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.call import Call
from flask_llm_cost.call import Usage
from flask_llm_cost.capture.meter import Meter
from flask_llm_cost.capture.tap import Tap
from flask_llm_cost.prices import PriceBook
from tests.capture.conftest import Book

CHAT_USAGE = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
STREAMS: dict[str, tuple[str, str, list[dict[str, t.Any]]]] = {
    "chat": (
        "https://api.openai.com/v1/chat/completions",
        "gpt-4o",
        [
            *(
                {"choices": [{"delta": {"content": w}}], "model": "gpt-4o"}
                for w in "ab"
            ),
            {"choices": [], "model": "gpt-4o", "usage": CHAT_USAGE},
        ],
    ),
    "responses": (
        "https://api.openai.com/v1/responses",
        "gpt-4o",
        [
            {"type": "response.created", "response": {"id": "r", "model": "gpt-4o"}},
            {"type": "response.output_text.delta", "delta": "a"},
            {
                "type": "response.completed",
                "response": {
                    "id": "r",
                    "model": "gpt-4o",
                    "usage": {"input_tokens": 10, "output_tokens": 3},
                },
            },
        ],
    ),
    "messages": (
        "https://api.anthropic.com/v1/messages",
        "claude-opus-4-6",
        [
            {
                "type": "message_start",
                "message": {
                    "id": "m",
                    "model": "claude-opus-4-6",
                    "usage": {"input_tokens": 10, "output_tokens": 1},
                },
            },
            {"type": "content_block_delta", "delta": {"text": "a"}},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn"},
                "usage": {"output_tokens": 3},
            },
        ],
    ),
    "gemini": (
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro"
        ":streamGenerateContent",
        "gemini-2.5-pro",
        [
            {
                "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": n},
                "modelVersion": "gemini-2.5-pro",
            }
            for n in (1, 2, 3)
        ],
    ),
    "ollama": (
        "http://localhost:11434/api/chat",
        "m",
        [
            {"model": "m", "message": {"content": "a"}, "done": False},
            {"model": "m", "done": True, "prompt_eval_count": 10, "eval_count": 3},
        ],
    ),
}


def lines_of(name: str) -> list[bytes]:
    form = b"%s\n" if name == "ollama" else b"data: %s\n\n"
    return [form % json.dumps(event).encode() for event in STREAMS[name][2]]


def play(name: str, body: bytes, ending: str) -> Call:
    book = Book()
    url, model, _ = STREAMS[name]
    request = json.dumps({"model": model, "stream": True}).encode()
    meter = Tap(book).open("POST", url, request)
    assert meter is not None
    meter.respond(200, {})
    meter.feed(body, decoded=True)
    getattr(Meter, ending)(meter)
    return book.call


def usd(call: Call) -> Decimal:
    cost = PriceBook.bundled().cost(call.provider, call.model, call.usage or Usage())
    return Decimal(0) if cost is None else cost.total_usd


@pytest.mark.parametrize("ending", ["close", "fail", "unfinished"])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_was_cut_after_any_event_is_flagged(
    name: str, ending: str
) -> None:
    events = lines_of(name)
    for count in range(len(events)):
        call = play(name, b"".join(events[:count]), ending)
        assert "cut" in call.flags, count
        assert call.usage_source in ("unknown", "stream_partial"), count


@pytest.mark.parametrize("name", STREAMS)
def test_a_whole_stream_is_not_cut(name: str) -> None:
    call = play(name, b"".join(lines_of(name)), "end")
    assert "cut" not in call.flags
    assert call.usage is not None
    assert call.usage.total_tokens == 13


@pytest.mark.parametrize("name", sorted(set(STREAMS) - {"gemini"}))
def test_what_comes_after_the_last_event_does_not_matter(name: str) -> None:
    # Gemini's streams have no last event: only their end shows that they were read whole.
    assert "cut" not in play(name, b"".join(lines_of(name)), "close").flags


@given(st.sampled_from(sorted(STREAMS)), st.data())
def test_a_cut_stream_costs_at_most_what_the_whole_one_does(
    name: str, data: st.DataObject
) -> None:
    whole = b"".join(lines_of(name))
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert usd(play(name, whole[:cut], "fail")) <= usd(play(name, whole, "end"))
