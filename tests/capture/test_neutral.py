"""What the adapter does not change: pools, pickling, bodies, memory."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import pickle
import socket
import threading
import time
import tracemalloc
import typing as t
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from hypothesis import given
from hypothesis import HealthCheck
from hypothesis import settings
from hypothesis import strategies as st
from requests.adapters import BaseAdapter
from requests.adapters import HTTPAdapter
from requests.auth import HTTPDigestAuth
from urllib3 import HTTPResponse
from urllib3.util.retry import Retry

from flask_llm_cost.capture.requests_adapter import LlmCostAdapter
from flask_llm_cost.capture.suppression import suppress
from flask_llm_cost.errors import ConfigError
from flask_llm_cost.errors import UnknownPrice
from tests.capture.conftest import Book
from tests.capture.server import Answer
from tests.capture.server import CASES
from tests.capture.server import CHAT_JSON
from tests.capture.server import CHAT_STREAM
from tests.capture.server import ENCODINGS
from tests.capture.server import Provider

ASK = {"model": "gpt-4o", "stream": True}


def test_streamed_calls_share_one_connection(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    scene = provider.play(Answer(CHAT_STREAM, cuts=(40,)))
    for _ in range(20):
        with session.post(provider.url(), json=ASK, stream=True) as response:
            assert list(response.iter_lines())
    assert scene.connections == 1
    assert len(book.calls) == 20


def test_a_response_looks_unchanged(
    provider: Provider, session: requests.Session, bare: requests.Session
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(40,), headers=(("X-Own", "1"),)))
    with (
        session.post(provider.url(), json=ASK, stream=True) as ours,
        bare.post(provider.url(), json=ASK, stream=True) as theirs,
    ):
        assert isinstance(ours.raw, HTTPResponse)
        assert type(ours) is type(theirs)
        assert type(ours.raw).__qualname__ == type(theirs.raw).__qualname__
        assert type(ours.raw).__module__ == type(theirs.raw).__module__
        assert ours.headers == theirs.headers
        assert dict(ours.request.headers) == dict(theirs.request.headers)
        assert ours.request.body == theirs.request.body


def test_the_server_receives_the_same(
    provider: Provider, session: requests.Session, bare: requests.Session
) -> None:
    scene = provider.play(Answer(CHAT_JSON))
    for sender in (session, bare):
        sender.post(provider.url(), json=ASK, headers={"Authorization": "Bearer k"})
    ours, theirs = scene.requests
    assert ours == theirs


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_is_freed_without_the_garbage_collector(
    streamed: bool, provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(40,)))
    gc.collect()
    gc.disable()
    try:
        response = session.post(provider.url(), json=ASK, stream=streamed)
        raw = weakref.ref(response.raw)
        next(response.iter_content(10))
        del response
        assert raw() is None
    finally:
        gc.enable()
    assert len(book.calls) == 1


def test_a_large_body_is_not_collected(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    filler = b'{"object": "embedding", "embedding": [' + b"0.123456," * 3_000_000
    usage = b'0], "usage": {"prompt_tokens": 9, "total_tokens": 9}, "model": "m"}'
    provider.play(Answer(filler + usage))
    url = provider.url("/v1/embeddings")
    with session.post(url, json=ASK, stream=True) as response:
        tracemalloc.start()
        for _ in response.iter_content(65536):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert book.call.usage is not None
    assert book.call.usage.input_tokens == 9
    assert peak < 4_000_000, peak


def test_a_budget_stops_the_call_before_it_is_sent(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    scene = provider.play(Answer(CHAT_JSON))
    book.forbids = UnknownPrice("openai", "gpt-9")
    with pytest.raises(UnknownPrice):
        session.post(provider.url(), json=ASK)
    assert not scene.requests
    assert not book.calls


def test_a_broken_recorder_does_not_stop_the_call(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(CHAT_JSON))
    book.breaks = True
    assert session.post(provider.url(), json=ASK).json()["id"] == "chatcmpl-1"
    book.forbids = RuntimeError()
    assert session.post(provider.url(), json=ASK).json()["id"] == "chatcmpl-1"


def test_suppressed_calls_are_not_recorded(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(CHAT_JSON))
    with suppress():
        session.post(provider.url(), json=ASK)
    assert not book.attempts


def test_a_request_that_is_not_an_llm_call_is_untouched(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(b"file"))
    with session.get(provider.url("/v1/files/1"), stream=True) as response:
        assert type(response.raw) is HTTPResponse
        assert response.content == b"file"
    assert not book.attempts


BODIES: dict[str, t.Callable[[], t.Any]] = {
    "bytes": lambda: b'{"model": "gpt-4o"}',
    "text": lambda: '{"model": "gpt-4o", "x": "\u00e4"}',
    "file": lambda: io.BytesIO(b'{"model": "gpt-4o"}'),
    "generator": lambda: iter([b'{"model": ', b'"gpt-4o"}']),
    "none": lambda: None,
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_request_body_is_never_consumed(
    kind: str,
    provider: Provider,
    session: requests.Session,
    bare: requests.Session,
    book: Book,
) -> None:
    scene = provider.play(Answer(CHAT_JSON))
    for each in (bare, session):
        each.post(provider.url(), data=BODIES[kind]())
    expected, sent = (request.body for request in scene.requests)
    assert sent == expected
    assert bool(sent) is (kind != "none")
    known = kind in ("bytes", "text")
    assert book.call.request_model == ("gpt-4o" if known else None)
    assert book.call.model == "gpt-4o-2024-08-06"


def test_options_are_those_of_an_http_adapter(book: Book) -> None:
    retries = Retry(3, backoff_factor=0.5)
    adapter = LlmCostAdapter(
        book, pool_connections=3, pool_maxsize=4, max_retries=retries, pool_block=True
    )
    plain = HTTPAdapter(3, 4, retries, True)
    assert isinstance(adapter, HTTPAdapter)
    assert adapter.max_retries is retries
    assert {name: getattr(adapter, name) for name in HTTPAdapter.__attrs__} == {
        name: getattr(plain, name) for name in HTTPAdapter.__attrs__
    }
    assert (
        adapter.poolmanager.connection_pool_kw == plain.poolmanager.connection_pool_kw
    )


def test_an_invalid_option_is_an_error(book: Book) -> None:
    with pytest.raises(TypeError, match="pool_size"):
        LlmCostAdapter(book, pool_size=3)
    with pytest.raises(ConfigError, match="max_retries cannot be combined with inner"):
        LlmCostAdapter(book, inner=HTTPAdapter(), max_retries=3)
    with pytest.raises(ConfigError, match="inner must be an adapter.*not str"):
        LlmCostAdapter(book, inner="http")  # type: ignore[arg-type]


class Inner(HTTPAdapter):
    """A custom adapter."""

    sent = 0
    closed = False

    def send(self, *args: t.Any, **kwargs: t.Any) -> requests.Response:
        self.sent += 1
        return super().send(*args, **kwargs)

    def close(self) -> None:
        self.closed = True
        super().close()


def test_an_inner_adapter_does_the_sending(
    provider: Provider, book: Book, hosts: dict[str, str]
) -> None:
    inner = Inner(max_retries=2)
    provider.play(Answer(CHAT_STREAM, cuts=(9,)))
    with requests.Session() as session:
        session.mount("http://", LlmCostAdapter(book, hosts=hosts, inner=inner))
        assert session.post(provider.url(), json=ASK).content == CHAT_STREAM
        with session.post(
            provider.url(), json=ASK, stream=True, timeout=(10, 20)
        ) as response:
            assert response.raw.data == CHAT_STREAM
    assert inner.sent == 2
    assert inner.closed
    assert [call.outcome for call in book.calls] == ["ok", "ok"]


def test_nested_adapters_make_one_record(
    provider: Provider, book: Book, hosts: dict[str, str]
) -> None:
    provider.play(Answer(CHAT_JSON))
    inner = LlmCostAdapter(book, hosts=hosts)
    with requests.Session() as session:
        session.mount("http://", LlmCostAdapter(book, hosts=hosts, inner=inner))
        session.post(provider.url(), json=ASK)
        session.post(provider.url(), json=ASK)
    assert len(book.calls) == len(book.attempts) == 2


@pytest.mark.parametrize("nested", [False, True])
def test_the_second_request_of_an_authentication_is_an_attempt(
    nested: bool, provider: Provider, book: Book, hosts: dict[str, str]
) -> None:
    challenge = 'Digest realm="r", nonce="n", qop="auth"'
    refusal = Answer(b"no", status=401, headers=(("WWW-Authenticate", challenge),))
    provider.play(refusal, Answer(CHAT_JSON))
    inner = HTTPAdapter() if nested else None
    with requests.Session() as session:
        session.mount("http://", LlmCostAdapter(book, hosts=hosts, inner=inner))
        session.auth = HTTPDigestAuth("user", "password")
        assert session.post(provider.url(), json=ASK).ok
    assert [call.http_status for call in book.calls] == [401, 200]


class Stub(BaseAdapter):
    """An adapter that answers without a network, like those of test libraries."""

    def __init__(self, make: t.Callable[[], requests.Response]) -> None:
        super().__init__()
        self.make = make

    def send(self, *args: t.Any, **kwargs: t.Any) -> requests.Response:
        return self.make()

    def close(self) -> None:
        pass


def stubbed(raw: t.Any, content: bytes | None = None) -> requests.Response:
    response = requests.Response()
    response.status_code = 200
    response.url = "http://stub/v1/chat/completions"
    response.raw = raw
    if content is not None:
        response._content = content
        response._content_consumed = True
    return response


@pytest.fixture
def stub_session(book: Book) -> Iterator[t.Callable[..., requests.Session]]:
    with requests.Session() as session:

        def make(answer: t.Callable[[], requests.Response]) -> requests.Session:
            adapter = LlmCostAdapter(book, hosts={"stub": "openai"}, inner=Stub(answer))
            session.mount("http://", adapter)
            return session

        yield make


STUBS: dict[str, t.Callable[[], requests.Response]] = {
    "a file": lambda: stubbed(io.BytesIO(CHAT_STREAM)),
    "urllib3 over a file": lambda: stubbed(
        HTTPResponse(body=io.BytesIO(CHAT_STREAM), preload_content=False)
    ),
    "content": lambda: stubbed(None, CHAT_STREAM),
}
STUB_READS: dict[str, t.Callable[[requests.Response], bytes]] = {
    "content": lambda r: r.content,
    "iter_content": lambda r: b"".join(r.iter_content(7)),
    "iter_lines": lambda r: b"\n".join(r.iter_lines()) + b"\n",
    "unicode": lambda r: "".join(r.iter_content(7, decode_unicode=True)).encode(),
}


@pytest.mark.parametrize("stub", STUBS)
@pytest.mark.parametrize("way", STUB_READS)
def test_answers_of_stubs_are_followed(
    stub: str, way: str, stub_session: t.Any, book: Book
) -> None:
    session = stub_session(STUBS[stub])
    response = session.post("http://stub/v1/chat/completions", json=ASK, stream=True)
    response.encoding = "utf-8"
    assert STUB_READS[way](response).rstrip() == CHAT_STREAM.rstrip()
    assert book.call.outcome == "ok"
    assert book.call.usage is not None
    response.close()


def test_a_stubbed_answer_that_is_dropped_interrupts(
    stub_session: t.Any, book: Book
) -> None:
    session = stub_session(STUBS["a file"])
    response = session.post("http://stub/v1/chat/completions", json=ASK, stream=True)
    next(response.iter_content(100))
    del response
    assert book.call.outcome == "interrupted"
    assert book.deferred == [True]


def test_an_answer_can_be_pickled(
    provider: Provider, session: requests.Session, stub_session: t.Any
) -> None:
    provider.play(Answer(CHAT_JSON))
    answers = [
        session.post(provider.url(), json=ASK, stream=True),
        stub_session(STUBS["a file"]).post(
            "http://stub/v1/chat/completions", json=ASK, stream=True
        ),
    ]
    for response in answers:
        again = pickle.loads(pickle.dumps(response))
        assert type(again) is requests.Response
        assert again.content == response.content
        assert type(copy.copy(response)) is requests.Response
        response.close()


def test_an_error_of_the_adapter_is_the_same_object(
    stub_session: t.Any, book: Book
) -> None:
    error = OSError("stub")

    def fail() -> t.NoReturn:
        raise error

    with pytest.raises(OSError, match="stub") as raised:
        stub_session(fail).post("http://stub/v1/chat/completions", json=ASK)
    assert raised.value is error
    assert error.__context__ is None
    assert book.call.outcome == "no_response"


def test_an_error_of_a_custom_adapter_may_be_empty(
    stub_session: t.Any, book: Book
) -> None:
    error = requests.exceptions.RetryError()

    def fail() -> t.NoReturn:
        raise error

    with pytest.raises(requests.exceptions.RetryError) as raised:
        stub_session(fail).post("http://stub/v1/chat/completions", json=ASK)
    assert raised.value is error
    assert (book.call.outcome, book.call.http_status) == ("no_response", None)


def test_an_interrupt_during_the_send_is_a_record(
    stub_session: t.Any, book: Book
) -> None:
    def interrupt() -> t.NoReturn:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stub_session(interrupt).post("http://stub/v1/chat/completions", json=ASK)
    assert book.call.outcome == "no_response"


def test_a_copied_or_pickled_adapter_goes_on_recording(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(CHAT_JSON))
    copies = [copy.deepcopy(session), pickle.loads(pickle.dumps(session))]
    for again in copies:
        with again:
            again.post(provider.url(), json=ASK)
    assert len(book.calls) == 2


def test_an_adapter_unpickled_in_another_process_only_sends(
    provider: Provider,
    book: Book,
    hosts: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider.play(Answer(CHAT_JSON))
    data = pickle.dumps(LlmCostAdapter(book, hosts=hosts, max_retries=4))
    with requests.Session() as session:
        adapter = pickle.loads(data)
        assert adapter.max_retries.total == 4
        session.mount("http://", adapter)
        assert session.post(provider.url(), json=ASK).ok
    assert not book.calls
    assert "records nothing" in caplog.text


def test_many_threads_share_a_session(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(60,)))

    def ask(number: int) -> bytes:
        if number % 5:
            return session.post(provider.url(), json=ASK).content
        with session.post(provider.url(), json=ASK, stream=True) as response:
            return response.raw.read(50)

    with ThreadPoolExecutor(8) as pool:
        bodies = list(pool.map(ask, range(100)))
    assert set(bodies) == {CHAT_STREAM, CHAT_STREAM[:50]}
    outcomes = [call.outcome for call in book.calls]
    assert (outcomes.count("ok"), outcomes.count("interrupted")) == (80, 20)
    assert len({call.event_id for call in book.calls}) == 100


def test_closing_a_body_that_another_thread_reads_makes_one_record(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM, dies_after=100, hangs=True))
    response = session.post(provider.url(), json=ASK, stream=True)

    def read() -> None:
        # urllib3 1.26 accepts a body that is shorter than announced.
        with contextlib.suppress(requests.RequestException):
            list(response.iter_content(1000))

    thread = threading.Thread(target=read)
    thread.start()
    while not response.raw._llm_cost.reader:
        time.sleep(0.001)
    response.raw.connection.sock.shutdown(socket.SHUT_RD)
    response.close()
    provider.released.set()
    thread.join()
    assert book.call.outcome in ("interrupted", "failed")


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    case=st.sampled_from(CASES),
    encoding=st.sampled_from(ENCODINGS),
    cuts=st.lists(st.integers(1, 200), max_size=6).map(tuple),
    sizes=st.lists(st.one_of(st.none(), st.integers(1, 300)), min_size=1, max_size=8),
    decode=st.booleans(),
)
def test_bytes_are_the_same_however_they_are_cut_and_read(
    provider: Provider,
    session: requests.Session,
    bare: requests.Session,
    book: Book,
    hosts: dict[str, str],
    case: t.Any,
    encoding: str,
    cuts: tuple[int, ...],
    sizes: list[int | None],
    decode: bool,
) -> None:
    hosts[provider.host] = case.provider
    provider.play(Answer(case.body, cuts=cuts, encoding=encoding))
    book.calls.clear()

    def read(session: requests.Session) -> list[bytes]:
        pieces: list[bytes] = []
        with session.post(provider.url(case.path), json=ASK, stream=True) as response:
            for turn in range(10**6):
                size = sizes[turn % len(sizes)]
                pieces.append(response.raw.read(size, decode_content=decode))
                # urllib3 1.26 also returns nothing while its decoder waits for more.
                if not pieces[-1] and response.raw.isclosed():
                    break
        return pieces

    assert read(session) == read(bare)
    assert book.call.outcome == "ok"
    assert book.call.usage is not None
    assert book.call.usage.total_tokens == 120


@pytest.mark.parametrize("decode", [False, True])
def test_an_encoding_that_urllib3_does_not_know_is_still_read(
    decode: bool,
    provider: Provider,
    session: requests.Session,
    book: Book,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = [name for name in HTTPResponse.CONTENT_DECODERS if name != "zstd"]
    monkeypatch.setattr(HTTPResponse, "CONTENT_DECODERS", known)
    answer = Answer(CHAT_STREAM, encoding="zstd", cuts=(30,))
    provider.play(answer)
    with session.post(provider.url(), json=ASK, stream=True) as response:
        read = b"".join(response.raw.stream(16, decode_content=decode))
    assert read == answer.sent()
    assert book.call.usage is not None


def test_an_unsupported_encoding_leaves_the_usage_unknown(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(CHAT_JSON, headers=(("Content-Encoding", "lzma"),)))
    assert session.post(provider.url(), json=ASK).content == CHAT_JSON
    assert book.call.usage is None
    assert "unreadable_encoding" in book.call.flags


def test_a_call_through_a_proxy_is_captured(
    provider: Provider, session: requests.Session, book: Book, hosts: dict[str, str]
) -> None:
    hosts["far.example"] = "openai"
    scene = provider.play(Answer(CHAT_JSON))
    url = "http://far.example/v1/chat/completions"
    proxies = {"http": f"http://{provider.host}"}
    assert session.post(url, json=ASK, proxies=proxies).ok
    assert scene.requests[0].path == url
    assert book.call.usage is not None
