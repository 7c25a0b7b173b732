"""Requests that are not LLM calls, though they look alike, are never recorded.

Not even with ``LLM_COST_UNLISTED_HOSTS = "record"``, and they pass unchanged.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import random
import typing as t
import urllib.request
from collections.abc import Callable
from collections.abc import Iterator
from importlib.util import find_spec

import aiohttp
import httpx
import httpx2
import pytest
import requests
import urllib3
from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session

from flask_llm_cost.capture import clients
from flask_llm_cost.capture.meter import open_meters
from flask_llm_cost.capture.tap import Tap
from tests.capture.conftest import Book
from tests.capture.sdks.driver import installed
from tests.capture.server import Answer
from tests.capture.server import CHAT_JSON
from tests.capture.server import GEMINI_JSON
from tests.capture.server import MESSAGE_JSON
from tests.capture.server import Provider
from tests.capture.server import sse

PATHS = (
    # Slack, Twilio, Stripe, Discord, Telegram, GitHub, Shopify, Elasticsearch
    "/api/chat.postMessage",
    "/2010-04-01/Accounts/AC0/Messages.json",
    "/v1/charges",
    "/v1/usage_records",
    "/api/v10/channels/1/messages",
    "/bot1:x/sendMessage",
    "/repos/o/r/issues/1/comments",
    "/graphql",
    "/admin/api/2026-07/graphql.json",
    "/index/_search",
    # An app's own API
    "/messages",
    "/v1/messages",
    "/api/v1/messages",
    "/v1/chat/completions",
    "/internal/chat/completions",
    "/v1/responses",
    "/surveys/1/responses",
    "/v1/embeddings",
    "/v1/completions",
    "/courses/1/completions",
    "/v1/images/generations",
    "/models/house:generateContent",
    "/v1/realtime",
    "/rerank",
    "/api/chat",
    "/api/generate",
    "/model/house/converse",
)
ELSEWHERE = tuple(
    path
    for path in PATHS
    if not path.endswith(
        ("chat/completions", "/v1/messages", ":generateContent", "/api/generate")
    )
)
SAID = [{"role": "user", "content": "hello"}]
LLMS: dict[str, tuple[t.Any, t.Any]] = {
    "/v1/chat/completions": (
        {"model": "gpt-4o", "messages": SAID},
        json.loads(CHAT_JSON),
    ),
    "/internal/v1/messages": (
        {"model": "m", "max_tokens": 9, "messages": SAID},
        json.loads(MESSAGE_JSON) | {"role": "assistant"},
    ),
    "/models/house:generateContent": (
        {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]},
        json.loads(GEMINI_JSON),
    ),
    "/api/generate": (
        {"model": "m", "prompt": "hello"},
        {"model": "m", "created_at": "1", "response": "hi", "done": True}
        | {"prompt_eval_count": 5, "eval_count": 2},
    ),
}
"""Paths, requests and answers that together are an LLM call, and no two of which are."""

ASKS: tuple[t.Any, ...] = tuple(ask for ask, _ in LLMS.values())
BODIES: tuple[t.Any, ...] = (
    # Slack, Twilio, Stripe, GraphQL, Discord, a webhook
    {"channel": "C1", "text": "hello", "blocks": [{"type": "section"}]},
    {"To": "+491", "From": "+492", "Body": "hello", "model": "sms"},
    {"amount": 100, "currency": "usd", "usage": {"quantity": 3}},
    {"query": "query { usage { total_tokens } }", "variables": {}},
    {"content": "hello", "embeds": [], "tts": False},
    {"type": "message", "role": "assistant", "content": [], "usage": {"input": 1}},
    # An app's own
    {"model": "Model 3", "messages": [{"role": "driver", "content": "hello"}]},
    {"messages": [{"to": "+491", "body": "hello"}], "stream": True},
    {"messages": [{"role": "user", "content": "hello"}], "thread": 7},
    {"model": "survey", "input": {"question": 1, "answer": "yes"}},
    [1, 2, 3],
    {},
)
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
REPLIES: tuple[t.Any, ...] = tuple(reply for _, reply in LLMS.values())
ANSWERS: tuple[t.Any, ...] = (
    {"ok": True, "message": {"text": "hello"}},
    {"id": "msg_1", "type": "message", "status": "queued", "price": None},
    {"sid": "SM1", "status": "queued", "num_segments": "1", "usage": USAGE},
    {"object": "usage_record", "id": "mbur_1", "quantity": 3, "usage": {"total": 1}},
    {"data": {"usage": {"total_tokens": 7}}},
    {"object": "list", "data": [], "has_more": False},
    {"object": "chat.completion", "choices": [], "usage": USAGE},
    {"id": "chatcmpl-1", "choices": ["a", "b"], "model": "poll", "usage": USAGE},
    {"object": "response", "answers": [1, 2], "usage": USAGE},
    {"object": "response", "output": [], "usage": None},
    {"type": "message", "role": "driver", "content": [], "usage": {"input_tokens": 1}},
    {"candidates": [{"name": "Ada"}], "usageMetadata": {"promptTokenCount": 7}},
    {"model": "3", "response": "yes", "created_at": "2026-11-30", "done": True},
    {"error": {"message": "no", "type": "invalid_request_error"}, "usage": USAGE},
    {"usage": USAGE, "model": "gpt-4o"},
    [],
    "usage",
)
FEEDS = (
    sse({"type": "price", "symbol": "X", "usage": 1}, {"type": "price", "usage": 2}),
    sse({"type": "message", "usage": {"input_tokens": 5}}, "[DONE]", named=False),
    sse({"type": "response.completed", "response": {"survey": 1, "usage": USAGE}}),
    sse({"choices": [{"vote": "a"}], "usage": USAGE}, "[DONE]"),
)
Send: t.TypeAlias = Callable[[str, str, bytes], object]


def _by_requests(method: str, url: str, body: bytes) -> object:
    return requests.request(method, url, data=body).content


def _by_httpx(method: str, url: str, body: bytes) -> object:
    return httpx.request(method, url, content=body, verify=False).content


def _by_httpx2(method: str, url: str, body: bytes) -> object:
    return httpx2.request(method, url, content=body, verify=False).content


def _by_aiohttp(method: str, url: str, body: bytes) -> object:
    async def main() -> bytes:
        async with aiohttp.request(method, url, data=body) as response:
            return await response.read()

    return asyncio.run(main())


def _by_botocore(method: str, url: str, body: bytes) -> object:
    session = URLLib3Session()
    try:
        return session.send(AWSRequest(method, url, data=body).prepare()).content
    finally:
        session.close()


def _by_urllib3(method: str, url: str, body: bytes) -> object:
    return urllib3.request(method, url, body=body).data


def _by_urllib(method: str, url: str, body: bytes) -> object:
    asked = urllib.request.Request(url, body, method=method)
    with urllib.request.urlopen(asked) as response:
        return response.read()


def _by_curl(method: str, url: str, body: bytes) -> object:
    module = importlib.import_module("curl_cffi.requests")
    return module.request(method, url, data=body).content


def _by_niquests(method: str, url: str, body: bytes) -> object:
    return importlib.import_module("niquests").request(method, url, data=body).content


def _by_lm15(method: str, url: str, body: bytes) -> object:
    module = importlib.import_module("lm15.transports")
    with module.StdlibTransport() as transport:
        asked = module.TransportRequest(method, url, [], body, 10)
        with transport.stream(asked) as response:
            return b"".join(response)


SENDS: dict[str, Send] = {
    "requests": _by_requests,
    "httpx": _by_httpx,
    "httpx2": _by_httpx2,
    "aiohttp": _by_aiohttp,
    "botocore": _by_botocore,
    "urllib3": _by_urllib3,
    "http.client": _by_urllib,
    "curl_cffi": _by_curl,
    "niquests": _by_niquests,
    "lm15": _by_lm15,
}


def _kinds(pick: random.Random) -> Iterator[tuple[str, str, t.Any, t.Any]]:
    """Methods, paths, requests and answers, of which one thing at least is different."""
    while True:
        path, (ask, reply) = pick.choice(tuple(LLMS.items()))
        yield "POST", path, ask, pick.choice((*ANSWERS, *FEEDS))
        yield "POST", path, pick.choice(BODIES), reply
        yield "POST", pick.choice(ELSEWHERE), ask, reply
        yield "GET", path, ask, reply
        asked, replied = pick.choice((*ASKS, *BODIES)), pick.choice((*ANSWERS, *FEEDS))
        yield pick.choice(("POST", "GET")), pick.choice(PATHS), asked, replied


def _seen(library: str, provider: Provider) -> list[object]:
    """What a hundred requests look like to the app and to the server."""
    found: list[object] = []
    kinds = _kinds(random.Random(library))
    for method, path, asked, reply in itertools.islice(kinds, 120):
        fed = isinstance(reply, bytes)
        body, answer = json.dumps(asked).encode(), _encoded(reply)
        content = "text/event-stream" if fed else "application/json"
        scene = provider.play(Answer(answer, headers=(("Content-Type", content),)))
        received = SENDS[library](method, provider.url(path), body)
        assert received == answer
        [seen] = scene.requests
        assert seen.body == body
        found.append((seen.method, seen.path, seen.headers))
    return found


def _encoded(reply: t.Any) -> bytes:
    return reply if isinstance(reply, bytes) else json.dumps(reply).encode()


@pytest.fixture
def tap(book: Book) -> Iterator[Tap]:
    """Hosts of the app's own are not those of a provider."""
    tap = Tap(book, hosts={"llm.example.com": "openai"})
    clients.instrument(tap)
    yield tap
    clients.uninstrument()


@pytest.mark.parametrize("library", [*filter(installed, SENDS)])
def test_no_request_to_another_host_is_a_call(
    library: str, provider: Provider, book: Book, tap: Tap
) -> None:
    book.unlisted_hosts = "record"
    captured = _seen(library, provider)
    clients.uninstrument()
    assert captured == _seen(library, provider)
    assert not book.calls
    assert not book.counted
    assert not open_meters()


@pytest.mark.parametrize(
    "path", ["/v1/files", "/v1/models", "/dashboard", "/v1/messages/count_tokens"]
)
def test_free_requests_to_a_provider_are_not_calls(
    path: str, provider: Provider, book: Book, hosts: dict[str, str], tap: Tap
) -> None:
    tap.hosts = hosts
    provider.play(Answer(b"{}"))
    book.unlisted_hosts = "record"
    for library, send in SENDS.items():
        if find_spec(library.partition(".")[0]) is None:
            continue
        send("POST", provider.url(path), b"{}")
    assert not book.attempts
