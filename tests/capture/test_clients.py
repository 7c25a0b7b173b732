"""One client or all in a process: captured once each, and undone in any order."""

from __future__ import annotations

import asyncio
import functools
import importlib
import socket
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import closing

import aiohttp
import anthropic
import boto3
import botocore.exceptions
import httpx
import httpx2
import openai
import pytest
import requests
from botocore.config import Config
from botocore.httpsession import URLLib3Session
from google import genai
from requests.adapters import HTTPAdapter

from flask_llm_cost.capture import clients
from flask_llm_cost.capture.requests_adapter import LlmCostAdapter
from flask_llm_cost.capture.tap import Tap
from flask_llm_cost.checks import INSTRUMENTS
from flask_llm_cost.errors import ConfigError
from tests.capture.conftest import Book
from tests.capture.server import Answer
from tests.capture.server import CHAT_JSON
from tests.capture.server import CHAT_STREAM
from tests.capture.server import GEMINI_JSON
from tests.capture.server import GEMINI_STREAM
from tests.capture.server import MESSAGE_JSON
from tests.capture.server import MESSAGE_STREAM
from tests.capture.server import Provider

ASK = {"model": "gpt-4o", "stream": True}
INSTALLED: t.Final = tuple(
    name
    for name in INSTRUMENTS
    if any(clients._is_installed(m) for m in clients._LIBRARIES[name].modules)
)
METHODS: t.Final = (
    (HTTPAdapter, "send"),
    (httpx.HTTPTransport, "handle_request"),
    (httpx.AsyncHTTPTransport, "handle_async_request"),
    (httpx2.HTTPTransport, "handle_request"),
    (httpx2.AsyncHTTPTransport, "handle_async_request"),
    (aiohttp.ClientSession, "_request"),
    (URLLib3Session, "send"),
)


@pytest.fixture
def tap(book: Book, hosts: dict[str, str]) -> Tap:
    return Tap(book, hosts=hosts)


@pytest.fixture
def instrumented(tap: Tap) -> Iterator[None]:
    """Every library is captured; afterwards the patches are removed."""
    before = [vars(owner)[name] for owner, name in METHODS]
    assert clients.instrument(tap) == INSTALLED
    yield
    clients.uninstrument()
    assert [vars(owner)[name] for owner, name in METHODS] == before


def _by_requests(url: str) -> bytes:
    with requests.Session() as session:
        return session.post(url, json=ASK).content


def _by(module: t.Any, url: str) -> bytes:
    with module.Client(verify=False) as client:
        return t.cast(bytes, client.post(url, json=ASK).content)


def _async_by(module: t.Any, url: str) -> bytes:
    async def main() -> bytes:
        async with module.AsyncClient(verify=False) as client:
            return t.cast(bytes, (await client.post(url, json=ASK)).content)

    return asyncio.run(main())


def _by_aiohttp(url: str) -> bytes:
    async def main() -> bytes:
        async with aiohttp.ClientSession() as session:
            async with session.post(url, json=ASK) as response:
                return await response.read()

    return asyncio.run(main())


SENDS: dict[str, Callable[[str], bytes]] = {
    "requests": _by_requests,
    "httpx": functools.partial(_by, httpx),
    "httpx2": functools.partial(_by, httpx2),
    "httpx async": functools.partial(_async_by, httpx),
    "httpx2 async": functools.partial(_async_by, httpx2),
    "aiohttp": _by_aiohttp,
}


@pytest.mark.parametrize("way", SENDS)
@pytest.mark.usefixtures("instrumented")
def test_every_client_of_the_process_is_captured(
    way: str, provider: Provider, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(50,), encoding="gzip"))
    assert SENDS[way](provider.url()) == CHAT_STREAM
    assert book.call.outcome == "ok"
    assert book.call.usage is not None
    assert book.call.request_model == "gpt-4o"


@pytest.mark.parametrize("way", SENDS)
def test_nothing_is_captured_afterwards(
    way: str, tap: Tap, provider: Provider, book: Book
) -> None:
    provider.play(Answer(CHAT_JSON))
    clients.instrument(tap)
    clients.uninstrument()
    assert SENDS[way](provider.url()) == CHAT_JSON
    assert not book.calls


def test_names_select_libraries(tap: Tap, provider: Provider, book: Book) -> None:
    provider.play(Answer(CHAT_JSON))
    assert clients.instrument(tap, ["httpx2"]) == ("httpx2",)
    for way in ("requests", "httpx", "httpx2"):
        SENDS[way](provider.url())
    clients.uninstrument(["httpx2"])
    assert len(book.calls) == 1


