"""Answers that are ordered and fetched later are one call, with the usage of the answer."""

from __future__ import annotations

import json
import typing as t

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import route

USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
ANSWER = {"model": "m", "choices": [], "usage": USAGE}
VIDEO = {"completion_tokens": 9, "total_tokens": 9}
GLADIA = "api.gladia.io/v2/pre-recorded"

SERVICES: t.Final[dict[str, tuple[str, t.Any, str, t.Any]]] = {
    "perplexity": (
        "api.perplexity.ai/async/chat/completions",
        {"id": "r1", "model": "m", "status": "CREATED", "response": None},
        "api.perplexity.ai/async/chat/completions/r1",
        {"id": "r1", "status": "COMPLETED", "response": ANSWER},
    ),
    "xai": (
        "api.x.ai/v1/chat/completions",
        {"request_id": "r1"},
        "api.x.ai/v1/chat/deferred-completion/r1",
        ANSWER,
    ),
    "zai": (
        "api.z.ai/api/paas/v4/async/chat/completions",
        {"id": "r1", "request_id": "q1", "model": "m", "task_status": "PROCESSING"},
        "api.z.ai/api/paas/v4/async-result/r1",
        {**ANSWER, "id": "r1", "task_status": "SUCCESS"},
    ),
    "volcengine": (
        "ark.cn-beijing.volces.com/api/v3/contents/generations/tasks",
        {"id": "r1"},
        "ark.cn-beijing.volces.com/api/v3/contents/generations/tasks/r1",
        {"id": "r1", "model": "m", "status": "succeeded", "usage": VIDEO},
    ),
    "gladia": (
        GLADIA,
        {"id": "r1", "result_url": f"https://{GLADIA}/r1"},
        f"{GLADIA}/r1",
        {
            "id": "r1",
            "status": "done",
            "result": {"metadata": {"audio_duration": 4, "billing_time": 8}},
        },
    ),
}


def _read(method: str, url: str, body: t.Any) -> Reading:
    found = route(method, f"https://{url}")
    assert found is not None
    exchange = Exchange(found, request_body=None)
    exchange.begin_response(200, {"content-type": "application/json"})
    exchange.feed(json.dumps(body).encode(), decoded=True)
    return exchange.reading(ended=True)


@pytest.mark.parametrize("name", SERVICES)
def test_an_order_has_no_usage_and_its_answer_has_it(name: str) -> None:
    order, made, where, answer = SERVICES[name]
    ordered, fetched = _read("POST", order, made), _read("GET", where, answer)
    assert ordered.provider == fetched.provider == name
    assert ordered.usage is None
    assert "no_usage" not in ordered.flags
    assert fetched.usage is not None
    assert fetched.usage.total_tokens in (13, 9, 0)
    assert fetched.usage.units.get("audio_second", 0) == (8 if name == "gladia" else 0)
    assert ordered.response_id == fetched.response_id == "r1"
    assert not fetched.flags & {"repeated", "reader_error"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_look_at_an_unfinished_order_is_not_a_call(name: str) -> None:
    _, made, where, _ = SERVICES[name]
    assert _read("GET", where, made).usage is None


def test_an_answer_that_was_not_deferred_is_read_at_once() -> None:
    reading = _read("POST", "api.x.ai/v1/chat/completions", ANSWER)
    assert reading.usage is not None
    assert reading.usage.total_tokens == 13
