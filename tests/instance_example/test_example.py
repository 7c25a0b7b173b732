"""The example app, as its users see it."""

from __future__ import annotations

import ast
import contextlib
import pathlib
import socket
import typing as t
from collections.abc import Iterator

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
from instance_example import llm
from instance_example.models import db
from instance_example.models import Question


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(pause=0) as url:
        yield url
    llm.close()


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
    for path in ("/ask", "/llm-costs/", "/llm-costs/calls"):
        response = client.get(path)
        assert response.status_code == 302
        assert response.location.startswith("/login?next=")


def test_a_wrong_password_is_rejected(client: FlaskClient) -> None:
    response = client.post("/login", data={"name": "admin", "password": "no"})
    assert response.status_code == 401
    assert client.get("/ask").status_code == 302


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\e"])
def test_a_login_does_not_redirect_to_other_sites(
    client: FlaskClient, target: str
) -> None:
    response = client.post(
        "/login",
        query_string={"next": target},
        data={"name": "admin", "password": "admin"},
    )
    assert response.location == "/ask"


def test_a_question_becomes_a_call_with_its_tags(
    app: Flask, client: FlaskClient
) -> None:
    login(client, "visitor")
    page = client.post("/ask", data={"text": "What is a ledger?"})
    assert "<blockquote>" in page.text
    [call] = ledger(app)
    assert call.tags == {
        "env": "example",
        "user_id": "2",
        "endpoint": "ask.whole",
        "feature": "ask",
    }
    assert (call.provider, call.outcome, call.stream) == ("openai", "ok", False)
    assert call.cost is not None
    assert call.cost.total_usd > 0


def test_a_streamed_answer_is_priced_too(app: Flask, client: FlaskClient) -> None:
    login(client, "admin")
    page = client.post("/ask/stream", data={"text": "Tell me more."})
    assert page.mimetype == "text/plain"
    assert len(page.text) > 5
    [call] = ledger(app)
    assert (call.stream, call.usage_source) == (True, "stream_final")
    assert call.tags["endpoint"] == "ask.streamed"
    assert call.cost is not None


def test_the_app_stores_questions_and_the_ledger_does_not(
    app: Flask, client: FlaskClient, tmp_path: pathlib.Path
) -> None:
    login(client, "visitor")
    client.post("/ask", data={"text": "My secret plan"})
    [call] = ledger(app)
    assert "secret" not in repr(call)
    with app.app_context():
        assert db.session.scalar(sa.select(Question.text)) == "My secret plan"


def test_the_price_of_the_file_is_used(app: Flask, client: FlaskClient) -> None:
    app.config["LLM_MODEL"] = "example-writer"
    login(client, "visitor")
    client.post("/ask", data={"text": "Hello"})
    [call] = ledger(app)
    assert call.cost is not None
    assert (call.cost.source, call.cost.price_key) == (
        "file",
        "openai/example-writer",
    )


def test_an_error_is_shown_and_recorded(app: Flask, client: FlaskClient) -> None:
    app.config["LLM_MODEL"] = "demo-429"
    login(client, "visitor")
    page = client.post("/ask", data={"text": "Hello"})
    assert page.status_code == 502
    assert "the provider answered 429" in page.text
    [call] = ledger(app)
    assert (call.outcome, call.http_status, call.usage) == ("http_error", 429, None)


def test_a_cut_stream_is_reported(app: Flask, client: FlaskClient) -> None:
    app.config["LLM_MODEL"] = "demo-cut"
    login(client, "visitor")
    page = client.post("/ask/stream", data={"text": "Hello"})
    assert "The answer was cut short" in page.text
    [call] = ledger(app)
    assert call.outcome == "failed"


def test_visitors_are_denied_access_to_the_costs(client: FlaskClient) -> None:
    login(client, "visitor")
    assert client.get("/llm-costs/").status_code == 403
    assert "LLM costs" not in client.get("/ask").text


def test_admins_see_the_costs(app: Flask, client: FlaskClient) -> None:
    login(client, "admin")
    client.post("/ask", data={"text": "Hello"})
    ledger(app)
    assert "LLM costs" in client.get("/ask").text
    assert client.get("/llm-costs/").status_code == 200
    assert "gpt-4o-mini" in client.get("/llm-costs/calls").text


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
        assert "<blockquote>" in client.post("/ask", data={"text": "Hello"}).text
        assert len(ledger(app)) == 1
    llm.close()


def test_every_setting_of_the_example_has_a_comment() -> None:
    path = pathlib.Path(instance_example.__file__).with_name("config.py")
    lines = path.read_text().splitlines()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            above = lines[node.lineno - 2]
            assert above.startswith(("#", "LLM_", "SECRET_KEY")), lines[node.lineno - 1]
