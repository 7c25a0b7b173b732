"""The cost of a request: ``g.llm_cost_usd``, the header, and its tags."""

from __future__ import annotations

import gc
import typing as t
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
import requests
from flask import Blueprint
from flask import Flask
from flask import g
from flask import Response

from flask_llm_cost import LlmCost
from flask_llm_cost import request_tags
from flask_llm_cost.cli.demo import provider
from flask_llm_cost.request import current
from flask_llm_cost.testing import record_calls
from tests.conftest import MakeApp

CALL: t.Final = {
    "provider": "openai",
    "model": "gpt-4o",
    "input_tokens": 1000,
    "output_tokens": 500,
}
USD: t.Final = Decimal("0.0075")


def extension(app: Flask) -> LlmCost:
    found: LlmCost = app.extensions["llm_cost"].extension
    return found


def serve(app: Flask, view: t.Callable[[], t.Any]) -> Response:
    app.add_url_rule("/", view_func=view)
    with record_calls(app):
        return t.cast(Response, app.test_client().get("/"))


def test_a_request_knows_what_its_calls_cost(app: Flask, llm_cost: LlmCost) -> None:
    def view() -> dict[str, str]:
        seen = [str(g.llm_cost_usd)]
        for _ in range(2):
            llm_cost.track(**CALL)
            seen.append(str(g.llm_cost_usd.normalize()))
        return {"seen": " ".join(seen)}

    response = serve(app, view)
    assert response.get_json()["seen"] == "0 0.0075 0.015"
    assert "X-LLM-Cost-USD" not in response.headers


def test_a_header_reports_the_sum(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_COST_HEADER=True)

    def view() -> str:
        extension(app).track(**CALL)
        extension(app).track(**CALL | {"model": "no-such-model"})
        return "fine"

    headers = serve(app, view).headers
    assert headers["X-LLM-Cost-USD"] == str(USD)
    assert headers["X-LLM-Cost-Unpriced"] == "1"


def test_an_unknown_cost_is_not_zero(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_COST_HEADER=True)

    def view() -> str:
        extension(app).track(**CALL | {"model": "no-such-model"})
        return repr(g.llm_cost_usd)

    response = serve(app, view)
    assert response.text == "None"
    assert "X-LLM-Cost-USD" not in response.headers
    assert response.headers["X-LLM-Cost-Unpriced"] == "1"


def test_a_request_without_calls_has_no_header(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_COST_HEADER=True)
    headers = serve(app, lambda: str(g.llm_cost_usd)).headers
    assert not [name for name, _ in headers.items() if name.startswith("X-LLM")]


def test_a_free_call_costs_zero_and_is_not_unknown(make_app: MakeApp) -> None:
    app = make_app(
        LLM_COST_COST_HEADER=True,
        LLM_COST_PRICE_OVERRIDES={"acme/free": {"input": "0", "output": "0"}},
    )

    def view() -> str:
        extension(app).track(provider="acme", model="free", input_tokens=5)
        return "fine"

    headers = serve(app, view).headers
    assert Decimal(headers["X-LLM-Cost-USD"]) == 0


def test_each_request_starts_at_zero(app: Flask, llm_cost: LlmCost) -> None:
    @app.get("/<int:calls>")
    def spend(calls: int) -> str:
        for _ in range(calls):
            llm_cost.track(**CALL)
        return str(g.llm_cost_usd)

    client = app.test_client()
    # One app context around both, so both requests have the same g.
    with app.app_context(), record_calls(app):
        assert client.get("/3").text == "0.022500000000"
        assert client.get("/1").text == "0.007500000000"


def test_calls_of_bound_threads_count(app: Flask, llm_cost: LlmCost) -> None:
    def view() -> str:
        work = llm_cost.bind(lambda: llm_cost.track(**CALL))
        with ThreadPoolExecutor(8) as pool:
            for future in [pool.submit(work) for _ in range(40)]:
                future.result()
        return str(g.llm_cost_usd)

    assert Decimal(serve(app, view).text) == 40 * USD


def test_captured_calls_count_where_they_were_sent(make_app: MakeApp) -> None:
    with provider.serve() as address:
        host = address.removeprefix("http://")
        app = make_app(
            LLM_COST_COST_HEADER=True, LLM_COST_PROVIDER_HOSTS={host: "openai"}
        )

        def view() -> str:
            with requests.Session() as session:
                extension(app).wrap(session)
                session.post(
                    f"{address}/v1/chat/completions",
                    json={"model": "gpt-4o", "messages": []},
                    timeout=10,
                ).raise_for_status()
            return str(g.llm_cost_usd)

        app.add_url_rule("/", view_func=view)
        with record_calls(app) as seen:
            response = app.test_client().get("/")
    [call] = seen
    assert call.cost is not None
    told = Decimal(response.headers["X-LLM-Cost-USD"])
    assert Decimal(response.text) == told == call.cost.total_usd > 0


def test_a_call_outside_of_a_request_belongs_to_none(
    app: Flask, llm_cost: LlmCost
) -> None:
    with app.app_context(), record_calls(app):
        llm_cost.track(**CALL)
        assert current() is None
        assert "llm_cost_usd" not in g


def test_a_call_that_outlives_its_request_does_not_keep_it_alive(app: Flask) -> None:
    with app.test_request_context("/"):
        app.preprocess_request()
        spent = current()
        assert spent is not None
    gc.collect()
    with record_calls(app) as calls:
        extension(app).track(**CALL)
    spent.add(calls[0])
    assert spent.usd == USD


@pytest.mark.parametrize("nested", [True, False])
def test_spend_is_grouped_by_endpoint_and_blueprint(
    app: Flask, llm_cost: LlmCost, nested: bool
) -> None:
    llm_cost.tag_provider(request_tags)
    where: t.Any = Blueprint("chat", __name__) if nested else app

    @where.get("/ask")
    def ask() -> str:
        llm_cost.track(**CALL)
        return "fine"

    if nested:
        app.register_blueprint(where)
    assert app.test_client().get("/ask").text == "fine"
    llm_cost.track(**CALL)
    assert llm_cost.flush(60)
    name = "chat.ask" if nested else "ask"
    by_endpoint = llm_cost.calls.cost_by_tag("endpoint")
    assert by_endpoint == {name: USD, "(untagged)": USD}
    by_blueprint = llm_cost.calls.cost_by_tag("blueprint")
    assert by_blueprint.get("chat") == (USD if nested else None)
    assert sum(by_blueprint.values()) == llm_cost.calls.total_cost()
