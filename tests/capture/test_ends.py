"""Every end of a call has its own outcome, and each attempt has one record."""

from __future__ import annotations

import gc
import json
import signal
import socket
import threading
import typing as t
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException

import pytest
import requests
import urllib3
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse
from urllib3.util.retry import Retry

from flask_llm_cost.capture.requests_adapter import LlmCostAdapter
from tests.capture.conftest import Book
from tests.capture.server import Answer
from tests.capture.server import chat_events
from tests.capture.server import CHAT_JSON
from tests.capture.server import CHAT_STREAM
from tests.capture.server import MESSAGE_STREAM
from tests.capture.server import Provider
from tests.capture.server import sse

ASK = {"model": "gpt-4o", "stream": True}
LENGTH_AND_CHUNKS = pytest.mark.parametrize(
    "cuts", [(), (50,)], ids=["length", "chunks"]
)


def test_a_caller_who_stops_at_done_has_a_complete_record_at_once(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(64,), hangs=True, dies_after=-5))
    response = session.post(provider.url(), json=ASK, stream=True)
    for line in response.iter_lines(chunk_size=16):
        if line == b"data: [DONE]":
            break
    assert book.call.outcome == "ok"
    assert book.call.usage_source == "stream_final"
    assert not book.deferred[0]
    provider.released.set()
    response.close()
    del response, line
    assert len(book.calls) == 1


@LENGTH_AND_CHUNKS
def test_a_caller_who_closes_early_interrupts(
    provider: Provider, session: requests.Session, book: Book, cuts: tuple[int, ...]
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=cuts))
    with session.post(provider.url(), json=ASK, stream=True) as response:
        response.raw.read(200)
    assert book.call.outcome == "interrupted"
    assert book.call.usage is None
    assert book.call.model == "gpt-4o-2024-08-06"
    assert not book.deferred[0]


@LENGTH_AND_CHUNKS
def test_a_dropped_generator_interrupts(
    provider: Provider, session: requests.Session, book: Book, cuts: tuple[int, ...]
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=cuts))
    chunks = session.post(provider.url(), json=ASK, stream=True).iter_content(10)
    next(chunks)
    assert not book.calls
    del chunks
    assert book.call.outcome == "interrupted"
    assert book.deferred == [True]


def test_reading_on_after_a_dropped_generator_is_not_an_end(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(50,)))
    with session.post(provider.url(), json=ASK, stream=True) as response:
        next(response.iter_content(10))
        assert response.raw.read() == b""
    assert book.call.outcome == "interrupted"


def test_reading_may_go_on_after_a_dropped_generator(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM))
    with session.post(provider.url(), json=ASK, stream=True) as response:
        first = next(response.iter_content(10))
        rest = b"".join(response.iter_content(1000))
    assert first + rest == CHAT_STREAM
    assert book.call.outcome == "ok"


def test_an_answer_that_is_never_read_interrupts(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM))
    session.post(provider.url(), json=ASK, stream=True).close()
    assert book.call.outcome == "interrupted"
    assert book.call.first_byte_ms is None
    assert not book.deferred[0]


def test_an_answer_that_is_never_closed_is_recorded_when_it_is_freed(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM))
    response = session.post(provider.url(), json=ASK, stream=True)
    freed = weakref.ref(response.raw)
    with gc_disabled():
        del response
        assert freed() is None
    assert book.call.outcome == "interrupted"
    assert book.deferred == [True]


@contextmanager
def gc_disabled() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_an_interrupted_stream_records_the_usage_so_far(
    provider: Provider,
    session: requests.Session,
    book: Book,
    hosts: dict[str, str],
) -> None:
    hosts[provider.host] = "anthropic"
    provider.play(Answer(MESSAGE_STREAM))
    with session.post(provider.url("/v1/messages"), json=ASK, stream=True) as response:
        response.raw.read(400)
    assert book.call.outcome == "interrupted"
    assert book.call.usage_source == "stream_partial"
    assert book.call.usage is not None
    assert book.call.usage.input_tokens == 60


