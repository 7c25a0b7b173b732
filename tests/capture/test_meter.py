"""The meter: what is captured and recorded, and that the app is not affected."""

from __future__ import annotations

import contextvars
import datetime as dt
import gc
import json
import logging
import signal
import subprocess
import sys
import threading
import typing as t
from collections import OrderedDict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from flask import Flask

from flask_llm_cost.attempt import Snapshot
from flask_llm_cost.call import Call
from flask_llm_cost.capture.meter import Meter
from flask_llm_cost.capture.meter import open_meters
from flask_llm_cost.capture.suppression import suppress
from flask_llm_cost.capture.suppression import suppressed
from flask_llm_cost.capture.tap import Tap
from flask_llm_cost.errors import BudgetExceeded
from flask_llm_cost.errors import ConfigError
from flask_llm_cost.errors import LlmCostError
from flask_llm_cost.errors import UnknownPrice
from flask_llm_cost.event_id import event_time
from flask_llm_cost.providers import Provider
from flask_llm_cost.testing import record_calls
from tests.capture.conftest import Book
from tests.capture.server import CHAT_JSON
from tests.capture.server import CHAT_STREAM
from tests.conftest import MakeApp

URL = "https://api.openai.com/v1/chat/completions"
BODY = b'{"model": "gpt-4o", "stream": true}'


def begin(book: Book, **options: t.Any) -> Meter:
    meter = Tap(book, **options).open("POST", URL, BODY)
    assert meter is not None
    return meter


def test_the_recorder_gets_what_is_known_before_the_send(book: Book) -> None:
    begin(book, tags={"feature": "chat"}).no_response()
    (attempt,) = book.attempts
    assert (attempt.provider, attempt.operation) == ("openai", "chat")
    assert (attempt.request_model, attempt.stream) == ("gpt-4o", True)
    assert attempt.tags == {"feature": "chat"}
    assert book.call.tags == {"feature": "chat"}


def test_the_trace_id_comes_from_its_tag(book: Book) -> None:
    begin(book, tags=lambda: {"trace_id": "t1"}).no_response()
    assert book.call.trace_id == "t1"


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", URL),
        ("POST", "https://api.openai.com/v1/files"),
        ("POST", "https://example.com/v1/chat/completions"),
        ("POST", ""),
        ("", URL),
        ("POST", "http://[broken"),
    ],
)
def test_a_request_that_is_not_an_llm_call_is_ignored(
    method: str, url: str, book: Book
) -> None:
    assert Tap(book).open(method, url, BODY) is None
    assert not book.attempts
    assert not suppressed()


def test_the_recorder_may_decline(book: Book) -> None:
    book.asks = False
    assert Tap(book).open("POST", URL, BODY) is None
    assert not suppressed()


def test_hosts_may_be_evaluated_each_time(book: Book) -> None:
    hosts: dict[str, str] = {}
    tap = Tap(book, hosts=lambda: hosts)
    url = "http://localhost:8000/v1/chat/completions"
    assert tap.open("POST", url, None) is None
    hosts["localhost:8000"] = "mine"
    meter = tap.open("POST", url, None)
    assert meter is not None
    meter.no_response()
    assert book.call.provider == "mine"


