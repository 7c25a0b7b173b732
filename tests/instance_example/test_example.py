"""The example app, as its users see it."""

from __future__ import annotations

import ast
import contextlib
import datetime as dt
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import typing as t
import zoneinfo
from collections.abc import Iterator
from decimal import Decimal

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

import instance_example
from flask_llm_cost.call import Call
from flask_llm_cost.cli.demo.provider import serve
from flask_llm_cost.query.detail import stream_calls
from flask_llm_cost.query.filters import CallFilter
from instance_example import create_app
from instance_example.models import db
from instance_example.models import Question


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(pause=0) as url:
        yield url


@contextlib.contextmanager
def make(tmp_path: pathlib.Path, **config: t.Any) -> Iterator[Flask]:
    app = create_app(
        {
            "TESTING": True,
            "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path / 'example.db'}",
            "LLM_COST_DATABASE_URI": f"sqlite:///{tmp_path / 'llm_cost.db'}",
            "LLM_COST_SPOOL_DIR": str(tmp_path / "spool"),
            **config,
        }
    )
    yield app
    app.extensions["llm_cost"].close()
    with app.app_context():
        for engine in db.engines.values():
            engine.dispose()


@pytest.fixture
def app(url: str, tmp_path: pathlib.Path) -> Iterator[Flask]:
    hosts = {url.removeprefix("http://"): "openai"}
    with make(tmp_path, LLM_URL=url, LLM_COST_PROVIDER_HOSTS=hosts) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def login(client: FlaskClient, name: str) -> None:
    response = client.post("/login", data={"name": name, "password": name})
    assert response.status_code == 302


def ledger(app: Flask) -> list[Call]:
    state = app.extensions["llm_cost"]
    assert state.extension.flush(20)
    return list(stream_calls(state.ledger.reading, CallFilter()))


def test_anonymous_visitors_are_redirected_to_the_login(client: FlaskClient) -> None:
    for path in ("/questions", "/llm-costs/", "/llm-costs/calls"):
        response = client.get(path)
        assert response.status_code == 302
        assert response.location.startswith("/login?next=")


def test_a_wrong_password_is_rejected(client: FlaskClient) -> None:
    response = client.post("/login", data={"name": "admin", "password": "no"})
    assert response.status_code == 401
    assert client.get("/questions").status_code == 302


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\e"])
def test_a_login_does_not_redirect_to_other_sites(
    client: FlaskClient, target: str
) -> None:
    response = client.post(
        "/login",
        query_string={"next": target},
        data={"name": "admin", "password": "admin"},
    )
    assert response.location == "/questions"


def test_a_question_becomes_a_call_with_its_tags(
    app: Flask, client: FlaskClient
) -> None:
    login(client, "visitor")
    page = client.post("/questions", data={"text": "What is a ledger?"})
    assert "<blockquote>" in page.text
    [call] = ledger(app)
    assert call.tags == {
        "env": "example",
        "tenant": "acme",
        "user_id": "1",
        "endpoint": "questions.whole",
        "feature": "ask",
    }
    assert (call.provider, call.outcome, call.stream) == ("openai", "ok", False)
    assert call.cost is not None
    assert call.cost.total_usd > 0


def test_a_streamed_answer_is_priced_too(app: Flask, client: FlaskClient) -> None:
    login(client, "admin")
    page = client.post("/questions/stream", data={"text": "Tell me more."})
    assert page.mimetype == "text/plain"
    assert len(page.text) > 5
    [call] = ledger(app)
    assert (call.stream, call.usage_source) == (True, "stream_final")
    assert call.tags["endpoint"] == "questions.streamed"
    assert call.cost is not None


def test_the_app_stores_questions_and_the_ledger_does_not(
    app: Flask, client: FlaskClient, tmp_path: pathlib.Path
) -> None:
    login(client, "visitor")
    client.post("/questions", data={"text": "My secret plan"})
    [call] = ledger(app)
    assert "secret" not in repr(call)
    with app.app_context():
        assert db.session.scalar(sa.select(Question.text)) == "My secret plan"


def test_the_price_of_the_file_is_used(app: Flask, client: FlaskClient) -> None:
    app.config["LLM_MODEL"] = "example-writer"
    login(client, "visitor")
    client.post("/questions", data={"text": "Hello"})
    [call] = ledger(app)
    assert call.cost is not None
    assert (call.cost.source, call.cost.price_key) == (
        "file",
        "openai/example-writer",
    )


def test_an_error_is_shown_and_recorded(app: Flask, client: FlaskClient) -> None:
    app.config["LLM_MODEL"] = "demo-429"
    login(client, "admin")
    page = client.post("/questions", data={"text": "Hello"})
    assert page.status_code == 502
    assert "the provider answered 429" in page.text
    [call] = ledger(app)
    assert (call.outcome, call.http_status, call.usage) == ("http_error", 429, None)


def test_a_cut_stream_is_reported(app: Flask, client: FlaskClient) -> None:
    app.config["LLM_MODEL"] = "demo-cut"
    login(client, "admin")
    page = client.post("/questions/stream", data={"text": "Hello"})
    assert "The answer was cut short" in page.text
    [call] = ledger(app)
    assert call.outcome == "failed"


def test_visitors_are_denied_access_to_the_costs(client: FlaskClient) -> None:
    login(client, "visitor")
    assert client.get("/llm-costs/").status_code == 403
    assert "LLM costs" not in client.get("/questions").text


