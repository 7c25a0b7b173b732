"""httpx and httpx2, sync and async: the same bytes and errors, one call each."""

from __future__ import annotations

import asyncio
import copy
import gc
import importlib
import json
import socket
import typing as t
from collections.abc import AsyncIterator
from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Iterator

import openai
import pytest
from hypothesis import given
from hypothesis import HealthCheck
from hypothesis import settings
from hypothesis import strategies as st

from flask_llm_cost.capture import httpx_transport
from flask_llm_cost.capture.suppression import suppress
from flask_llm_cost.capture.tap import Tap
from flask_llm_cost.errors import ConfigError
from flask_llm_cost.errors import UnknownPrice
from tests.capture.conftest import Book
from tests.capture.server import Answer
from tests.capture.server import Case
from tests.capture.server import CASES
from tests.capture.server import CHAT_JSON
from tests.capture.server import CHAT_STREAM
from tests.capture.server import ENCODED
from tests.capture.server import ENCODINGS
from tests.capture.server import Provider
from tests.capture.test_requests import check

ASK = {"model": "gpt-4o", "stream": True}
Module: t.TypeAlias = t.Any


@pytest.fixture(params=["httpx", "httpx2"])
def module(request: pytest.FixtureRequest) -> Module:
    return importlib.import_module(request.param)


@pytest.fixture
def tap(book: Book, hosts: dict[str, str]) -> Tap:
    return Tap(book, hosts=hosts)


@pytest.fixture
def client(module: Module, tap: Tap) -> Iterator[t.Any]:
    """A client whose calls are captured."""
    with module.Client(verify=False) as client:
        httpx_transport.wrap(tap, client)
        yield client


@pytest.fixture
def bare(module: Module) -> Iterator[t.Any]:
    with module.Client(verify=False) as client:
        yield client


def run(
    module: Module, tap: Tap | None, work: Callable[[t.Any], Awaitable[t.Any]]
) -> t.Any:
    """Run some work with an async client, captured if there is a tap."""

    async def main() -> t.Any:
        async with module.AsyncClient(verify=False) as client:
            if tap is not None:
                httpx_transport.wrap(tap, client)
            return await work(client)

    return asyncio.run(main())


WAYS: dict[str, Callable[[t.Any], t.Any]] = {
    "read": lambda r: r.read(),
    "text": lambda r: (r.read(), r.text),
    "iter_bytes": lambda r: list(r.iter_bytes()),
    "iter_bytes(17)": lambda r: list(r.iter_bytes(17)),
    "iter_text": lambda r: list(r.iter_text()),
    "iter_lines": lambda r: list(r.iter_lines()),
    "iter_raw": lambda r: b"".join(r.iter_raw()),
    "iter_raw(5)": lambda r: b"".join(r.iter_raw(5)),
}


async def listed(items: AsyncIterator[t.Any]) -> list[t.Any]:
    return [item async for item in items]


async def _aread(response: t.Any) -> bytes:
    return t.cast(bytes, await response.aread())


ASYNC_WAYS: dict[str, Callable[[t.Any], Awaitable[t.Any]]] = {
    "aread": _aread,
    "aiter_bytes": lambda r: listed(r.aiter_bytes()),
    "aiter_bytes(17)": lambda r: listed(r.aiter_bytes(17)),
    "aiter_text": lambda r: listed(r.aiter_text()),
    "aiter_lines": lambda r: listed(r.aiter_lines()),
    "aiter_raw(5)": lambda r: listed(r.aiter_raw(5)),
}


def joined(value: t.Any) -> t.Any:
    """What was read, independent of where the network cut it."""
    if isinstance(value, list) and value:
        return value[0][:0].join(value)
    return value