def test_an_unknown_name_is_an_error(tap: Tap) -> None:
    with pytest.raises(
        ConfigError, match="'urllib' cannot be instrumented.*requests, httpx"
    ):
        clients.instrument(tap, ["urllib"])
    with pytest.raises(ConfigError, match="'urllib'"):
        clients.uninstrument(["urllib"])


@pytest.mark.usefixtures("instrumented")
def test_layers_on_top_of_each_other_make_one_record(
    provider: Provider, tap: Tap, book: Book, hosts: dict[str, str]
) -> None:
    provider.play(Answer(CHAT_JSON))
    clients.instrument(tap)
    with requests.Session() as session:
        session.mount("http://", LlmCostAdapter(book, hosts=hosts))
        assert clients.wrap(tap, session) == ("requests",)
        session.post(provider.url(), json=ASK)
    with httpx2.Client(verify=False) as client:
        clients.wrap(tap, client)
        clients.wrap(tap, client)
        client.post(provider.url(), json=ASK)
    assert len(book.calls) == len(book.attempts) == 2


class Wrapper:
    """A method as made by wrapt: a descriptor that must know its instance."""

    def __init__(self, wrapped: t.Any) -> None:
        self.__wrapped__ = wrapped

    def __get__(self, instance: object, owner: type) -> Callable[..., t.Any]:
        assert instance is not None, "called without its instance"
        return t.cast("Callable[..., t.Any]", self.__wrapped__.__get__(instance, owner))


