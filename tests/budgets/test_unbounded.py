"""Requests whose cost is hard to bound, from many threads at once: the limit holds.

The attacks are those with which a budget of $5 was overshot.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import threading
import typing as t
from decimal import Decimal

import pytest
import requests
from flask import Flask

from flask_llm_cost.attempt import Attempt
from flask_llm_cost.bound import Bound
from flask_llm_cost.bound import read_bound
from flask_llm_cost.errors import BudgetExceeded
from flask_llm_cost.errors import ConfigError
from flask_llm_cost.errors import LlmCostError
from flask_llm_cost.errors import UnknownPrice
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.ceiling import request_ceiling
from tests.capture.server import Answer
from tests.capture.server import Provider
from tests.conftest import MakeApp

from .test_enforcement import extension_of
from .test_estimates import reserved

LIMIT = Decimal(5)
THREADS = 30
JSON = (("Content-Type", "application/json"),)
CHAT = "/v1/chat/completions"
ASK = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
OPENAI = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o",
    "choices": [{"message": {"role": "assistant", "content": "hi"}}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 100_000},
}
"""A dollar."""
GEMINI = {
    "modelVersion": "gemini-2.5-pro",
    "candidates": [{"content": {"parts": [{"text": "hi"}]}}],
    "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 100_000},
}


def text(value: object, encoding: str = "utf-8") -> bytes:
    return json.dumps(value).encode(encoding)


def gemini(**config: object) -> bytes:
    return text({"contents": [{"parts": [{"text": "hi"}]}], "generationConfig": config})


ATTACKS: dict[str, tuple[str, str, t.Any]] = {
    "text": ("openai", CHAT, text(ASK | {"max_tokens": "100000"})),
    "float": ("openai", CHAT, text(ASK | {"max_tokens": 1e5})),
    "exponent": ("openai", CHAT, text(ASK | {"max_tokens": "1e5"})),
    "bom": ("openai", CHAT, b"\xef\xbb\xbf" + text(ASK | {"max_tokens": 100_000})),
    "utf16": ("openai", CHAT, text(ASK | {"max_tokens": 100_000}, "utf-16")),
    "utf32": ("openai", CHAT, text(ASK | {"max_tokens": 100_000}, "utf-32-be")),
    "choices": ("openai", CHAT, text(ASK | {"max_tokens": 10_000, "n": "10"})),
    "file": ("openai", CHAT, lambda: io.BytesIO(text(ASK | {"max_tokens": 100_000}))),
    "iterator": ("openai", CHAT, lambda: iter([text(ASK | {"max_tokens": 100_000})])),
    "gzip": ("openai", CHAT, b"\x1f\x8b\x08 not to be read"),
    "candidateCount": (
        "gemini",
        "/v1beta/models/gemini-2.5-pro:generateContent",
        gemini(candidateCount=10, maxOutputTokens=10_000),
    ),
    "snake": (
        "gemini",
        "/v1beta/models/gemini-2.5-pro:generateContent",
        gemini(max_output_tokens=100_000),
    ),
    "deployment": (
        "azure",
        "/openai/deployments/mine/chat/completions?api-version=1",
        text({"messages": [], "max_tokens": 100_000}),
    ),
    "aliased": (
        "azure",
        "/openai/deployments/aliased/chat/completions?api-version=1",
        text({"messages": [], "max_tokens": 100_000}),
    ),
    "router": (
        "azure",
        "/openai/deployments/model-router/chat/completions?api-version=1",
        text({"messages": [], "max_tokens": 100_000}),
    ),
    "no maximum": ("openai", CHAT, text(ASK | {"model": "gpt-5"})),
    "fallbacks": (
        "openrouter",
        "/api/v1/chat/completions",
        text(ASK | {"models": ["openai/gpt-4o"], "max_tokens": 100_000}),
    ),
}
SENT = {"text", "float", "exponent", "bom", "utf16", "utf32", "choices", "snake"} | {
    "candidateCount",
    "aliased",
    "no maximum",
}
"""Those that are bounded: some calls are sent."""


@pytest.mark.parametrize("name", ATTACKS)
def test_a_limit_holds_whatever_the_request_looks_like(
    make_app: MakeApp, provider: Provider, name: str
) -> None:
    dialect, path, body = ATTACKS[name]
    answer = GEMINI if dialect == "gemini" else OPENAI
    provider.play(Answer(text(answer), headers=JSON))
    app = make_app(
        LLM_COST_BUDGETS=[{"name": "x", "limit_usd": LIMIT, "behavior": "block"}],
        LLM_COST_PROVIDER_HOSTS={provider.host: dialect},
        LLM_COST_MODEL_ALIASES={"azure/aliased": "azure/gpt-4o"},
    )
    ready = threading.Barrier(THREADS)
    refused: list[LlmCostError] = []

    def work() -> None:
        with app.app_context(), requests.Session() as session:
            session.mount("http://", extension_of(app).adapter())
            ready.wait(60)
            try:
                session.post(
                    provider.url(path),
                    data=body() if callable(body) else body,
                    headers={"Content-Type": "application/json"},
                )
            except LlmCostError as error:
                refused.append(error)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with app.app_context():
        llm_cost = extension_of(app)
        assert llm_cost.flush(60)
        sent = llm_cost.calls.count()
        assert llm_cost.calls.total_cost() <= LIMIT
    assert sent + len(refused) == THREADS
    assert refused
    assert all(isinstance(each, BudgetExceeded) for each in refused)
    assert bool(sent) == (name in SENT)


def blocking(make_app: MakeApp, **entry: t.Any) -> Flask:
    entry = {"name": "x", "limit_usd": 1000, "behavior": "block"} | entry
    return make_app(LLM_COST_BUDGETS=[entry])


def test_an_unbounded_request_takes_the_largest_of_its_provider(
    make_app: MakeApp,
) -> None:
    app = blocking(make_app)
    highest = PriceBook.bundled().highest("openai")
    assert highest is not None
    with app.app_context():
        # The model's own rates, and its context window once.
        body = text(ASK | {"tools": [{"type": "web_search"}], "max_tokens": 10})
        assert extension_of(app).begin(Attempt("openai", "chat", "gpt-4o", body=body))
        (own,) = reserved(app)
        assert Decimal("0.3") < own < 1
        # Of an unknown model, the highest rates.
        body = text(ASK | {"max_tokens": 1_000_000})
        assert extension_of(app).begin(Attempt("openai", "chat", "made-up", body=body))
        assert max(reserved(app)) > 600


def test_an_unbounded_request_may_be_refused(make_app: MakeApp) -> None:
    app = blocking(make_app, unbounded="refuse")
    bounded = text(ASK | {"max_tokens": 10})
    searching = text(ASK | {"tools": [{"type": "web_search"}], "max_tokens": 10})
    with app.app_context():
        llm_cost = extension_of(app)
        assert llm_cost.begin(Attempt("openai", "chat", "gpt-4o", body=bounded))
        with pytest.raises(BudgetExceeded, match="an unbounded cost") as info:
            llm_cost.begin(Attempt("openai", "chat", "gpt-4o", body=searching))
        assert info.value.unbounded
        with pytest.raises(UnknownPrice, match="openai/made-up"):
            llm_cost.begin(Attempt("openai", "chat", "made-up", body=bounded))
    with pytest.raises(ConfigError, match="unbounded requests"):
        blocking(make_app, unbounded="refuse", behavior="notify")


def test_nothing_is_known_of_a_provider_without_prices(make_app: MakeApp) -> None:
    attempt = Attempt("corp", "chat", "ours", body=text(ASK | {"max_tokens": 10}))
    with blocking(make_app).app_context() as context, pytest.raises(UnknownPrice):
        extension_of(context.app).begin(attempt)
    app = blocking(make_app, unpriced="ignore")
    with app.app_context():
        assert extension_of(app).begin(attempt)
        assert reserved(app) == [0]


def test_a_budget_per_call_refuses_only_what_the_request_names(
    make_app: MakeApp,
) -> None:
    app = blocking(make_app, period="call", limit_usd="0.01")
    with app.app_context():
        llm_cost = extension_of(app)
        for model, request in (
            ("gpt-4o", ASK),
            ("made-up", ASK | {"max_tokens": 10_000}),
            ("gpt-4o", ASK | {"tools": [{"type": "web_search"}], "max_tokens": 10}),
        ):
            assert llm_cost.begin(Attempt("openai", "chat", model, body=text(request)))
        body = text(ASK | {"max_tokens": "10000"})
        with pytest.raises(BudgetExceeded):
            llm_cost.begin(Attempt("openai", "chat", "gpt-4o", body=body))


@pytest.mark.parametrize(
    ("provider", "model", "least"),
    [
        ("openai", "whisper-1", "1"),
        ("openai", "tts-1", "0.5"),
        ("openai", "dall-e-3", "0.04"),
        ("mistral", "mistral-ocr-latest", "1"),
        ("cohere", "rerank-v3.5", "0.002"),
        ("openrouter", "openai/gpt-4o", "0.1"),
    ],
)
def test_what_is_not_billed_by_tokens_is_bounded(
    provider: str, model: str, least: str
) -> None:
    now = dt.datetime.now(dt.UTC)
    found = request_ceiling(PriceBook.bundled(), provider, model, Bound(), now)
    assert found.priced
    assert found.usd is not None
    assert Decimal(least) <= found.usd < 100


@pytest.mark.parametrize("provider", ["openrouter", "huggingface", "vercel"])
def test_a_service_that_chooses_a_provider_does_not_bound_a_request(
    provider: str,
) -> None:
    # As in with_ceiling(): which of its providers answers, and its price, is not known.
    book = PriceBook.layered({f"{provider}/m": {"input": 1, "output": 1}})
    bound = Bound(input_tokens=10**6, output_tokens=10**6)
    found = request_ceiling(book, provider, "m", bound, dt.datetime.now(dt.UTC))
    assert (found.usd, found.bounded, found.priced) == (2, False, True)


@pytest.mark.parametrize(
    ("provider", "model"),
    [("gemini", "veo-3.0-generate-001"), ("vertex", "veo-3.1-generate-001")],
)
def test_a_video_reserves_its_seconds_and_not_a_full_context(
    provider: str, model: str
) -> None:
    bound = read_bound(b'{"parameters": {"durationSeconds": 8}}', "videos")
    now = dt.datetime.now(dt.UTC)
    found = request_ceiling(PriceBook.bundled(), provider, model, bound, now)
    assert found.usd is not None
    assert Decimal("0.4") * 8 <= found.usd <= 5


def test_a_reservation_has_the_rates_of_the_hosts_region(make_app: MakeApp) -> None:
    price = {"input": 0, "output": 1, "multipliers": {"region.eu": 2}}
    budget = {"name": "x", "limit_usd": 9, "behavior": "block"}
    app = make_app(
        LLM_COST_BUDGETS=[budget], LLM_COST_PRICE_OVERRIDES={"openai/m": price}
    )
    body = b'{"model": "m", "max_tokens": 1000000}'
    with app.app_context():
        for flags in (frozenset[str](), frozenset(("region.eu",))):
            attempt = Attempt("openai", "chat", "m", body=body, flags=flags)
            assert extension_of(app).begin(attempt)
    assert sorted(reserved(app)) == [1, 2]


def test_no_count_is_too_large_to_be_reserved() -> None:
    now = dt.datetime.now(dt.UTC)
    bound = Bound(input_tokens=1, output_tokens=10**8, choices=10**8, rounds=10**8)
    found = request_ceiling(PriceBook.bundled(), "openai", "gpt-4o", bound, now)
    assert found.usd is not None
    assert found.usd > 10**6
