"""Streams that the app stops reading, or that break: what their cost is known to be between."""

from __future__ import annotations

import dataclasses
import json
import random
import re
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
from tests.corpus import body_of
from tests.corpus import load
from tests.corpus import request_of
from tests.corpus import Row

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


# Between the floor and the ceiling

BUNDLED = PriceBook.bundled()


def priced(call: Call) -> Call:
    quote = BUNDLED.quote_call(call, None, call.usage_by_model)
    return call.priced(quote.cost, call.flags | quote.flags, call.tags, None, None)


def recorded() -> list[tuple[Row, Call]]:
    """Recorded streams with a complete cost of their own, each with its call."""
    found = []
    for row in load("traffic"):
        request = request_of(row)
        # Requests that were shortened when they were recorded say nothing of their input.
        if row["status"] != 200 or re.search(rb"\[\d+ chars\]", request):
            continue
        whole = follow(row, body_of(row), "end")
        if whole is not None and whole.stream and whole.reported_cost is None:
            if whole.cost is not None and whole.cost.complete:
                found.append((row, whole))
    return found


def follow(row: Row, body: bytes, ending: str) -> Call | None:
    book = Book()
    meter = Tap(book).open(row["method"], row["url"], request_of(row))
    if meter is None:
        return None
    meter.respond(row["status"], row["response_headers"])
    meter.feed(body, decoded=True)
    getattr(Meter, ending)(meter)
    return priced(book.call) if len(book.calls) == 1 else None


def check_cut(row: Row, whole: Call, at: int) -> bool:
    """Check one cut, and return whether its cost has an upper bound."""
    call = follow(row, body_of(row)[:at], "close")
    if call is None or call.outcome == "ok" or call.cost is None:
        return False
    if call.usage_source == "stream_final":
        return False  # only the end of its last line is missing
    assert whole.cost is not None
    true, cost, where = whole.cost.total_usd, call.cost, (row["id"], at)
    assert not cost.complete, where
    assert {"cut"} <= cost.flags, where
    assert cost.total_usd <= true, where
    if call.operation == "assistants":
        return False  # a run's thread is not in its request
    assert cost.estimate_usd is not None, where
    assert cost.total_usd <= cost.estimate_usd, where
    if cost.ceiling_usd is None:
        return False
    assert cost.estimate_usd <= cost.ceiling_usd, where
    assert true <= cost.ceiling_usd, where
    return True


def test_the_true_cost_of_a_recorded_stream_is_between_floor_and_ceiling() -> None:
    pick, bounded, checked = random.Random(14), 0, 0
    for row, whole in recorded():
        body = body_of(row)
        ends = [found.end() for found in re.finditer(rb"\r?\n\r?\n", body)] or [0]
        for at in {0, pick.choice(ends), pick.choice(ends), pick.randrange(len(body))}:
            bounded += check_cut(row, whole, at)
            checked += 1
    assert checked > 500
    assert bounded > checked / 2


@pytest.mark.stress
def test_the_law_holds_after_every_event_and_at_random_bytes() -> None:
    pick = random.Random()
    for row, whole in recorded():
        body = body_of(row)
        cuts = {found.end() for found in re.finditer(rb"\r?\n\r?\n|\}", body)}
        cuts |= {pick.randrange(len(body)) for _ in range(100)}
        for at in sorted(cuts):
            check_cut(row, whole, at)


def chat_request(**members: t.Any) -> bytes:
    message = {"role": "user", "content": "x" * 400}
    return json.dumps(
        {"model": "gpt-4o", "stream": True, "messages": [message], **members}
    ).encode()


def stopped(
    words: int, url: str = STREAMS["chat"][0], served: str = "gpt-4o", **members: t.Any
) -> Call:
    """A chat that was stopped after a number of words."""
    book = Book()
    meter = Tap(book).open("POST", url, chat_request(**members))
    assert meter is not None
    meter.respond(200, {})
    event = {"model": served, "choices": [{"delta": {"content": "word "}}]}
    for _ in range(words):
        meter.feed(b"data: %s\n\n" % json.dumps(event).encode(), decoded=True)
    meter.close()
    return priced(book.call)


