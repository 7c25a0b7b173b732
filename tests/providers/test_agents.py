"""Sessions of agents, at Anthropic and OpenAI: each request or turn is a call.

The documents have the form of the SDKs' types (anthropic 2.14, openai 3.57), which the
modules under test name.
"""

from __future__ import annotations

import json
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.call import Usage
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.providers import chat_route
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import route

Event = dict[str, t.Any]

ANTHROPIC = "https://api.anthropic.com/v1"
OPENAI = "https://api.openai.com/v1"


def fetched(url: str, *events: Event, method: str = "GET") -> list[Reading]:
    """Return the answers of an exchange: the last one is its reading."""
    found = route(method, url)
    assert found is not None
    assert found.poll
    exchange = Exchange(found, request_body=None)
    exchange.begin_response(200, {})
    body = json.dumps(events[0]).encode()
    if len(events) > 1:
        body = b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in events)
    exchange.feed(body, decoded=True)
    last = exchange.reading(ended=True)
    return [*exchange.take_results(), last]


def tracked(provider: str, events: list[Event]) -> list[Reading]:
    exchange = Exchange(chat_route(provider), request_body=None)
    exchange.begin_response(200, {})
    for event in events:
        exchange.event(event)
    last = exchange.reading(ended=True)
    return [*exchange.take_results(), last]


# Anthropic


def request(name: str, output: int, kind: str = "span.model_request_end") -> Event:
    usage = {
        "input_tokens": 10,
        "output_tokens": output,
        "cache_read_input_tokens": 20,
        "cache_creation_input_tokens": 5,
        "speed": "standard",
    }
    member = "model_usage" if kind == "span.model_request_end" else "usage"
    at = "2026-11-01T00:00:00Z"
    return {"type": kind, "id": name, "processed_at": at, member: usage}


EVENTS: t.Final = [
    {"type": "session.status_running", "id": "e0"},
    {"type": "span.model_request_start", "id": "e1"},
    request("e2", 1),
    {"type": "agent.message", "id": "e3", "content": [{"type": "text", "text": "x"}]},
    request("e4", 2),
    request("e5", 3, "span.outcome_evaluation_end"),
    {"type": "session.usage", "id": "e6", "usage": {"input_tokens": 30}},
    {"type": "session.status_idle", "id": "e7"},
]


@pytest.mark.parametrize(
    "readings",
    [
        lambda: fetched(f"{ANTHROPIC}/sessions/sesn_1/events/stream", *EVENTS),
        lambda: fetched(f"{ANTHROPIC}/sessions/sesn_1/threads/sthr_1/stream", *EVENTS),
        lambda: fetched(f"{ANTHROPIC}/sessions/sesn_1/events", {"data": EVENTS}),
        lambda: tracked("anthropic", EVENTS),
    ],
)
def test_each_request_of_a_session_is_an_answer(
    readings: t.Callable[[], list[Reading]],
) -> None:
    found = readings()
    assert [each.response_id for each in found] == ["e2", "e4", "e5"]
    assert [each.usage for each in found] == [
        Usage(
            input_tokens=10, cache_read_tokens=20, cache_write_tokens=5, output_tokens=n
        )
        for n in (1, 2, 3)
    ]
    assert {each.flags for each in found} == {frozenset(("session_fee",))}
    assert all(each.created_at for each in found)


def test_a_request_has_a_price_that_is_a_floor() -> None:
    events = [session(status="idle"), request("e1", 1)]
    reading = tracked("anthropic", events)[-1]
    quote = PriceBook.bundled().quote(
        "anthropic", reading.model or "", reading.usage, flags=reading.flags
    )
    assert quote.cost is not None
    # 10 input at $4, 20 read at $0.20, 5 written at $5, 1 output at $20, per 1M
    assert quote.cost.total_usd == Decimal("0.000089")
    assert not quote.cost.complete


def test_a_fast_request_is_in_fast_mode() -> None:
    event = request("e1", 1)
    event["model_usage"]["speed"] = "fast"
    (reading,) = fetched(f"{ANTHROPIC}/sessions/s/events", {"data": [event]})
    assert reading.service_tier == "fast"


def session(**members: t.Any) -> Event:
    usage = {
        "input_tokens": 5000,
        "output_tokens": 3200,
        "cache_read_input_tokens": 20000,
        "cache_creation": {
            "ephemeral_5m_input_tokens": 2000,
            "ephemeral_1h_input_tokens": 100,
        },
        "active_seconds": 90.5,
        "list_cost": {"amount": "187", "currency": "USD"},
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
    }
    return {
        "type": "session",
        "id": "sesn_1",
        "agent": {"id": "agent_1", "model": {"id": "claude-opus-5-5"}},
        "created_at": "2026-11-01T00:00:00Z",
        "archived_at": None,
        "status": "terminated",
        "usage": {**usage, **members.pop("usage", {})},
        **members,
    }


@pytest.mark.parametrize(
    ("path", "method", "ended"),
    [
        ("sessions/sesn_1", "GET", {}),
        ("sessions/sesn_1/archive", "POST", {"status": "idle", "archived_at": "2026"}),
    ],
)
def test_a_session_that_ended_has_its_list_cost(
    path: str, method: str, ended: Event
) -> None:
    (reading,) = fetched(f"{ANTHROPIC}/{path}", session(**ended), method=method)
    assert reading.reported_cost == Decimal("1.87")
    assert reading.usage == Usage(
        input_tokens=5000,
        cache_read_tokens=20000,
        cache_write_tokens=2000,
        cache_write_1h_tokens=100,
        output_tokens=3200,
        units={"web_search": Decimal(2)},
    )
    assert (reading.model, reading.response_id) == ("claude-opus-5-5", "sesn_1")
    assert reading.flags == frozenset()


