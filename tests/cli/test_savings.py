"""``savings``, ``prices whatif`` and the page: the same lines."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from click.testing import Result
from flask import Flask

from flask_llm_cost.call import Usage
from tests.conftest import MakeApp


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    app: Flask = make_app(
        LLM_COST_ROLLUP_TAGS=["feature"],
        LLM_COST_PRICE_OVERRIDES={
            "openai/m": {"input": "2", "cache_read": "1", "batch_input": "1"},
            "openai/n": {"input": "1"},
        },
    )
    llm_cost = app.extensions["llm_cost"].extension
    app.register_blueprint(llm_cost.blueprint(access="public"), url_prefix="/llm")
    for outcome, tags in (("interrupted", {}), ("ok", {"feature": "import"})):
        llm_cost.track(
            provider="openai",
            model="m",
            usage=Usage(input_tokens=1_000_000, cache_read_tokens=500_000),
            outcome=outcome,
            tags=tags,
            at=dt.datetime.now(dt.UTC),
        )
    assert llm_cost.flush(20)
    return app


def run(app: Flask, *args: str) -> Result:
    return app.test_cli_runner().invoke(args=["llm-cost", *args])


def test_savings_are_lines_with_their_arithmetic(app: Flask) -> None:
    text = run(app, "savings", "--deferrable", "feature=import")
    assert text.exit_code == 0, text.output
    assert "Could be saved" in text.stdout
    answer = json.loads(
        run(app, "savings", "--deferrable=feature=import", "--format=json").stdout
    )
    assert [line["kind"] for line in answer["lines"]] == ["failed"]
    assert answer["saving_usd"] == "2.5"
    assert answer["caching"][0]["net_usd"] == "1"
    assert len(answer["caching_by_tag"]) == 2


def test_a_wrong_tag_is_a_usage_error(app: Flask) -> None:
    wrong = run(app, "savings", "--deferrable", "import")
    assert wrong.exit_code == 2
    assert "'import' is not a valid tag; use KEY=VALUE" in wrong.output


def test_whatif_names_the_difference(app: Flask) -> None:
    found = run(app, "prices", "whatif", "openai/m=openai/n")
    assert found.exit_code == 0, found.output
    assert "openai/m with the prices of openai/n" in found.stdout
    [answer] = json.loads(
        run(app, "prices", "whatif", "openai/m=openai/n", "--format=json").stdout
    )
    assert (answer["before_usd"], answer["after_usd"]) == ("5", "3")


def test_whatif_needs_two_models_with_a_price(app: Flask) -> None:
    wrong = run(app, "prices", "whatif", "openai/m")
    assert wrong.exit_code == 2
    assert "'openai/m' is not a pair of models" in wrong.output
    unknown = run(app, "prices", "whatif", "openai/m=nobody/knows-this")
    assert unknown.exit_code == 1
    assert "No price is known for nobody/knows-this" in unknown.output


def test_the_page_shows_the_same(app: Flask) -> None:
    client = app.test_client()
    page = client.get("/llm/savings")
    assert page.status_code == 200
    assert "$2.50 of $5.00 could be saved" in page.text
    assert "openai/m, interrupted" in page.text
    rows = client.get("/llm/savings.csv").text.splitlines()
    assert rows[0] == "kind,subject,calls,spend_usd,saving_usd,arithmetic"
    assert rows[1] == 'failed,"openai/m, interrupted",1,2.5,2.5,2.5'
