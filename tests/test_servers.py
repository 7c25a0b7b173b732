"""Under common servers, each acknowledged call is stored exactly once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import typing as t
from collections.abc import Iterator
from http.client import HTTPConnection
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_llm_cost.db import tables
from tests.conftest import MakeApp

HOST = """
    import os
    import requests
    from flask import Flask
    from flask_llm_cost import LlmCost

    app = Flask("host", instance_path=os.environ["HOST_INSTANCE"])
    provider = os.environ["HOST_PROVIDER"]
    app.config["LLM_COST_PROVIDER_HOSTS"] = {provider: "openai"}
    if "HOST_DATABASE" in os.environ:
        app.config["LLM_COST_DATABASE_URI"] = os.environ["HOST_DATABASE"]
    llm_cost = LlmCost(app)
    if "HOST_EARLY" in os.environ:  # an app that is used before its server forks
        with app.app_context():
            llm_cost.track(provider="openai", model="early", input_tokens=1)

    @app.get("/<number>")
    def chat(number):
        with requests.Session() as session:
            session.mount("http://", llm_cost.adapter())
            response = session.post(
                f"http://{provider}/v1/chat/completions",
                json={"model": "gpt-4o", "messages": []}, headers={"X-Number": number},
            )
        return response.json()["id"]
"""


class Provider(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        body = {"id": self.headers["X-Number"], "model": "gpt-4o", "usage": usage}
        data = json.dumps({**body, "choices": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def provider() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def host(tmp_path: Path) -> Path:
    path = tmp_path / "served_host.py"
    path.write_text(textwrap.dedent(HOST))
    return path


class Gunicorn:
    """Gunicorn with the host app, and clients that send requests as fast as it answers."""

    def __init__(self, host: Path, env: dict[str, str], *options: str) -> None:
        self.acked: list[str] = []
        """The numbers of requests with a complete response."""
        self._log = host.with_suffix(".log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0"),
                    *("--workers", "2", "--graceful-timeout", "10", *options),
                    *("--chdir", str(host.parent), "served_host:app"),
                ],
                env={**env, "PYTHONUNBUFFERED": "1"},
                stdout=log,
                stderr=log,
            )
        self._port = self._wait_for_port()
        self._clients = [
            threading.Thread(target=self._ask, args=(n,)) for n in range(4)
        ]
        for client in self._clients:
            client.start()

    def _wait_for_port(self) -> int:
        until = time.monotonic() + 30
        while time.monotonic() < until and self._process.poll() is None:
            _, found, rest = self._log.read_text().partition("at: http://127.0.0.1:")
            if found and " " in rest:
                return int(rest.split()[0])
            time.sleep(0.05)
        raise AssertionError(self._log.read_text())

    def _ask(self, start: int) -> None:
        for number in range(start, 10**6, 4):
            connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
            try:
                connection.request("GET", f"/{number}")
                if connection.getresponse().read() == b"%d" % number:
                    self.acked.append(str(number))
            except (OSError, HTTPException):
                return
            finally:
                connection.close()

    def wait_for(self, count: int) -> None:
        until = time.monotonic() + 60
        while len(self.acked) < count:
            assert time.monotonic() < until, self._log.read_text()
            time.sleep(0.01)

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(30) == 0, self._log.read_text()
        for client in self._clients:
            client.join(60)


def _drain(host: Path, env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "flask", "--app", f"{host}:app", "llm-cost"]
    done = subprocess.run(
        [*command, "drain"], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "options",
    [
        "--worker-class sync",
        "--worker-class sync --preload",
        "--worker-class gthread --threads 4",
        "--worker-class gevent",
    ],
)
def test_sigterm_under_gunicorn_neither_loses_nor_doubles_calls(
    make_app: MakeApp, host: Path, provider: str, options: str
) -> None:
    for package in ("gunicorn", "gevent"):
        pytest.importorskip(package)
    app = make_app()
    env = {
        **os.environ,
        "HOST_INSTANCE": app.instance_path,
        "HOST_PROVIDER": provider,
    }
    # With --preload, the parent's own call belongs to it, not to a child.
    early = {"HOST_EARLY": "1"} if "--preload" in options else {}
    server = Gunicorn(host, env | early, *options.split())
    server.wait_for(40)
    server.terminate()
    _drain(host, env)
    columns = (tables.calls.c.response_id, tables.calls.c.model)
    with app.extensions["llm_cost"].ledger.reading() as connection:
        rows = [tuple(row) for row in connection.execute(sa.select(*columns))]
    stored = [number for number, model in rows if model != "early"]
    assert len(stored) == len(set(stored))
    assert set(server.acked) <= set(stored)
    # Calls whose response did not reach the client may be stored: one per client.
    assert len(stored) <= len(server.acked) + 4
    assert len(rows) - len(stored) == len(early)


UWSGI = """
    import sys, threading, types
    # As set by uWSGI, which then runs no threads between two requests.
    uwsgi = sys.modules["uwsgi"] = types.ModuleType("uwsgi")
    uwsgi.opt = {"http-socket": b"127.0.0.1:0", **dict.fromkeys(sys.argv[1:], True)}
    from served_host import app, llm_cost

    client = app.test_client()
    for number in range(3):
        assert client.get(f"/{number}").data == b"%d" % number
    print(threading.active_count())
    with app.app_context():
        print(llm_cost.calls.count())
"""


@pytest.mark.parametrize("option", [None, "enable-threads"])
def test_without_threads_queued_calls_are_stored_when_a_request_ends(
    make_app: MakeApp, host: Path, provider: str, option: str | None
) -> None:
    app = make_app()
    env = {**os.environ, "HOST_INSTANCE": app.instance_path, "HOST_PROVIDER": provider}
    command = [sys.executable, "-c", textwrap.dedent(UWSGI), *([option] * bool(option))]
    done = subprocess.run(
        t.cast("list[str]", command),
        cwd=host.parent,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    threads, stored = map(int, done.stdout.split())
    if option is None:
        # The first request's call at once; the others half a second later, or at exit.
        assert threads == 1
        assert stored >= 1
    else:
        assert threads == 2
    with app.extensions["llm_cost"].ledger.reading() as connection:
        numbers = connection.scalars(sa.select(tables.calls.c.response_id)).all()
    assert sorted(numbers) == ["0", "1", "2"]