class Other:
    """Another library's instrumentation, independent of ours."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def on(self) -> None:
        self.found = found = vars(HTTPAdapter)["send"]

        @functools.wraps(found)
        def send(*args: t.Any, **kwargs: t.Any) -> t.Any:
            return found(*args, **kwargs)

        theirs = send if self.kind == "function" else Wrapper(found)
        HTTPAdapter.send = theirs  # type: ignore[method-assign, assignment]

    def off(self) -> None:
        HTTPAdapter.send = self.found  # type: ignore[method-assign]


@pytest.fixture(params=["function", "descriptor"])
def other(request: pytest.FixtureRequest) -> Iterator[Other]:
    plain = vars(HTTPAdapter)["send"]
    yield Other(request.param)
    clients.uninstrument(["requests"])
    assert vars(HTTPAdapter)["send"] is plain


def test_patches_on_top_may_be_removed_later(
    tap: Tap, provider: Provider, book: Book, other: Other
) -> None:
    provider.play(Answer(CHAT_JSON))
    clients.instrument(tap, ["requests"])
    other.on()
    clients.uninstrument(["requests"])
    _by_requests(provider.url())
    other.off()
    _by_requests(provider.url())
    assert not book.calls
    clients.instrument(tap, ["requests"])
    _by_requests(provider.url())
    assert len(book.calls) == 1


def test_patches_below_may_be_removed_first(
    tap: Tap, provider: Provider, book: Book, other: Other
) -> None:
    provider.play(Answer(CHAT_JSON))
    other.on()
    clients.instrument(tap, ["requests"])
    _by_requests(provider.url())
    other.off()
    _by_requests(provider.url())
    assert len(book.calls) == 1
    clients.instrument(tap, ["requests"])
    _by_requests(provider.url())
    assert len(book.calls) == 2


def test_patches_on_top_stay_when_ours_is_switched_again(
    tap: Tap, provider: Provider, book: Book, other: Other
) -> None:
    provider.play(Answer(CHAT_JSON))
    clients.instrument(tap, ["requests"])
    other.on()
    theirs = vars(HTTPAdapter)["send"]
    clients.uninstrument(["requests"])
    clients.instrument(tap, ["requests"])
    assert vars(HTTPAdapter)["send"] is theirs
    _by_requests(provider.url())
    assert len(book.calls) == 1
    other.off()


def test_a_session_keeps_its_adapters(tap: Tap, provider: Provider, book: Book) -> None:
    provider.play(Answer(CHAT_JSON))
    with requests.Session() as session:
        session.mount("http://127.0.0.1", HTTPAdapter(max_retries=3))
        prefixes = list(session.adapters)
        assert clients.wrap(tap, session) == ("requests",)
        assert list(session.adapters) == prefixes
        session.post(provider.url(), json=ASK)
    assert book.call.usage is not None


def test_an_object_without_a_client_is_an_error(tap: Tap) -> None:
    with pytest.raises(
        ConfigError, match=r"No HTTP client .* in this dict.*instrument"
    ):
        clients.wrap(tap, {})


def test_aiohttp_sessions_can_be_wrapped(
    tap: Tap, provider: Provider, book: Book
) -> None:
    provider.play(Answer(CHAT_JSON))

    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            assert clients.wrap(tap, session) == ("aiohttp",)
            async with session.post(provider.url(), json=ASK) as response:
                await response.read()

    asyncio.run(main())
    assert book.call.usage is not None


MESSAGES: t.Any = [{"role": "user", "content": "hello"}]


def _openai(provider: Provider) -> openai.OpenAI:
    return openai.OpenAI(
        api_key="k", base_url=provider.url("/v1"), max_retries=2, timeout=5
    )


def test_the_openai_sdk_is_captured(tap: Tap, provider: Provider, book: Book) -> None:
    with _openai(provider) as client:
        assert clients.wrap(tap, client) == ("httpx2",)
        provider.play(Answer(CHAT_JSON))
        answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        assert answer.usage is not None
        assert book.call.usage is not None
        assert book.call.usage.total_tokens == answer.usage.total_tokens == 120
        provider.play(Answer(CHAT_STREAM, cuts=(40,)))
        stream = client.chat.completions.create(
            model="gpt-4o", messages=MESSAGES, stream=True
        )
        assert len(list(stream)) == 13
    assert [call.outcome for call in book.calls] == ["ok", "ok"]
    assert book.calls[1].usage == book.calls[0].usage
    assert book.calls[1].stream


def test_each_retry_of_the_openai_sdk_is_an_attempt(
    tap: Tap, provider: Provider, book: Book
) -> None:
    busy = Answer(b"{}", status=429, headers=(("retry-after-ms", "1"),))
    provider.play(busy, busy, Answer(CHAT_JSON))
    with _openai(provider) as client:
        clients.wrap(tap, client)
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert [call.http_status for call in book.calls] == [429, 429, 200]
    assert [call.outcome for call in book.calls] == ["http_error", "http_error", "ok"]


@pytest.mark.usefixtures("instrumented")
def test_an_sdk_over_every_captured_layer_makes_one_record_per_attempt(
    tap: Tap, provider: Provider, book: Book, hosts: dict[str, str]
) -> None:
    """An SDK whose client sends through a session, with both captured."""
    busy = Answer(b"{}", status=429, headers=(("retry-after-ms", "1"),))
    provider.play(busy, Answer(CHAT_JSON))

    class Through(httpx2.BaseTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            got = session.post(str(request.url), data=request.read())
            return httpx2.Response(got.status_code, content=got.content)

    with requests.Session() as session:
        session.mount("http://", LlmCostAdapter(book, hosts=hosts))
        clients.wrap(tap, session)
        http_client = httpx2.Client(transport=Through())
        with openai.OpenAI(
            api_key="k", base_url=provider.url("/v1"), http_client=http_client
        ) as client:
            clients.wrap(tap, client)
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert [call.http_status for call in book.calls] == [429, 200]
    assert len(provider.scene.requests) == len(book.attempts) == 2


def test_the_async_openai_sdk_is_captured(
    tap: Tap, provider: Provider, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(40,)))

    async def main() -> int:
        async with openai.AsyncOpenAI(
            api_key="k", base_url=provider.url("/v1")
        ) as client:
            clients.wrap(tap, client)
            stream = await client.chat.completions.create(
                model="gpt-4o", messages=MESSAGES, stream=True
            )
            return len([chunk async for chunk in stream])

    assert asyncio.run(main()) == 13
    assert book.call.outcome == "ok"
    assert book.call.usage is not None


def test_the_anthropic_sdk_is_captured(
    tap: Tap, provider: Provider, book: Book, hosts: dict[str, str]
) -> None:
    hosts[provider.host] = "anthropic"
    with anthropic.Anthropic(api_key="k", base_url=provider.url("")) as client:
        assert clients.wrap(tap, client) == ("httpx2",)
        provider.play(Answer(MESSAGE_JSON))
        client.messages.create(model="claude", messages=MESSAGES, max_tokens=9)
        provider.play(Answer(MESSAGE_STREAM, cuts=(30,)))
        with client.messages.create(
            model="claude", messages=MESSAGES, max_tokens=9, stream=True
        ) as stream:
            events = [event.type for event in stream]
    assert events[-1] == "message_stop"
    assert [call.outcome for call in book.calls] == ["ok", "ok"]
    assert book.calls[0].usage == book.calls[1].usage
    assert book.calls[0].provider == "anthropic"


def _genai(provider: Provider) -> genai.Client:
    options = genai.types.HttpOptions(base_url=provider.url(""))
    return genai.Client(api_key="k", http_options=options)


def test_the_google_sdk_is_captured(
    tap: Tap, provider: Provider, book: Book, hosts: dict[str, str]
) -> None:
    hosts[provider.host] = "gemini"
    with _genai(provider) as client:
        assert clients.wrap(tap, client) == ("httpx2",)
        provider.play(Answer(GEMINI_JSON))
        client.models.generate_content(model="gemini-2.5-flash", contents="hello")
        provider.play(Answer(GEMINI_STREAM, cuts=(30,)))
        stream = client.models.generate_content_stream(
            model="gemini-2.5-flash", contents="hello"
        )
        assert list(stream)
    assert [call.outcome for call in book.calls] == ["ok", "ok"]
    assert [call.usage_source for call in book.calls] == ["response", "stream_final"]


@pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")
@pytest.mark.parametrize("by_aiohttp", [True, False])
def test_the_async_google_sdk_is_captured(
    by_aiohttp: bool,
    tap: Tap,
    provider: Provider,
    book: Book,
    hosts: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("google.genai._api_client.has_aiohttp", by_aiohttp)
    hosts[provider.host] = "gemini"
    provider.play(Answer(GEMINI_STREAM, cuts=(30,)))

    async def main(client: genai.Client) -> int:
        stream = await client.aio.models.generate_content_stream(
            model="gemini-2.5-flash", contents="hello"
        )
        count = len([chunk async for chunk in stream])
        await client.aio.aclose()
        return count

    with _genai(provider) as client:
        clients.wrap(tap, client)
        assert asyncio.run(main(client)) == 1
    assert book.call.outcome == "ok"
    assert book.call.usage is not None


CONVERSE: t.Final = (
    b'{"output": {"message": {"role": "assistant", "content": [{"text": "hello"}]}},'
    b' "stopReason": "end_turn", "metrics": {"latencyMs": 1},'
    b' "usage": {"inputTokens": 60, "outputTokens": 20, "totalTokens": 120,'
    b' "cacheReadInputTokens": 40}}'
)


def _bedrock(url: str) -> t.Any:
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="id",
        aws_secret_access_key="key",
        config=Config(retries={"max_attempts": 2, "mode": "standard"}),
    )


@pytest.fixture
def bedrock(provider: Provider, hosts: dict[str, str]) -> Iterator[t.Any]:
    hosts[provider.host] = "bedrock"
    with closing(_bedrock(provider.url(""))) as client:
        yield client


def _converse(client: t.Any) -> t.Any:
    messages = [{"role": "user", "content": [{"text": "hello"}]}]
    return client.converse(modelId="amazon.nova-lite-v1:0", messages=messages)


def test_each_retry_of_boto3_is_an_attempt(
    tap: Tap, provider: Provider, bedrock: t.Any, book: Book
) -> None:
    assert clients.wrap(tap, bedrock) == ("botocore",)
    busy = Answer(b'{"message": "slow down"}', status=429)
    provider.play(busy, Answer(CONVERSE))
    assert _converse(bedrock)["usage"]["inputTokens"] == 60
    assert [call.http_status for call in book.calls] == [429, 200]
    call = book.calls[1]
    assert (call.provider, call.model) == ("bedrock", "amazon.nova-lite-v1:0")
    assert call.usage is not None
    assert call.usage.total_tokens == 120


@pytest.mark.usefixtures("instrumented")
def test_a_bedrock_call_whose_answer_breaks_off_fails(
    provider: Provider, bedrock: t.Any, book: Book
) -> None:
    provider.play(Answer(CONVERSE, dies_after=0))
    _converse(bedrock)
    assert book.call.outcome == "failed"


@pytest.mark.usefixtures("instrumented")
def test_each_refused_connection_of_a_bedrock_call_is_a_record(
    book: Book, hosts: dict[str, str]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        hosts[host] = "bedrock"
        with (
            closing(_bedrock(f"http://{host}")) as client,
            pytest.raises(botocore.exceptions.EndpointConnectionError),
        ):
            _converse(client)
    assert [call.outcome for call in book.calls] == ["no_response"] * 3


@pytest.mark.parametrize("name", INSTALLED)
def test_a_library_that_cannot_be_captured_is_skipped(
    name: str,
    tap: Tap,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(library: str) -> t.Any:
        if library == name:
            raise ImportError("it has another layout")
        return transport(library)

    transport = clients._transport
    monkeypatch.setattr(clients, "_transport", broken)
    monkeypatch.setattr(clients, "_patches", {})
    for module in clients._LIBRARIES[name].modules:
        if clients._is_installed(module):
            importlib.import_module(module)
    found = clients.instrument(tap)
    assert name not in clients.ways() or "instrument" not in clients.ways()[name]
    clients.uninstrument()
    assert set(found) == set(INSTALLED) - {name}
    assert f"This version of {name} cannot be captured" in caplog.text


def test_a_library_that_is_not_installed_is_skipped(
    tap: Tap, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    missing = clients._Library("requests_adapter", ("missing_client.session",))
    monkeypatch.setitem(clients._LIBRARIES, "httpx", missing)
    found = clients.instrument(tap)
    clients.uninstrument()
    assert set(found) == set(INSTALLED) - {"httpx"}
    assert not caplog.text
