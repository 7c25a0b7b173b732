"""Every client library shows whose account it sends with."""

from __future__ import annotations

import asyncio
import http.client
import json
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from importlib.util import find_spec

import aiohttp
import httpx
import pytest
import requests
import urllib3
from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session

from flask_llm_cost.capture import clients
from flask_llm_cost.capture.tap import Tap
from flask_llm_cost.scope import digest_of
from tests.capture.conftest import Book
from tests.capture.server import Answer
from tests.capture.server import CHAT_JSON
from tests.capture.server import Provider

ASK = json.dumps({"model": "gpt-4o"}).encode()
SECRET = "sk-proj-secret-of-a-test"
HEADERS = {"Authorization": f"Bearer {SECRET}", "OpenAI-Project": "proj_1"}
ANSWERED = (("OpenAI-Organization", "org-1"),)


@pytest.fixture
def instrumented(book: Book, provider: Provider) -> Iterator[None]:
    names = [name for name in clients.INSTRUMENTS if find_spec(name.partition(".")[0])]
    clients.instrument(Tap(book, hosts={provider.host: "openai"}), names)
    yield
    clients.uninstrument(clients.INSTRUMENTS)


def _requests(url: str) -> t.Any:
    return requests.post(url, ASK, headers=HEADERS, timeout=10).content


def _session(url: str) -> t.Any:
    with requests.Session() as session:
        session.headers.update(HEADERS)
        return session.post(url, ASK, timeout=10).content


def _httpx(url: str) -> t.Any:
    with httpx.Client(headers=HEADERS) as client:
        return client.post(url, content=ASK).content


def _httpx_async(url: str) -> t.Any:
    async def main() -> bytes:
        async with httpx.AsyncClient(headers=HEADERS) as client:
            return (await client.post(url, content=ASK)).content

    return asyncio.run(main())


def _aiohttp(url: str) -> t.Any:
    async def main() -> bytes:
        project = {"OpenAI-Project": "proj_1"}
        key = {"Authorization": HEADERS["Authorization"]}
        async with aiohttp.ClientSession(headers=project) as session:
            async with session.post(url, data=ASK, headers=key) as response:
                return await response.read()

    return asyncio.run(main())


def _botocore(url: str) -> t.Any:
    asked = AWSRequest("POST", url, headers=HEADERS, data=ASK)
    return URLLib3Session().send(asked.prepare()).content


def _urllib3(url: str) -> t.Any:
    with urllib3.PoolManager(headers=HEADERS) as pool:
        return pool.request("POST", url, body=ASK).data


def _http_client(url: str) -> t.Any:
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("POST", f"/{path}", ASK, HEADERS)
    body = connection.getresponse().read()
    connection.close()
    return body


def _curl_cffi(url: str) -> t.Any:
    curl_cffi = pytest.importorskip("curl_cffi")
    with curl_cffi.Session(headers=HEADERS) as session:
        return session.post(url, data=ASK, timeout=10).content


def _lm15(url: str) -> t.Any:
    module = pytest.importorskip("lm15.transports")
    asked = module.TransportRequest("POST", url, [*HEADERS.items()], ASK, 10)
    with module.StdlibTransport() as transport, transport.stream(asked) as response:
        return b"".join(response)


SENDERS = (
    *(_requests, _session, _httpx, _httpx_async, _aiohttp, _botocore),
    *(_urllib3, _http_client, _curl_cffi, _lm15),
)


@pytest.mark.parametrize("send", SENDERS)
@pytest.mark.usefixtures("instrumented")
def test_each_library_shows_the_scope(
    send: Callable[[str], t.Any], book: Book, provider: Provider
) -> None:
    provider.play(Answer(CHAT_JSON, headers=ANSWERED))
    assert send(provider.url()) == CHAT_JSON
    assert book.call.scope == "organization=org-1 project=proj_1"
    assert book.call.key_digest == digest_of(SECRET)
    assert SECRET not in repr(book.call)
    assert digest_of(SECRET) not in repr(book.call)
