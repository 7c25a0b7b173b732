"""A provider on loopback that sends what a test prepares, in any wire format."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
import typing as t
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer

import brotli

try:
    from compression import zstd
except ImportError:
    from backports import zstd

ENCODINGS: t.Final = ("identity", "gzip", "deflate", "br", "zstd")


def encode(body: bytes, encoding: str) -> bytes:
    """A body in a content encoding."""
    if encoding == "gzip":
        return gzip.compress(body, mtime=0)
    if encoding == "deflate":
        return zlib.compress(body)
    if encoding == "br":
        return brotli.compress(body)
    if encoding == "zstd":
        return zstd.compress(body)
    return body


@dataclass(frozen=True)
class Answer:
    """What the server sends, and how."""

    body: bytes = b""
    status: int = 200
    encoding: str = "identity"
    headers: tuple[tuple[str, str], ...] = ()
    cuts: tuple[int, ...] = ()
    """Sizes of the chunks of a chunked body, repeated; empty sends Content-Length."""
    dies_after: int | None = None
    """Close the connection after this many bytes of the (encoded) body."""
    hangs: bool = False
    """Instead of closing it, keep the connection open without sending."""
    silent: bool = False
    """Send no response until the test is over."""

    def sent(self) -> bytes:
        return encode(self.body, self.encoding)


@dataclass
class Seen:
    """A request that the server received."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int = field(compare=False)
    """The number of its connection, in the order in which they were opened."""