def dies(read: t.Callable[[requests.Response], t.Any]) -> t.Callable[..., t.Any]:
    def attempt(session: requests.Session, url: str) -> tuple[t.Any, ...]:
        """What the caller sees: type, text and chain of the error."""
        seen: list[t.Any] = []
        with session.post(url, json=ASK, stream=True) as response:
            try:
                read(response)
            except (requests.RequestException, HTTPError, HTTPException) as error:
                cause: BaseException | None = error
                while cause is not None:
                    seen.append((type(cause), str(cause)))
                    cause = cause.__cause__ or cause.__context__
        return tuple(seen)

    return attempt


READS: dict[str, t.Callable[[requests.Response], t.Any]] = {
    "content": lambda r: r.content,
    "iter_content": lambda r: list(r.iter_content(16)),
    "iter_lines": lambda r: list(r.iter_lines()),
    "raw.read": lambda r: r.raw.read(),
    "raw.read(16)": lambda r: list(iter(lambda: r.raw.read(16), b"")),
    "raw.read1": lambda r: list(iter(lambda: r.raw.read1(16), b"")),
    "raw.stream": lambda r: list(r.raw.stream(16)),
}
if not hasattr(HTTPResponse, "read1"):
    del READS["raw.read1"]


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@LENGTH_AND_CHUNKS
@pytest.mark.parametrize("way", READS)
def test_a_body_that_dies_fails_with_the_same_error(
    way: str,
    cuts: tuple[int, ...],
    encoding: str,
    provider: Provider,
    session: requests.Session,
    bare: requests.Session,
    book: Book,
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=cuts, encoding=encoding, dies_after=60))
    attempt = dies(READS[way])
    expected = attempt(bare, provider.url())
    # requests with urllib3 1.26 accepts a body that is shorter than announced.
    assert expected or urllib3.__version__.startswith("1.")
    assert attempt(session, provider.url()) == expected
    assert book.call.outcome == "failed"


def test_a_body_that_is_not_in_its_encoding_fails_with_the_same_error(
    provider: Provider, session: requests.Session, bare: requests.Session, book: Book
) -> None:
    provider.play(Answer(b"no gzip at all", headers=(("Content-Encoding", "gzip"),)))
    attempt = dies(READS["content"])
    expected = attempt(bare, provider.url())
    assert expected[0][0] is requests.exceptions.ContentDecodingError
    assert attempt(session, provider.url()) == expected
    assert book.call.outcome == "failed"


def test_a_server_that_stops_sending_fails(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM, dies_after=100, hangs=True))
    response = session.post(provider.url(), json=ASK, stream=True, timeout=10)
    # Only now, because the answer itself may be slow.
    response.raw.connection.sock.settimeout(0.05)
    with pytest.raises(requests.ConnectionError, match="Read timed out"):
        list(response.iter_content(16))
    provider.released.set()
    assert book.call.outcome == "failed"


def test_a_truncated_body_fails_even_if_its_reader_gets_no_error(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(CHAT_JSON, dies_after=60))
    with session.post(provider.url(), json=ASK, stream=True) as response:
        response.raw.enforce_content_length = False
        assert list(iter(lambda: response.raw.read(16), b""))
    assert book.call.outcome == "failed"


def send_error(session: requests.Session, url: str, **options: t.Any) -> t.Any:
    """The error of a send, without addresses, and where it was raised."""
    with pytest.raises(requests.RequestException) as raised:
        session.post(url, json=ASK, **options)
    inner = raised.traceback[-1]
    return (
        raised.type,
        str(raised.value).partition("0x")[0],
        (inner.path, inner.lineno),
        type(raised.value.__context__),
        raised.value.request is not None,
    )


