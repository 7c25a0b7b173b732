"""The standard library's HTTP, and urllib3 without requests: each attempt is a row."""

from __future__ import annotations

import functools
import gc
import http.client
import json
import typing as t
import urllib.error
import urllib.request
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import closing

import pytest
import requests
import urllib3

from flask_llm_cost.capture import clients
from flask_llm_cost.capture.connection import url_of
from flask_llm_cost.capture.tap import Tap
from flask_llm_cost.errors import UnknownPrice
from tests.capture.conftest import Book
from tests.capture.server import Answer
from tests.capture.server import CHAT_JSON
from tests.capture.server import CHAT_STREAM
from tests.capture.server import encode
from tests.capture.server import ENCODINGS
from tests.capture.server import Provider

ASK = json.dumps({"model": "gpt-4o", "stream": True}).encode()
PATH = "/v1/chat/completions"
Read: t.TypeAlias = Callable[[t.Any], t.Any]
OLD = urllib3.__version__ < "2"
"""Its direct use is not captured; ``instrument`` and ``doctor`` say so."""
new_urllib3 = pytest.mark.skipif(OLD, reason="urllib3 1.26 has other connections")


@pytest.fixture
def tap(book: Book, hosts: dict[str, str]) -> Iterator[Tap]:
    tap = Tap(book, hosts=hosts)
    clients.instrument(tap)
    yield tap
    clients.uninstrument()


def _pieces(response: t.Any, size: int | None) -> list[bytes]:
    pieces = [response.read(size)]
    while pieces[-1]:
        pieces.append(response.read(size))
    return pieces


def _into(response: t.Any) -> bytes:
    body, buffer = b"", bytearray(33)
    while count := response.readinto(buffer):
        body += buffer[:count]
    return body


READS: dict[str, Read] = {
    "read": lambda response: response.read(),
    "read(7)": functools.partial(_pieces, size=7),
    "read1": lambda response: (list(iter(response.read1, b"")), response.read()),
    "readinto": _into,
    "lines": list,
    "readline": lambda response: list(iter(response.readline, b"")),
    "peek": lambda response: (response.length and response.peek(5), response.read()),
}
RAW_READS: dict[str, Read] = {
    "data": lambda response: response.data,
    "read(7)": functools.partial(_pieces, size=7),
    "stream": lambda response: list(response.stream(50)),
    "raw": lambda response: list(response.stream(50, decode_content=False)),
    "read1": lambda response: list(iter(response.read1, b"")),
}


