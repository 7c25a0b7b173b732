"""A captured session returns what a bare one does, and each call is recorded once."""

from __future__ import annotations

import io
import json
import typing as t

import pytest
import requests
from urllib3.response import HTTPResponse

from flask_llm_cost.call import Call
from flask_llm_cost.call import Usage
from tests.capture.conftest import Book
from tests.capture.server import Answer
from tests.capture.server import Case
from tests.capture.server import CHAT_JSON
from tests.capture.server import ENCODED
from tests.capture.server import Provider
from tests.capture.server import Read

USED = Usage(input_tokens=60, cache_read_tokens=40, output_tokens=20)


def _readinto(response: requests.Response) -> bytes:
    buffer = bytearray(1000)
    data = b""
    while count := response.raw.readinto(buffer):
        data += buffer[:count]
    return data


def _read_all(response: requests.Response, size: int) -> bytes:
    return b"".join(iter(lambda: response.raw.read(size, decode_content=True), b""))


def _read1(response: requests.Response) -> bytes:
    return b"".join(iter(lambda: response.raw.read1(100, decode_content=True), b""))


WAYS: dict[str, Read] = {
    "content": lambda r: r.content,
    "text": lambda r: r.text,
    "iter": lambda r: b"".join(r),
    "iter_content(1)": lambda r: b"".join(r.iter_content(1)),
    "iter_content(17)": lambda r: b"".join(r.iter_content(17)),
    "iter_content(None)": lambda r: b"".join(r.iter_content(None)),
    "iter_content(unicode)": lambda r: list(r.iter_content(64, decode_unicode=True)),
    "iter_lines": lambda r: list(r.iter_lines()),
    "iter_lines(unicode)": lambda r: list(r.iter_lines(decode_unicode=True)),
    "raw.read": lambda r: r.raw.read(),
    "raw.read(decode)": lambda r: r.raw.read(decode_content=True),
    "raw.read(-1)": lambda r: r.raw.read(-1, True),
    "raw.read(100)": lambda r: _read_all(r, 100),
    "raw.read1": _read1,
    "raw.stream": lambda r: b"".join(r.raw.stream(50)),
    "raw.stream(decode)": lambda r: b"".join(r.raw.stream(50, decode_content=True)),
    "raw iteration": lambda r: list(r.raw),
    "raw.readinto": _readinto,
    "raw.data": lambda r: r.raw.data,
    "raw.json": lambda r: _json(r),
    "buffered": lambda r: io.BufferedReader(r.raw).read(),
}

# urllib3 1.26 has no such methods, and waits for the connection's end after read(-1).
for name, method in {"read1": "read1", "read(-1)": "read1", "json": "json"}.items():
    if not hasattr(HTTPResponse, method):
        del WAYS[f"raw.{name}"]


def _json(response: requests.Response) -> t.Any:
    response.raw.decode_content = True
    try:
        return response.raw.json()
    except json.JSONDecodeError as error:
        return str(error)


def send(
    session: requests.Session, provider: Provider, case: Case, read: Read
) -> t.Any:
    with session.post(
        provider.url(case.path), json=case.request, stream=True
    ) as response:
        return read(response)


def check(call: Call, case: Case) -> None:
    assert call.usage == USED
    assert (call.provider, call.outcome, call.http_status) == (case.provider, "ok", 200)
    assert call.stream is case.stream
    assert call.usage_source == ("stream_final" if case.stream else "response")
    assert call.response_id
    assert call.latency_ms is not None
    assert call.first_byte_ms is not None
    assert call.first_byte_ms <= call.latency_ms
    assert "held" in call.flags


@pytest.mark.parametrize("cuts", [(), (1, 300, 40)], ids=["length", "mixed"])
@pytest.mark.parametrize(("case", "encoding"), ENCODED, ids=str)
def test_every_way_of_reading_gives_the_same_bytes_and_one_call(
    case: Case,
    cuts: tuple[int, ...],
    encoding: str,
    provider: Provider,
    session: requests.Session,
    bare: requests.Session,
    book: Book,
    hosts: dict[str, str],
) -> None:
    hosts[provider.host] = case.provider
    provider.play(Answer(case.body, cuts=cuts, encoding=encoding))
    for way, read in WAYS.items():
        expected = send(bare, provider, case, read)
        assert send(session, provider, case, read) == expected, way
        check(book.call, case)
        assert book.deferred == [False], way
        book.calls.clear()
        book.deferred.clear()


def test_a_response_gains_no_methods(
    provider: Provider, session: requests.Session, bare: requests.Session
) -> None:
    # io.TextIOWrapper asks for read1, which urllib3 has since 2.2.
    provider.play(Answer(CHAT_JSON))
    seen = [
        {name for name in dir(each.post(provider.url()).raw) if name[0] != "_"}
        for each in (bare, session)
    ]
    assert seen[0] == seen[1]


def test_a_call_that_is_not_streamed_is_read_by_requests_itself(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(CHAT_JSON))
    response = session.post(provider.url(), json={"model": "gpt-4o"})
    assert response.json()["id"] == "chatcmpl-1"
    assert book.call.usage == USED
    assert book.call.request_model == "gpt-4o"
    assert book.call.model == "gpt-4o-2024-08-06"
