"""Streams that an app stops early: no way around a budget, and no great loss of it."""

from __future__ import annotations

import json
import random
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import pytest
import requests
from flask import Flask

from flask_llm_cost.errors import BudgetExceeded
from tests.capture.server import Answer
from tests.capture.server import Provider
from tests.conftest import MakeApp

from .test_enforcement import extension_of
from .test_unsettled import counted

WORDS = (" the", " model", " is", " a", " test", " of", " data", " set", " for", " you")
"""A token each, of four bytes on average."""

PROMPT = "Tell me what you know of this. " * 20
PROMPT_TOKENS = 160
SSE = (("Content-Type", "text/event-stream"),)
CLICKS = 1_000


@dataclass(frozen=True)
class Dialect:
    """A chat API: its requests, its streams, and its prices per million tokens."""

    name: str
    path: str
    input: str
    output: str
    request: t.Any
    events: t.Any

    def cost(self, written: int) -> Decimal:
        """What an answer truly costs."""
        read = PROMPT_TOKENS * Decimal(self.input)
        return (read + written * Decimal(self.output)) / 10**6


def event(document: object, kind: str | None = None) -> bytes:
    head = b"" if kind is None else f"event: {kind}\n".encode()
    return head + b"data: " + json.dumps(document).encode() + b"\n\n"


def openai(words: list[str]) -> Iterator[bytes]:
    for word in words:
        delta = {"index": 0, "delta": {"content": word}, "finish_reason": None}
        yield event(
            {
                "id": "c-1",
                "object": "chat.completion.chunk",
                "model": "gpt-4o",
                "choices": [delta],
            }
        )
    yield b"data: [DONE]\n\n"


def anthropic(words: list[str]) -> Iterator[bytes]:
    usage = {"input_tokens": PROMPT_TOKENS, "output_tokens": 1}
    message = {"id": "m-1", "model": "claude-sonnet-4-5", "usage": usage}
    yield event({"type": "message_start", "message": message}, "message_start")
    for word in words:
        delta = {"type": "text_delta", "text": word}
        yield event(
            {"type": "content_block_delta", "index": 0, "delta": delta},
            "content_block_delta",
        )


def gemini(words: list[str]) -> Iterator[bytes]:
    for number, word in enumerate(words, 1):
        usage = {"promptTokenCount": PROMPT_TOKENS, "candidatesTokenCount": number}
        part = {"content": {"role": "model", "parts": [{"text": word}]}}
        yield event(
            {
                "modelVersion": "gemini-2.5-pro",
                "responseId": "g-1",
                "candidates": [part],
                "usageMetadata": usage,
            }
        )


def chat(model: str, most: int) -> dict[str, object]:
    messages = [{"role": "user", "content": PROMPT}]
    return {"model": model, "messages": messages, "max_tokens": most, "stream": True}


def contents(model: str, most: int) -> dict[str, object]:
    return {
        "contents": [{"role": "user", "parts": [{"text": PROMPT}]}],
        "generationConfig": {"maxOutputTokens": most},
    }


DIALECTS = (
    Dialect(
        "openai",
        "/v1/chat/completions",
        "2.5",
        "10",
        lambda most: chat("gpt-4o", most),
        openai,
    ),
    Dialect(
        "anthropic",
        "/v1/messages",
        "3",
        "15",
        lambda most: chat("claude-sonnet-4-5", most),
        anthropic,
    ),
    Dialect(
        "gemini",
        "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
        "1.25",
        "10",
        lambda most: contents("gemini-2.5-pro", most),
        gemini,
    ),
)


def stop(
    app: Flask, provider: Provider, dialect: Dialect, written: int, most: int
) -> Decimal:
    """Stop a stream after some tokens; return what it truly costs."""
    chance = random.Random(written)
    words = [chance.choice(WORDS) for _ in range(written)]
    body = b"".join(dialect.events([*words, *WORDS]))
    passed = len(b"".join(dialect.events(words)))
    provider.play(Answer(body, headers=SSE, cuts=(8_192,)))
    with app.app_context(), requests.Session() as session:
        session.mount("http://", extension_of(app).adapter())
        with session.post(
            provider.url(dialect.path), json=dialect.request(most), stream=True
        ) as response:
            for chunk in response.iter_content(2_048):
                passed -= len(chunk)
                if passed <= 0:
                    break
    # It writes a few tokens more, before it notices that nobody reads them.
    return dialect.cost(written + chance.randint(0, 16))


def app_of(make_app: MakeApp, provider: Provider, name: str, limit: str) -> Flask:
    return make_app(
        LLM_COST_BUDGETS=[{"name": "x", "limit_usd": limit, "behavior": "block"}],
        LLM_COST_PROVIDER_HOSTS={provider.host: name},
    )


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_budget_cannot_be_avoided_by_cutting_streams(
    make_app: MakeApp, provider: Provider, dialect: Dialect
) -> None:
    app = app_of(make_app, provider, dialect.name, "1")
    true = Decimal(0)
    refused = 0
    for _ in range(60):
        try:
            true += stop(app, provider, dialect, 6_000, 8_000)
        except BudgetExceeded:
            refused += 1
    assert Decimal("0.5") < true <= 1
    assert refused > 40
    with app.app_context():
        assert extension_of(app).flush(60)
    assert sum(counted(app.extensions["llm_cost"].ledger)) <= 1


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_stopped_answers_use_at_most_twice_what_they_cost(
    make_app: MakeApp, provider: Provider, dialect: Dialect
) -> None:
    app = app_of(make_app, provider, dialect.name, "1000")
    chance = random.Random(1)
    true = sum(
        (
            stop(app, provider, dialect, chance.randint(1, 400), 4_000)
            for _ in range(CLICKS // len(DIALECTS) + 1)
        ),
        Decimal(0),
    )
    with app.app_context():
        assert extension_of(app).flush(60)
    spent, reserved, lost, unsettled = counted(app.extensions["llm_cost"].ledger)
    assert (reserved, lost) == (0, 0)
    assert true <= spent + unsettled <= 2 * true
