"""Answers without an end, or of gigabytes: flat memory, linear time, and a call at the end."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
import tracemalloc
import typing as t
from collections.abc import Iterator

import pytest
import requests

from flask_llm_cost.call import Call
from flask_llm_cost.capture.meter import Meter
from flask_llm_cost.capture.requests_adapter import LlmCostAdapter
from flask_llm_cost.capture.tap import Tap
from tests.capture.conftest import Book
from tests.capture.server import CHAT_JSON
from tests.capture.server import CHAT_STREAM

CHAT: t.Final = "https://api.openai.com/v1/chat/completions"
MESSAGES: t.Final = "https://api.anthropic.com/v1/messages"
GEMINI: t.Final = (
    "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro"
    ":streamGenerateContent"
)
OLLAMA: t.Final = "http://localhost:11434/api/chat"
BEDROCK: t.Final = (
    "https://bedrock-runtime.us-east-1.amazonaws.com/model/"
    "anthropic.claude-3-5-sonnet-20240620-v1:0/invoke-with-response-stream"
)
EVENT: t.Final = b'data: {"choices": [{"delta": {"content": "word"}}]}\n\n'
FILL: t.Final = b"x" * 65536

BODIES: t.Final[dict[str, tuple[str, bytes, bytes]]] = {
    # The address, how the body begins, and what comes then, again and again.
    "SSE without a newline": (CHAT, b"data: ", FILL),
    "one event of many lines": (CHAT, b"", b"data: " + FILL + b"\n"),
    "one string": (CHAT, b'data: {"choices": [{"delta": {"content": "', FILL),
    "many events": (CHAT, b"", EVENT * 1000),
    "comments": (CHAT, b"", b": keep-alive\n\n" * 5000),
    "empty lines": (CHAT, b"", b"\n" * 65536),
    "carriage returns": (CHAT, b"", b"\r" * 65536),
    "named events": (MESSAGES, b"", b"event: ping\ndata: {}\n\n" * 3000),
    "an event's name": (MESSAGES, b"event: ", FILL),
    "lines of JSON": (OLLAMA, b"", b'{"model": "m", "done": false}\n' * 2000),
    "one line of JSON": (OLLAMA, b'{"model": "', FILL),
    "a list that never closes": (GEMINI, b"[", b'{"candidates": []},' * 3000),
    "brackets": (GEMINI, b"[", b"[" * 65536),
    "JSON": (CHAT, b'{"id": "', FILL),
    "many keys": (CHAT, b"{", b'"key": [1, 2, {"a": null}],' * 2000),
    "spaces": (CHAT, b"", b" " * 65536),
    "zeros": (CHAT, b"", b"\0" * 65536),
    "AWS frames": (BEDROCK, b"", b"\0\0\1\0" * 16384),
    "one AWS frame": (BEDROCK, b"\x7f\xff\xff\xff\0\0\0\0", FILL),
    "backslashes": (CHAT, b'{"id": "', b"\\" * 65536),
    "not UTF-8": (CHAT, b"data: ", b"\xff\xfe\x80" * 20000),
}


def play(name: str, size: int, ending: str) -> tuple[Call, int]:
    """Follow a body of a size; return its call, and the most memory that it took."""
    url, start, part = BODIES[name]
    book = Book()
    request = json.dumps({"model": "gpt-4o", "stream": True}).encode()
    meter = Tap(book).open("POST", url, request)
    assert meter is not None
    meter.respond(200, {})
    tracemalloc.start()
    try:
        meter.feed(start, decoded=True)
        for _ in range(size // len(part)):
            meter.feed(part, decoded=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    getattr(Meter, ending)(meter)
    return book.call, peak


SMALL_EVENTS: t.Final = ("comments", "a list that never closes", "brackets")
"""Tracing memory slows these down."""


@pytest.mark.parametrize("name", BODIES)
def test_memory_is_flat_and_the_call_is_flagged(name: str) -> None:
    size = 800_000 if name in SMALL_EVENTS else 4_000_000
    call, peak = play(name, size, "close" if len(name) % 2 else "fail")
    assert peak < 2_000_000
    assert call.usage_source in ("unknown", "stream_partial", "estimated")
    assert call.outcome in ("interrupted", "failed")
    assert call.cost is None or not call.cost.complete
    assert "cut" in call.flags


@pytest.mark.stress
@pytest.mark.parametrize("name", BODIES)
def test_ten_gigabytes_take_no_more_memory(name: str) -> None:
    url, start, part = BODIES[name]
    book = Book()
    meter = Tap(book).open("POST", url, b'{"model": "gpt-4o", "stream": true}')
    assert meter is not None
    meter.respond(200, {})
    meter.feed(start, decoded=True)
    tracemalloc.start()
    until = time.monotonic() + 60  # however slow the machine is
    for _ in range(10_000_000_000 // len(part)):
        meter.feed(part, decoded=True)
        if time.monotonic() > until:
            break
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()
    meter.close()
    assert "cut" in book.call.flags


class Endless:
    """A provider that answers in chunks until the client hangs up."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.part = b""
        self.type = b"text/event-stream"
        self.hung_up = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                client = self._server.accept()[0]
            except OSError:
                return
            with client:
                client.recv(65536)
                chunk = b"%x\r\n%s\r\n" % (len(self.part), self.part)
                try:
                    client.sendall(
                        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
                        b"Content-Type: %s\r\n\r\n" % self.type
                    )
                    while True:
                        client.sendall(chunk)
                except OSError:
                    self.hung_up.set()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(30)


@pytest.fixture
def endless() -> Iterator[Endless]:
    made = Endless()
    yield made
    made.close()


@pytest.mark.parametrize("part", [EVENT * 1000, FILL, b": comment\n\n" * 5000])
def test_a_body_without_an_end_that_the_app_stops_reading(
    endless: Endless, part: bytes
) -> None:
    endless.part = part
    book = Book()
    with requests.Session() as session:
        session.mount("http://", LlmCostAdapter(book, hosts={endless.host: "openai"}))
        response = session.post(
            f"http://{endless.host}/v1/chat/completions",
            json={"model": "gpt-4o", "stream": True},
            stream=True,
        )
        read = 0
        tracemalloc.start()
        for chunk in itertools.islice(response.iter_content(65536), 100):
            read += len(chunk)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        response.close()
    assert read > 4_000_000
    assert peak < 4_000_000
    assert endless.hung_up.wait(20)
    assert book.call.outcome == "interrupted"
    assert "cut" in book.call.flags


@pytest.mark.parametrize("form", ["stream", "json"])
def test_usage_at_the_end_of_a_large_answer_is_read(form: str) -> None:
    """It is not given up because of its size alone."""
    book = Book()
    request = json.dumps({"model": "gpt-4o", "stream": form == "stream"}).encode()
    meter = Tap(book).open("POST", CHAT, request)
    assert meter is not None
    meter.respond(200, {})
    if form == "stream":
        for _ in range(200):
            meter.feed(EVENT * 1000, decoded=True)
        meter.feed(CHAT_STREAM, decoded=True)
    else:
        meter.feed(b'{"filler": "', decoded=True)
        for _ in range(200):
            meter.feed(FILL, decoded=True)
        meter.feed(b'", ' + CHAT_JSON.lstrip()[1:], decoded=True)
    meter.end()
    assert book.call.usage is not None
    assert book.call.usage.total_tokens == 120
    assert book.call.outcome == "ok"
