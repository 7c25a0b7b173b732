"""The public API as a type checker sees it (checked by mypy and pyright, never run)."""

from __future__ import annotations

import typing as t
from decimal import Decimal

import requests
from flask import Flask
from flask.blueprints import Blueprint

import flask_llm_cost
from flask_llm_cost import Call
from flask_llm_cost import Cost
from flask_llm_cost import LlmCost
from flask_llm_cost import Usage
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.testing import record_calls

app = Flask(__name__)
llm_cost = LlmCost(app)

t.assert_type(llm_cost.blueprint(access=lambda: True), Blueprint)
t.assert_type(llm_cost.blueprint(access="public"), Blueprint)
t.assert_type(llm_cost.flush(timeout=1), bool)
t.assert_type(llm_cost.calls.today().by_tag("feature", "chat").total_cost(), Decimal)

session = requests.Session()
session.mount("https://", llm_cost.adapter(tags={"feature": "chat"}, max_retries=2))

call = llm_cost.track(
    provider="openai",
    model="gpt-4o",
    usage=Usage(input_tokens=1),
    tags=lambda: {"a": 1},
)
t.assert_type(call, Call)
t.assert_type(call.cost, Cost | None)
t.assert_type(
    PriceBook.bundled().cost("openai", "gpt-4o", Usage(input_tokens=1)), Cost | None
)


@llm_cost.tag_provider
def who() -> dict[str, str]:
    return {"user": "ann"}


@llm_cost.tags(feature="chat")
def ask(question: str) -> int:
    return len(question)


t.assert_type(ask("how much?"), int)

with llm_cost.tags(feature="chat"), llm_cost.suppress():
    pass

with record_calls(app) as calls:
    t.assert_type(calls, list[Call])

t.assert_type(llm_cost.wrap(session, tags={"a": 1}), requests.Session)
t.assert_type(llm_cost.bind(len)("abc"), int)

with llm_cost.track_stream(provider="openai", model="gpt-4o") as stream:
    stream.usage(input_tokens=1)
t.assert_type(stream.call, Call | None)

_ = flask_llm_cost.no_such_name  # type: ignore[attr-defined]
