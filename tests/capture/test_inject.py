"""``LLM_COST_INJECT_STREAM_USAGE``: a stream is asked for its usage; nothing else changes."""

from __future__ import annotations

import asyncio
import functools
import json
import typing as t
from collections.abc import AsyncIterator
from collections.abc import Callable
from collections.abc import Iterator

import aiohttp
import httpx
import httpx2
import openai
import pytest
import requests
from requests.auth import HTTPDigestAuth

from flask_llm_cost.capture import clients
from flask_llm_cost.capture.requests_adapter import LlmCostAdapter
from flask_llm_cost.capture.tap import Tap
from tests.capture.conftest import Book
from tests.capture.server import Answer
from tests.capture.server import CHAT_STREAM
from tests.capture.server import Provider
from tests.capture.server import Scene
from tests.conftest import MakeApp

BODY = b'{"model": "gpt-4o", "messages": [{"content": "gr\xc3\xbc\xc3\x9fe"}], "stream": true}'
ASKING = BODY[:-1] + b',"stream_options":{"include_usage":true}}'


def _by_requests(tap: Tap | None, url: str, body: t.Any) -> t.Any:
    with requests.Session() as session:
        if tap is not None:
            clients.wrap(tap, session)
        return session.post(url, data=body).content


def _by(module: t.Any, tap: Tap | None, url: str, body: t.Any) -> t.Any:
    with module.Client(verify=False) as client:
        if tap is not None:
            clients.wrap(tap, client)
        return client.post(url, content=body).content


def _async_by(module: t.Any, tap: Tap | None, url: str, body: t.Any) -> t.Any:
    async def main() -> t.Any:
        async with module.AsyncClient(verify=False) as client:
            if tap is not None:
                clients.wrap(tap, client)
            content = _steps(body) if isinstance(body, Iterator) else body
            return (await client.post(url, content=content)).content

    return asyncio.run(main())