@pytest.mark.parametrize("name", ["admin", "finance"])
def test_staff_see_the_costs(app: Flask, client: FlaskClient, name: str) -> None:
    login(client, name)
    client.post("/questions", data={"text": "Hello"})
    ledger(app)
    assert "LLM costs" in client.get("/questions").text
    assert client.get("/llm-costs/").status_code == 200
    assert "gpt-4o-mini" in client.get("/llm-costs/calls").text


def test_a_job_is_tagged_without_a_request(app: Flask, client: FlaskClient) -> None:
    login(client, "visitor")
    client.post("/questions", data={"text": "Hello"})
    assert client.post("/questions/digest").status_code == 302
    assert client.get("/questions").text.count("<blockquote>") == 1
    call = next(c for c in ledger(app) if c.tags["feature"] == "digest")
    assert (call.tags["tenant"], call.tags["user_id"]) == ("acme", "1")


def test_a_worker_runs_the_job(
    url: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of its own, with a queue of files: no server is needed."""
    queue = tmp_path / "queue"
    queue.mkdir()
    settings = {
        "broker_url": "filesystem://",
        "broker_transport_options": {
            "data_folder_in": str(queue),
            "data_folder_out": str(queue),
            "control_folder": str(tmp_path / "control"),
        },
    }
    config = {
        "CELERY": settings,
        "LLM_URL": url,
        "LLM_COST_PROVIDER_HOSTS": {url.removeprefix("http://"): "openai"},
    }
    with make(tmp_path, **config) as app:
        client = app.test_client()
        login(client, "visitor")
        client.post("/questions/digest")
        assert ledger(app) == []
        environment = {
            f"EXAMPLE_{name}": json.dumps(app.config[name])
            for name in (
                *("SQLALCHEMY_DATABASE_URI", "LLM_COST_DATABASE_URI"),
                *("LLM_COST_SPOOL_DIR", *config),
            )
        }
        worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", "instance_example.worker"),
                *("worker", "--pool", "solo", "--without-gossip", "--without-mingle"),
            ],
            cwd=pathlib.Path(instance_example.__file__).parents[1],
            env=os.environ | environment,
        )
        try:
            until = time.monotonic() + 60
            while not (calls := ledger(app)) and time.monotonic() < until:
                time.sleep(0.2)
        finally:
            worker.terminate()
            worker.wait(30)
        [call] = calls
        assert call.tags["feature"] == "digest"
        assert call.tags["tenant"] == "acme"


def test_a_tenant_cannot_exceed_its_plan(app: Flask, client: FlaskClient) -> None:
    login(client, "guest")
    sent = 0
    while (page := client.post("/questions", data={"text": "Hi"})).status_code == 200:
        sent += 1
        assert sent < 50
    assert (page.status_code, sent > 0) == (429, True)
    assert "limit of $0.01" in page.text
    assert "Ask again after 20" in page.text
    assert client.post("/questions/digest").status_code == 429
    calls = ledger(app)
    assert len(calls) == sent
    assert sum(call.cost.total_usd for call in calls if call.cost) < Decimal("0.01")
    other = app.test_client()
    login(other, "visitor")
    assert other.post("/questions", data={"text": "Hello"}).status_code == 200


def test_customers_see_their_own_usage_only(app: Flask, client: FlaskClient) -> None:
    login(client, "visitor")
    client.post("/questions", data={"text": "Hello"})
    client.post("/questions/digest")
    ledger(app)
    page = client.get("/usage").text
    assert "2 calls this month" in page
    assert "of the $5.00 in your plan" in page
    assert "<td>digest</td>" in page
    other = app.test_client()
    assert other.get("/usage").status_code == 302
    login(other, "guest")
    assert "0 calls this month" in other.get("/usage").text


def test_statements_charge_a_factor(app: Flask, client: FlaskClient) -> None:
    login(client, "visitor")
    client.post("/questions", data={"text": "Hello"})
    ledger(app)
    args = ["llm-cost", "statement", "--tag", "tenant", "--format", "csv"]
    month = f"{dt.datetime.now(zoneinfo.ZoneInfo('Europe/Berlin')):%Y-%m}"
    shown = app.test_cli_runner().invoke(args=[*args, "--month", month])
    assert shown.exit_code == 0, shown.output
    assert "acme" in shown.output
    assert ",0.000036,0.0000432\n" in shown.output


def test_the_commands_know_the_app(app: Flask) -> None:
    runner = app.test_cli_runner()
    assert runner.invoke(args=["llm-cost", "db", "current"]).exit_code == 0
    report = runner.invoke(args=["llm-cost", "report"])
    assert "Europe/Berlin" in report.stdout
    assert "Tag user_id" in report.stdout


def test_the_fake_provider_starts_by_itself(tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with make(
        tmp_path,
        LOOPBACK_PORT=port,
        LLM_COST_PROVIDER_HOSTS={f"127.0.0.1:{port}": "openai"},
    ) as app:
        client = app.test_client()
        login(client, "visitor")
        assert "<blockquote>" in client.post("/questions", data={"text": "Hello"}).text
        assert len(ledger(app)) == 1


def test_every_setting_of_the_example_has_a_comment() -> None:
    path = pathlib.Path(instance_example.__file__).with_name("config.py")
    lines = path.read_text().splitlines()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            above = lines[node.lineno - 2]
            assert above.startswith(("#", "LLM_", "SECRET_KEY")), lines[node.lineno - 1]
