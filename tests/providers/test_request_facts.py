"""What an answer costs by the request that it answers."""

from __future__ import annotations

import json
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.call import Usage
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.providers import read_exchange

OPENAI = "https://api.openai.com/v1"
ANTHROPIC = "https://api.anthropic.com/v1/messages"


def read(
    url: str,
    request: dict[str, t.Any] | bytes,
    answer: dict[str, t.Any] | bytes,
    content_type: str = "application/json",
) -> Reading:
    reading = read_exchange(
        method="POST",
        url=url,
        request_body=request if isinstance(request, bytes) else encode(request),
        status=200,
        headers={"content-type": content_type},
        body=answer if isinstance(answer, bytes) else encode(answer),
    )
    assert reading is not None
    assert "reader_error" not in reading.flags
    return reading


def encode(document: dict[str, t.Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def units(reading: Reading) -> dict[str, int]:
    assert reading.usage is not None
    return {name: int(n) for name, n in reading.usage.units.items()}


def chat(model: str) -> Reading:
    usage = {"prompt_tokens": 10, "completion_tokens": 100, "total_tokens": 110}
    answer = {"id": "c", "model": model, "choices": [], "usage": usage}
    return read(f"{OPENAI}/chat/completions", {"model": model}, answer)


@pytest.mark.parametrize(
    ("model", "fees"),
    [
        # https://platform.openai.com/docs/pricing: search models search in every call
        ("gpt-4o-mini-search-preview-2025-03-11", {"web_search": 1}),
        ("gpt-5-search-api", {"web_search": 1}),
        ("gpt-4o-mini", {}),
        ("research-preview", {}),
    ],
)
def test_a_search_model_has_a_fee_for_each_call(
    model: str, fees: dict[str, int]
) -> None:
    assert units(chat(model)) == fees


def test_speech_is_billed_by_the_characters_of_the_request() -> None:
    request = {"model": "tts-1", "input": "Grüße, 世界", "voice": "alloy"}
    spoken = read(f"{OPENAI}/audio/speech", request, b"\xff\xf3\x00", "audio/mpeg")
    assert units(spoken) == {"character": 9}
    assert "世界" not in repr(spoken)


def test_streamed_speech_is_billed_by_its_tokens() -> None:
    usage = {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}
    event = {"type": "speech.audio.done", "usage": usage}
    body = b"data: " + encode(event) + b"\n\n"
    request = {"model": "gpt-4o-mini-tts", "input": "Hello"}
    spoken = read(f"{OPENAI}/audio/speech", request, body, "text/event-stream")
    assert units(spoken) == {}
    assert spoken.usage is not None
    assert spoken.usage.output_audio_tokens == 101


FORM = (
    b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\ndall-e-2\r\n'
    b'--x\r\nContent-Disposition: form-data; name="size"\r\n\r\n512x512\r\n--x--\r\n'
)


@pytest.mark.parametrize(
    ("path", "request_body", "flags"),
    [
        (
            "generations",
            {"model": "dall-e-3", "size": "1792x1024", "quality": "hd", "prompt": "x"},
            {"size.1792x1024", "quality.hd"},
        ),
        ("generations", {"model": "dall-e-3", "prompt": "x"}, set()),
        (
            "generations",
            {"model": "dall-e-3", "size": "a prompt, perhaps"},
            {"size.other"},
        ),
        ("edits", FORM, {"size.512x512"}),
    ],
)
def test_an_image_that_is_billed_by_the_image_has_its_size_and_quality(
    path: str, request_body: dict[str, t.Any] | bytes, flags: set[str]
) -> None:
    answer = {"created": 1, "data": [{"url": "https://x"}]}
    reading = read(f"{OPENAI}/images/{path}", request_body, answer)
    assert units(reading) == {"image": 1}
    assert reading.flags == flags


def test_an_image_that_is_billed_by_token_has_no_size() -> None:
    usage = {"input_tokens": 5, "output_tokens": 100, "total_tokens": 105}
    answer = {"created": 1, "data": [{"b64_json": "AA"}], "usage": usage}
    request = {"model": "gpt-image-1", "size": "1024x1024"}
    assert not read(f"{OPENAI}/images/generations", request, answer).flags


@pytest.mark.parametrize(
    ("bill_to", "cost"), [("user_profile", Decimal(0)), ("self", None), (None, None)]
)
def test_a_request_billed_to_a_customer_costs_the_app_nothing(
    bill_to: str | None, cost: Decimal | None
) -> None:
    # The anthropic SDK's type BetaBillingPolicyParam
    policy = {} if bill_to is None else {"billing_policy": {"bill_to": bill_to}}
    answer = {"type": "message", "usage": {"input_tokens": 1, "output_tokens": 1}}
    reading = read(ANTHROPIC, {"model": "claude-opus-5", **policy}, answer)
    assert reading.reported_cost == cost


@pytest.mark.parametrize(
    ("status", "flags"),
    [
        ({"type": "redeemed"}, {"fallback_credit"}),
        ({"type": "not_applied", "reason": "expired"}, set()),
    ],
)
def test_a_redeemed_fallback_credit_is_flagged(
    status: dict[str, str], flags: set[str]
) -> None:
    usage = {
        "input_tokens": 1,
        "output_tokens": 1,
        "fallback_credit": {"status": status},
    }
    answer = {"type": "message", "usage": usage}
    assert read(ANTHROPIC, {"model": "claude-opus-5"}, answer).flags == flags


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"pages_processed": 3}, {"page": 3}),
        (
            {"pages_processed": 3, "pages_processed_annotation": 2},
            {"page": 3, "annotated_page": 2},
        ),
        (
            {"pages_processed": 0, "pages_processed_annotation": 1},
            {"annotated_page": 1},
        ),
    ],
)
def test_annotated_pages_have_a_rate_of_their_own(
    counts: dict[str, int], expected: dict[str, int]
) -> None:
    # https://github.com/BerriAI/litellm/issues/38546
    answer = {"model": "mistral-ocr-latest", "pages": [], "usage_info": counts}
    reading = read("https://api.mistral.ai/v1/ocr", {"model": "m"}, answer)
    assert units(reading) == expected


