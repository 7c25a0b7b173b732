"""A call with final usage is recorded, even if its caller never reads to the end."""

from __future__ import annotations

import requests

from flask_llm_cost.capture.meter import settle
from tests.capture.conftest import Book
from tests.capture.server import Answer
from tests.capture.server import Provider
from tests.capture.server import RESPONSES_STREAM
from tests.capture.server import sse

ASK = {"model": "gpt-5", "stream": True}


def _stop_at_the_terminal_event(
    provider: Provider, session: requests.Session
) -> requests.Response:
    provider.play(
        Answer(RESPONSES_STREAM + b": more\n\n" * 9, hangs=True, dies_after=-5)
    )
    response = session.post(provider.url("/v1/responses"), json=ASK, stream=True)
    for line in response.iter_lines(chunk_size=16):
        if b"response.completed" in line and line.startswith(b"data:"):
            break
    return response


def test_an_unread_answer_is_recorded_some_time_after_its_terminal_event(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    response = _stop_at_the_terminal_event(provider, session)
    response.raw.read(8)
    settle(60)
    assert book.calls == []
    settle(0)
    assert (book.call.outcome, book.call.usage_source) == ("ok", "stream_final")
    provider.released.set()
    response.close()
    assert len(book.calls) == 1


def test_closing_after_the_terminal_event_interrupts_nothing(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    response = _stop_at_the_terminal_event(provider, session)
    response.raw.read(8)
    response.close()
    provider.released.set()
    assert (book.call.outcome, book.call.usage_source) == ("ok", "stream_final")


def test_a_call_that_is_open_at_exit_is_unfinished(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(sse({"id": "x", "model": "gpt-5"}), hangs=True, dies_after=-5))
    response = session.post(provider.url("/v1/responses"), json=ASK, stream=True)
    response.raw.read(4)
    settle(0)
    assert book.calls == []
    settle(0, ending=True)
    assert book.call.outcome == "unfinished"
    provider.released.set()
    response.close()
