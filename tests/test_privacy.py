"""No content of a prompt, response, key or URL query is ever stored or logged."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import typing as t
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from flask_llm_cost.cli.demo import provider
from flask_llm_cost.scope import digest_of
from tests.conftest import MakeApp

MARK = "XYZZY-7f3a"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        ok = "fail" not in self.path
        answer: dict[str, t.Any] = {"error": {"message": MARK}}
        if ok:
            answer = {
                "id": "r1",
                "model": "gpt-4o",
                "choices": [{"message": {"content": MARK}}],
                "usage": {
                    "prompt_tokens": 5,
                    "completion_tokens": 7,
                    "total_tokens": 12,
                },
            }
        body = json.dumps(answer).encode()
        if "garbage" in self.path:
            body = b"{" + MARK.encode()
        self.send_response(200 if ok else 500)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Secret", MARK)
        self.end_headers()
        if "cut" in self.path:
            body = body[:-5]
            self.close_connection = True
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_no_content_reaches_ledger_spool_or_log(
    make_app: MakeApp, server: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG, "flask_llm_cost")
    app = make_app(LLM_COST_PROVIDER_HOSTS={server: "openai", "127.0.0.1:9": "openai"})
    llm_cost = app.extensions["llm_cost"].extension
    body = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": MARK}],
        "user": MARK,
    }
    with requests.Session() as session:
        session.mount("http://", llm_cost.adapter())
        for query in ("", "&fail=1", "&cut=1", "&garbage=1"):
            # Of a body that was cut, which urllib3 1.26 accepts.
            with contextlib.suppress(requests.exceptions.ChunkedEncodingError):
                session.post(
                    f"http://{server}/v1/chat/completions?key={MARK}{query}",
                    json=body,
                    headers={"Authorization": f"Bearer {MARK}", "X-Api-Key": MARK},
                    timeout=10,
                )
        with pytest.raises(requests.ConnectionError):
            session.post(
                f"http://127.0.0.1:9/v1/chat/completions?key={MARK}", json=body
            )
    assert llm_cost.flush(60)
    assert llm_cost.calls.count() == 5
    assert MARK.encode() not in _texts(tmp_path)
    assert b"gpt-4o" in _texts(tmp_path)
    scopes = {call.scope for call in llm_cost.calls.rows()}
    assert len(scopes) == 1  # the key is the same in headers and URLs
    assert all(scope and scope.startswith("key=") for scope in scopes)
    assert digest_of(MARK).encode() not in _texts(tmp_path)
    ours = [r for r in caplog.records if r.name.startswith("flask_llm_cost")]
    assert not [r for r in ours if MARK in r.getMessage() or MARK in str(r.exc_text)]


def test_no_content_is_in_the_spool(
    make_app: MakeApp, server: str, tmp_path: Path
) -> None:
    # While the database is unavailable, lines stay in the spool.
    app = make_app(
        LLM_COST_PROVIDER_HOSTS={server: "openai"},
        LLM_COST_DATABASE_URI="postgresql+psycopg://nobody@127.0.0.1:9/nowhere",
    )
    llm_cost = app.extensions["llm_cost"].extension
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": MARK}]}
    with requests.Session() as session:
        session.mount("http://", llm_cost.adapter())
        url = f"http://{server}/v1/chat/completions?key={MARK}"
        session.post(url, json=body, headers={"Authorization": MARK}, timeout=10)
    assert not llm_cost.flush(0.1)
    assert digest_of(MARK).encode() in _texts(tmp_path)
    assert b"gpt-4o" in _texts(tmp_path)
    assert MARK.encode() not in _texts(tmp_path)


@pytest.mark.parametrize(
    ("dialect", "path"),
    [
        ("openai", "/v1/chat/completions"),
        ("openai", "/v1/responses"),
        ("anthropic", "/v1/messages"),
        ("gemini", "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"),
    ],
)
def test_no_content_of_a_stream_is_stored(
    make_app: MakeApp, tmp_path: Path, dialect: str, path: str
) -> None:
    with provider.serve() as url:
        app = make_app(LLM_COST_PROVIDER_HOSTS={url.split("//")[1]: dialect})
        llm_cost = app.extensions["llm_cost"].extension
        body = {"model": "gpt-4o", "stream": True, "messages": [{"content": MARK}]}
        with requests.Session() as session:
            session.mount("http://", llm_cost.adapter())
            # A stream cuts words anywhere; with enough of them, one piece is whole.
            order = {"X-Loopback": f"say={'XYZZY' * 40}"}
            answer = session.post(url + path, json=body, headers=order)
        assert "YZZ" in answer.text
    assert llm_cost.flush(60)
    assert llm_cost.calls.count() == 1
    assert MARK.encode() not in _texts(tmp_path)
    assert b"YZZ" not in _texts(tmp_path)


def _texts(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
