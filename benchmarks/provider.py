"""A provider on loopback that answers like OpenAI, in a process of its own.

This way only the client's CPU time is counted.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import typing as t
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer


@contextlib.contextmanager
def provider(chunks: int) -> Iterator[str]:
    """Serve until the block ends, and yield the ``host:port``.

    :param chunks: The number of text chunks in a stream.
    """
    context = multiprocessing.get_context("spawn")
    ports = context.SimpleQueue()
    server = context.Process(target=_serve, args=(ports, chunks), daemon=True)
    server.start()
    yield f"127.0.0.1:{ports.get()}"
    server.terminate()
    server.join()


def _serve(ports: multiprocessing.SimpleQueue[int], chunks: int) -> None:
    class Handler(_Handler):
        plain, stream = _plain(chunks), _stream(chunks)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ports.put(server.server_port)
    server.serve_forever()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    plain: bytes
    stream: bytes

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        body = b""
        if not self.path.endswith(
            "/chat/completions"
        ):  # another package's own endpoint
            self.send_header("Content-Length", "0")
        elif json.loads(sent).get("stream"):
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            body = self.stream
        else:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(self.plain)))
            body = self.plain
        self.end_headers()
        self.wfile.write(body)


def _usage(tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": 900,
        "completion_tokens": tokens,
        "total_tokens": tokens + 900,
    }


def _plain(tokens: int) -> bytes:
    """A response of 2 KB."""
    message = {"role": "assistant", "content": "word " * 340}
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1763640358,
            "model": "gpt-4o-mini-2024-07-18",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": _usage(tokens),
        }
    ).encode()


def _stream(chunks: int) -> bytes:
    events = [
        # Each is different, because litellm rejects a stream that repeats itself.
        *(_event(_choice({"content": f" {number}"})) for number in range(chunks)),
        _event(_choice({}, "stop")),
        _event(usage=_usage(chunks)),
        b"data: [DONE]\n\n",
    ]
    sent = b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)
    return sent + b"0\r\n\r\n"


def _choice(delta: dict[str, str], reason: str | None = None) -> dict[str, t.Any]:
    return {"index": 0, "delta": delta, "finish_reason": reason}


def _event(*choices: dict[str, t.Any], usage: dict[str, int] | None = None) -> bytes:
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1763640358,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_0000000000",
        "choices": choices,
        "usage": usage,
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"
