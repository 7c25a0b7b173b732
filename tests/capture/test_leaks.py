"""Calls do not leak, even if every third answer is never read or closed."""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import socket
import sys
import threading
import typing as t
import urllib.request
from collections import deque
from collections.abc import Callable

import aiohttp
import httpx
import httpx2
import pytest
import requests
import urllib3
from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session

from flask_llm_cost.capture import botocore_session
from flask_llm_cost.capture import clients
from flask_llm_cost.capture.meter import Meter
from flask_llm_cost.capture.meter import open_meters
from flask_llm_cost.capture.tap import Tap
from flask_llm_cost.providers import Exchange
from tests.capture.conftest import Book
from tests.capture.sdks.driver import installed
from tests.capture.server import Answer
from tests.capture.server import CHAT_STREAM
from tests.capture.server import Provider

ASK = {"model": "gpt-4o", "stream": True}
Run: t.TypeAlias = Callable[[Tap, str, int], None]


def _by_requests(tap: Tap, url: str, count: int) -> None:
    with requests.Session() as session:
        clients.wrap(tap, session)
        for number in range(count):
            response = session.post(url, json=ASK, stream=True)
            if number % 3:
                assert response.content
            else:
                next(response.iter_lines())


def _by_httpx(module: t.Any) -> Run:
    def run(tap: Tap, url: str, count: int) -> None:
        with module.Client(verify=False) as client:
            clients.wrap(tap, client)
            for number in range(count):
                request = client.build_request("POST", url, json=ASK)
                response = client.send(request, stream=True)
                if number % 3:
                    assert response.read()
                else:
                    # The pool keeps what is never closed, captured or not.
                    next(response.iter_lines())
                    response.close()

    return run


def _by_async(module: t.Any) -> Run:
    async def calls(tap: Tap, url: str, count: int) -> None:
        async with module.AsyncClient(verify=False) as client:
            clients.wrap(tap, client)
            for number in range(count):
                request = client.build_request("POST", url, json=ASK)
                response = await client.send(request, stream=True)
                if number % 3:
                    assert await response.aread()
                else:
                    await anext(response.aiter_lines())
                    await response.aclose()

    return lambda tap, url, count: asyncio.run(calls(tap, url, count))


def _by_aiohttp(tap: Tap, url: str, count: int) -> None:
    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            clients.wrap(tap, session)
            for number in range(count):
                response = await session.post(url, json=ASK)
                if number % 3:
                    assert await response.read()
                else:
                    await response.content.readline()
                    response.close()

    asyncio.run(main())


def _by_botocore(tap: Tap, url: str, count: int) -> None:
    session = URLLib3Session(
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    )
    botocore_session.wrap(tap, session)
    body = json.dumps(ASK).encode()
    for number in range(count):
        request = AWSRequest("POST", url, data=body, stream_output=True)
        response = session.send(request.prepare())
        if number % 3:
            assert response.content
        else:
            next(response.raw.stream(50))
    session.close()


def _instrumented(name: str, calls: Callable[[str, int], None]) -> Run:
    def run(tap: Tap, url: str, count: int) -> None:
        clients.instrument(tap, [name])
        try:
            calls(url, count)
        finally:
            clients.uninstrument()

    return run


def _by_urllib3(url: str, count: int) -> None:
    with urllib3.PoolManager() as pool:
        for number in range(count):
            response = pool.request("POST", url, json=ASK, preload_content=False)
            if number % 3:
                assert response.data
            else:
                next(response.stream(50))


def _by_urllib(url: str, count: int) -> None:
    for number in range(count):
        response = urllib.request.urlopen(url, json.dumps(ASK).encode())
        if number % 3:
            assert response.read()
        else:
            response.readline()


def _by_curl(url: str, count: int) -> None:
    with importlib.import_module("curl_cffi.requests").Session() as session:
        for number in range(count):
            response = session.post(url, json=ASK, stream=True)
            if number % 3:
                assert b"".join(response.iter_content())
            else:
                next(response.iter_content())
            response.close()


def _by_niquests(url: str, count: int) -> None:
    with importlib.import_module("niquests").Session() as session:
        for number in range(count):
            response = session.post(url, json=ASK, stream=True)
            if number % 3:
                assert response.content
            else:
                next(response.iter_lines())
                response.close()


def _by_lm15(url: str, count: int) -> None:
    module = importlib.import_module("lm15.transports")
    body = json.dumps(ASK).encode()
    with module.StdlibTransport() as transport:
        for number in range(count):
            asked = module.TransportRequest("POST", url, [], body, 10)
            with transport.stream(asked) as response:
                if number % 3:
                    assert b"".join(response)
                else:
                    next(iter(response))


RUNS: dict[str, Run] = {
    "requests": _by_requests,
    "httpx": _by_httpx(httpx),
    "httpx2": _by_httpx(httpx2),
    "httpx async": _by_async(httpx),
    "httpx2 async": _by_async(httpx2),
    "aiohttp": _by_aiohttp,
    "botocore": _by_botocore,
    "urllib3": _instrumented("urllib3", _by_urllib3),
    "http.client": _instrumented("http.client", _by_urllib),
    "curl_cffi": _instrumented("curl_cffi", _by_curl),
    "niquests": _instrumented("niquests", _by_niquests),
    "lm15": _instrumented("lm15", _by_lm15),
}


class Few(Book):
    """A recorder that keeps only the last calls, so that it does not grow."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts = deque(maxlen=9)  # type: ignore[assignment]
        self.calls = deque(maxlen=9)  # type: ignore[assignment]
        self.deferred = deque(maxlen=9)  # type: ignore[assignment]


def _held() -> tuple[int, int]:
    gc.collect()
    kept = [o for o in gc.get_objects() if type(o) in (Meter, Exchange)]
    return len(kept), sys.getallocatedblocks()


def _check(run: Run, provider: Provider, hosts: dict[str, str], count: int) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(100,)))
    provider.scene.requests = deque(maxlen=1)  # type: ignore[assignment]
    tap = Tap(Few(), hosts=hosts)
    check_leaks(lambda calls: run(tap, provider.url(), calls), count)


def check_leaks(run: Callable[[int], object], count: int) -> None:
    """Check that a number of calls leaves nothing behind.

    :param run: Makes as many calls.
    """
    for _ in range(2):
        run(30)
    files = len(os.listdir("/proc/self/fd"))
    growth = []
    # The libraries and servers grow at times, too: a leak would grow each time.
    while not growth or (growth[-1] >= count * 9 // 10 and len(growth) < 3):
        objects, blocks = _held()
        run(count)
        later, grown = _held()
        assert later <= objects
        growth.append(grown - blocks)
    # Less than one block of memory per call.
    assert growth[-1] < count * 9 // 10, growth
    assert len(os.listdir("/proc/self/fd")) <= files + 5
    assert not open_meters()


INSTALLED = [library for library in RUNS if installed(library.partition(" ")[0])]


@pytest.mark.parametrize("library", INSTALLED)
def test_nothing_leaks(library: str, provider: Provider, hosts: dict[str, str]) -> None:
    before = threading.active_count()
    _check(RUNS[library], provider, hosts, 1_000)
    # The server has a thread per open connection.
    assert threading.active_count() <= before + 5


@pytest.mark.stress
@pytest.mark.parametrize("library", INSTALLED)
def test_nothing_leaks_in_many_calls(
    library: str, provider: Provider, hosts: dict[str, str]
) -> None:
    _check(RUNS[library], provider, hosts, 10_000)
