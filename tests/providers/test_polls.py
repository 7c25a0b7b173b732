"""Answers that are fetched later: background responses, runs, batch results."""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost.call import Usage
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import read_exchange
from flask_llm_cost.providers import route

OPENAI = "https://api.openai.com/v1"


def fetch(url: str, *lines: object, pieces: int = 1) -> Exchange:
    found = route("GET", url)
    assert found is not None
    assert found.poll
    exchange = Exchange(found, request_body=None)
    exchange.begin_response(200, {})
    body = b"\n".join(json.dumps(line).encode() for line in lines)
    size = len(body) // pieces + 1
    for at in range(0, len(body), size):
        exchange.feed(body[at : at + size], decoded=False)
    return exchange


def response(**members: t.Any) -> dict[str, t.Any]:
    usage = {"input_tokens": 5, "output_tokens": 2}
    return {"id": "resp_1", "created_at": 1771881670, "usage": usage, **members}


def test_a_background_response_has_its_usage_and_date() -> None:
    exchange = fetch(f"{OPENAI}/responses/resp_1", response(background=True))
    reading = exchange.reading(ended=True)
    assert reading.usage == Usage(input_tokens=5, output_tokens=2)
    assert reading.created_at == dt.datetime(2026, 2, 23, 21, 21, 10, tzinfo=dt.UTC)
    assert "repeated" not in reading.flags


def test_a_response_that_is_fetched_again_is_flagged() -> None:
    exchange = fetch(f"{OPENAI}/responses/resp_1", response(background=False))
    assert exchange.reading(ended=True).flags == {"repeated"}


def test_a_response_that_is_not_ready_has_no_usage() -> None:
    body = response(background=True, status="queued", usage=None)
    reading = fetch(f"{OPENAI}/responses/resp_1", body).reading(ended=True)
    assert (reading.usage, reading.flags) == (None, frozenset())


def test_a_run_has_usage() -> None:
    run = {
        "id": "run_1",
        "object": "thread.run",
        "model": "gpt-4o",
        "usage": {"prompt_tokens": 381, "completion_tokens": 88, "total_tokens": 469},
    }
    reading = fetch(f"{OPENAI}/threads/thread_1/runs/run_1", run).reading(ended=True)
    assert reading.usage == Usage(input_tokens=381, output_tokens=88)
    assert (reading.model, reading.response_id) == ("gpt-4o", "run_1")


XAI = "https://api.x.ai/v1/videos"


def test_a_finished_video_has_its_cost() -> None:
    done = {
        "status": "done",
        "video": {"url": "https://vidgen.x.ai/a.mp4", "duration": 6},
        "model": "grok-imagine-video",
        "usage": {"cost_in_usd_ticks": 3_000_000_000},
        "progress": 100,
    }
    for pieces in (1, 9):
        reading = fetch(f"{XAI}/c84748c1-5ec7", done, pieces=pieces).reading(ended=True)
        assert reading.usage == Usage(units={"video_second": Decimal(6)})
        assert reading.reported_cost == Decimal("0.3")
        assert (reading.provider, reading.model) == ("xai", "grok-imagine-video")
        assert (reading.operation, reading.response_id) == ("videos", "c84748c1-5ec7")
        assert reading.flags == frozenset()


@pytest.mark.parametrize(
    "answer",
    [
        {"status": "pending", "progress": 56},
        {"status": "failed", "error": {"message": "no"}, "video": None},
        {"status": "done", "video": {"duration": 6}, "usage": None},
    ],
)
def test_a_video_without_a_cost_has_no_usage(answer: dict[str, t.Any]) -> None:
    reading = fetch(f"{XAI}/c84748c1-5ec7", answer).reading(ended=True)
    assert (reading.usage, reading.flags) == (None, frozenset())


def test_a_requested_video_has_the_id_of_its_polls() -> None:
    reading = read_exchange(
        method="POST",
        url=f"{XAI}/generations",
        request_body=b'{"model": "grok-imagine-video", "prompt": "x", "duration": 6}',
        status=200,
        headers={},
        body=b'{"request_id": "c84748c1-5ec7"}',
    )
    assert reading is not None
    assert (reading.usage, reading.response_id) == (None, "c84748c1-5ec7")
    assert reading.model == "grok-imagine-video"