def test_tags_of_the_wrong_type_are_an_error(book: Book) -> None:
    with pytest.raises(ConfigError, match="mapping, or a callable.*not list"):
        Tap(book, tags=["feature"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error",
    [
        BudgetExceeded("all", period="day", limit_usd=Decimal(1), spent_usd=Decimal(2)),
        UnknownPrice("openai", "gpt-9"),
    ],
)
def test_the_recorder_may_reject_the_call(error: Exception, book: Book) -> None:
    book.forbids = error
    with pytest.raises(type(error)) as raised:
        Tap(book).open("POST", URL, BODY)
    assert raised.value is error
    assert not suppressed()


class Broken(Provider):
    """A custom provider that raises our own errors."""

    def __getattribute__(self, name: str) -> t.Any:
        if name == "paths":
            raise LlmCostError("broken")
        return super().__getattribute__(name)


def _broken() -> t.Any:
    raise ConfigError("broken")


@pytest.mark.parametrize(
    "options",
    [
        {"providers": [Broken("openai", ("api.openai.com",), ())]},
        {"hosts": _broken},
    ],
    ids=["provider", "hosts"],
)
def test_nothing_else_may_reject_it(
    options: dict[str, t.Any], book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    assert Tap(book, **options).open("POST", URL, BODY) is None
    assert "Capture failed with" in caplog.text
    assert not suppressed()


def test_a_broken_recorder_does_not_stop_the_send(
    book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    book.forbids = ValueError("secret content")
    assert Tap(book).open("POST", URL + "?key=secret", b"secret") is None
    assert not suppressed()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("flask_llm_cost", logging.ERROR)
    assert "ValueError in begin:" in caplog.text
    assert "secret" not in caplog.text


def test_a_recorder_that_breaks_at_the_end_is_logged(
    book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    meter = begin(book)
    book.breaks = True
    meter.no_response()
    meter.close()
    assert caplog.text.count("ValueError in record:") == 1
    assert "sk-secret" not in caplog.text


def test_a_recorder_that_breaks_in_the_garbage_collector_is_not(
    book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    meter = begin(book)
    book.breaks = True
    del meter
    assert not caplog.records
    assert not book.calls


def test_a_send_inside_an_attempt_is_part_of_it(book: Book) -> None:
    meter = begin(book)
    assert suppressed()
    assert Tap(book).open("POST", URL, BODY) is None
    meter.respond(200, {})
    assert not suppressed()
    begin(book).no_response()
    meter.end()
    assert len(book.attempts) == len(book.calls) == 2


def test_the_guard_ends_with_a_missing_response_too(book: Book) -> None:
    begin(book).no_response()
    assert not suppressed()


def test_a_task_that_was_started_inside_is_captured_afterwards(book: Book) -> None:
    meter = begin(book)
    inside = contextvars.copy_context()
    assert inside.run(suppressed)
    meter.respond(200, {})
    assert not inside.run(suppressed)


def test_headers_may_arrive_in_another_context(book: Book) -> None:
    meter = begin(book)
    contextvars.Context().run(meter.respond, 200, {})
    assert not suppressed()
    assert begin(book)


def test_a_recorder_that_calls_an_llm_does_not_call_itself(book: Book) -> None:
    def ask() -> dict[str, str]:
        assert Tap(book).open("POST", URL, BODY) is None
        return {"asked": "yes"}

    begin(book, tags=ask).no_response()
    assert book.call.tags == {"asked": "yes"}


def test_suppress_captures_nothing_inside(book: Book) -> None:
    with suppress():
        with suppress():
            assert suppressed()
        assert Tap(book).open("POST", URL, BODY) is None
    assert not suppressed()
    assert not book.attempts


def test_suppress_may_be_left_in_another_context() -> None:
    def steps() -> Iterator[None]:
        with suppress():
            yield

    generator = steps()
    next(generator)
    assert suppressed()
    contextvars.Context().run(next, generator, None)
    assert not suppressed()


def test_suppress_lets_errors_through() -> None:
    with pytest.raises(KeyError), suppress():
        raise KeyError
    assert not suppressed()


ENDS: tuple[t.Callable[[Meter], None], ...] = (
    Meter.end,
    Meter.close,
    Meter.fail,
    Meter.unfinished,
    Meter.abandon,
)


def test_the_first_end_counts(book: Book) -> None:
    meter = begin(book)
    meter.respond(200, {})
    for end in (Meter.fail, *ENDS):
        end(meter)
    assert book.call.outcome == "failed"
    meter.feed(CHAT_STREAM, decoded=True)
    assert book.call.usage is None


def test_threads_that_end_one_attempt_make_one_record(book: Book) -> None:
    for _ in range(50):
        meter = begin(book)
        meter.respond(200, {})
        start = threading.Barrier(len(ENDS) + 1)

        def run(
            end: t.Callable[[Meter], None],
            meter: Meter = meter,
            start: threading.Barrier = start,
        ) -> None:
            start.wait()
            end(meter)

        def feed(meter: Meter = meter, start: threading.Barrier = start) -> None:
            start.wait()
            for at in range(0, len(CHAT_STREAM), 100):
                meter.feed(CHAT_STREAM[at : at + 100], decoded=True)

        threads = [threading.Thread(target=run, args=(end,)) for end in ENDS]
        threads.append(threading.Thread(target=feed))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({call.event_id for call in book.calls}) == len(book.calls) == 50


def test_a_meter_that_is_dropped_is_recorded_later(book: Book) -> None:
    meter = begin(book)
    meter.respond(200, {})
    meter.feed(CHAT_STREAM[:300], decoded=True)
    assert open_meters() == [meter]
    del meter
    assert book.call.outcome == "interrupted"
    assert book.deferred == [True]
    assert not open_meters()


def test_a_meter_in_a_cycle_is_recorded_by_the_garbage_collector(book: Book) -> None:
    cycle: list[t.Any] = [begin(book)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert book.deferred == [True]


def test_open_attempts_can_be_ended(book: Book) -> None:
    meter = begin(book)
    meter.respond(200, {})
    for waiting in open_meters():
        waiting.unfinished()
    assert book.call.outcome == "unfinished"
    assert not open_meters()
    meter.close()
    assert len(book.calls) == 1


def test_latency_is_that_of_the_terminal_event(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("flask_llm_cost.capture.meter.perf_counter", lambda: now[0])
    meter = begin(book)
    now[0] += 0.2504
    meter.respond(200, {})
    now[0] += 0.1
    meter.feed(CHAT_STREAM[:100], decoded=True)
    now[0] += 1
    meter.feed(CHAT_STREAM[100:], decoded=True)
    now[0] += 5
    meter.close()
    assert (book.call.first_byte_ms, book.call.latency_ms) == (350, 1350)


def test_encoded_bytes_are_decoded_for_the_reading(book: Book) -> None:
    import gzip

    meter = begin(book)
    meter.respond(200, {"Content-Encoding": "gzip"})
    meter.feed(gzip.compress(CHAT_JSON), decoded=False)
    meter.end()
    assert book.call.usage is not None
    assert book.call.usage.output_tokens == 20


def ask(book: Book, method: str, url: str, body: dict[str, t.Any]) -> None:
    meter = Tap(book).open(method, url, b"{}")
    assert meter is not None
    meter.respond(200, {})
    meter.feed(json.dumps(body).encode(), decoded=True)
    meter.end()


def test_a_background_answer_is_one_call_however_often_it_is_polled(book: Book) -> None:
    url = "https://api.openai.com/v1/responses"
    answer = {"id": "resp_polled", "model": "gpt-5", "background": True, "usage": None}
    done = answer | {"usage": {"input_tokens": 3, "output_tokens": 4}}
    ask(book, "POST", url, answer)
    ask(book, "GET", f"{url}/resp_polled", answer)
    assert [call.usage for call in book.calls] == [None]
    ask(book, "GET", f"{url}/resp_polled", done)
    ask(book, "GET", f"{url}/resp_polled", done)
    assert len(book.calls) == 2
    assert book.calls[1].usage is not None
    assert book.calls[1].usage.output_tokens == 4


def test_a_video_is_one_bill_however_often_it_is_polled(book: Book) -> None:
    url = "https://api.x.ai/v1/videos"
    usage = {"cost_in_usd_ticks": 500_000_000}
    done = {"status": "done", "video": {"duration": 1}, "usage": usage}
    ask(book, "POST", f"{url}/generations", {"request_id": "v-1"})
    ask(book, "GET", f"{url}/v-1", {"status": "pending"})
    ask(book, "GET", f"{url}/v-1", done)
    ask(book, "GET", f"{url}/v-1", done)
    asked, billed = book.calls
    assert (asked.usage, asked.response_id) == (None, "v-1")
    assert (billed.reported_cost, billed.response_id) == (Decimal("0.05"), "v-1")


def test_a_container_is_billed_once_however_many_answers_use_it(book: Book) -> None:
    def answer(*containers: str) -> dict[str, t.Any]:
        kind = "code_interpreter_call"
        output = [{"type": kind, "container_id": name} for name in containers]
        usage = {"input_tokens": 3, "output_tokens": 4}
        return {"model": "gpt-5.5", "output": output, "usage": usage}

    url = "https://api.openai.com/v1"
    ask(book, "POST", f"{url}/containers", {"id": "cntr_made"})
    ask(book, "POST", f"{url}/responses", answer("cntr_made", "cntr_auto"))
    ask(book, "POST", f"{url}/responses", answer("cntr_auto"))
    assert [call.usage and call.usage.units for call in book.calls] == [
        {"code_interpreter": 1},
        {"code_interpreter": 1},
        {},
    ]
    assert all("session_fee" in call.flags for call in book.calls)


def test_a_fine_tuning_job_is_one_call_however_often_it_is_polled(book: Book) -> None:
    url = "https://api.openai.com/v1/fine_tuning/jobs/ftjob-polled"
    job = {"id": "ftjob-polled", "model": "gpt-4o-mini", "status": "running"}
    ask(book, "GET", url, job)
    done = job | {"status": "succeeded", "trained_tokens": 5000}
    ask(book, "GET", url, done)
    ask(book, "GET", url, done)
    assert book.call.usage is not None
    assert book.call.usage.other_tokens == {"input_training": 5000}


def test_a_session_of_an_agent_is_its_requests_with_its_model(book: Book) -> None:
    url = "https://api.anthropic.com/v1/sessions"
    agent = {"model": {"id": "claude-opus-5-5"}}
    session = {"type": "session", "id": "sesn_seen", "agent": agent, "status": "idle"}
    request = {
        "type": "span.model_request_end",
        "id": "sevt_1",
        "model_usage": {"input_tokens": 3, "output_tokens": 4},
    }
    ask(book, "POST", url, session)
    page = {"data": [request, request | {"id": "sevt_2"}]}
    ask(book, "GET", f"{url}/sesn_seen/events", page)
    ask(book, "GET", f"{url}/sesn_seen/events", page)
    ended = session | {"status": "terminated", "usage": {"input_tokens": 6}}
    ask(book, "GET", f"{url}/sesn_seen", ended)
    assert [(call.response_id, call.model) for call in book.calls] == [
        ("sevt_1", "claude-opus-5-5"),
        ("sevt_2", "claude-opus-5-5"),
    ]
    ask(book, "GET", f"{url}/sesn_other", ended | {"id": "sesn_other"})
    assert book.calls[-1].response_id == "sesn_other"


def test_a_stream_of_a_session_stays_open_between_its_answers(book: Book) -> None:
    url = "https://api.anthropic.com/v1/sessions/sesn_idle/events/stream"
    meter = Tap(book).open("GET", url, None)
    assert meter is not None
    meter.respond(200, {})
    usage = {"input_tokens": 3, "output_tokens": 4}
    for number in (1, 2):
        event = {"type": "span.model_request_end", "id": f"idle_{number}"}
        line = json.dumps({**event, "model_usage": usage}).encode()
        meter.feed(b"data: " + line + b"\n\n", decoded=True)
        meter.settle(0)
    meter.close()
    assert [call.response_id for call in book.calls] == ["idle_1", "idle_2"]
    assert {call.outcome for call in book.calls} == {"ok"}


def test_a_web_socket_is_one_call_for_each_turn(book: Book) -> None:
    meter = Tap(book).open("WS", "wss://api.openai.com/v1/realtime", None)
    assert meter is not None
    meter.respond(101, {})
    session = {"type": "session.created", "session": {"model": "gpt-realtime"}}
    events = [session]
    for number in (1, 2, 3):
        usage = {"input_tokens": 3, "output_tokens": number}
        body = {"id": f"resp_socket_{number}", "usage": usage}
        events.append({"type": "response.done", "response": body})
    for event in events:
        meter.feed(json.dumps(event).encode() + b"\n", decoded=True)
        meter.settle(0)
    assert len(book.calls) == 2
    meter.close()
    assert [call.usage and call.usage.output_tokens for call in book.calls] == [1, 2, 3]
    assert {call.model for call in book.calls} == {"gpt-realtime"}
    assert len({call.event_id for call in book.calls}) == 3


def test_an_answer_that_carried_its_usage_is_not_billed_again(book: Book) -> None:
    url = "https://api.openai.com/v1/responses"
    usage = {"input_tokens": 3, "output_tokens": 4}
    answer = {"id": "resp_known", "model": "gpt-5", "background": True, "usage": usage}
    ask(book, "POST", url, answer)
    ask(book, "GET", f"{url}/resp_known", answer)
    assert len(book.calls) == 1


def test_every_process_that_polls_gives_the_answer_the_same_id(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "https://api.openai.com/v1/responses/resp_shared"
    usage = {"input_tokens": 3, "output_tokens": 4}
    answer = {"id": "resp_shared", "model": "gpt-5", "background": True, "usage": usage}
    for _ in range(2):
        # As in another process, which has not seen an earlier poll.
        monkeypatch.setattr(
            "flask_llm_cost.capture.calls._recorded_answers", OrderedDict()
        )
        ask(book, "GET", url, answer | {"created_at": 1784670683})
    first, second = book.calls
    assert first.event_id == second.event_id
    assert first.started_at.timestamp() == 1784670683
    assert event_time(first.event_id) == first.started_at


def batch_line(number: int, **body: t.Any) -> dict[str, t.Any]:
    answer = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1784670683 + number,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}}],
        "usage": {
            "prompt_tokens": number,
            "completion_tokens": 1,
            "total_tokens": number + 1,
        },
    }
    response = {"status_code": 200, "request_id": "r", "body": answer | body}
    return {
        "id": f"batch_req_{number}",
        "custom_id": f"c{number}",
        "response": response,
    }


def test_each_line_of_a_batch_result_is_one_call_once(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = b"".join(json.dumps(batch_line(n)).encode() + b"\n" for n in (3, 4, 5))
    for _ in range(2):
        monkeypatch.setattr(
            "flask_llm_cost.capture.calls._recorded_answers", OrderedDict()
        )
        url = "https://api.openai.com/v1/files/file-1/content"
        meter = Tap(book).open("GET", url, None)
        assert meter is not None
        meter.respond(200, {})
        for at in range(0, len(lines), 100):
            meter.feed(lines[at : at + 100], decoded=True)
        meter.end()
    tokens = [call.usage.input_tokens for call in book.calls if call.usage is not None]
    assert tokens == [3, 4, 5, 3, 4, 5]
    assert len({call.event_id for call in book.calls}) == 3
    assert {call.service_tier for call in book.calls} == {"batch"}


class Interrupted(Book):
    """A recorder that is interrupted at its second call."""

    left = 2

    def record(self, call: Call, snapshot: Snapshot, *, deferred: bool = False) -> None:
        self.left -= not deferred
        if not self.left:
            self.left = -1
            raise KeyboardInterrupt
        super().record(call, snapshot, deferred=deferred)


@pytest.mark.parametrize("at_once", [True, False])
def test_an_interrupt_among_batch_results_neither_loses_nor_doubles_one(
    at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_llm_cost.capture.calls._recorded_answers", OrderedDict())
    lines = b"".join(
        json.dumps(batch_line(number)).encode() + b"\n" for number in (3, 4, 5)
    )
    # If the last line has no end of line, its result is only read at the end.
    lines = lines if at_once else lines.rstrip()
    book = Interrupted()
    url = "https://api.openai.com/v1/files/file-1/content"
    meter = Tap(book).open("GET", url, None)
    assert meter is not None
    meter.respond(200, {})
    with pytest.raises(KeyboardInterrupt):
        meter.feed(lines, decoded=True)
    meter.end()
    tokens = [call.usage.input_tokens for call in book.calls if call.usage is not None]
    assert tokens == [3, 4, 5]
    assert book.deferred == [False, True, at_once]


def test_an_interrupt_at_a_polled_answer_does_not_lose_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flask_llm_cost.capture.calls._recorded_answers", OrderedDict())
    book = Interrupted()
    book.left = 1
    answer = {
        "id": "resp_1",
        "object": "response",
        "background": True,
        "status": "completed",
        "model": "gpt-5",
        "usage": {"input_tokens": 3, "output_tokens": 4},
    }
    meter = Tap(book).open("GET", "https://api.openai.com/v1/responses/resp_1", None)
    assert meter is not None
    meter.respond(200, {})
    meter.feed(json.dumps(answer).encode(), decoded=True)
    with pytest.raises(KeyboardInterrupt):
        meter.end()
    assert book.deferred == [True]
    assert book.call.response_id == "resp_1"


def look(book: Book, url: str, body: bytes) -> None:
    meter = Tap(book).open("GET", url, None)
    assert meter is not None
    meter.respond(200, {})
    meter.feed(body, decoded=True)
    meter.end()


def test_results_without_a_date_get_that_of_their_batch(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in Anthropic's client: it gets the batch, then its results."""
    url = "https://api.anthropic.com/v1/messages/batches/msgbatch_1"
    batch = {"id": "msgbatch_1", "created_at": "2026-08-20T18:37:24.100435Z"}
    usage = {"input_tokens": 3, "output_tokens": 4}
    message = {"type": "message", "id": "msg_1", "model": "c", "usage": usage}
    line = {"custom_id": "a", "result": {"type": "succeeded", "message": message}}
    for _ in range(2):
        monkeypatch.setattr(
            "flask_llm_cost.capture.calls._recorded_answers", OrderedDict()
        )
        monkeypatch.setattr("flask_llm_cost.capture.calls._parents", OrderedDict())
        look(book, url, json.dumps(batch).encode())
        look(book, f"{url}/results", json.dumps(line).encode() + b"\n")
    first, second = book.calls
    assert first.event_id == second.event_id
    assert first.started_at == dt.datetime(2026, 8, 20, 18, 37, 24, tzinfo=dt.UTC)
    assert (first.service_tier, first.response_id) == ("batch", "msg_1")


def test_an_embedding_is_dated_by_the_id_of_its_line(book: Book) -> None:
    url = "https://api.openai.com/v1/files/file-1/content"
    answer = batch_line(3, id=None, object="list", created=None)
    answer["id"] = "batch_req_6a6001aa4f0c8190b1a3d8e6f5c4b3a2"
    for _ in range(2):
        look(book, url, json.dumps(answer).encode() + b"\n")
    assert {call.started_at.timestamp() for call in book.calls} == {0x6A6001AA}


def test_a_batch_of_embeddings_has_the_ids_of_its_lines(book: Book) -> None:
    lines = b"".join(
        json.dumps(batch_line(n, id=None, object="list")).encode() + b"\n"
        for n in (3, 4)
    )
    meter = Tap(book).open(
        "GET", "https://api.openai.com/v1/files/file-1/content", None
    )
    assert meter is not None
    meter.respond(200, {})
    meter.feed(lines, decoded=True)
    meter.end()
    assert [call.response_id for call in book.calls] == ["batch_req_3", "batch_req_4"]
    assert len({call.event_id for call in book.calls}) == 2


def test_a_failed_poll_is_not_a_call(book: Book) -> None:
    meter = Tap(book).open("GET", "https://api.openai.com/v1/responses/resp_1", None)
    assert meter is not None
    meter.no_response()
    assert not book.calls
    assert not suppressed()


FORKING: t.Final = """
import os, sys
from flask_llm_cost.capture.meter import open_meters
from flask_llm_cost.capture.tap import Tap
from tests.capture.conftest import Book
from tests.capture.test_meter import begin

book = Book()
meter = begin(book)
child = os.fork()
if child == 0:
    assert not open_meters()
    meter.close()
    del meter
    begin(book).close()
    os._exit(0 if len(book.calls) == 1 else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
meter.respond(200, {})
meter.end()
assert book.call.outcome == "ok"
"""


def test_a_forked_child_leaves_the_open_attempts_to_its_parent() -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-W", "ignore", "-c", FORKING]
    assert subprocess.run(command, cwd=root, check=False).returncode == 0


class Timeout(Exception):
    """As in RQ and Celery: raised by a signal handler, wherever the process is."""


@pytest.fixture
def interrupt() -> Iterator[t.Callable[..., t.Any]]:
    """Send this process a signal whose handler raises :class:`Timeout`."""

    def handle(number: int, frame: object) -> None:
        raise Timeout

    before = signal.signal(signal.SIGUSR1, handle)

    def send(*args: object) -> t.Any:
        signal.raise_signal(signal.SIGUSR1)

    yield send
    signal.signal(signal.SIGUSR1, before)


def test_an_exception_of_a_signal_handler_reaches_the_app(
    app: Flask, interrupt: t.Callable[..., t.Any]
) -> None:
    llm_cost = app.extensions["llm_cost"].extension
    with app.app_context(), pytest.raises(Timeout):
        llm_cost.track(provider="openai", model="gpt-4o", tags=interrupt)
    tap = llm_cost._tap(interrupt)
    with app.app_context(), pytest.raises(Timeout):
        tap.open("POST", URL, BODY)
    assert not suppressed()


@pytest.mark.parametrize("kind", ["ctrl-c", "signal"])
def test_a_call_whose_recording_is_interrupted_is_recorded_later(
    make_app: MakeApp, interrupt: t.Callable[..., t.Any], kind: str
) -> None:
    kept: list[Call] = []
    broken = [True]

    def storage(call: Call) -> None:
        if broken.pop() if broken else False:
            if kind == "signal":
                interrupt()
            raise KeyboardInterrupt
        kept.append(call)

    app = make_app(LLM_COST_STORAGE=storage)
    llm_cost = app.extensions["llm_cost"].extension
    raised = Timeout if kind == "signal" else KeyboardInterrupt
    with app.app_context():
        meter = llm_cost._tap().open("POST", URL, BODY)
        assert meter is not None
        meter.respond(200, {})
        meter.feed(CHAT_JSON, decoded=True)
        with pytest.raises(raised):
            meter.end()
        assert kept == []
        llm_cost.flush()
    assert [(call.outcome, call.usage_source) for call in kept] == [
        ("ok", "stream_final")
    ]

    broken.append(True)
    with app.app_context():
        with pytest.raises(raised):
            llm_cost.track(provider="openai", model="gpt-4o", input_tokens=7)
        llm_cost.flush()
    assert [call.usage and call.usage.input_tokens for call in kept][1:] == [7]


def test_an_error_that_no_signal_raised_is_contained(
    app: Flask, interrupt: t.Callable[..., t.Any], caplog: pytest.LogCaptureFixture
) -> None:
    def tags() -> dict[str, str]:
        raise Timeout

    with app.app_context(), record_calls(app) as calls:
        llm_cost = app.extensions["llm_cost"].extension
        llm_cost.track(provider="openai", model="gpt-4o", tags=tags)
    assert "tag_error" in calls[0].flags
    assert "raised Timeout outside a request; its tags are missing" in caplog.text


def test_captures_are_not_suppressed_after_an_interrupt_anywhere(book: Book) -> None:
    tap, lines = Tap(book), 0
    files = ("meter.py", "tap.py", "suppression.py", "harmless.py")
    for left in range(1, 200):
        seen = left

        def trace(frame: t.Any, event: str, arg: object) -> t.Any:
            nonlocal seen
            if Path(frame.f_code.co_filename).name not in files:
                return None
            seen -= event == "line"
            if not seen:
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            meter = tap.open("POST", URL, BODY)
        except KeyboardInterrupt:
            lines = left
        else:
            break
        finally:
            sys.settrace(before)
        assert not suppressed(), left
    assert lines > 20
    assert meter is not None
    meter.no_response()
