"""Calls that a test tool answers are collected, however they are captured."""

from __future__ import annotations

import asyncio
import json
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextlib import contextmanager
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import requests
import requests_mock
import responses
import respx
import vcr
import yaml
from flask import Flask
from pytest_httpx import HTTPXMock

from flask_llm_cost import LlmCost
from flask_llm_cost.testing import record_calls

URL = "https://api.openai.com/v1/chat/completions"
ASK = {"model": "gpt-4o", "messages": []}
ANSWER = {
    "id": "chatcmpl-1",
    "model": "gpt-4o",
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}

Mock: t.TypeAlias = Callable[[Path], AbstractContextManager[t.Any]]


@contextmanager
def with_requests_mock(folder: Path) -> Iterator[None]:
    with requests_mock.Mocker() as mock:
        mock.post(URL, json=ANSWER)
        yield


@contextmanager
def with_responses(folder: Path) -> Iterator[None]:
    with responses.RequestsMock() as mock:
        mock.post(URL, json=ANSWER)
        yield


@contextmanager
def with_respx(folder: Path) -> Iterator[None]:
    with respx.mock:
        respx.post(URL).mock(return_value=httpx.Response(200, json=ANSWER))
        yield


@contextmanager
def with_vcr(folder: Path) -> Iterator[None]:
    request = {"method": "POST", "uri": URL, "headers": {}, "body": json.dumps(ASK)}
    answer = {
        "status": {"code": 200, "message": "OK"},
        "headers": {"Content-Type": ["application/json"]},
        "body": {"string": json.dumps(ANSWER)},
    }
    cassette = folder / "cassette.yaml"
    interactions = [{"request": request, "response": answer}]
    cassette.write_text(yaml.safe_dump({"interactions": interactions, "version": 1}))
    with vcr.use_cassette(
        str(cassette), record_mode="none", match_on=["method", "uri"]
    ):
        yield


def session_of(llm_cost: LlmCost, how: str) -> t.Any:
    session = requests.Session()
    if how == "adapter":
        session.mount("https://", llm_cost.adapter())
    elif how == "wrap":
        llm_cost.wrap(session)
    return session


def client_of(llm_cost: LlmCost, how: str) -> t.Any:
    client = httpx.Client()
    return llm_cost.wrap(client) if how == "wrap" else client


@pytest.fixture
def instrumented(llm_cost: LlmCost) -> Iterator[Callable[[str], None]]:
    yield lambda how: llm_cost.instrument() if how == "instrument" else None  # type: ignore[func-returns-value]
    llm_cost.uninstrument()


@pytest.mark.parametrize("first", ["mock", "record_calls"])
@pytest.mark.parametrize("how", ["adapter", "wrap", "instrument"])
@pytest.mark.parametrize("mock", [with_requests_mock, with_responses, with_vcr])
def test_mocked_requests_are_collected(
    app: Flask,
    llm_cost: LlmCost,
    instrumented: Callable[[str], None],
    tmp_path: Path,
    mock: Mock,
    how: str,
    first: str,
) -> None:
    instrumented(how)
    with ExitStack() as stack, session_of(llm_cost, how) as session:
        if first == "mock":
            stack.enter_context(mock(tmp_path))
        calls = stack.enter_context(record_calls(app))
        if first != "mock":
            stack.enter_context(mock(tmp_path))
        assert session.post(URL, json=ASK).json() == ANSWER
    [call] = calls
    assert call.usage is not None
    assert (call.usage.total_tokens, call.cost is not None) == (15, True)


@pytest.mark.parametrize("how", ["wrap", "instrument"])
@pytest.mark.parametrize("mock", [with_respx, with_vcr])
def test_mocked_httpx_is_collected(
    app: Flask,
    llm_cost: LlmCost,
    instrumented: Callable[[str], None],
    tmp_path: Path,
    mock: Mock,
    how: str,
) -> None:
    instrumented(how)
    with mock(tmp_path), record_calls(app) as calls, client_of(llm_cost, how) as client:
        assert client.post(URL, json=ASK).json() == ANSWER
    assert [call.cost is not None for call in calls] == [True]


@pytest.mark.parametrize("mock", [with_respx, with_vcr])
def test_mocked_async_httpx_is_collected(
    app: Flask,
    instrumented: Callable[[str], None],
    tmp_path: Path,
    mock: Mock,
) -> None:
    instrumented("instrument")

    async def ask() -> t.Any:
        async with httpx.AsyncClient() as client:
            return (await client.post(URL, json=ASK)).json()

    with record_calls(app) as calls, mock(tmp_path):
        assert asyncio.run(ask()) == ANSWER
    assert [call.cost is not None for call in calls] == [True]


@pytest.mark.parametrize("how", ["wrap", "instrument"])
def test_pytest_httpx_is_collected(
    app: Flask,
    llm_cost: LlmCost,
    httpx_mock: HTTPXMock,
    instrumented: Callable[[str], None],
    how: str,
) -> None:
    instrumented(how)
    httpx_mock.add_response(method="POST", url=URL, json=ANSWER)
    with record_calls(app) as calls, client_of(llm_cost, how) as client:
        assert client.post(URL, json=ASK).json() == ANSWER
    assert [call.cost is not None for call in calls] == [True]


def test_a_client_that_is_not_captured_is_not_collected(
    app: Flask, tmp_path: Path
) -> None:
    with with_requests_mock(tmp_path), record_calls(app) as calls:
        requests.post(URL, json=ASK)
    assert calls == []


def test_a_mocked_failure_is_collected_and_an_unknown_address_is_not(
    app: Flask, llm_cost: LlmCost
) -> None:
    with requests_mock.Mocker() as mock, record_calls(app) as calls:
        session = session_of(llm_cost, "adapter")
        with pytest.raises(requests_mock.NoMockAddress):
            session.post(URL, json=ASK)
        assert calls == []
        mock.post(URL, exc=requests.ConnectTimeout)
        with pytest.raises(requests.ConnectTimeout):
            session.post(URL, json=ASK)
    assert [call.outcome for call in calls] == ["no_response"]


def test_mocks_are_left_as_they_were(app: Flask) -> None:
    before = requests_mock.Adapter.send, responses.RequestsMock._on_request
    with record_calls(app), record_calls():
        assert requests_mock.Adapter.send is not before[0]
    assert (requests_mock.Adapter.send, responses.RequestsMock._on_request) == before
