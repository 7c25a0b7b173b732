"""Calls to unlisted hosts: counted, recorded or left alone."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Callable
from collections.abc import Iterator

import pytest
import requests
from requests.adapters import HTTPAdapter

from flask_llm_cost.capture.requests_adapter import LlmCostAdapter
from flask_llm_cost.errors import UnknownPrice
from tests.capture.conftest import Book
from tests.capture.server import Answer
from tests.capture.server import CHAT
from tests.capture.server import CHAT_JSON
from tests.capture.server import CHAT_STREAM
from tests.capture.server import Provider

ASK: t.Final = {"model": "qwen", "messages": [{"role": "user", "content": "hello"}]}

Send = Callable[[], bytes]


@pytest.fixture
def session(book: Book) -> Iterator[requests.Session]:
    """A session with no list of hosts."""
    with requests.Session() as session:
        session.mount("http://", LlmCostAdapter(book, hosts={}))
        yield session


@pytest.fixture
def send(provider: Provider, session: requests.Session) -> Send:
    return lambda: session.post(provider.url(), json=ASK).content


def test_a_call_is_counted_by_host_and_not_recorded(
    provider: Provider, send: Send, book: Book
) -> None:
    provider.play(Answer(CHAT_JSON, cuts=(40,)))
    assert send() == CHAT_JSON
    assert book.counted == [provider.host]
    assert not book.attempts
    assert not book.calls


@pytest.mark.parametrize("body", [CHAT_JSON, CHAT_STREAM])
def test_a_call_is_recorded_under_its_host(
    body: bytes, provider: Provider, send: Send, book: Book
) -> None:
    book.unlisted_hosts = "record"
    provider.play(Answer(body, cuts=(40,), encoding="gzip"))
    assert send() == body
    assert not book.counted
    assert book.attempts[0].unlisted
    call = book.call
    assert (call.provider, call.model) == (provider.host, CHAT["model"])
    assert call.usage is not None
    assert call.usage.total_tokens == 120
    assert {"unlisted_host", "held"} <= call.flags


def test_a_call_is_left_alone(provider: Provider, send: Send, book: Book) -> None:
    book.unlisted_hosts = "ignore"
    provider.play(Answer(CHAT_JSON))
    assert send() == CHAT_JSON
    assert not book.counted
    assert not book.calls


@pytest.mark.parametrize("mode", ["count", "record"])
@pytest.mark.parametrize(
    "answer",
    [
        Answer(json.dumps({"choices": ["a"], "usage": CHAT["usage"]}).encode()),
        Answer(CHAT_JSON, status=500),
        Answer(CHAT_JSON[:-200]),
        Answer(b""),
        Answer(b"\x00" * 100),
    ],
)
def test_another_answer_is_not_a_call(
    answer: Answer, mode: str, provider: Provider, send: Send, book: Book
) -> None:
    book.unlisted_hosts = mode
    provider.play(answer)
    send()
    assert not book.counted
    assert not book.calls


def test_a_listed_call_inside_is_the_call(
    provider: Provider, book: Book, hosts: dict[str, str]
) -> None:
    """An adapter of the app's own that passes requests on, as a gateway in process does."""
    book.unlisted_hosts = "record"
    provider.play(Answer(CHAT_JSON))
    inside = requests.Session()
    inside.mount("http://", LlmCostAdapter(book, hosts=hosts))

    class PassOn(HTTPAdapter):
        def send(self, request: t.Any, **options: t.Any) -> t.Any:
            return inside.post(provider.url(), data=request.body)

    with requests.Session() as session, inside:
        session.mount("http://", LlmCostAdapter(book, hosts={}, inner=PassOn()))
        response = session.post("http://gateway.internal/v1/chat/completions", json=ASK)
        assert response.content == CHAT_JSON
    assert book.call.provider == "openai"


def test_a_lost_connection_is_the_apps(
    provider: Provider, session: requests.Session, bare: requests.Session, book: Book
) -> None:
    book.unlisted_hosts = "record"
    provider.play(Answer(CHAT_JSON, dies_after=50))
    raised = []
    for each in (session, bare):
        with pytest.raises(requests.exceptions.RequestException) as caught:
            each.post(provider.url(), json=ASK)
        raised.append(type(caught.value))
    assert raised[0] is raised[1]
    assert not book.calls


def test_what_the_server_receives_is_the_same(
    provider: Provider, session: requests.Session, bare: requests.Session, book: Book
) -> None:
    book.injects = True
    book.unlisted_hosts = "record"
    scene = provider.play(Answer(CHAT_STREAM))
    for sender in (session, bare):
        sender.post(provider.url(), json=ASK | {"stream": True})
    ours, theirs = scene.requests
    assert ours == theirs


def test_a_body_that_is_not_in_memory_is_not_read(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(CHAT_JSON))
    session.post(provider.url(), data=iter([json.dumps(ASK).encode()]))
    assert not book.counted


def test_an_abandoned_call_is_not_counted(
    provider: Provider, session: requests.Session, book: Book
) -> None:
    provider.play(Answer(CHAT_STREAM, cuts=(40,)))
    response = session.post(provider.url(), json=ASK, stream=True)
    next(response.iter_content(10))
    del response
    assert not book.counted


def test_nothing_stops_what_may_be_another_request(
    make_app: Callable[..., t.Any], provider: Provider
) -> None:
    """Neither a budget nor an error that waits: it may not be an LLM call."""
    app = make_app(
        LLM_COST_UNLISTED_HOSTS="record",
        LLM_COST_MONTHLY_BUDGET=0,
        LLM_COST_BUDGET_BEHAVIOR="block",
    )
    state = app.extensions["llm_cost"]
    state.intake.pending_error = UnknownPrice("openai", "gpt")
    provider.play(Answer(CHAT_JSON))
    with app.app_context(), requests.Session() as session:
        session.mount("http://", state.extension.adapter())
        assert session.post(provider.url(), json=ASK).content == CHAT_JSON
        assert state.extension.flush(60)
        [row] = state.extension.calls.rows()
    assert row.provider == provider.host
    assert row.cost_usd is None
    assert state.intake.pending_error is not None