def test_a_search_of_perplexity_is_one_request() -> None:
    # https://docs.perplexity.ai/api-reference/search-post
    answer = {"id": "s_1", "results": [{"title": "t", "url": "u", "snippet": "s"}]}
    reading = read("https://api.perplexity.ai/search", {"query": "q"}, answer)
    assert (reading.model, reading.operation) == ("search", "search")
    assert reading.response_id == "s_1"
    assert reading.usage == Usage(units={"request": Decimal(1)})


@pytest.mark.parametrize(
    ("size", "fee"),
    [("low", "0.005"), ("medium", "0.008"), ("high", "0.012"), (None, "0.005")],
)
def test_perplexitys_fee_depends_on_the_search_context(
    size: str | None, fee: str
) -> None:
    # https://docs.perplexity.ai/getting-started/pricing (request fees)
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    answer = {
        "model": "sonar",
        "choices": [],
        "usage": usage | ({} if size is None else {"search_context_size": size}),
    }
    reading = read("https://api.perplexity.ai/chat/completions", {}, answer)
    quote = PriceBook.bundled().quote(
        "perplexity", "sonar", reading.usage, flags=reading.flags
    )
    assert quote.cost is not None
    assert quote.cost.parts["request"].amount_usd == Decimal(fee)
    assert quote.cost.complete


CONTAINER = {"id": "container_1", "expires_at": "2026-11-30T00:00:00Z"}


@pytest.mark.parametrize("place", ["first", "last", "long", "stream"])
@pytest.mark.parametrize("used", [True, False])
def test_code_that_ran_in_a_container_has_a_fee_over_time(
    place: str, used: bool
) -> None:
    # The anthropic SDK's types Message.container and RawMessageDeltaEvent.delta.container
    box = {"container": CONTAINER if used else None}
    usage = {"usage": {"input_tokens": 1, "output_tokens": 1}}
    text = {"content": [{"text": "x" * (3_000_000 if place == "long" else 1)}]}
    start = {"id": "m", "type": "message", "model": "claude-opus-5"}
    answer: t.Any = {**start, **text, **usage, **box}
    if place == "first":
        answer = {**start, **box, **text, **usage}
    if place == "stream":
        events: list[dict[str, t.Any]] = [
            {"type": "message_start", "message": {**start, **usage}},
            {"type": "message_delta", "delta": {"stop_reason": "x", **box}, **usage},
        ]
        answer = b"".join(b"data: " + encode(event) + b"\n\n" for event in events)
    flags = read(ANTHROPIC, {"model": "claude-opus-5"}, answer).flags
    assert flags == ({"session_fee"} if used else set())


@pytest.mark.parametrize("place", ["whole", "stream"])
@pytest.mark.parametrize(
    ("model", "tool", "fee", "complete"),
    [
        ("gpt-4.1", "web_search", "0.01", True),
        ("gpt-4.1", "web_search_2025_08_26", "0.01", True),
        ("gpt-4.1", "web_search_preview", "0.025", True),
        ("gpt-4.1", "web_search_preview_2025_03_11", "0.025", True),
        ("gpt-5", "web_search", "0.01", True),
        ("gpt-5", "web_search_preview", "0.01", True),
        # A block of 8,000 input tokens, which usage is not known to include.
        ("gpt-4.1-mini", "web_search", "0.01", False),
        ("gpt-4o-mini", "web_search", "0.01", False),
        ("gpt-4o-mini", "web_search_preview", "0.025", True),
    ],
)
def test_openais_search_and_its_preview_have_fees_of_their_own(
    model: str, tool: str, fee: str, complete: bool, place: str
) -> None:
    # https://platform.openai.com/docs/pricing#built-in-tools
    response = {
        "id": "r",
        "object": "response",
        "status": "completed",
        "model": model,
        "output": [{"type": "web_search_call", "action": {"type": "search"}}],
        "tools": [{"type": tool}],
        "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
    }
    answer: t.Any = response
    if place == "stream":
        event = {"type": "response.completed", "response": response}
        answer = b"data: " + encode(event) + b"\n\n"
    reading = read("https://api.openai.com/v1/responses", {"model": model}, answer)
    quote = PriceBook.bundled().quote(
        "openai", model, reading.usage, flags=reading.flags
    )
    assert quote.cost is not None
    assert quote.cost.parts["web_search"].amount_usd == Decimal(fee)
    assert quote.cost.complete is complete
