"""A stream that the app reports itself is one call, however its block ends."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import json
import threading
import typing as t
from collections.abc import AsyncIterator
from collections.abc import Iterator
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path

import pytest
from anthropic.types import Message
from openai.types.chat import ChatCompletionChunk

from flask_llm_cost.attempt import Snapshot
from flask_llm_cost.call import Call
from flask_llm_cost.call import Usage
from flask_llm_cost.capture.meter import open_meters
from flask_llm_cost.capture.suppression import suppressed
from flask_llm_cost.capture.track_stream import TrackedStream
from flask_llm_cost.errors import BudgetExceeded
from flask_llm_cost.errors import LlmCostError
from tests.capture.conftest import Book
from tests.capture.server import chat_events
from tests.capture.server import CHAT_STREAM
from tests.capture.server import MESSAGE_JSON
from tests.capture.server import MESSAGE_STREAM

SHARED: t.Final = Path(__file__).resolve().parents[3] / "shared"
USED: t.Final = Usage(input_tokens=60, cache_read_tokens=40, output_tokens=20)


def stream_of(book: Book, **options: t.Any) -> TrackedStream:
    return TrackedStream(book, **{"provider": "openai", "model": "gpt-4o"} | options)


def test_events_become_one_call(book: Book) -> None:
    with stream_of(book, tags={"feature": "chat"}) as stream:
        assert not suppressed()
        for event in chat_events():
            stream.event(event)
        assert not book.calls
    call = book.call
    assert stream.call == call
    assert call.usage == USED
    assert (call.outcome, call.usage_source) == ("ok", "stream_final")
    assert (call.model, call.request_model) == ("gpt-4o-2024-08-06", "gpt-4o")
    assert (call.response_id, call.stream) == ("chatcmpl-1", True)
    assert call.http_status is None
    assert call.tags == {"feature": "chat"}
    assert not open_meters()


def pieces(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


FORMS: dict[str, t.Callable[[], list[t.Any]]] = {
    "bytes": lambda: [CHAT_STREAM],
    "text": lambda: [CHAT_STREAM.decode()],
    "lines": lambda: t.cast("list[t.Any]", CHAT_STREAM.splitlines()),
    "lines with ends": lambda: t.cast(
        "list[t.Any]", CHAT_STREAM.decode().splitlines(True)
    ),
    "pieces of 1": lambda: list(pieces(CHAT_STREAM, 1)),
    "pieces of 13": lambda: list(pieces(CHAT_STREAM, 13)),
    "pieces of 400": lambda: list(pieces(CHAT_STREAM, 400)),
    "CRLF": lambda: [CHAT_STREAM.replace(b"\n", b"\r\n")],
    "JSON": lambda: [e if isinstance(e, str) else json.dumps(e) for e in chat_events()],
    "pretty JSON": lambda: [json.dumps(e, indent=2) for e in chat_events()],
    "an array": lambda: [json.dumps(chat_events()[:-1])],
    "nothing between": lambda: [None, *chat_events(), None],
    "noise before": lambda: ["data: {broken", ": ping\n\n", *chat_events()],
    "objects": lambda: [
        ChatCompletionChunk.model_construct(**event)
        for event in chat_events()
        if isinstance(event, dict)
    ],
}


@pytest.mark.parametrize("form", FORMS)
def test_events_may_have_any_form(form: str, book: Book) -> None:
    with stream_of(book) as stream:
        for event in FORMS[form]():
            stream.event(event)
    assert book.call.usage == USED
    assert book.call.outcome == "ok"


def test_events_of_anthropic_are_read_by_its_dialect(book: Book) -> None:
    with stream_of(book, provider="anthropic", model=None) as stream:
        stream.event(MESSAGE_STREAM)
    assert book.call.usage == USED
    assert book.call.model == "claude-sonnet-4-5"
    assert book.call.request_model is None


def test_a_complete_sdk_response_is_an_event(book: Book) -> None:
    message = Message.model_validate(
        json.loads(MESSAGE_JSON)
        | {"role": "assistant", "stop_reason": "end_turn", "stop_sequence": None}
    )
    with stream_of(book, provider="anthropic") as stream:
        stream.event(message)
    assert book.call.usage == USED


def test_a_dataclass_is_an_event(book: Book) -> None:
    @dataclasses.dataclass
    class Chunk:
        model: str
        usage: dict[str, int]

    with stream_of(book) as stream:
        stream.event(Chunk("gpt-4o", {"prompt_tokens": 1, "completion_tokens": 2}))
    assert book.call.usage == Usage(input_tokens=1, output_tokens=2)


def test_the_type_of_an_event_may_be_given_separately(book: Book) -> None:
    usage = {"input_tokens": 3, "output_tokens": 4}
    with stream_of(book) as stream:
        stream.event(
            {"response": {"id": "r1", "usage": usage}}, type="response.completed"
        )
    assert book.call.response_id == "r1"
    assert book.call.usage == Usage(input_tokens=3, output_tokens=4)


def test_unreadable_events_are_logged_once(
    book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    with stream_of(book) as stream:
        stream.event(object())
        stream.event(object())
    assert caplog.text.count("An event of type object cannot be read") == 1
    assert "unreadable_event" in book.call.flags


@pytest.mark.parametrize("dumps", ["model_dump", "to_dict", "asdict"])
def test_an_object_that_cannot_be_dumped_is_harmless(dumps: str, book: Book) -> None:
    @dataclasses.dataclass
    class Chunk:
        lock: t.Any = dataclasses.field(default_factory=threading.Lock)

        def __getattr__(self, name: str) -> t.Any:
            if name == dumps:
                raise RuntimeError(name)
            raise AttributeError(name)

    with stream_of(book) as stream:
        stream.event(Chunk())
    assert "unreadable_event" in book.call.flags


@pytest.mark.parametrize("text", ["[" * 100_000, 'data: {"a":' * 50_000])
def test_text_that_is_nested_too_deeply_is_harmless(text: str, book: Book) -> None:
    with stream_of(book) as stream:
        stream.event(text)
        stream.event(CHAT_STREAM)
    assert book.call.usage == USED


def test_explicit_usage_wins_and_replaces(book: Book) -> None:
    with stream_of(book) as stream:
        stream.usage(input_tokens=1, output_tokens=1)
        stream.usage(input_tokens=7, output_tokens=4, cache_read_tokens=2)
        stream.event(CHAT_STREAM)
    assert book.call.usage == Usage(7, cache_read_tokens=2, output_tokens=4)
    assert book.call.usage_source == "manual"
    assert book.call.response_id == "chatcmpl-1"


def test_invalid_usage_is_an_error(book: Book) -> None:
    with stream_of(book) as stream:
        with pytest.raises(ValueError, match="input_tokens must be"):
            stream.usage(input_tokens=-1)
        with pytest.raises(ValueError, match="not both"):
            stream.usage(Usage(), input_tokens=1)
    assert book.call.usage is None


def test_missing_fields_come_from_the_stream(book: Book) -> None:
    with stream_of(book, model=None, latency_ms=1234) as stream:
        stream.model = "mine"
        stream.response_id = "r9"
    assert (book.call.model, book.call.response_id) == ("mine", "r9")
    assert book.call.latency_ms == 1234


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ValueError, "failed"),
        (KeyboardInterrupt, "interrupted"),
        (SystemExit, "interrupted"),
        (GeneratorExit, "interrupted"),
        (asyncio.CancelledError, "interrupted"),
    ],
)
def test_an_error_propagates_and_the_call_is_recorded(
    error: type[BaseException], outcome: str, book: Book
) -> None:
    raised = error()

    def answer() -> None:
        with stream_of(book, provider="anthropic") as stream:
            stream.event(MESSAGE_STREAM[:350])
            raise raised

    with pytest.raises(error) as seen:
        answer()
    assert seen.value is raised
    assert raised.__context__ is None
    assert book.call.outcome == outcome
    assert book.call.usage is not None
    assert book.call.usage_source == "stream_partial"


def test_break_and_return_are_recorded(book: Book) -> None:
    def ask() -> int:
        for turn in range(3):
            with stream_of(book) as stream:
                stream.event(CHAT_STREAM)
                if turn == 0:
                    continue
                return turn
        return -1

    assert ask() == 1
    for _ in "x":
        with stream_of(book) as stream:
            break
    assert [call.outcome for call in book.calls] == ["ok"] * 3
    assert stream.call is book.calls[-1]


def test_a_generator_may_be_closed_in_another_context(book: Book) -> None:
    def answer() -> Iterator[int]:
        with stream_of(book):
            yield 1

    generator = t.cast("t.Generator[int]", answer())
    next(generator)
    contextvars.Context().run(generator.close)
    assert book.call.outcome == "interrupted"


def test_it_is_an_async_context_manager_too(book: Book) -> None:
    async def answer() -> AsyncIterator[t.Any]:
        async with stream_of(book) as stream:
            for event in chat_events():
                stream.event(event)
                yield event

    async def main() -> None:
        assert len([event async for event in answer()]) == 14

    asyncio.run(main())
    assert book.call.usage == USED


def test_a_cancelled_task_is_recorded(book: Book) -> None:
    async def work() -> None:
        async with stream_of(book):
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert book.call.outcome == "interrupted"


def test_reporting_outside_the_block_is_an_error(book: Book) -> None:
    stream = stream_of(book)
    with pytest.raises(LlmCostError, match="not begun"):
        stream.event({})
    with stream:
        pass
    with pytest.raises(LlmCostError, match="ended and is recorded"):
        stream.event({})
    with pytest.raises(LlmCostError, match="ended and is recorded"):
        stream.usage(input_tokens=1)
    with pytest.raises(LlmCostError, match="Create another one"), stream:
        pass
    assert len(book.calls) == 1


def test_a_recorder_that_declines_gets_nothing(book: Book) -> None:
    book.asks = False
    with stream_of(book) as stream:
        stream.event(CHAT_STREAM)
    assert stream.call is None
    assert not book.calls


def test_a_budget_may_stop_it_before_it_begins(book: Book) -> None:
    book.forbids = BudgetExceeded(
        "all", period="day", limit_usd=Decimal(1), spent_usd=Decimal(2)
    )
    with pytest.raises(BudgetExceeded), stream_of(book):
        pytest.fail("the block was entered")
    book.forbids = None
    with stream_of(book) as stream:
        stream.event(CHAT_STREAM)
    assert book.call.usage == USED


def test_a_broken_recorder_does_not_reach_the_block(
    book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    book.breaks = True
    with stream_of(book) as stream:
        stream.event(CHAT_STREAM)
    assert "ValueError in record" in caplog.text


def test_the_recorder_may_return_the_priced_call(book: Book) -> None:
    class Pricing(Book):
        def record(self, call: Call, snapshot: Snapshot, **options: t.Any) -> Call:  # type: ignore[override]
            return dataclasses.replace(call, flags=frozenset({"priced"}))

    with TrackedStream(Pricing(), provider="openai", model="gpt-4o") as stream:
        pass
    assert stream.call is not None
    assert stream.call.flags == {"priced"}


def test_threads_may_report_to_one_stream(book: Book) -> None:
    with stream_of(book) as stream:
        threads = [
            threading.Thread(target=stream.event, args=(event,))
            for event in chat_events()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert book.call.usage == USED


def _steps(stream: TrackedStream, steps: list[list[t.Any]]) -> None:
    for step, value in steps:
        if step == "event":
            stream.event(value)
        elif step == "usage":
            stream.usage(**value)
        elif step == "model":
            stream.model = value
        elif step == "raise":
            raise RuntimeError(value)


def test_the_predecessors_streams_are_read_alike(book: Book) -> None:
    path = SHARED / "vectors" / "streams.json"
    if not path.exists():
        pytest.skip("no ../shared")
    vectors = json.loads(path.read_text())["vectors"]
    for vector in (v for v in vectors if v["kind"] == "track_stream"):
        expected = vector["expected"]["event"]
        book.calls.clear()
        raised = vector["expected"]["raised"]
        error = pytest.raises(RuntimeError) if raised else nullcontext()
        with (
            error,
            TrackedStream(
                book, provider=vector["provider"], model=vector["model"]
            ) as stream,
        ):
            _steps(stream, vector["steps"])
        call = book.call
        assert call.outcome == ("failed" if raised else "ok"), vector["id"]
        used = call.usage or Usage()
        assert call.model == expected["model"], vector["id"]
        assert used.total_input_tokens == expected["input_tokens"], vector["id"]
        assert used.output_tokens == expected["output_tokens"], vector["id"]
        assert call.usage_source == expected["usage_source"], vector["id"]
        assert call.response_id == expected["provider_response_id"], vector["id"]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"provider": None}, "provider must be"),
        ({"provider": " "}, "provider must be"),
        ({"model": 5}, "model must be"),
        ({"model": ""}, "model must be"),
        ({"latency_ms": "x"}, "latency_ms must be"),
        ({"latency_ms": -5}, "latency_ms must be"),
    ],
)
def test_invalid_values_are_errors_before_the_block(
    book: Book, options: dict[str, t.Any], names: str
) -> None:
    with pytest.raises(ValueError, match=names):
        stream_of(book, **options)


def test_an_invalid_value_in_the_block_is_an_error_and_the_call_is_recorded(
    book: Book,
) -> None:
    with stream_of(book, latency_ms=1.6) as stream:
        for wrong in (5, "", object()):
            with pytest.raises(ValueError, match="model must be"):
                stream.model = t.cast(str, wrong)
            with pytest.raises(ValueError, match="response_id must be"):
                stream.response_id = t.cast(str, wrong)
        with pytest.raises(ValueError, match=r"usage must be a Usage.*input_tokens=3"):
            stream.usage(t.cast(Usage, {"input_tokens": 3}))
        stream.model, stream.response_id = "gpt-4o-mini", "r1"
        stream.usage(input_tokens=3)
    assert (book.call.model, book.call.response_id) == ("gpt-4o-mini", "r1")
    assert book.call.latency_ms == 2
    assert book.call.usage == Usage(input_tokens=3)


def realtime(name: str, output: int) -> list[dict[str, t.Any]]:
    usage = {"input_tokens": 5, "output_tokens": output, "total_tokens": 5 + output}
    body = {"id": name, "object": "realtime.response"}
    return [
        {"type": "response.created", "response": body},
        {"type": "response.done", "response": {**body, "usage": usage}},
    ]


def test_each_turn_of_a_session_is_a_call_once_the_next_begins(book: Book) -> None:
    with stream_of(book, model="gpt-realtime") as stream:
        for number in (1, 2, 3):
            for event in realtime(f"resp_turn_{number}", number):
                stream.event(event)
            assert len(book.calls) == number - 1
    assert [call.usage and call.usage.output_tokens for call in book.calls] == [1, 2, 3]
    assert {call.model for call in book.calls} == {"gpt-realtime"}
    assert {call.outcome for call in book.calls} == {"ok"}
    assert len({call.event_id for call in book.calls}) == 3
    assert stream.call == book.calls[-1]


def test_turns_of_gemini_have_no_ids_but_are_calls(book: Book) -> None:
    used = {"promptTokenCount": 9, "responseTokenCount": 4}
    with stream_of(book, provider="gemini", model="gemini-live") as stream:
        for _ in range(3):
            stream.event(
                {"serverContent": {"turnComplete": True}, "usageMetadata": used}
            )
    assert len({call.event_id for call in book.calls}) == 3


def test_what_the_app_reports_is_about_the_last_turn(book: Book) -> None:
    with stream_of(book, model="gpt-realtime", latency_ms=7) as stream:
        for event in realtime("resp_said_1", 1) + realtime("resp_said_2", 2):
            stream.event(event)
        stream.usage(input_tokens=1)
    first, last = book.calls
    assert first.usage == Usage(input_tokens=5, output_tokens=1)
    assert (first.latency_ms, last.latency_ms) == (None, 7)
    assert (last.usage, last.usage_source) == (Usage(input_tokens=1), "manual")


def test_a_session_that_dies_keeps_its_turns_and_flags_the_open_one(book: Book) -> None:
    def dies() -> None:
        with stream_of(book) as stream:
            for event in realtime("resp_dies_1", 1) + realtime("resp_dies_2", 2)[:1]:
                stream.event(event)
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        dies()
    first, last = book.calls
    assert first.outcome == "ok"
    assert "cut" not in first.flags
    assert (last.usage, last.outcome) == (None, "failed")
    assert "cut" in last.flags


def test_a_transcript_does_not_get_the_model_of_the_stream(book: Book) -> None:
    kind = "conversation.item.input_audio_transcription.completed"
    usage = {"type": "duration", "seconds": 3}
    with stream_of(book, model="gpt-realtime") as stream:
        stream.event(realtime("resp_heard", 1)[0])
        stream.event({"type": kind, "item_id": "item_1", "usage": usage})
        stream.event(realtime("resp_heard", 1)[1])
    assert [call.model for call in book.calls] == ["transcription", "gpt-realtime"]
    assert book.calls[0].operation == "audio"
