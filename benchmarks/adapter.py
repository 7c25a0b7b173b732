"""What the adapter adds to a call and to a streamed chunk, against a bare session.

The provider runs in a process of its own, so that only the client's CPU is counted;
the ledger is written, by its own thread, in the measured process.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import typing as t
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer

import requests
from flask import Flask
from interleave import run

from flask_llm_cost import LlmCost

CHUNKS = 1000

_usage = {
    "prompt_tokens": 900,
    "completion_tokens": CHUNKS,
    "total_tokens": CHUNKS + 900,
}
_plain = json.dumps(
    {
        "id": "chatcmpl-1",
        "model": "gpt-4o-mini",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "x" * 1700}}
        ],
        "usage": _usage,
    }
).encode()


def _event(**more: t.Any) -> bytes:
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1763640358,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_0000000000",
        "choices": [
            {"index": 0, "delta": {"content": " token"}, "finish_reason": None}
        ],
        "usage": None,
        **more,
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


_stream = b"".join(
    [_chunked(_event()) for _ in range(CHUNKS)]
    + [
        _chunked(_event(choices=[], usage=_usage)),
        _chunked(b"data: [DONE]\n\n"),
        b"0\r\n\r\n",
    ]
)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        if asked.get("stream"):
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            body = _stream
        else:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(_plain)))
            body = _plain
        self.end_headers()
        self.wfile.write(body)


def _serve(ports: multiprocessing.SimpleQueue[int]) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    ports.put(server.server_port)
    server.serve_forever()


def main() -> None:
    context = multiprocessing.get_context("spawn")
    ports = context.SimpleQueue()
    server = context.Process(target=_serve, args=(ports,), daemon=True)
    server.start()
    host = f"127.0.0.1:{ports.get()}"
    with tempfile.TemporaryDirectory() as folder:
        _measure(host, folder)
    server.terminate()
    server.join()


def _measure(host: str, folder: str) -> None:
    app = Flask("bench", instance_path=folder)
    app.config["LLM_COST_PROVIDER_HOSTS"] = {host: "openai"}
    llm_cost = LlmCost(app)
    bare, ours = requests.Session(), requests.Session()
    ours.mount("http://", llm_cost.adapter())
    url = f"http://{host}/v1/chat/completions"

    def plain(session: requests.Session) -> t.Callable[[], object]:
        return lambda: session.post(url, json={"model": "gpt-4o-mini"}).json()

    def stream(session: requests.Session) -> t.Callable[[], object]:
        def read() -> None:
            body = {"model": "gpt-4o-mini", "stream": True}
            with session.post(url, json=body, stream=True) as response:
                for _ in response.iter_lines():
                    pass

        return read

    run("One 2 KB answer", {"bare": plain(bare), "adapter": plain(ours)}, calls=50)
    run(
        f"A stream of {CHUNKS} chunks",
        {"bare": stream(bare), "adapter": stream(ours)},
        calls=3,
        per=CHUNKS,
        unit="chunk",
    )
    assert llm_cost.flush(60)
    print(f"\n{llm_cost.calls.count()} calls in the ledger")
    app.extensions["llm_cost"].close()
    bare.close()
    ours.close()


if __name__ == "__main__":
    main()
