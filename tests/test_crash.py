"""Nothing is lost: the process dies right after a response, and a restart finds every call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import typing as t
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_llm_cost.db import tables
from tests.conftest import MakeApp

HOST = """
    import json, os, threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from pathlib import Path
    import requests
    from flask import Flask
    from flask_llm_cost import LlmCost

    class Provider(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        def log_message(self, *args): pass
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({
                "id": self.headers["X-Number"], "model": "gpt-4o", "choices": [],
                "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
            }).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def create_app():
        app = Flask("host", instance_path=os.environ["HOST_INSTANCE"])
        if "HOST_DATABASE" in os.environ:
            app.config["LLM_COST_DATABASE_URI"] = os.environ["HOST_DATABASE"]
        app.config["LLM_COST_PROVIDER_HOSTS"] = {os.environ.get("HOST_PROVIDER", "x"): "openai"}
        LlmCost(app)
        return app

    def send(number):
        response = session.post(
            f"http://{os.environ['HOST_PROVIDER']}/v1/chat/completions",
            json={"model": "gpt-4o", "messages": []}, headers={"X-Number": str(number)})
        assert response.json()["id"] == str(number)
        os.write(1, b"%d\\n" % number)

    if __name__ == "__main__":
        server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        os.environ["HOST_PROVIDER"] = f"127.0.0.1:{server.server_port}"
        app = create_app()
        llm_cost = app.extensions["llm_cost"].extension
        session = requests.Session()
        session.mount("http://", llm_cost.adapter())
        def work(start):
            for number in range(int(os.environ["HOST_FIRST"]) + start, 10**6, 4):
                send(number)
        for start in range(4):
            threading.Thread(target=work, args=(start,), daemon=True).start()
        threading.Event().wait()
"""


def _crash(host: Path, env: dict[str, str], after: int) -> list[str]:
    """Run the host, kill it after so many responses; give the numbers it acknowledged."""
    process = subprocess.Popen(
        [sys.executable, str(host)], stdout=subprocess.PIPE, env=env
    )
    assert process.stdout is not None
    seen = [process.stdout.readline() for _ in range(after)]
    os.kill(process.pid, signal.SIGKILL)
    seen += process.stdout.readlines()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    return [line.decode().strip() for line in seen if line.endswith(b"\n")]


def _drain(host: Path, env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "flask", "--app", f"{host}:create_app", "llm-cost"]
    for verb in (["db", "upgrade"], ["drain"]):
        done = subprocess.run(
            [*command, *verb],
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def _check(host: Path, env: dict[str, str], stored: t.Callable[[], list[str]]) -> None:
    acknowledged = _crash(host, {**env, "HOST_FIRST": "0"}, 60)
    acknowledged += _crash(host, {**env, "HOST_FIRST": "500000"}, 25)
    _drain(host, env)
    _drain(host, env)
    assert len(acknowledged) >= 85
    missing = Counter(acknowledged) - Counter(stored())
    assert not missing
    # The last responses of the four threads may be recorded and not acknowledged yet.
    assert len(stored()) <= len(acknowledged) + 8
    assert max(Counter(stored()).values()) == 1


@pytest.fixture
def host(tmp_path: Path) -> Path:
    path = tmp_path / "crashing_host.py"
    path.write_text(textwrap.dedent(HOST))
    return path


def test_kill_9_loses_and_doubles_nothing(
    make_app: MakeApp, host: Path, tmp_path: Path
) -> None:
    app = make_app()
    env = {**os.environ, "HOST_INSTANCE": app.instance_path}

    def stored() -> list[str]:
        with app.extensions["llm_cost"].ledger.reading() as connection:
            return list(connection.scalars(sa.select(tables.calls.c.response_id)))

    _check(host, env, stored)


def test_kill_9_on_postgresql(
    make_app: MakeApp, host: Path, tmp_path: Path, postgresql_uri: str
) -> None:
    app = make_app(LLM_COST_DATABASE_URI=postgresql_uri)
    env = {
        **os.environ,
        "HOST_INSTANCE": app.instance_path,
        "HOST_DATABASE": postgresql_uri,
    }

    def stored() -> list[str]:
        with app.extensions["llm_cost"].ledger.reading() as connection:
            return list(connection.scalars(sa.select(tables.calls.c.response_id)))

    _check(host, env, stored)


FORK = """
    import os, sys
    from flask import Flask
    from flask_llm_cost import LlmCost

    app = Flask("host", instance_path=os.environ["HOST_INSTANCE"])
    llm_cost = LlmCost(app)
    with llm_cost.track_stream(provider="openai", model="gpt-4o") as stream:
        stream.event({"model": "gpt-4o", "choices": []})
        if os.fork() == 0:
            sys.exit()  # runs what is registered for the end, as a child of gunicorn does
        assert os.wait()[1] == 0
        stream.usage(input_tokens=7)
"""


def test_a_forked_child_does_not_end_the_calls_of_its_parent(
    make_app: MakeApp, tmp_path: Path
) -> None:
    app = make_app()
    script = tmp_path / "forking_host.py"
    script.write_text(textwrap.dedent(FORK))
    env = {**os.environ, "HOST_INSTANCE": app.instance_path}
    # Since Python 3.12, any fork beside a thread warns, and the writer is one.
    quiet = "ignore:This process:DeprecationWarning"
    done = subprocess.run(
        [sys.executable, "-W", quiet, str(script)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    columns = (tables.calls.c.outcome, tables.calls.c.input_tokens)
    with app.extensions["llm_cost"].ledger.reading() as connection:
        rows = [tuple(row) for row in connection.execute(sa.select(*columns))]
    assert rows == [("ok", 7)]