@pytest.mark.parametrize("cuts", [(), (1, 300, 40)], ids=["length", "mixed"])
@pytest.mark.parametrize(("case", "encoding"), ENCODED, ids=str)
def test_every_way_of_reading_gives_the_same_bytes_and_one_call(
    case: Case,
    cuts: tuple[int, ...],
    encoding: str,
    provider: Provider,
    client: t.Any,
    bare: t.Any,
    book: Book,
    hosts: dict[str, str],
) -> None:
    hosts[provider.host] = case.provider
    provider.play(Answer(case.body, cuts=cuts, encoding=encoding))
    url = provider.url(case.path)
    for way, read in WAYS.items():
        with bare.stream("POST", url, json=case.request) as response:
            expected = read(response)
        with client.stream("POST", url, json=case.request) as response:
            assert joined(read(response)) == joined(expected), way
        check(book.call, case)
        assert book.deferred == [False], way
        book.calls.clear()
        book.deferred.clear()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("case", CASES[:4], ids=lambda case: case.name)
def test_every_async_way_of_reading_gives_the_same_bytes_and_one_call(
    case: Case,
    encoding: str,
    module: Module,
    provider: Provider,
    tap: Tap,
    book: Book,
    hosts: dict[str, str],
) -> None:
    hosts[provider.host] = case.provider
    provider.play(Answer(case.body, cuts=(9, 200), encoding=encoding))

    async def work(client: t.Any) -> list[t.Any]:
        read = []
        for way in ASYNC_WAYS.values():
            async with client.stream(
                "POST", provider.url(case.path), json=case.request
            ) as response:
                read.append(joined(await way(response)))
        return read

    assert run(module, tap, work) == run(module, None, work)
    assert len(book.calls) == len(ASYNC_WAYS)
    for call in book.calls:
        check(call, case)


def test_a_call_that_is_not_streamed_is_read_by_the_client(
    provider: Provider, client: t.Any, book: Book
) -> None:
    provider.play(Answer(CHAT_JSON))
    assert client.post(provider.url(), json=ASK).json()["id"] == "chatcmpl-1"
    assert book.call.request_model == "gpt-4o"
    assert book.call.usage is not None


def test_a_response_looks_unchanged(
    provider: Provider, module: Module, client: t.Any, bare: t.Any
) -> None:
    scene = provider.play(Answer(CHAT_JSON))
    ours, theirs = (c.post(provider.url(), json=ASK) for c in (client, bare))
    assert type(ours) is type(theirs)
    assert isinstance(ours.stream, module.SyncByteStream)
    assert not isinstance(ours.stream, module.AsyncByteStream)
    assert ours.extensions.keys() == theirs.extensions.keys()
    assert isinstance(client._transport, module.HTTPTransport)
    assert type(client._transport).__name__ == "HTTPTransport"
    first, second = scene.requests
    assert (first.headers, first.body) == (second.headers, second.body)


def test_streamed_calls_share_one_connection(
    provider: Provider, client: t.Any, book: Book
) -> None:
    scene = provider.play(Answer(CHAT_STREAM, cuts=(40,)))
    for _ in range(20):
        with client.stream("POST", provider.url(), json=ASK) as response:
            assert list(response.iter_lines())
    assert scene.connections == 1
    assert len(book.calls) == 20


def test_a_caller_who_stops_at_done_has_a_complete_record_at_once(
    provider: Provider, client: t.Any, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(64,), hangs=True, dies_after=-5))
    with client.stream("POST", provider.url(), json=ASK) as response:
        for line in response.iter_lines():
            if line == "data: [DONE]":
                break
        assert book.call.outcome == "ok"
        provider.released.set()
    assert len(book.calls) == 1


def test_a_caller_who_closes_early_interrupts(
    provider: Provider, client: t.Any, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(40,), dies_after=500, hangs=True))
    with client.stream("POST", provider.url(), json=ASK) as response:
        next(response.iter_bytes())
    assert book.call.outcome == "interrupted"
    provider.released.set()


def test_an_async_caller_who_closes_early_interrupts(
    provider: Provider, module: Module, tap: Tap, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(40,), dies_after=500, hangs=True))

    async def work(client: t.Any) -> None:
        async with client.stream("POST", provider.url(), json=ASK) as response:
            async for _ in response.aiter_bytes():
                break

    run(module, tap, work)
    assert book.call.outcome == "interrupted"
    provider.released.set()


