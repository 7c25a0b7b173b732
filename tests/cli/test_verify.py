"""``verify-capture``: each dialect is captured, and nothing is stored of it."""

from __future__ import annotations

from flask import Flask

from flask_llm_cost import Call
from flask_llm_cost import call_recorded
from flask_llm_cost.query.detail import stream_calls
from flask_llm_cost.query.filters import CallFilter
from tests.cli.conftest import Run
from tests.conftest import MakeApp


def test_a_call_of_each_dialect_arrives(make_app: MakeApp, run: Run) -> None:
    result = run("verify-capture", app=make_app())
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "[   ok] openai",
        "[   ok] anthropic",
        "[   ok] gemini",
    ]
    assert all("tokens in" in line and "$0." in line for line in lines)


def test_nothing_is_stored_but_receivers_are_told(app: Flask, run: Run) -> None:
    told: list[Call] = []

    def receive(sender: Flask, call: Call) -> None:
        told.append(call)

    with call_recorded.connected_to(receive, sender=app):
        run("verify-capture", app=app)
    assert [call.tags for call in told] == [{"feature": "llm_cost_verify"}] * 3
    state = app.extensions["llm_cost"]
    assert state.extension.flush(10)
    assert list(stream_calls(state.ledger.reading, CallFilter())) == []


def test_a_capture_that_is_off_fails(make_app: MakeApp, run: Run) -> None:
    result = run("verify-capture", app=make_app(LLM_COST_ENABLED=False))
    assert result.exit_code == 1
    assert "LLM_COST_ENABLED is False" in result.stdout


def test_tags_that_are_lost_fail(make_app: MakeApp, run: Run) -> None:
    result = run("verify-capture", app=make_app(LLM_COST_MAX_TAGS=0))
    assert result.exit_code == 1
    assert "without its tags" in result.stdout
