"""A stream that the app stops reading: what is known of its cost, from the wire to a page."""

from __future__ import annotations

import csv
import io
import json
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest
import requests
from flask import Flask

from flask_llm_cost.ledger.reprice import Scope
from flask_llm_cost.prices.requote import requote
from flask_llm_cost.query.calls import CallQuery
from tests.capture.server import Answer
from tests.capture.server import CHAT_STREAM
from tests.capture.server import Provider
from tests.conftest import MakeApp

STREAM = Answer(
    CHAT_STREAM, headers=(("Content-Type", "text/event-stream"),), cuts=(99,)
)
ASK = {"model": "gpt-4o", "stream": True, "max_tokens": 1000, "messages": []}


@pytest.fixture(params=["database", "jsonl"])
def cut(request: pytest.FixtureRequest, make_app: MakeApp, provider: Provider) -> Flask:
    """An app that has stopped a stream before its usage came, and read one to its end."""
    provider.play(STREAM, STREAM)
    app = make_app(
        LLM_COST_STORAGE=request.param,
        LLM_COST_PROVIDER_HOSTS={provider.host: "openai"},
    )
    llm_cost = app.extensions["llm_cost"].extension
    app.register_blueprint(llm_cost.blueprint(access="public"), url_prefix="/c")
    with app.app_context(), requests.Session() as session:
        session.mount("http://", llm_cost.adapter())
        with session.post(provider.url(), json=ASK, stream=True) as response:
            assert next(response.iter_content(99))
        assert session.post(provider.url(), json=ASK).content
        assert llm_cost.flush(60)
    return app


def calls(app: Flask) -> CallQuery:
    with app.app_context():
        found: CallQuery = app.extensions["llm_cost"].extension.calls
    return found


def command(app: Flask, *args: str) -> str:
    done = app.test_cli_runner().invoke(args=["llm-cost", *args])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_true_cost_is_between_the_floor_and_the_ceiling(cut: Flask) -> None:
    found = calls(cut).where(outcome="interrupted").totals()
    true = calls(cut).where(outcome="ok").total_cost()
    assert (found.priced, found.incomplete, found.unbounded) == (1, 1, 0)
    assert found.ceiling_usd is not None
    assert found.spend_usd <= true <= found.ceiling_usd
    # 1,000 tokens of output at $10 per million, and less than a cent of input.
    assert Decimal("0.01") < found.ceiling_usd < Decimal("0.02")


def test_pages_and_files_show_it(cut: Flask) -> None:
    [row] = calls(cut).where(outcome="interrupted").rows()
    visitor = cut.test_client()
    page = visitor.get(f"/c/calls/{row.event_id}").text
    assert "$0.00 <span" in page
    assert "The response was cut before its final usage." in page
    lines = csv.DictReader(io.StringIO(visitor.get("/c/calls.csv").text))
    [cells] = (line for line in lines if line["event_id"] == row.event_id)
    assert Decimal(cells["ceiling_usd"]) == row.ceiling_usd
    assert cells["complete"] == "no"
    found = json.loads(command(cut, "report", "--format", "json"))["totals"]
    assert Decimal(found["ceiling_usd"]) == calls(cut).totals().ceiling_usd


def test_an_export_is_imported_with_its_ceilings(
    cut: Flask, make_app: MakeApp, tmp_path: Path
) -> None:
    file = str(tmp_path / "calls.jsonl")
    command(cut, "calls", "export", "--format", "jsonl", "--output", file)
    uri = f"sqlite:///{tmp_path / 'other.db'}"
    other = make_app(LLM_COST_DATABASE_URI=uri)
    command(other, "db", "upgrade")
    command(other, "calls", "import", file)
    assert calls(other).totals() == calls(cut).totals()


@pytest.mark.parametrize("cut", ["database"], indirect=True)
def test_the_same_prices_change_nothing(cut: Flask) -> None:
    state: t.Any = cut.extensions["llm_cost"]
    today = calls(cut).today().filter
    assert today.start is not None
    assert today.end is not None
    scope = Scope(today.start, today.end, priced=True)
    done = state.ledger.repricing.reprice(
        scope, lambda call: requote(state.book, call), now=state.clock()
    )
    assert (done.seen, done.changed, done.priced) == (2, 0, 0)