def test_a_cancelled_task_interrupts(
    provider: Provider, module: Module, tap: Tap, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(40,), dies_after=500, hangs=True))

    async def work(client: t.Any, answered: asyncio.Event) -> None:
        async with client.stream("POST", provider.url(), json=ASK) as response:
            answered.set()
            await response.aread()

    async def cancelled(client: t.Any) -> None:
        answered = asyncio.Event()
        task = asyncio.create_task(t.cast(t.Any, work(client, answered)))
        await answered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(module, tap, cancelled)
    assert book.call.outcome == "interrupted"
    provider.released.set()


def test_an_answer_that_is_never_closed_is_recorded_when_it_is_freed(
    provider: Provider, client: t.Any, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM))
    request = client.build_request("POST", provider.url(), json=ASK)
    response = client.send(request, stream=True)
    del response
    gc.collect()
    assert book.call.outcome == "interrupted"
    assert book.deferred == [True]


def error_of(send: Callable[[], t.Any]) -> tuple[t.Any, ...]:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - compared with the bare one
        send()
    inner = raised.traceback[-1]
    return (
        raised.type,
        str(raised.value),
        inner.path,
        inner.lineno,
        type(raised.value.__cause__),
        raised.value.request.method,  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize("cuts", [(), (50,)], ids=["length", "chunks"])
@pytest.mark.parametrize("way", ["read", "iter_bytes", "iter_lines", "iter_raw"])
def test_a_body_that_dies_fails_with_the_same_error(
    way: str,
    cuts: tuple[int, ...],
    provider: Provider,
    client: t.Any,
    bare: t.Any,
    book: Book,
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=cuts, dies_after=60))

    def send(client: t.Any) -> None:
        with client.stream("POST", provider.url(), json=ASK) as response:
            WAYS[way](response)

    assert error_of(lambda: send(client)) == error_of(lambda: send(bare))
    assert book.call.outcome == "failed"


def test_an_async_body_that_dies_fails(
    provider: Provider, module: Module, tap: Tap, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(50,), dies_after=60))

    async def work(client: t.Any) -> None:
        await client.post(provider.url(), json=ASK)

    ours = error_of(lambda: run(module, tap, work))
    assert ours == error_of(lambda: run(module, None, work))
    assert book.call.outcome == "failed"