def _by_urllib(url: str, read: Read) -> t.Any:
    request = urllib.request.Request(url, ASK, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, sorted(response.headers.items()), read(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, str(error), read(error)
    except Exception as error:
        return type(error), str(error)


def _by_connection(url: str, read: Read) -> t.Any:
    with closing(http.client.HTTPConnection(url.split("/")[2], timeout=10)) as sender:
        try:
            sender.request("POST", PATH, ASK)
            response = sender.getresponse()
            return response.status, response.reason, read(response)
        except Exception as error:
            return type(error), str(error)


def _by_pool(url: str, read: Read) -> t.Any:
    with urllib3.PoolManager(retries=False, timeout=10) as pool:
        try:
            response = pool.request("POST", url, body=ASK, preload_content=False)
            return response.status, dict(response.headers), read(response)
        except Exception as error:
            return type(error), str(error.args[-1])


def _preloaded(url: str, read: Read) -> t.Any:
    with urllib3.PoolManager(retries=False, timeout=10) as pool:
        try:
            response = pool.request("POST", url, body=ASK)
            return response.status, dict(response.headers), response.data
        except Exception as error:
            return type(error), str(error.args[-1])


Send: t.TypeAlias = Callable[[str, Read], t.Any]
WAYS: dict[str, tuple[Send, Read]] = {
    "urllib": (_by_urllib, READS["read"]),
    **{f"http.client {name}": (_by_connection, read) for name, read in READS.items()},
}
if not OLD:
    WAYS |= {f"urllib3 {name}": (_by_pool, read) for name, read in RAW_READS.items()}
    WAYS["urllib3 preloaded"] = _preloaded, list
EACH = pytest.mark.parametrize(("send", "read"), WAYS.values(), ids=WAYS)
SCENES: dict[str, tuple[Answer, str, bool]] = {
    "whole": (Answer(CHAT_JSON), "ok", True),
    "streamed": (Answer(CHAT_STREAM, cuts=(40,)), "ok", True),
    "gzip": (Answer(CHAT_STREAM, cuts=(40,), encoding="gzip"), "ok", True),
    "refused": (Answer(b'{"error": {}}', status=429), "http_error", False),
    "empty": (Answer(b"", status=500), "http_error", False),
    "cut": (Answer(CHAT_STREAM, cuts=(40,), dies_after=200), "failed", False),
    "short": (Answer(CHAT_JSON, dies_after=200), "failed", False),
}


@EACH
@pytest.mark.parametrize("scene", SCENES)
def test_an_app_sees_what_it_would_see_without_us(
    scene: str,
    send: Send,
    read: Read,
    provider: Provider,
    book: Book,
    hosts: dict[str, str],
) -> None:
    answer, outcome, used = SCENES[scene]
    bare = provider.play(answer)
    expected = send(provider.url(), read)
    played = provider.play(answer)
    clients.instrument(Tap(book, hosts=hosts))
    try:
        assert send(provider.url(), read) == expected
    finally:
        clients.uninstrument()
    assert played.requests == bare.requests
    assert played.connections == bare.connections
    call = book.call
    assert (call.outcome, call.request_model) == (outcome, "gpt-4o")
    # If urllib3 fails to read a body before it hands out a response, nobody gets that.
    assert call.http_status in (answer.status, None if outcome == "failed" else 0)
    assert (call.usage is not None and call.usage.total_tokens == 120) is used


@EACH
def test_a_budget_stops_the_call_before_it_is_sent(
    send: Send,
    read: Read,
    provider: Provider,
    book: Book,
    tap: Tap,
) -> None:
    scene = provider.play(Answer(CHAT_JSON))
    book.forbids = UnknownPrice("openai", "gpt-9")
    found = send(provider.url(), read)
    assert "UnknownPrice" in str(found)
    assert not scene.requests
    assert not book.calls


def test_a_connection_is_as_before_after_a_call_that_was_stopped(
    provider: Provider, book: Book, tap: Tap
) -> None:
    scene = provider.play(Answer(CHAT_JSON))
    with closing(http.client.HTTPConnection(provider.host)) as sender:
        for forbids in (None, UnknownPrice("openai", "gpt-9"), None):
            book.forbids = forbids
            if forbids is not None:
                with pytest.raises(UnknownPrice):
                    sender.request("POST", PATH, ASK, {"X-Stopped": "1"})
                continue
            sender.request("POST", PATH, ASK)
            assert sender.getresponse().read() == CHAT_JSON
    assert scene.connections == 1
    assert len(scene.requests) == 2
    assert all("X-Stopped" not in seen.headers for seen in scene.requests)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_body_is_read_in_each_encoding(
    encoding: str, provider: Provider, book: Book, tap: Tap
) -> None:
    provider.play(Answer(CHAT_JSON, encoding=encoding))
    with urllib.request.urlopen(provider.url(), ASK) as response:
        assert response.read() == encode(CHAT_JSON, encoding)
    assert book.call.usage is not None


@new_urllib3
def test_each_retry_of_urllib3_is_an_attempt(
    provider: Provider, book: Book, tap: Tap
) -> None:
    provider.play(
        Answer(b"no", status=503), Answer(b"no", status=429), Answer(CHAT_JSON)
    )
    retries = urllib3.Retry(3, status_forcelist=[429, 503], allowed_methods=None)
    with urllib3.PoolManager(retries=retries) as pool:
        assert pool.request("POST", provider.url(), body=ASK).data == CHAT_JSON
    assert [call.http_status for call in book.calls] == [503, 429, 200]


def test_a_refused_connection_is_a_record(
    provider: Provider, book: Book, hosts: dict[str, str], tap: Tap
) -> None:
    hosts["127.0.0.1:9"] = "openai"
    for send in (_by_urllib, _by_connection, *([] if OLD else [_by_pool])):
        book.calls.clear()
        assert "refused" in str(send(f"http://127.0.0.1:9{PATH}", list))
        assert {call.outcome for call in book.calls} == {"no_response"}


def test_a_timeout_is_a_record(provider: Provider, book: Book, tap: Tap) -> None:
    provider.play(Answer(CHAT_JSON, silent=True))
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(provider.url(), ASK, timeout=0.1)
    assert book.call.outcome == "no_response"


@new_urllib3
def test_a_timeout_of_urllib3_is_a_record(
    provider: Provider, book: Book, tap: Tap
) -> None:
    provider.play(Answer(CHAT_JSON, silent=True))
    with urllib3.PoolManager(retries=False, timeout=0.1) as pool:
        with pytest.raises(urllib3.exceptions.ReadTimeoutError):
            pool.request("POST", provider.url(), body=ASK)
    assert book.call.outcome == "no_response"


def test_a_response_that_is_dropped_interrupts(
    provider: Provider, book: Book, tap: Tap
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(40,)))
    gc.collect()
    gc.disable()
    try:
        response = urllib.request.urlopen(provider.url(), ASK)
        response.readline()
        del response
        assert book.call.outcome == "interrupted"
        assert book.deferred == [True]
    finally:
        gc.enable()


def test_a_response_that_is_closed_interrupts(
    provider: Provider, book: Book, tap: Tap
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(40,)))
    with urllib.request.urlopen(provider.url(), ASK) as response:
        response.readline()
    assert book.call.outcome == "interrupted"