async def _steps(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _by_aiohttp(tap: Tap | None, url: str, body: t.Any, **options: t.Any) -> t.Any:
    async def main() -> t.Any:
        async with aiohttp.ClientSession() as session:
            if tap is not None:
                clients.wrap(tap, session)
            data = _steps(body) if isinstance(body, Iterator) else body
            async with session.post(url, data=data, **options) as response:
                return await response.read()

    return asyncio.run(main())


SENDS: dict[str, Callable[[Tap | None, str, t.Any], t.Any]] = {
    "requests": _by_requests,
    "httpx": functools.partial(_by, httpx),
    "httpx2": functools.partial(_by, httpx2),
    "httpx async": functools.partial(_async_by, httpx),
    "httpx2 async": functools.partial(_async_by, httpx2),
    "aiohttp": _by_aiohttp,
}
BODIES: dict[str, tuple[Callable[[], t.Any], bytes]] = {
    "bytes": (lambda: BODY, ASKING),
    "text": (BODY.decode, ASKING),
    "not in memory": (lambda: iter([BODY[:20], BODY[20:]]), BODY),
    "not streamed": (
        lambda: BODY.replace(b"true", b"false"),
        BODY.replace(b"true", b"false"),
    ),
    "said already": (
        lambda: ASKING.replace(b":true", b":false"),
        ASKING.replace(b":true", b":false"),
    ),
    "no JSON": (lambda: b'{"stream": true, ', b'{"stream": true, '),
}


@pytest.fixture
def tap(book: Book, hosts: dict[str, str]) -> Tap:
    book.injects = True
    return Tap(book, hosts=hosts)


@pytest.fixture
def scene(provider: Provider) -> Scene:
    return provider.play(Answer(CHAT_STREAM, cuts=(50,)))


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("way", SENDS)
def test_a_request_differs_only_by_the_added_option(
    way: str, kind: str, tap: Tap, scene: Scene, provider: Provider, book: Book
) -> None:
    make, sent = BODIES[kind]
    send = SENDS[way]
    assert send(tap, provider.url(), make()) == send(None, provider.url(), make())
    ours, theirs = scene.requests
    assert (ours.body, theirs.body) == (sent, b"".join(_as_bytes(make())))
    lengths = [seen.headers.pop("Content-Length", None) for seen in (ours, theirs)]
    assert lengths == [
        None if length is None else str(len(seen.body))
        for seen, length in zip((ours, theirs), lengths, strict=True)
    ]
    assert list(ours.headers.items()) == list(theirs.headers.items())
    assert book.call.outcome == "ok"


def _as_bytes(body: t.Any) -> list[bytes]:
    if isinstance(body, str):
        return [body.encode()]
    return [body] if isinstance(body, bytes) else list(body)


@pytest.mark.parametrize("way", SENDS)
def test_the_option_is_not_added_where_it_is_set_or_unsupported(
    way: str, scene: Scene, provider: Provider, book: Book, hosts: dict[str, str]
) -> None:
    SENDS[way](Tap(book, hosts=hosts), provider.url(), BODY)
    book.injects = True
    hosts[provider.host] = "mistral"
    SENDS[way](Tap(book, hosts=hosts), provider.url(), BODY)
    assert [seen.body for seen in scene.requests] == [BODY] * 2
    assert len(book.calls) == 2


def test_json_of_aiohttp_is_encoded_by_the_session(
    tap: Tap, scene: Scene, provider: Provider
) -> None:
    asked = {"model": "gpt-4o", "stream": True, "stream_options": {"x": 1}}
    _by_aiohttp(tap, provider.url(), None, json=asked)
    assert json.loads(scene.requests[0].body) == {
        **asked,
        "stream_options": {"x": 1, "include_usage": True},
    }
    assert asked["stream_options"] == {"x": 1}


@pytest.mark.parametrize("as_pairs", [False, True])
def test_a_content_length_given_to_aiohttp_is_adjusted(
    as_pairs: bool, tap: Tap, scene: Scene, provider: Provider
) -> None:
    given = {"content-length": str(len(BODY)), "X-Own": "1"}
    headers = list(given.items()) if as_pairs else given
    _by_aiohttp(tap, provider.url(), BODY, headers=headers)
    [seen] = scene.requests
    assert seen.body == ASKING
    assert seen.headers["X-Own"] == "1"
    assert given["content-length"] == str(len(BODY))


def test_the_app_keeps_the_request_it_prepared(
    tap: Tap, scene: Scene, provider: Provider, book: Book
) -> None:
    prepared = requests.Request("POST", provider.url(), data=BODY).prepare()
    request = httpx2.Request("POST", provider.url(), content=BODY)
    with requests.Session() as session, httpx2.Client(verify=False) as client:
        clients.wrap(tap, session)
        clients.wrap(tap, client)
        for _ in range(2):
            assert session.send(prepared).request is prepared
            response = client.send(request)
    assert prepared.body == request.content == response.request.content == BODY
    assert prepared.headers["Content-Length"] == str(len(BODY))
    assert [seen.body for seen in scene.requests] == [ASKING] * 4


def test_the_second_request_of_an_authentication_has_the_option_once(
    tap: Tap, provider: Provider, book: Book
) -> None:
    challenge = 'Digest realm="r", nonce="n", qop="auth"'
    refusal = Answer(b"no", status=401, headers=(("WWW-Authenticate", challenge),))
    scene = provider.play(refusal, Answer(CHAT_STREAM))
    with requests.Session() as session:
        session.mount("http://", LlmCostAdapter(book, hosts=tap.hosts))
        session.auth = HTTPDigestAuth("user", "password")
        assert session.post(provider.url(), data=BODY).ok
    assert [seen.body for seen in scene.requests] == [ASKING, ASKING]


@pytest.mark.parametrize("asks", [True, False])
def test_the_openai_sdk_gets_one_additional_chunk(
    asks: bool, make_app: MakeApp, provider: Provider
) -> None:
    """The setting works, from an app's config to the provider."""
    scene = provider.play(Answer(CHAT_STREAM, cuts=(40,)))
    app = make_app(
        LLM_COST_INJECT_STREAM_USAGE=asks,
        LLM_COST_PROVIDER_HOSTS={provider.host: "openai"},
    )
    llm_cost = app.extensions["llm_cost"].extension
    with (
        app.app_context(),
        openai.OpenAI(api_key="k", base_url=provider.url("/v1")) as client,
    ):
        stream = llm_cost.wrap(client).chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "x"}], stream=True
        )
        assert [len(chunk.choices) for chunk in stream][-2:] == [1, 0]
    body = json.loads(scene.requests[0].body)
    assert body.get("stream_options") == ({"include_usage": True} if asks else None)
    with requests.Session() as session, app.app_context():
        session.mount("http://", llm_cost.adapter())
        session.post(provider.url(), data=BODY)
    assert scene.requests[1].body == (ASKING if asks else BODY)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"gpt-4o","stream":true,}',
        b'{"model":"gpt-4o","stream":true} trailing}',
        b'{"model":"gpt-4o","stream":true,"messages":[}',
    ],
)
def test_a_body_that_is_not_json_is_sent_unchanged(
    body: bytes, tap: Tap, scene: Scene, provider: Provider
) -> None:
    SENDS["requests"](tap, provider.url(), body)
    assert [seen.body for seen in scene.requests] == [body]
