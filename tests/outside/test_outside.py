"""An app with a custom provider, in another process, that uses only public names."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask import Response
from werkzeug.serving import make_server

from flask_llm_cost import providers
from tests import test_exports

SHOP = Path(__file__).parent / "shop.py"

PUBLIC = {
    "flask_llm_cost": set(test_exports.PUBLIC),
    "flask_llm_cost.providers": set(providers.__all__),
}


def parrot() -> Flask:
    """An LLM with its own response format."""
    app = Flask("parrot")

    @app.post("/ask/parrot")
    def ask() -> Response:
        spent = {"in": 1_000_000, "hit": 400_000, "out": 10}
        body = {"engine": "parrot", "text": "hello " * 9, "spent": spent, "ref": "r1"}
        return Response(json.dumps(body), mimetype="application/json")

    @app.post("/ask/parrot/slowly")
    def slowly() -> Response:
        events = [{"engine": "parrot", "ref": "r2", "say": "hel"}, {"say": "lo"}]
        last = {"spent": {"in": 8, "hit": 9, "out": 3}, "last": True}
        lines = (f"data: {json.dumps(e)}\n\n" for e in (*events, last))
        return Response(lines, mimetype="text/event-stream")

    @app.post("/ask/wrong")
    def wrong() -> tuple[str, int]:
        return "no", 500

    @app.post("/health")
    def health() -> str:
        return "fine"

    return app


@pytest.fixture
def llm_url() -> Iterator[str]:
    server = make_server("127.0.0.1", 0, parrot(), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_shop_uses_only_public_names() -> None:
    for node in ast.walk(ast.parse(SHOP.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and "llm_cost" in (node.module or ""):
            assert {alias.name for alias in node.names} <= PUBLIC[node.module or ""]
        elif isinstance(node, ast.Import):
            assert not any("llm_cost" in alias.name for alias in node.names)


def test_a_custom_provider_is_read_and_priced(llm_url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SHOP), llm_url, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[::-1] == [
        ["ours", "parrot", "r1", "response", 1_000_000, 10, "0.64002", []],
        ["ours", "parrot", "r2", "stream_final", 8, 3]
        + ["0.0000068", ["usage_conflict"]],
        ["ours", "wrong", None, "unknown", None, None, None, []],
    ]
