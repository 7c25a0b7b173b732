"""Sessions with many answers: OpenAI's realtime and live ones, responses over a socket.

Sources: the openai SDK's types ``RealtimeServerEvent``, ``live.ServerEvent`` (3.57).
"""

from __future__ import annotations

import typing as t
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.call import Reading
from flask_llm_cost.call import Usage
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.providers import chat_route
from flask_llm_cost.providers import Exchange

Event = dict[str, t.Any]


def answers(events: t.Iterable[Event], provider: str = "openai") -> list[Reading]:
    """Return the readings of a tracked session: its turns, and the last answer."""
    exchange = Exchange(chat_route(provider), request_body=None)
    exchange.begin_response(200, {})
    found = []
    for event in events:
        exchange.event(event)
        found += exchange.take_results()
    return [*found, exchange.reading(ended=True)]


def started(**members: t.Any) -> Event:
    audio = {"input": {"transcription": {"model": "whisper-1"}}}
    session = {"id": "sess_1", "model": "gpt-realtime", "audio": audio, **members}
    return {"type": "session.created", "session": session}


def created(name: str) -> Event:
    response = {"id": name, "object": "realtime.response"}
    return {"type": "response.created", "response": response}


def done(name: str, output: int) -> Event:
    usage = {
        "input_tokens": 139,
        "output_tokens": output,
        "total_tokens": 139 + output,
        "input_token_details": {
            "audio_tokens": 96,
            "text_tokens": 43,
            "cached_tokens": 64,
            "cached_tokens_details": {"audio_tokens": 64},
        },
        "output_token_details": {"audio_tokens": output, "text_tokens": 0},
    }
    response = {"id": name, "object": "realtime.response", "usage": usage}
    return {"type": "response.done", "response": response}


def heard(item: str, **usage: t.Any) -> Event:
    return {
        "type": "conversation.item.input_audio_transcription.completed",
        "item_id": item,
        "transcript": "hello",
        "usage": usage or {"type": "duration", "seconds": 3},
    }


def summary(readings: list[Reading]) -> list[tuple[str | None, str | None, int]]:
    return [
        (each.response_id, each.model, each.usage.total_tokens if each.usage else -1)
        for each in readings
    ]


def test_each_response_of_a_session_is_an_answer() -> None:
    events = [started()]
    for number in (1, 2, 3):
        events += [created(f"resp_{number}"), done(f"resp_{number}", number)]
    found = answers(events)
    assert summary(found) == [(f"resp_{n}", "gpt-realtime", 139 + n) for n in (1, 2, 3)]
    assert found[0].usage == Usage(
        input_tokens=43,
        input_audio_tokens=32,
        output_audio_tokens=1,
        other_tokens={"cache_read_audio": 64},
    )
    assert {each.usage_source for each in found} == {"stream_final"}


@pytest.mark.parametrize("prelude", [[], [started()]])
def test_the_ends_of_responses_suffice(prelude: list[Event]) -> None:
    found = answers([*prelude, done("resp_1", 1), done("resp_2", 2), done("resp_3", 3)])
    assert [each.response_id for each in found] == ["resp_1", "resp_2", "resp_3"]


def test_responses_without_ids_are_answers_of_their_own() -> None:
    end = done("", 1)
    del end["response"]["id"]
    assert len(answers([end, end, end])) == 3


def test_a_transcript_is_an_answer_of_its_own_model() -> None:
    found = answers([started(), created("resp_1"), heard("item_1"), done("resp_1", 1)])
    assert summary(found) == [
        ("item_1", "whisper-1", 0),
        ("resp_1", "gpt-realtime", 140),
    ]
    assert found[0].usage == Usage(units={"audio_second": Decimal(3)})
    assert found[0].operation == "audio"


def test_a_transcript_after_an_answer_does_not_replace_it() -> None:
    found = answers([started(), created("r1"), done("r1", 1), heard("i1"), heard("i2")])
    assert [each.response_id for each in found] == ["i1", "i2", "r1"]


def test_a_session_may_only_transcribe() -> None:
    tokens = {
        "type": "tokens",
        "input_tokens": 20,
        "output_tokens": 5,
        "total_tokens": 25,
        "input_token_details": {"audio_tokens": 18, "text_tokens": 2},
    }
    by = {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}
    events = [
        started(model=None, audio=by),
        heard("i1", **tokens),
        heard("i2", **tokens),
    ]
    found = answers(events)
    assert summary(sorted(found, key=lambda each: str(each.response_id))) == [
        ("i1", "gpt-4o-transcribe", 25),
        ("i2", "gpt-4o-transcribe", 25),
    ]
    assert found[0].usage == Usage(
        input_tokens=2, input_audio_tokens=18, output_tokens=5
    )


