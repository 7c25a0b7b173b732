"""HTTP libraries that may be installed: curl_cffi, lm15 and niquests.

niquests replaces urllib3, so its tests run only in an environment of its own.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import threading
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from flask_llm_cost.capture import clients
from flask_llm_cost.capture.tap import Tap
from flask_llm_cost.errors import UnknownPrice
from tests.capture.conftest import Book
from tests.capture.server import Answer
from tests.capture.server import CHAT_JSON
from tests.capture.server import CHAT_STREAM
from tests.capture.server import Provider

ASK = {"model": "gpt-4o", "stream": True}
Stop: t.TypeAlias = int | None
Send: t.TypeAlias = Callable[[t.Any, str, Stop], t.Any]
"""Sends a call with a module, and reads its body, or only the first pieces."""


def _plain(module: t.Any, url: str, stop: Stop) -> t.Any:
    with module.Session() as session:
        response = session.post(url, json=ASK, timeout=10)
        return response.status_code, response.content


def _streamed(module: t.Any, url: str, stop: Stop) -> t.Any:
    with module.Session() as session:
        response = session.post(url, json=ASK, stream=True, timeout=10)
        found = []
        for piece in response.iter_content():
            found.append(piece)
            if len(found) == stop:
                break
        response.close()
        return response.status_code, b"".join(found)


def _async(main: Callable[..., t.Any]) -> Send:
    return lambda module, url, stop: asyncio.run(main(module, url, stop))


async def _plain_async(module: t.Any, url: str, stop: Stop) -> t.Any:
    async with module.AsyncSession() as session:
        response = await session.post(url, json=ASK, timeout=10)
        return response.status_code, response.content


async def _curl_streamed(module: t.Any, url: str, stop: Stop) -> t.Any:
    async with module.AsyncSession() as session:
        response = await session.post(url, json=ASK, stream=True, timeout=10)
        found = []
        async for piece in response.aiter_content():
            found.append(piece)
            if len(found) == stop:
                break
        await response.aclose()
        return response.status_code, b"".join(found)


async def _niquests_streamed(module: t.Any, url: str, stop: Stop) -> t.Any:
    async with module.AsyncSession() as session:
        response = await session.post(url, json=ASK, stream=True, timeout=10)
        found = []
        async for piece in await response.iter_content(50):
            found.append(piece)
            if len(found) == stop:
                break
        await response.close()
        return response.status_code, b"".join(found)


def _request(module: t.Any, url: str) -> t.Any:
    headers = [("Content-Type", "application/json")]
    return module.TransportRequest("POST", url, headers, json.dumps(ASK).encode(), 10)


def _lm15(module: t.Any, url: str, stop: Stop) -> t.Any:
    with module.StdlibTransport() as transport:
        with transport.stream(_request(module, url)) as response:
            found = []
            for piece in response:
                found.append(piece)
                if len(found) == stop:
                    break
            return response.status, b"".join(found)


async def _lm15_async(module: t.Any, url: str, stop: Stop) -> t.Any:
    async with module.StdlibAsyncTransport() as transport:
        async with transport.stream(_request(module, url)) as response:
            found = []
            async for piece in response:
                found.append(piece)
                if len(found) == stop:
                    break
            return response.status, b"".join(found)


SENDS: dict[str, tuple[str, Send]] = {
    "niquests": ("niquests", _plain),
    "niquests streamed": ("niquests", _streamed),
    "niquests async": ("niquests", _async(_plain_async)),
    "niquests async streamed": ("niquests", _async(_niquests_streamed)),
    "curl_cffi": ("curl_cffi.requests", _plain),
    "curl_cffi streamed": ("curl_cffi.requests", _streamed),
    "curl_cffi async": ("curl_cffi.requests", _async(_plain_async)),
    "curl_cffi async streamed": ("curl_cffi.requests", _async(_curl_streamed)),
    "lm15 streamed": ("lm15.transports", _lm15),
    "lm15 async streamed": ("lm15.transports", _async(_lm15_async)),
}


def _here(module: str) -> bool:
    """Whether to test a library: niquests only if this environment is for it."""
    name = module.partition(".")[0]
    return name != "niquests" or find_spec(name) is not None


KINDS = [kind for kind, (module, _) in SENDS.items() if _here(module)]
STREAMS = [kind for kind in KINDS if "streamed" in kind]


@pytest.fixture(params=KINDS)
def send(request: pytest.FixtureRequest) -> Callable[[str, Stop], t.Any]:
    name, call = SENDS[request.param]
    module = importlib.import_module(name)

    def sending(url: str, stop: Stop = None) -> t.Any:
        try:
            return call(module, url, stop)
        except Exception as error:
            return type(error), str(error).partition(" (0x")[0]

    return sending


@pytest.fixture
def tap(book: Book, hosts: dict[str, str]) -> Iterator[Tap]:
    tap = Tap(book, hosts=hosts)
    clients.instrument(tap)
    yield tap
    clients.uninstrument()


SCENES: dict[str, tuple[Answer, str, bool]] = {
    "whole": (Answer(CHAT_JSON), "ok", True),
    "streamed": (Answer(CHAT_STREAM, cuts=(40,)), "ok", True),
    "gzip": (Answer(CHAT_STREAM, cuts=(40,), encoding="gzip"), "ok", True),
    "refused": (Answer(b'{"error": {}}', status=429), "http_error", False),
    "cut": (Answer(CHAT_STREAM, cuts=(40,), dies_after=200), "failed", False),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scene", SCENES)
def test_an_app_sees_what_it_would_see_without_us(
    scene: str, send: t.Any, provider: Provider, book: Book, hosts: dict[str, str]
) -> None:
    answer, outcome, used = SCENES[scene]
    bare = provider.play(answer)
    expected = send(provider.url())
    played = provider.play(answer)
    clients.instrument(Tap(book, hosts=hosts))
    try:
        found = send(provider.url())
    finally:
        clients.uninstrument()
    if scene != "cut":
        # curl counts the bytes that it still expects.
        assert found == expected
    assert found[0] == expected[0]
    assert played.requests == bare.requests
    call = book.call
    assert (call.outcome, call.request_model) == (outcome, "gpt-4o")
    assert (call.usage is not None and call.usage.total_tokens == 120) is used


@pytest.mark.filterwarnings("ignore")
def test_a_budget_stops_the_call_before_it_is_sent(
    send: t.Any, provider: Provider, book: Book, tap: Tap
) -> None:
    scene = provider.play(Answer(CHAT_JSON))
    book.forbids = UnknownPrice("openai", "gpt-9")
    assert send(provider.url())[0] is UnknownPrice
    assert not scene.requests


@pytest.mark.filterwarnings("ignore")
def test_a_refused_connection_is_a_record(
    send: t.Any, hosts: dict[str, str], book: Book, tap: Tap
) -> None:
    hosts["127.0.0.1:9"] = "openai"
    assert issubclass(send("http://127.0.0.1:9/v1/chat/completions")[0], Exception)
    assert book.call.outcome == "no_response"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("send", STREAMS, indirect=True)
def test_a_stream_that_is_stopped_early_interrupts(
    send: t.Any, provider: Provider, book: Book, tap: Tap
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(40,), dies_after=300, hangs=True))
    # A client may wait for the next bytes before it closes.
    release = threading.Timer(1, provider.released.set)
    release.start()
    read = send(provider.url(), 1)
    release.cancel()
    provider.released.set()
    gc.collect()
    assert read[0] == 200
    assert book.call.outcome == "interrupted"


@pytest.mark.parametrize("name", sorted({SENDS[kind][0] for kind in KINDS}))
def test_patches_are_undone(name: str, book: Book, hosts: dict[str, str]) -> None:
    importlib.import_module(name)
    tap = Tap(book, hosts=hosts)
    clients.instrument(tap)
    made = [patch for patch in clients._patches.get(name, ())]
    assert made
    assert all(patch._installed() for patch in made)
    clients.uninstrument()
    assert not any(patch._installed() for patch in made)