def test_requests_that_are_sent_before_others_are_answered(
    provider: Provider, book: Book, tap: Tap
) -> None:
    provider.play(Answer(CHAT_JSON))
    senders = [http.client.HTTPConnection(provider.host) for _ in range(3)]
    for sender in senders:
        sender.request("POST", PATH, ASK)
    assert len(book.attempts) == 3
    for sender in senders:
        assert sender.getresponse().read() == CHAT_JSON
        sender.close()
    assert [call.outcome for call in book.calls] == ["ok"] * 3


def test_a_request_whose_response_nobody_asks_for_is_a_record(
    provider: Provider, book: Book, tap: Tap
) -> None:
    provider.play(Answer(CHAT_JSON))
    sender = http.client.HTTPConnection(provider.host)
    sender.request("POST", PATH, ASK)
    sender.close()
    del sender
    gc.collect()
    assert book.call.outcome == "interrupted"


def test_a_response_may_be_asked_for_again(
    provider: Provider, book: Book, tap: Tap
) -> None:
    provider.play(Answer(CHAT_JSON))
    with closing(http.client.HTTPConnection(provider.host)) as sender:
        sender.request("POST", PATH, ASK)
        first = sender.getresponse()
        # The rest is buffered then, so that it cannot be followed by the next response.
        most = first.read(len(CHAT_JSON) - 1)
        sender.request("POST", PATH, ASK)
        with pytest.raises(http.client.ResponseNotReady):
            sender.getresponse()
        assert most + first.read() == CHAT_JSON
        assert sender.getresponse().read() == CHAT_JSON
    assert [call.outcome for call in book.calls] == ["ok", "ok"]


def test_an_interim_response_is_not_the_answer(
    provider: Provider, book: Book, tap: Tap
) -> None:
    provider.play(Answer(CHAT_JSON))
    with closing(http.client.HTTPConnection(provider.host)) as sender:
        # The server of the standard library answers 100 to this header.
        sender.putrequest("POST", PATH)
        sender.putheader("Expect", "100-continue")
        sender.putheader("Content-Length", str(len(ASK)))
        sender.endheaders()
        sender.send(ASK)
        assert sender.getresponse().read() == CHAT_JSON
    assert (book.call.outcome, book.call.http_status) == ("ok", 200)
    assert book.call.model == "gpt-4o-2024-08-06"