def test_the_model_of_a_transcript_is_never_that_of_the_session() -> None:
    (reading,) = answers([started(audio={}), heard("i1")])
    assert reading.model == "transcription"


def test_a_response_that_was_cut_is_an_answer_without_usage() -> None:
    found = answers([started(), created("r1"), done("r1", 1), created("r2")])
    assert summary(found) == [("r1", "gpt-realtime", 140), ("r2", "gpt-realtime", -1)]


@given(st.lists(st.sampled_from("rt"), max_size=8), st.randoms())
def test_nothing_is_lost_or_counted_twice(kinds: list[str], order: t.Any) -> None:
    ends = [
        done(f"r{n}", n) if kind == "r" else heard(f"i{n}")
        for n, kind in enumerate(kinds)
    ]
    begins = [created(f"r{n}") for n, kind in enumerate(kinds) if kind == "r"]
    events = [*begins, *ends]
    order.shuffle(events)
    found = [each for each in answers([started(), *events]) if each.usage is not None]
    assert len(found) == len(kinds)
    tokens = sum(each.usage.total_tokens for each in found if each.usage)
    assert tokens == sum(139 + n for n, kind in enumerate(kinds) if kind == "r")
    assert len({each.response_id for each in found}) == len(kinds)


def test_turns_have_prices() -> None:
    found = answers([started(), created("r1"), heard("i1"), done("r1", 10)])
    book = PriceBook.bundled()
    costs = [
        book.quote("openai", each.model or "", each.usage, flags=each.flags).cost
        for each in found
    ]
    assert [cost and cost.total_usd for cost in costs] == [
        Decimal("0.0003"),  # 3 s of whisper-1 at $0.0001
        # 43 text at $4, 32 audio at $32, 64 cached audio at $0.40, 10 audio at $64, per 1M
        Decimal("0.0018616"),
    ]
    assert all(cost and cost.complete for cost in costs)


# Live sessions


def live(**members: t.Any) -> Event:
    return {"type": "session.started", "session": {"id": "s", "model": "gpt-live-1"}}


def time(seconds: float, kind: str = "session.usage.updated", **more: t.Any) -> Event:
    return {"type": kind, "usage": {"seconds": seconds, **more}}


def delegated(name: str) -> Event:
    usage = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
    response = {"id": name, "object": "response", "model": "gpt-5.5", "usage": usage}
    event = {"type": "response.completed", "response": response}
    return {"type": "response.event", "event": event}


def test_the_time_of_a_live_session_is_counted_once() -> None:
    end = time(75, "session.closed")
    found = answers([live(), time(10), delegated("r1"), time(60), delegated("r2"), end])
    assert summary(found) == [("r1", "gpt-5.5", 7), ("r2", "gpt-5.5", 7)] + [
        ("s", "gpt-live-1", 0)
    ]
    assert found[-1].usage == Usage(units={"audio_second": Decimal(75)})
    assert found[0].operation == "responses"


def test_paused_time_has_a_rate_that_is_not_known() -> None:
    (reading,) = answers([live(), time(10, active_seconds=4, paused_seconds=6)])
    assert "unread_usage" in reading.flags


def test_a_decision_in_a_live_session_is_an_answer() -> None:
    usage = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
    decision = {"id": "d1", "model": "gpt-decide", "usage": usage}
    event = {"type": "decision.completed", "decision": decision}
    found = answers([live(), {"type": "decision.event", "event": event}, time(1)])
    assert summary(found)[0] == ("d1", "gpt-decide", 7)
    assert found[0].operation == "decisions"


# Responses over a web socket: responses.connect()


def response(kind: str, name: str, usage: object = None) -> Event:
    body = {"id": name, "object": "response", "model": "gpt-5.5", "usage": usage}
    return {"type": f"response.{kind}", "response": body}


def test_each_response_over_a_socket_is_an_answer() -> None:
    usage = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
    found = answers(
        [
            response("created", "r1"),
            response("completed", "r1", usage),
            response("created", "r2"),
            response(
                "completed", "r2", {**usage, "output_tokens": 3, "total_tokens": 8}
            ),
        ]
    )
    assert summary(found) == [("r1", "gpt-5.5", 7), ("r2", "gpt-5.5", 8)]


def test_a_response_without_counts_is_billed_by_time() -> None:
    usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    body = {"id": "r1", "status": "completed", "usage": usage}
    (reading,) = answers([{"type": "response.done", "response": body}], "xai")
    assert reading.flags == {"session_fee"}
    cancelled = {**body, "status": "cancelled"}
    (reading,) = answers([{"type": "response.done", "response": cancelled}], "xai")
    assert reading.flags == frozenset()
