"""A provider on the loopback whose answers are often cut, wrong or hostile."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import threading
import typing as t
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qs
from urllib.parse import urlsplit

_numbers = itertools.count()
_lock = threading.Lock()

MOST_TOKENS: t.Final = 1000


def _usage(chance: random.Random) -> dict[str, int]:
    return {"prompt_tokens": 9, "completion_tokens": chance.randint(0, MOST_TOKENS)}


def _document(number: str, chance: random.Random) -> dict[str, t.Any]:
    return {
        "id": number,
        "object": "chat.completion",
        "model": "gpt-4o-mini",
        "choices": [{"message": {"role": "assistant", "content": "hi"}}],
        "usage": _usage(chance),
    }


def _stream(number: str, chance: random.Random) -> bytes:
    head = {"id": number, "object": "chat.completion.chunk", "model": "gpt-4o-mini"}
    events = [
        head | {"choices": [{"index": 0, "delta": {"content": "hi"}}]},
        head | {"choices": [], "usage": _usage(chance)},
    ]
    lines = [b"data: " + json.dumps(each).encode() for each in events]
    return b"\n\n".join([*lines, b"data: [DONE]", b""])


HOSTILE: t.Final = (
    b'{"usage": {"prompt_tokens": 1e999999, "completion_tokens": 1}, "cost": "1e999990"}',
    b'{"usage": {"prompt_tokens": "' + b"9" * 100_000 + b'"}}',
    b"[" * 50_000,
    b'{"usage": null, "id": {"id": []}, "model": [1]}',
    b"\xff\xfe" + '{"usage": {"prompt_tokens": 3}}'.encode("utf-16-le"),
    gzip.compress(gzip.compress(b"0" * 3_000_000)),
    b"",
)


class Provider(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """Clients are killed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        lane = parse_qs(urlsplit(self.path).query)["lane"][0]
        chance = random.Random()
        with _lock:
            number = f"chatcmpl-{next(_numbers)}"
        encoding = None
        if lane == "hostile":
            body = chance.choice(HOSTILE)
            encoding = chance.choice([None, "gzip", "br", "gzip, gzip", "x-unknown"])
        elif request.get("stream"):
            body = _stream(number, chance)
        else:
            body = json.dumps(_document(number, chance)).encode()
        self.send_response(chance.choices((200, 500), (30, 1))[0])
        streams = request.get("stream") and lane != "hostile"
        kind = "text/event-stream" if streams else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("x-request-id", number)
        self.send_header("Content-Length", str(len(body)))
        if encoding is not None:
            self.send_header("Content-Encoding", encoding)
        self.end_headers()
        if chance.random() < 0.03:  # the connection is lost
            body = body[: chance.randint(0, len(body))]
            self.close_connection = True
        self.wfile.write(body)