def test_a_refused_connection_is_a_record(
    session: requests.Session, bare: requests.Session, book: Book, hosts: dict[str, str]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        hosts[host] = "openai"
        url = f"http://{host}/v1/chat/completions"
        assert send_error(session, url) == send_error(bare, url)
    call = book.call
    assert call.outcome == "no_response"
    assert call.http_status is None
    assert call.usage is None
    assert call.model == call.request_model == "gpt-4o"


def test_a_timeout_is_a_record(
    provider: Provider, session: requests.Session, bare: requests.Session, book: Book
) -> None:
    provider.play(Answer(silent=True))
    options = {"timeout": (10, 0.05)}
    expected = send_error(bare, provider.url(), **options)
    assert expected[0] is requests.ReadTimeout
    assert send_error(session, provider.url(), **options) == expected
    assert book.call.outcome == "no_response"


def test_a_missing_response_is_a_record(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
        session.mount("http://", LlmCostAdapter(book, hosts={host: "openai"}))
        server.settimeout(5)
        thread = threading.Thread(target=lambda: server.accept()[0].close())
        thread.start()
        with pytest.raises(requests.ConnectionError):
            session.post(f"http://{host}/v1/embeddings", data=b"{}")
        thread.join()
    assert book.call.outcome == "no_response"
    assert book.call.operation == "embeddings"
    assert book.call.model == "unknown"


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 529])
@pytest.mark.parametrize("stream", [False, True])
def test_an_http_error_is_a_record_without_usage(
    status: int, stream: bool, provider: Provider, session: requests.Session, book: Book
) -> None:
    error = json.dumps({"error": {"message": "no", "type": "x"}}).encode()
    provider.play(Answer(error, status=status))
    response = session.post(provider.url(), json=ASK, stream=stream)
    with pytest.raises(requests.HTTPError):
        response.raise_for_status()
    response.close()
    assert book.call.outcome == "http_error"
    assert book.call.http_status == status
    assert book.call.usage is None
    assert book.call.model == "gpt-4o"


@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"\xff\x00", b"[1, 2"])
def test_a_response_that_is_not_json_has_no_usage(
    body: bytes, provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(body))
    assert session.post(provider.url(), json=ASK).content == body
    assert book.call.outcome == "ok"
    assert book.call.usage is None
    assert book.call.usage_source == "unknown"


def test_a_stream_without_usage_has_none(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(sse(*chat_events(usage=False)), cuts=(40,)))
    assert session.post(provider.url(), json=ASK).ok
    assert book.call.outcome == "ok"
    assert book.call.usage is None
    assert book.call.response_id == "chatcmpl-1"


def test_a_send_with_retries_of_urllib3_is_one_record(
    provider: Provider, session: requests.Session, book: Book, hosts: dict[str, str]
) -> None:
    retries = Retry(2, status_forcelist=[429], allowed_methods=None)
    session.mount("http://", LlmCostAdapter(book, hosts=hosts, max_retries=retries))
    busy = Answer(b"{}", status=429)
    scene = provider.play(busy, busy, Answer(CHAT_JSON))
    assert session.post(provider.url(), json=ASK).ok
    assert len(scene.requests) == 3
    assert book.call.outcome == "ok"


def test_retries_that_run_out_are_an_http_error(
    provider: Provider, session: requests.Session, book: Book, hosts: dict[str, str]
) -> None:
    retries = Retry(1, status_forcelist=[503], allowed_methods=None)
    session.mount("http://", LlmCostAdapter(book, hosts=hosts, max_retries=retries))
    provider.play(Answer(b"{}", status=503))
    with pytest.raises(requests.exceptions.RetryError):
        session.post(provider.url(), json=ASK)
    assert book.call.outcome == "http_error"
    assert book.call.http_status == 503


def test_each_hop_of_a_redirect_is_an_attempt(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    moved = Answer(b"", status=307, headers=(("Location", "/v2/chat/completions"),))
    provider.play(moved, Answer(CHAT_JSON))
    response = session.post(provider.url(), json=ASK)
    assert [r.status_code for r in response.history] == [307]
    assert [c.outcome for c in book.calls] == ["http_error", "ok"]
    assert [c.http_status for c in book.calls] == [307, 200]


@pytest.fixture
def alarm() -> Iterator[t.Callable[[], t.Any]]:
    """When called, it interrupts the test after 50 ms, as Ctrl-C does."""

    def interrupt(*_: object) -> t.NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, 0.05)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@LENGTH_AND_CHUNKS
@pytest.mark.parametrize("way", READS)
def test_a_caller_who_is_killed_while_reading_interrupts_at_once(
    way: str,
    cuts: tuple[int, ...],
    provider: Provider,
    session: requests.Session,
    book: Book,
    alarm: t.Callable[[], t.Any],
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=cuts, dies_after=100, hangs=True))
    response = session.post(provider.url(), json=ASK, stream=True)

    def read() -> None:
        alarm()
        READS[way](response)

    with pytest.raises(KeyboardInterrupt):
        read()
    provider.released.set()
    assert book.call.outcome == "interrupted"
    assert not book.deferred[0]