def test_a_refused_connection_and_a_timeout_are_records(
    provider: Provider,
    module: Module,
    client: t.Any,
    bare: t.Any,
    book: Book,
    hosts: dict[str, str],
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        hosts[host] = "openai"
        url = f"http://{host}/v1/chat/completions"
        assert error_of(lambda: client.post(url, json=ASK)) == error_of(
            lambda: bare.post(url, json=ASK)
        )
    provider.play(Answer(silent=True))
    timeout = module.Timeout(10, read=0.05)
    assert error_of(
        lambda: client.post(provider.url(), json=ASK, timeout=timeout)
    ) == error_of(lambda: bare.post(provider.url(), json=ASK, timeout=timeout))
    assert [call.outcome for call in book.calls] == ["no_response"] * 2
    assert {call.model for call in book.calls} == {"gpt-4o"}


def test_an_async_timeout_is_a_record(
    provider: Provider, module: Module, tap: Tap, book: Book
) -> None:
    provider.play(Answer(silent=True))
    timeout = module.Timeout(10, read=0.05)

    async def work(client: t.Any) -> None:
        await client.post(provider.url(), json=ASK, timeout=timeout)

    assert error_of(lambda: run(module, tap, work))[0] is module.ReadTimeout
    assert book.call.outcome == "no_response"


@pytest.mark.parametrize("status", [400, 401, 429, 500, 529])
def test_an_http_error_is_a_record_without_usage(
    status: int, provider: Provider, client: t.Any, book: Book
) -> None:
    provider.play(Answer(json.dumps({"error": {"message": "no"}}).encode(), status))
    assert client.post(provider.url(), json=ASK).status_code == status
    assert (book.call.outcome, book.call.http_status) == ("http_error", status)
    assert book.call.usage is None


def test_a_body_of_a_generator_is_not_consumed(
    provider: Provider, client: t.Any, book: Book
) -> None:
    scene = provider.play(Answer(CHAT_JSON))
    client.post(provider.url(), content=iter([b'{"model": ', b'"gpt-4o"}']))
    assert scene.requests[0].body == b'{"model": "gpt-4o"}'
    assert book.call.request_model is None


def test_hooks_and_stubs_of_a_client_stay(
    module: Module, tap: Tap, book: Book, hosts: dict[str, str]
) -> None:
    hosts["stub"] = "openai"
    seen: list[t.Any] = []
    transport = module.MockTransport(lambda _: module.Response(200, content=CHAT_JSON))
    hooks = {"request": [seen.append], "response": [seen.append]}
    with module.Client(transport=transport, event_hooks=hooks) as client:
        httpx_transport.wrap(tap, client)
        assert client._transport is transport
        assert client.post("http://stub/v1/chat/completions", json=ASK).json()
    assert len(seen) == 2
    assert book.call.usage is not None


def test_proxies_stay_and_are_captured(
    provider: Provider,
    module: Module,
    tap: Tap,
    book: Book,
    hosts: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{provider.host}")
    hosts["far.example"] = "openai"
    scene = provider.play(Answer(CHAT_JSON))
    with module.Client(verify=False) as client:
        httpx_transport.wrap(tap, client)
        assert client.post(
            "http://far.example/v1/chat/completions", json=ASK
        ).is_success
    assert scene.requests[0].path == "http://far.example/v1/chat/completions"
    assert book.call.usage is not None


def test_a_client_that_is_wrapped_again_uses_the_new_tap(
    provider: Provider, client: t.Any, book: Book, hosts: dict[str, str]
) -> None:
    provider.play(Answer(CHAT_JSON))
    httpx_transport.wrap(Tap(book, hosts=hosts, tags={"feature": "new"}), client)
    client.post(provider.url(), json=ASK)
    assert book.call.tags == {"feature": "new"}


def test_a_transport_of_fixed_layout_is_an_error(module: Module, tap: Tap) -> None:
    class Fixed:
        __slots__ = ()

        def close(self) -> None:
            pass

    with module.Client(transport=module.MockTransport(lambda _: None)) as client:
        client._transport = Fixed()
        with pytest.raises(ConfigError, match="transport Fixed.*cannot be wrapped"):
            httpx_transport.wrap(tap, client)
        client._transport = module.MockTransport(lambda _: None)


def test_a_recorder_may_reject_and_suppress_works(
    provider: Provider, client: t.Any, book: Book
) -> None:
    scene = provider.play(Answer(CHAT_JSON))
    with suppress():
        assert client.post(provider.url(), json=ASK).is_success
    book.forbids = UnknownPrice("openai", "gpt-9")
    with pytest.raises(UnknownPrice):
        client.post(provider.url(), json=ASK)
    assert len(scene.requests) == 1
    assert not book.calls


def test_concurrent_tasks_do_not_suppress_each_other(
    provider: Provider, module: Module, tap: Tap, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(60,)))

    async def work(client: t.Any) -> None:
        await asyncio.gather(
            *(client.post(provider.url(), json=ASK) for _ in range(20))
        )

    run(module, tap, work)
    assert [call.outcome for call in book.calls] == ["ok"] * 20


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    case=st.sampled_from(CASES),
    encoding=st.sampled_from(ENCODINGS),
    cuts=st.lists(st.integers(1, 200), max_size=6).map(tuple),
    size=st.one_of(st.none(), st.integers(1, 300)),
    decode=st.booleans(),
)
def test_bytes_are_the_same_however_they_are_cut_and_read(
    provider: Provider,
    client: t.Any,
    bare: t.Any,
    book: Book,
    hosts: dict[str, str],
    case: Case,
    encoding: str,
    cuts: tuple[int, ...],
    size: int | None,
    decode: bool,
) -> None:
    hosts[provider.host] = case.provider
    provider.play(Answer(case.body, cuts=cuts, encoding=encoding))
    book.calls.clear()

    def body(client: t.Any) -> bytes:
        with client.stream("POST", provider.url(case.path), json=ASK) as response:
            return b"".join(
                response.iter_bytes(size) if decode else response.iter_raw(size)
            )

    assert body(client) == body(bare)
    assert book.call.outcome == "ok"
    assert book.call.usage is not None


