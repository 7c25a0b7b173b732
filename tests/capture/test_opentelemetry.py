"""OpenTelemetry's instrumentation and ours can be switched in any order."""

from __future__ import annotations

import asyncio
import typing as t
from collections.abc import Callable
from collections.abc import Iterator

import aiohttp
import httpx
import httpx2
import pytest
import requests
from botocore.awsrequest import AWSRequest
from botocore.client import BaseClient
from botocore.httpsession import URLLib3Session
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.instrumentation.botocore import BotocoreInstrumentor
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from requests.adapters import HTTPAdapter

from flask_llm_cost.capture import clients
from flask_llm_cost.capture.tap import Tap
from tests.capture.conftest import Book
from tests.capture.server import Answer
from tests.capture.server import CHAT_JSON
from tests.capture.server import Provider

ASK = b'{"model": "gpt-4o"}'


def _by_requests(url: str) -> bytes:
    with requests.Session() as session:
        return session.post(url, data=ASK).content


def _by(module: t.Any) -> Callable[[str], bytes]:
    def send(url: str) -> bytes:
        with module.Client(verify=False) as client:
            return t.cast(bytes, client.post(url, content=ASK).content)

    return send


def _async_by(module: t.Any) -> Callable[[str], bytes]:
    def send(url: str) -> bytes:
        async def main() -> bytes:
            async with module.AsyncClient(verify=False) as client:
                return t.cast(bytes, (await client.post(url, content=ASK)).content)

        return asyncio.run(main())

    return send


def _by_aiohttp(url: str) -> bytes:
    async def main() -> bytes:
        async with aiohttp.ClientSession() as session:
            async with session.post(url, data=ASK) as response:
                return await response.read()

    return asyncio.run(main())


def _by_botocore(url: str) -> bytes:
    session = URLLib3Session()
    try:
        request = AWSRequest("POST", url, data=ASK).prepare()
        return t.cast(bytes, session.send(request).content)
    finally:
        session.close()


LIBRARIES: dict[str, tuple[str, t.Any, Callable[[str], bytes]]] = {
    "requests": ("requests", RequestsInstrumentor, _by_requests),
    "httpx": ("httpx", HTTPXClientInstrumentor, _by(httpx)),
    "httpx async": ("httpx", HTTPXClientInstrumentor, _async_by(httpx)),
    "httpx2": ("httpx2", HTTPX2ClientInstrumentor, _by(httpx2)),
    "httpx2 async": ("httpx2", HTTPX2ClientInstrumentor, _async_by(httpx2)),
    "aiohttp": ("aiohttp", AioHttpClientInstrumentor, _by_aiohttp),
    # Its spans are of API calls, a layer above this send: only ours is checked.
    "botocore": ("botocore", BotocoreInstrumentor, _by_botocore),
}
METHODS: t.Final = (
    (HTTPAdapter, "send"),
    (requests.Session, "send"),
    (httpx.HTTPTransport, "handle_request"),
    (httpx.AsyncHTTPTransport, "handle_async_request"),
    (httpx2.HTTPTransport, "handle_request"),
    (httpx2.AsyncHTTPTransport, "handle_async_request"),
    (aiohttp.ClientSession, "_request"),
    (aiohttp.ClientSession, "__init__"),
    (URLLib3Session, "send"),
    (BaseClient, "_make_api_call"),
)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    before = [vars(owner)[name] for owner, name in METHODS]
    yield InMemorySpanExporter()
    assert [vars(owner)[name] for owner, name in METHODS] == before


@pytest.mark.parametrize(
    "order",
    [
        ("ours", "theirs", "-ours", "-theirs"),
        ("ours", "theirs", "-theirs", "-ours"),
        ("theirs", "ours", "-theirs", "-ours"),
        ("theirs", "ours", "-ours", "-theirs"),
        ("theirs", "ours", "-ours", "ours", "-theirs", "-ours"),
        ("ours", "theirs", "-ours", "ours", "-theirs", "-ours"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("way", LIBRARIES)
def test_both_can_be_switched_in_any_order(
    way: str,
    order: tuple[str, ...],
    provider: Provider,
    book: Book,
    hosts: dict[str, str],
    spans: InMemorySpanExporter,
) -> None:
    name, kind, send = LIBRARIES[way]
    provider.play(Answer(CHAT_JSON))
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    tap = Tap(book, hosts=hosts)
    steps: dict[str, Callable[[], object]] = {
        "ours": lambda: clients.instrument(tap, [name]),
        "-ours": lambda: clients.uninstrument([name]),
        "theirs": lambda: kind().instrument(tracer_provider=tracers),
        "-theirs": lambda: kind().uninstrument(),
    }
    on = set()
    for step in order:
        steps[step]()
        on.discard(step[1:]) if step.startswith("-") else on.add(step)
        book.calls.clear()
        spans.clear()
        assert send(provider.url()) == CHAT_JSON
        assert len(book.calls) == ("ours" in on), (step, on)
        if name != "botocore":
            assert len(spans.get_finished_spans()) == ("theirs" in on), (step, on)