def test_a_stopped_chat_is_bounded_by_the_limit_of_its_request() -> None:
    cost = stopped(100, max_tokens=1000).cost
    assert cost is not None
    assert (cost.total_usd, cost.complete) == (0, False)
    # $2.50 and $10 per 1M: 400 characters are 100 tokens, and 100 words 125 tokens.
    assert cost.estimate_usd == Decimal("0.00000250") * 100 + Decimal("0.00001") * 141
    sent = len(chat_request(max_tokens=1000))
    assert cost.ceiling_usd is not None
    assert (
        Decimal("0.01")
        < cost.ceiling_usd
        < Decimal("0.01") + (sent + 300) * Decimal("0.0000025")
    )


def test_without_a_limit_the_model_is_the_limit() -> None:
    cost = stopped(1).cost
    assert cost is not None
    assert cost.ceiling_usd is not None
    # gpt-4o writes at most 16,384 tokens.
    assert Decimal("0.16384") < cost.ceiling_usd < Decimal("0.17")


def test_more_choices_raise_the_ceiling() -> None:
    one, three = stopped(1, max_tokens=1000).cost, stopped(1, max_tokens=1000, n=3).cost
    assert one is not None
    assert three is not None
    assert one.ceiling_usd is not None
    assert three.ceiling_usd is not None
    assert three.ceiling_usd > one.ceiling_usd + Decimal("0.0199")


def test_input_that_is_referred_to_may_fill_the_context_window() -> None:
    # gpt-4o takes 128,000 tokens: $0.32
    cost = stopped(1, max_tokens=1000, previous_response_id="r").cost
    assert cost is not None
    assert cost.ceiling_usd == Decimal("0.33")


def test_tools_of_the_provider_without_a_limit_have_no_ceiling() -> None:
    cost = stopped(1, max_tokens=1000, tools=[{"type": "web_search"}]).cost
    assert cost is not None
    assert cost.ceiling_usd is None
    assert cost.estimate_usd


@pytest.mark.parametrize("host", ["openrouter.ai/api", "ai-gateway.vercel.sh"])
def test_a_service_that_chooses_a_provider_has_no_ceiling(host: str) -> None:
    model = "openai/gpt-4o"
    cost = stopped(10, f"https://{host}/v1/chat/completions", model, model=model).cost
    assert cost is not None
    assert cost.estimate_usd
    assert cost.ceiling_usd is None


def test_an_estimate_of_the_input_does_not_lower_the_ceiling() -> None:
    call = stopped(10, max_tokens=1000)
    estimated = priced(
        dataclasses.replace(call, usage=call.estimate, usage_source="estimated")
    )
    assert call.cost is not None
    assert estimated.cost is not None
    assert estimated.cost.total_usd == call.cost.estimate_usd
    assert estimated.cost.ceiling_usd == call.cost.ceiling_usd


def test_a_model_without_a_price_has_neither() -> None:
    assert stopped(1, model="unheard-of").cost is not None  # it answered as gpt-4o
    book = Book()
    meter = Tap(book).open("POST", STREAMS["chat"][0], chat_request(model="unheard-of"))
    assert meter is not None
    meter.respond(200, {})
    meter.close()
    assert priced(book.call).cost is None


def test_a_stream_that_ends_without_usage_is_bounded_too() -> None:
    call = priced(play("chat", b"".join(lines_of("chat")[:2]), "end"))
    assert call.outcome == "ok"
    assert "no_usage" in call.flags
    assert call.cost is not None
    assert not call.cost.complete
    assert call.cost.ceiling_usd is not None


def test_a_call_without_an_answer_costs_nothing() -> None:
    book = Book()
    meter = Tap(book).open("POST", STREAMS["chat"][0], chat_request())
    assert meter is not None
    meter.no_response()
    assert (book.call.bound, priced(book.call).cost) == (None, None)


def test_an_answer_that_was_lost_before_it_was_read_has_no_estimate() -> None:
    book, request = Book(), chat_request(stream=False, max_tokens=1000)
    meter = Tap(book).open("POST", STREAMS["chat"][0], request)
    assert meter is not None
    meter.respond(200, {})
    meter.fail()
    call = priced(book.call)
    assert call.cost is not None
    assert {"cut"} <= call.flags
    assert (call.cost.total_usd, call.cost.estimate_usd) == (0, None)
    assert call.cost.ceiling_usd is not None
    assert call.cost.ceiling_usd > Decimal("0.01")