def test_a_session_that_can_go_on_is_not_final() -> None:
    (reading,) = fetched(f"{ANTHROPIC}/sessions/sesn_1", session(status="idle"))
    assert reading.flags == {"repeated"}


@pytest.mark.parametrize(
    "listed", [None, {"amount": "187", "currency": "EUR"}, {"currency": "USD"}]
)
def test_the_time_of_a_session_without_a_list_cost_is_a_fee(listed: object) -> None:
    body = session(usage={"list_cost": listed})
    (reading,) = fetched(f"{ANTHROPIC}/sessions/sesn_1", body)
    assert (reading.reported_cost, reading.flags) == (None, {"session_fee"})


def test_a_session_in_a_stream_names_the_model_of_its_requests() -> None:
    events = [session(), request("e1", 1), session(), request("e2", 1), session()]
    found = tracked("anthropic", events)
    assert [each.response_id for each in found] == ["e1", "e2"]
    assert [each.model for each in found] == ["claude-opus-5-5"] * 2
    assert [each.usage and each.usage.output_tokens for each in found] == [1, 1]


def test_a_session_whose_requests_were_not_seen_is_an_answer() -> None:
    (reading,) = tracked("anthropic", [session()])
    assert reading.reported_cost == Decimal("1.87")


@pytest.mark.parametrize(
    ("status", "flags"),
    [
        ("completed", {"session_fee"}),
        ("failed", {"session_fee"}),
        ("canceled", {"session_fee", "unread_usage"}),
        ("running", {"session_fee", "repeated"}),
    ],
)
def test_a_dream_is_billed_by_its_tokens(status: str, flags: set[str]) -> None:
    body = {
        "type": "dream",
        "id": "drm_1",
        "created_at": "2026-11-01T00:00:00Z",
        "model": {"id": "claude-opus-5-5", "speed": "standard"},
        "status": status,
        "usage": {
            "input_tokens": 1,
            "output_tokens": 2,
            "cache_read_input_tokens": 3,
            "cache_creation_input_tokens": 4,
        },
    }
    (reading,) = fetched(f"{ANTHROPIC}/dreams/drm_1", body)
    assert reading.usage == Usage(
        input_tokens=1, output_tokens=2, cache_read_tokens=3, cache_write_tokens=4
    )
    assert (reading.model, reading.response_id) == ("claude-opus-5-5", "drm_1")
    assert reading.flags == flags


# OpenAI


def turn(name: str, output: int, status: str = "completed") -> Event:
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 10 + output,
    }
    return {
        "id": name,
        "object": "agent.session.turn",
        "created_at": 1771881670,
        "status": status,
        "usage": usage,
    }


def ended(name: str, output: int, status: str = "completed") -> Event:
    kind = f"agent.session.turn.{status}"
    return {"type": kind, "turn_id": name, "turn": turn(name, output, status)}


def agent_session(environment: str = "openai_hosted", tier: str = "flex") -> Event:
    return {
        "id": "asess_1",
        "object": "agent.session",
        "agent": {"id": "a", "model": "gpt-6", "service_tier": tier},
        "environment": {"type": environment},
        "usage": {"input_tokens": 99, "output_tokens": 99},
    }


def searched(name: str, action: str = "search") -> Event:
    item = {
        "type": "web_search_call",
        "action": {"type": action},
        "status": "completed",
    }
    return {"type": "agent.session.turn.item.done", "turn_id": name, "item": item}


def created(**options: t.Any) -> Event:
    return {"type": "agent.session.created", "session": agent_session(**options)}


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_each_turn_of_an_agent_is_an_answer(method: str) -> None:
    path = "agents/sessions" if method == "POST" else "agents/sessions/asess_1/events"
    events = [
        created(),
        searched("t1"),
        searched("t1", "open_page"),
        ended("t1", 1),
        ended("t2", 2, "failed"),
        {"type": "agent.session.idle"},
    ]
    found = fetched(f"{OPENAI}/{path}", *events, method=method)
    first = Usage(
        input_tokens=6,
        cache_read_tokens=4,
        output_tokens=1,
        reasoning_tokens=1,
        units={"web_search": Decimal(1)},
    )
    assert [each.response_id for each in found] == ["t1", "t2"]
    assert found[0].usage == first
    assert {each.model for each in found} == {"gpt-6"}
    assert {each.service_tier for each in found} == {"flex"}
    assert found[0].flags == {"unread_usage", "session_fee"}


@pytest.mark.parametrize("environment", ["none", "self_hosted"])
def test_an_environment_of_ones_own_has_no_fee(environment: str) -> None:
    (reading,) = tracked("openai", [created(environment=environment), ended("t1", 1)])
    assert reading.flags == {"unread_usage"}


@pytest.mark.parametrize("path", ["turns/t1", "turns", "subagents/s1/turns/t1"])
def test_a_turn_can_be_looked_at_later(path: str) -> None:
    body = turn("t1", 1)
    if path == "turns":
        body = {"object": "list", "data": [body]}
    (reading,) = fetched(f"{OPENAI}/agents/sessions/asess_1/{path}", body)
    assert reading.usage is not None
    assert (reading.response_id, reading.model) == ("t1", None)


def test_a_turn_under_way_is_not_an_answer() -> None:
    url = f"{OPENAI}/agents/sessions/asess_1/turns/t1"
    (reading,) = fetched(url, turn("t1", 1, "in_progress"))
    assert reading.usage is None


def test_the_sum_of_a_session_is_not_an_answer() -> None:
    (reading,) = fetched(f"{OPENAI}/agents/sessions/asess_1", agent_session())
    assert (reading.usage, reading.model) == (None, "gpt-6")
