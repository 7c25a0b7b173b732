"""Exchanges with unlisted hosts: which are LLM calls, and which only look alike."""

from __future__ import annotations

import json
import typing as t

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import is_request
from flask_llm_cost.providers import Route
from flask_llm_cost.providers import route
from flask_llm_cost.providers.unlisted import ENDS
from flask_llm_cost.providers.unlisted import FLAG
from flask_llm_cost.providers.unlisted import PATHS
from tests.corpus import body_of
from tests.corpus import load
from tests.corpus import request_of
from tests.corpus import Row

HOST = "https://llm.internal:8000"

SAID = [{"role": "user", "content": "hello"}]
CHAT = {"model": "qwen", "messages": SAID}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "hi"}}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
ANSWER = {"object": "chat.completion", "choices": [CHOICE], "usage": USAGE}


def found(path: str, method: str = "POST") -> Route | None:
    return route(method, f"{HOST}{path}", unlisted=True)


def read(path: str, request: t.Any, answer: t.Any) -> Reading | None:
    where = found(path)
    body = json.dumps(request).encode()
    if where is None or not is_request(where.dialect, body):
        return None
    return _read(where, body, json.dumps(answer).encode())


def _read(where: Route, request: bytes | None, answer: bytes) -> Reading:
    exchange = Exchange(where, request_body=request)
    exchange.begin_response(200, {})
    exchange.feed(answer, decoded=True)
    return exchange.reading(ended=True)


def test_a_chat_is_named_by_its_exact_host() -> None:
    reading = read("/v1/chat/completions", CHAT, ANSWER)
    assert reading is not None
    assert reading.usage is not None
    assert (reading.provider, reading.model) == ("llm.internal:8000", "qwen")
    assert (reading.usage.total_tokens, reading.flags) == (5, {FLAG})


def test_a_cost_of_an_unknown_currency_is_left_out() -> None:
    answer = ANSWER | {"usage": USAGE | {"cost": 0.5}}
    reading = read("/v1/chat/completions", CHAT, answer)
    assert reading is not None
    assert reading.reported_cost is None


@pytest.mark.parametrize(
    "answer",
    [
        {"usage": USAGE},
        {"object": "chat.completion", "choices": ["a"], "usage": USAGE},
        {"choices": [CHOICE], "usage": USAGE},
        {"object": "chat.completion", "choices": [CHOICE]},
        {"object": "chat.completion", "choices": [CHOICE], "usage": {}},
        ANSWER | {"usage": {"prompt_tokens": 0, "completion_tokens": 0}},
        [1],
        "usage",
    ],
)
def test_an_answer_of_another_form_has_no_usage(answer: t.Any) -> None:
    reading = read("/v1/chat/completions", CHAT, answer)
    assert reading is not None
    assert reading.usage is None


@pytest.mark.parametrize(
    "request_",
    [
        {},
        [],
        {"model": "qwen"},
        {"messages": SAID},
        CHAT | {"messages": []},
        CHAT | {"messages": "hello"},
        CHAT | {"messages": ["hello"]},
        CHAT | {"messages": [{"role": "driver", "content": "hello"}]},
        CHAT | {"messages": [*SAID, {"from": "a", "body": "b"}]},
        CHAT | {"model": 3},
    ],
)
def test_a_request_of_another_form_is_not_followed(request_: t.Any) -> None:
    assert read("/v1/chat/completions", request_, ANSWER) is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/chat/completions"),
        ("POST", "/v1/chat/completions/1"),
        ("POST", "/messages"),
        ("POST", "/v1/images/generations"),
        ("WS", "/realtime/v1/websocket"),
        ("GRPC", "/chat.Chat/GetCompletion"),
        ("POST", "/v1/moderations"),
    ],
)
def test_other_requests_are_not_followed(method: str, path: str) -> None:
    assert found(path, method) is None


def test_a_path_is_an_llm_call_only_if_it_is_asked_for() -> None:
    assert route("POST", f"{HOST}/v1/chat/completions") is None


def test_every_path_has_one_of_the_ends() -> None:
    ends = [path.pattern.partition(")?")[0] for path in PATHS]
    plain = [end.replace("(?:", "").replace("\\", "") for end in ends]
    assert all(end.endswith(ENDS) for end in plain)


def _as_unlisted(row: Row) -> tuple[Route, Route] | None:
    listed = route(row["method"], row["url"])
    path = "/" + row["url"].split("/", 3)[-1]
    where = found(path, row["method"])
    request = request_of(row)
    if listed is None or where is None or not request:
        return None
    return listed, where


def test_recorded_traffic_is_recognized_without_its_host() -> None:
    same = other = 0
    for row in load("traffic")[::4]:
        routes = _as_unlisted(row)
        if routes is None or "bedrock" in row["url"]:  # its frames are decoded there
            continue
        known = _read(routes[0], request_of(row), body_of(row)).usage
        if known is None or not known.total_tokens:
            continue
        if is_request(routes[1].dialect, request_of(row)):
            usage = _read(routes[1], request_of(row), body_of(row)).usage
            same += usage == known
            other += usage != known
        else:
            other += 1
    assert same > 250
    assert other < same / 50