def batch_line(number: int, status: int = 200) -> dict[str, t.Any]:
    body = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1771881670,
        "model": "gpt-4o-mini",
        "choices": [],
        "service_tier": "default",
        "usage": {"prompt_tokens": number, "completion_tokens": 1},
    }
    return {"custom_id": str(number), "response": {"status_code": status, "body": body}}


def test_each_line_of_a_batch_is_a_call_in_batch_mode() -> None:
    lines = [batch_line(3), batch_line(4, status=400), {"error": {}}, batch_line(5)]
    for pieces in (1, 7):
        exchange = fetch(f"{OPENAI}/files/file-1/content", *lines, pieces=pieces)
        assert exchange.reading(ended=True).usage is None
        found = exchange.take_results()
        assert [r.usage for r in found] == [
            Usage(input_tokens=3, output_tokens=1),
            Usage(input_tokens=5, output_tokens=1),
        ]
        assert {r.service_tier for r in found} == {"batch"}
        assert [r.response_id for r in found] == ["chatcmpl-3", "chatcmpl-5"]
        assert exchange.take_results() == []


def test_a_batch_of_one_line_is_a_batch() -> None:
    exchange = fetch(f"{OPENAI}/files/file-1/content", batch_line(3))
    exchange.reading(ended=True)
    assert [r.operation for r in exchange.take_results()] == ["chat"]


def test_an_interim_reading_takes_no_result() -> None:
    exchange = fetch(f"{OPENAI}/files/file-1/content", batch_line(3))
    exchange.reading(ended=False)
    assert exchange.take_results() == []
    exchange.feed(b"\n", decoded=True)
    exchange.reading(ended=True)
    assert len(exchange.take_results()) == 1


def test_results_that_nobody_takes_are_limited() -> None:
    exchange = fetch(f"{OPENAI}/files/file-1/content", *[batch_line(3)] * 10_010)
    assert exchange.reading(ended=True).flags == {"results_dropped"}
    assert len(exchange.take_results()) == 10_000


def test_a_batch_that_is_too_long_to_keep_is_not_lost_in_silence() -> None:
    answer = {"usageMetadata": {"promptTokenCount": 3}, "modelVersion": "gemini-3"}
    text = {"candidates": [{"content": {"parts": [{"text": "x" * 600_000}]}}]}
    lines = [{"response": {**text, **answer, "responseId": str(n)}} for n in (1, 2)]
    output = {"inlinedResponses": {"inlinedResponses": lines}}
    batch = {"name": "batches/b", "metadata": {"output": output}, "done": True}
    url = "https://generativelanguage.googleapis.com/v1beta/batches/b"
    exchange = fetch(url, batch)
    exchange.reading(ended=True)
    [found] = exchange.take_results()
    assert (found.response_id, found.usage) == ("batches/b", Usage())
    assert found.flags == {"unread_usage", "results_dropped"}
    del lines[1]
    exchange = fetch(url, batch)
    exchange.reading(ended=True)
    [found] = exchange.take_results()
    assert (found.model, found.flags) == ("gemini-3", frozenset())


def test_a_file_of_results_is_not_a_single_call() -> None:
    url = f"{OPENAI}/files/file-1/content"
    body = json.dumps(batch_line(3)).encode()
    assert (
        read_exchange(
            method="GET", url=url, request_body=None, status=200, headers={}, body=body
        )
        is None
    )


def test_another_file_is_not_a_batch() -> None:
    for content in ({"prompt": "x", "completion": "y"}, [1, 2], "words"):
        exchange = fetch(f"{OPENAI}/files/file-1/content", content)
        assert exchange.reading(ended=True).usage is None
        assert exchange.take_results() == []


def test_anthropics_batches_are_read_the_same_way() -> None:
    usage = {"input_tokens": 20, "output_tokens": 5, "service_tier": "batch"}
    message = {
        "id": "msg_1",
        "type": "message",
        "model": "claude-haiku",
        "usage": usage,
    }
    lines = (
        {"custom_id": "0", "result": {"type": "succeeded", "message": message}},
        {"custom_id": "1", "result": {"type": "errored", "error": {}}},
    )
    url = "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results"
    exchange = fetch(url, *lines)
    exchange.reading(ended=True)
    (reading,) = exchange.take_results()
    assert reading.usage == Usage(input_tokens=20, output_tokens=5)
    assert (reading.model, reading.service_tier) == ("claude-haiku", "batch")