@dataclass
class Scene:
    """What a server sends next, and what it has received."""

    answers: list[Answer] = field(default_factory=list)
    """One per request; the last one is repeated."""
    requests: list[Seen] = field(default_factory=list)
    connections: int = 0

    def next(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Provider(ThreadingHTTPServer):
    """Answers every request as its scene says."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scene = Scene()
        self.released = threading.Event()
        self._changed = threading.Condition()
        self._made = 0
        self._open: dict[socket.socket, tuple[int, t.Any]] = {}

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def url(self, path: str = "/v1/chat/completions") -> str:
        return f"http://{self.host}{path}"

    def play(self, *answers: Answer) -> Scene:
        """Send these answers from now on."""
        self.scene = Scene(list(answers))
        return self.scene

    def process_request(self, request: t.Any, client_address: t.Any) -> None:
        with self._changed:
            self._made += 1
            self._open[request] = self._made, client_address
            self._changed.notify_all()
        super().process_request(request, client_address)

    def process_request_thread(self, request: t.Any, client_address: t.Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._changed:
                del self._open[request]
                self._changed.notify_all()

    def number(self, connection: socket.socket) -> int:
        """The number of an open connection, in the order in which they were opened."""
        return self._open[connection][0]

    def settle(self) -> None:
        """Receive everything that was sent until now, and close every connection."""
        with socket.create_connection(("127.0.0.1", self.server_port)) as last:
            mine = last.getsockname()
            with self._changed:
                # Connections are accepted in order: earlier ones are accepted by now.
                assert self._changed.wait_for(
                    lambda: any(mine == address for _, address in self._open.values()),
                    60,
                )
                for connection in self._open:
                    with contextlib.suppress(OSError):
                        # What has arrived is still read, but nothing after it.
                        connection.shutdown(socket.SHUT_RDWR)
                assert self._changed.wait_for(lambda: not self._open, 60)

    def handle_error(self, *args: t.Any) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Provider

    def setup(self) -> None:
        super().setup()
        self.server.scene.connections += 1

    def log_message(self, *args: object) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self) -> None:
        scene = self.server.scene
        number = self.server.number(self.request)
        seen = Seen(self.command, self.path, dict(self.headers), self._body(), number)
        scene.requests.append(seen)
        answer = scene.next()
        if answer.silent:
            self.server.released.wait(10)
            self.close_connection = True
            return
        body = answer.sent()
        head = [f"HTTP/1.1 {answer.status} Status"]
        head += [f"{name}: {value}" for name, value in answer.headers]
        if answer.encoding != "identity":
            head.append(f"Content-Encoding: {answer.encoding}")
        if answer.cuts:
            head.append("Transfer-Encoding: chunked")
            body = _chunked(body, answer.cuts)
        else:
            head.append(f"Content-Length: {len(body)}")
        self.wfile.write("\r\n".join(head).encode() + b"\r\n\r\n")
        self.wfile.write(body[: answer.dies_after])
        if answer.hangs:
            self.server.released.wait(10)
        if answer.dies_after is not None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    do_POST = do_GET = _answer


def _chunked(body: bytes, cuts: tuple[int, ...]) -> bytes:
    chunks = []
    at = turn = 0
    while at < len(body):
        chunk = body[at : at + cuts[turn % len(cuts)]]
        chunks.append(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        at += len(chunk)
        turn += 1
    return b"".join(chunks) + b"0\r\n\r\n"


def sse(*events: t.Any, eol: bytes = b"\n", named: bool = False) -> bytes:
    """Server-sent events, optionally named by their ``type`` as Anthropic does."""
    lines = []
    for event in events:
        if named:
            lines += [b"event: " + event["type"].encode()]
        data = event if isinstance(event, str) else json.dumps(event)
        lines += [b"data: " + data.encode(), b""]
    return eol.join(lines) + eol


CHAT: t.Final = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Grüße 🎈" * 20}}
    ],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 40},
    },
}


def chat_events(count: int = 12, *, usage: bool = True) -> list[t.Any]:
    """The chunks of a streamed chat completion, with ``include_usage``."""

    def chunk(**more: t.Any) -> dict[str, t.Any]:
        head = {"id": "chatcmpl-1", "model": "gpt-4o-2024-08-06", "usage": None}
        return head | {"object": "chat.completion.chunk"} | more

    events: list[t.Any] = [
        chunk(choices=[{"index": 0, "delta": {"content": f"wört {n} "}}])
        for n in range(count)
    ]
    if usage:
        events.append(chunk(choices=[], usage=CHAT["usage"]))
    return [*events, "[DONE]"]


CHAT_STREAM: t.Final = sse(*chat_events())
CHAT_JSON: t.Final = json.dumps(CHAT).encode()

RESPONSES_STREAM: t.Final = sse(
    {"type": "response.created", "response": {"id": "resp_1", "model": "gpt-5"}},
    {"type": "response.output_text.delta", "delta": "hello"},
    {
        "type": "response.completed",
        "response": {
            "id": "resp_1",
            "model": "gpt-5",
            "usage": {
                "input_tokens": 100,
                "input_tokens_details": {"cached_tokens": 40},
                "output_tokens": 20,
            },
        },
    },
    named=True,
)

MESSAGE_JSON: t.Final = json.dumps(
    {
        "id": "msg_1",
        "type": "message",
        "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": "hello"}],
        "usage": {
            "input_tokens": 60,
            "cache_read_input_tokens": 40,
            "output_tokens": 20,
        },
    }
).encode()

MESSAGE_STREAM: t.Final = sse(
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "model": "claude-sonnet-4-5",
            "usage": {
                "input_tokens": 60,
                "cache_read_input_tokens": 40,
                "output_tokens": 1,
            },
        },
    },
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hello"}},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 20},
    },
    {"type": "message_stop"},
    named=True,
)

_GEMINI: t.Final = {
    "candidates": [{"content": {"parts": [{"text": "hello"}]}, "finishReason": "STOP"}],
    "usageMetadata": {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 40,
        "candidatesTokenCount": 20,
        "totalTokenCount": 120,
    },
    "modelVersion": "gemini-2.5-flash",
    "responseId": "gem_1",
}
GEMINI_JSON: t.Final = json.dumps(_GEMINI).encode()
GEMINI_STREAM: t.Final = sse(_GEMINI)
GEMINI_ARRAY: t.Final = json.dumps([_GEMINI]).encode()


@dataclass(frozen=True)
class Case:
    """One kind of answer. Each used 60 uncached, 40 cached and 20 output tokens."""

    name: str
    provider: str
    path: str
    body: bytes
    stream: bool

    def __str__(self) -> str:
        return self.name

    @property
    def request(self) -> dict[str, t.Any]:
        return {"model": "asked-model", "messages": [], "stream": self.stream}


CASES: t.Final = (
    Case("chat", "openai", "/v1/chat/completions", CHAT_JSON, False),
    Case("chat-sse", "openai", "/v1/chat/completions", CHAT_STREAM, True),
    Case("responses-sse", "openai", "/v1/responses", RESPONSES_STREAM, True),
    Case("messages", "anthropic", "/v1/messages", MESSAGE_JSON, False),
    Case("messages-sse", "anthropic", "/v1/messages", MESSAGE_STREAM, True),
    Case(
        "gemini",
        "gemini",
        "/v1beta/models/gemini-2.5-flash:generateContent",
        GEMINI_JSON,
        False,
    ),
    Case(
        "gemini-sse",
        "gemini",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse&key=SECRET",
        GEMINI_STREAM,
        True,
    ),
    Case(
        "gemini-array",
        "gemini",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
        GEMINI_ARRAY,
        True,
    ),
)

ENCODED: t.Final = tuple(
    (case, encoding)
    for case in CASES
    for encoding in ENCODINGS
    # Kinds of answers and encodings hardly depend on each other.
    if case in CASES[:2] or encoding == "gzip"
)
"""Every kind of answer and every encoding, but not every combination."""

Read: t.TypeAlias = Callable[[t.Any], t.Any]