TRANSCRIPT: t.Final = json.dumps(
    {
        "text": "Hello.",
        "usage": {
            "type": "tokens",
            "input_tokens": 14,
            "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
            "output_tokens": 45,
            "total_tokens": 59,
        },
    }
).encode()
"""It does not name its model."""


def test_the_model_of_a_form_with_a_file_is_known(
    module: Module, provider: Provider, client: t.Any, tap: Tap, book: Book
) -> None:
    scene = provider.play(Answer(TRANSCRIPT))
    url = provider.url("/v1/audio/transcriptions")
    sent = {
        "data": {"model": "gpt-4o-transcribe", "prompt": "Names: Zoe."},
        "files": {"file": ("a.wav", b"RIFF" * 50_000)},
    }
    client.post(url, **sent)
    run(module, tap, lambda other: other.post(url, **sent))
    assert [c.model for c in book.calls] == ["gpt-4o-transcribe"] * 2
    assert [c.usage.output_tokens for c in book.calls if c.usage] == [45, 45]
    # A budget does not get a form instead of a body.
    assert [a.body for a in book.attempts] == [None, None]
    assert all(seen.body.count(b"RIFF") == 50_000 for seen in scene.requests)


def test_a_form_without_a_model_is_a_call_of_an_unknown_model(
    provider: Provider, client: t.Any, book: Book
) -> None:
    provider.play(Answer(TRANSCRIPT))
    url = provider.url("/v1/audio/transcriptions")
    long = {"model": "m" * 300}
    client.post(url, data=long, files={"file": ("a.wav", b"RIFF")})
    assert book.call.model == "unknown"


@pytest.mark.parametrize("kind", ["OpenAI", "AsyncOpenAI"])
def test_a_transcript_of_the_sdk_has_its_model(
    kind: str, provider: Provider, tap: Tap, book: Book
) -> None:
    scene = provider.play(
        Answer(TRANSCRIPT, headers=(("Content-Type", "application/json"),))
    )
    sdk = getattr(openai, kind)(
        base_url=provider.url("/v1"), api_key="x", max_retries=0
    )
    httpx_transport.wrap(tap, sdk._client)
    asked = {"model": "gpt-4o-transcribe", "file": ("a.wav", b"RIFF" * 100)}
    if kind == "OpenAI":
        said = sdk.audio.transcriptions.create(**asked)
        sdk.close()
    else:

        async def ask() -> t.Any:
            async with sdk:
                return await sdk.audio.transcriptions.create(**asked)

        said = asyncio.run(ask())
    assert said.text == "Hello."
    assert book.call.model == "gpt-4o-transcribe"
    assert scene.requests[0].body.count(b"RIFF") == 100


def test_a_second_wrap_with_other_tags_warns(
    client: t.Any, book: Book, hosts: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    first = Tap(book, hosts=hosts, tags={"feature": "search"})
    httpx_transport.wrap(first, client)
    httpx_transport.wrap(Tap(book, hosts=hosts, tags={"feature": "search"}), client)
    assert not caplog.records
    httpx_transport.wrap(Tap(book, hosts=hosts, tags={"feature": "chat"}), client)
    assert "already wrapped, with other tags" in caplog.text


def test_a_custom_transport_may_be_deep_copied(
    module: Module, provider: Provider, tap: Tap, book: Book
) -> None:
    class Own(module.BaseTransport):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.seen: list[str] = []

        def handle_request(self, request: t.Any) -> t.Any:
            self.seen.append(request.method)
            return module.Response(200, content=CHAT_JSON)

    first = Own()
    with module.Client(transport=first) as client:
        httpx_transport.wrap(tap, client)
    second = copy.deepcopy(first)
    with module.Client(transport=second) as client:
        client.post(provider.url(), json=ASK)
    assert (first.seen, second.seen) == ([], ["POST"])
    assert book.call.model == "gpt-4o-2024-08-06"
