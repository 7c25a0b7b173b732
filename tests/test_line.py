"""The whole line: a real app, a real server, the mounted adapter, the ledger."""

from __future__ import annotations

import gzip
import json
import random
import sys
import threading
import typing as t
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer

import pytest
import requests
import sqlalchemy as sa
from flask import Flask

from flask_llm_cost.db import tables
from tests.conftest import MakeApp
from tests.corpus import body_of
from tests.corpus import exchanges
from tests.corpus import FIRST_ENDPOINTS
from tests.corpus import NAMES
from tests.corpus import providers
from tests.corpus import request_of
from tests.corpus import Row

PROVIDERS = ("openai", "anthropic", "google")


HOP = (
    "connection",
    "content-encoding",
    "content-length",
    "keep-alive",
    "set-cookie",
    "transfer-encoding",
)
"""Headers of one connection, which ours are not."""


class Replay(ThreadingHTTPServer):
    """Sends recorded answers: streams cut at random bytes, gzip where it was."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rows: list[Row] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        number = int(self.headers["X-Row"])
        row = t.cast(Replay, self.server).rows[number]
        body = body_of(row)
        self.send_response(row["status"])
        for name, value in row["response_headers"].items():
            if name.lower() not in HOP:
                self.send_header(name, str(value).replace("\n", " "))
        if row["decoded_from"] == "gzip":
            body = gzip.compress(body, mtime=0)
            self.send_header("Content-Encoding", "gzip")
        if not row["is_sse"]:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        cuts = random.Random(number)
        while body:
            size = cuts.choice((1, 2, 7, 64, 300, 4096))
            chunk, body = body[:size], body[size:]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")

    do_POST = do_GET = _answer


@pytest.fixture
def servers() -> Iterator[dict[str, Replay]]:
    """One replaying server for each provider, since each is a host of its own."""
    running = {name: Replay() for name in providers()}
    threads = [
        threading.Thread(target=s.serve_forever, args=(0.01,)) for s in running.values()
    ]
    for thread in threads:
        thread.start()
    yield running
    for server in running.values():
        server.shutdown()
        server.server_close()
    for thread in threads:
        thread.join()


def _hosts(servers: dict[str, Replay]) -> dict[str, str]:
    return {server.host: NAMES.get(name, name) for name, server in servers.items()}


def _read(response: requests.Response, number: int) -> bytes:
    """Each row another way of reading."""
    way = number % 4
    if way == 0:
        return response.content
    if way == 1:
        return b"".join(response.iter_content(17))
    if way == 2:
        return b"".join(response.iter_content(None))
    return b"".join(response.raw.stream(64, decode_content=True))


def _send(
    app: Flask, servers: dict[str, Replay], pairs: list[tuple[Row, Row]]
) -> Iterator[tuple[int, bytes]]:
    """Send every row's request through the mounted adapter; give the bytes that came."""
    llm_cost = app.extensions["llm_cost"].extension
    with requests.Session() as session, app.app_context():
        session.mount("http://", llm_cost.adapter())
        for number, (row, _) in enumerate(pairs):
            server = servers[row["provider"]]
            server.rows.append(row)
            url = row["url"].replace("https://", "").split("/", 1)[1]
            with (
                llm_cost.tags(trace_id=str(number)),
                session.request(
                    row["method"],
                    f"http://{server.host}/{url}",
                    data=request_of(row),
                    headers={
                        "X-Row": str(len(server.rows) - 1),
                        "Content-Type": "application/json",
                    },
                    stream=bool(number % 4),
                    timeout=30,
                ) as response,
            ):
                yield number, _read(response, number)


def _usage(row: t.Any) -> dict[str, int]:
    return {
        "input": row.total_input_tokens,
        "output": row.total_output_tokens,
        "cache_read": row.cache_read_tokens + _other(row, "cache_read_"),
        "cache_write": row.cache_write_tokens
        + row.cache_write_1h_tokens
        + _other(row, "cache_write_"),
        "cache_write_1h": row.cache_write_1h_tokens,
        "reasoning": row.reasoning_tokens,
    }


def _other(row: t.Any, side: str) -> int:
    others = json.loads(row.details or "{}").get("other_tokens", {})
    return sum(count for name, count in others.items() if name.startswith(side))


def _rows(app: Flask) -> list[t.Any]:
    state = app.extensions["llm_cost"]
    assert state.extension.flush(60)
    with state.ledger.reading() as connection:
        return list(connection.execute(sa.select(tables.calls)))


def _polls(pairs: list[tuple[Row, Row]]) -> set[int]:
    """Rows that only look again at an answer whose create carried its usage already.

    A GET is billed only when it brings what its create did not carry.
    """
    seen, polls = set(), set()
    for number, (row, expected) in enumerate(pairs):
        answer = (row["provider"], expected["response_id"])
        if row["method"] == "GET" and answer in seen:
            polls.add(number)
        seen.add(answer)
    return polls


def _check(app: Flask, servers: dict[str, Replay], pairs: list[tuple[Row, Row]]) -> int:
    for number, body in _send(app, servers, pairs):
        assert body == body_of(pairs[number][0]), pairs[number][0]["id"]
    by_number = {int(row.trace_id): row for row in _rows(app)}
    polls = _polls(pairs)
    assert len(by_number) == len(pairs) - len(polls)
    for number, (row, expected) in enumerate(pairs):
        if number in polls:
            continue
        stored = by_number[number]
        assert stored.input_tokens is not None, row["id"]
        found = _usage(stored)
        assert found == {key: expected[key] or 0 for key in found}, row["id"]
        assert stored.outcome == "ok"
        if row["provider"] in PROVIDERS and row["endpoint_family"] in FIRST_ENDPOINTS:
            model = expected["model"] or expected["model_requested"]
            assert stored.response_id == expected["response_id"], row["id"]
            assert stored.model == model, row["id"]
    return len(by_number)


def test_recorded_traffic_arrives_whole(
    make_app: MakeApp, servers: dict[str, Replay], capsys: pytest.CaptureFixture[str]
) -> None:
    app = make_app(LLM_COST_PROVIDER_HOSTS=_hosts(servers))
    count = _check(app, servers, exchanges(PROVIDERS, FIRST_ENDPOINTS))
    with capsys.disabled():
        sys.stdout.write(f" {count} recorded exchanges through adapter and ledger ")
    assert count > 1000


def test_recorded_traffic_of_every_provider_arrives(
    make_app: MakeApp, servers: dict[str, Replay]
) -> None:
    app = make_app(LLM_COST_PROVIDER_HOSTS=_hosts(servers))
    # Amazon's event streams are recorded decoded: what came over the wire is not there.
    pairs = [
        (row, expected)
        for row, expected in exchanges(providers())
        if row["body_encoding"] != "aws-eventstream-decoded-jsonl"
    ]
    assert _check(app, servers, pairs) > 1500