def test_a_head_request_is_not_a_call(provider: Provider, book: Book, tap: Tap) -> None:
    provider.play(Answer(CHAT_JSON))
    with closing(http.client.HTTPConnection(provider.host)) as sender:
        sender.request("HEAD", PATH)
        assert sender.getresponse().read() == b""
    assert not book.attempts


def test_a_proxy_relays_a_call(
    provider: Provider, book: Book, hosts: dict[str, str], tap: Tap
) -> None:
    hosts["far.example"] = "openai"
    provider.play(Answer(CHAT_JSON))
    url = f"http://far.example{PATH}"
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({"http": f"http://{provider.host}"})
    )
    with opener.open(url, ASK) as response:
        assert response.read() == CHAT_JSON
    assert [call.outcome for call in book.calls] == ["ok"]


@new_urllib3
def test_a_proxy_relays_a_call_of_urllib3(
    provider: Provider, book: Book, hosts: dict[str, str], tap: Tap
) -> None:
    hosts["far.example"] = "openai"
    provider.play(Answer(CHAT_JSON))
    url = f"http://far.example{PATH}"
    with urllib3.ProxyManager(f"http://{provider.host}") as proxy:
        assert proxy.request("POST", url, body=ASK).data == CHAT_JSON
    assert book.call.outcome == "ok"


def test_a_tunnel_hides_the_proxy() -> None:
    sender = http.client.HTTPSConnection("proxy.example", 3128)
    sender.set_tunnel("api.openai.com", 443)
    assert url_of(sender, "/v1") == "https://api.openai.com:443/v1"
    sender = http.client.HTTPSConnection("::1", 8443)
    assert url_of(sender, "/v1") == "https://[::1]:8443/v1"


def test_layers_on_top_of_each_other_make_one_record(
    provider: Provider, book: Book, tap: Tap
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(40,)))
    with requests.Session() as session:
        assert session.post(provider.url(), data=ASK).content == CHAT_STREAM
    assert book.call.usage is not None


@pytest.mark.parametrize(
    "name", [pytest.param("urllib3", marks=new_urllib3), "http.client"]
)
def test_urllib3_below_requests_is_captured_by_its_own_name(
    name: str, provider: Provider, book: Book, hosts: dict[str, str]
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(40,)))
    clients.instrument(Tap(book, hosts=hosts), [name])
    try:
        with requests.Session() as session:
            assert session.post(provider.url(), data=ASK).content == CHAT_STREAM
    finally:
        clients.uninstrument()
    assert [call.outcome for call in book.calls] == ["ok"] * (name == "urllib3")


def test_an_older_urllib3_is_named_with_what_is_captured(
    provider: Provider,
    book: Book,
    hosts: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its connections had no ``getresponse`` of their own."""
    monkeypatch.setattr(clients, "_patches", {})
    if not OLD:
        monkeypatch.delattr(urllib3.connection.HTTPConnection, "getresponse")
    tap = Tap(book, hosts=hosts)
    for _ in range(2):
        assert clients.instrument(tap, ["urllib3", "requests"]) == ("requests",)
    [line] = caplog.messages
    assert f"urllib3 {urllib3.__version__} is captured below requests" in line
    assert line.endswith(clients.unsupported()["urllib3"])
    clients.uninstrument()
    assert not clients.unsupported()


def test_other_requests_are_untouched(provider: Provider, book: Book, tap: Tap) -> None:
    provider.play(Answer(b"file"))
    with urllib.request.urlopen(provider.url("/v1/files/1")) as response:
        assert type(response) is http.client.HTTPResponse
        assert response.read() == b"file"
    assert not book.attempts
