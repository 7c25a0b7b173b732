"""Captures of one client on several layers, in every order: one row for each attempt."""

from __future__ import annotations

import itertools
import typing as t
from collections.abc import Callable
from contextlib import closing

import openai
import pytest
import requests

from flask_llm_cost.capture import clients
from flask_llm_cost.capture.tap import Tap
from tests.capture.conftest import Book
from tests.capture.server import Answer
from tests.capture.server import CHAT_STREAM
from tests.capture.server import Provider
from tests.capture.test_clients import _bedrock
from tests.capture.test_clients import _converse
from tests.capture.test_clients import CONVERSE
from tests.capture.test_clients import MESSAGES

Make: t.TypeAlias = Callable[[Provider], tuple[t.Any, Callable[[], object]]]


def _requests(provider: Provider) -> tuple[t.Any, Callable[[], object]]:
    session = requests.Session()
    return session, lambda: session.post(provider.url(), json={"model": "gpt-4o"})


def _boto3(provider: Provider) -> tuple[t.Any, Callable[[], object]]:
    client = _bedrock(provider.url(""))
    return client, lambda: _converse(client)


def _openai(provider: Provider) -> tuple[t.Any, Callable[[], object]]:
    client = openai.OpenAI(api_key="k", base_url=provider.url("/v1"))
    ask: dict[str, t.Any] = {"model": "gpt-4o", "messages": MESSAGES, "stream": True}
    return client, lambda: list(client.chat.completions.create(**ask))


STACKS: dict[str, tuple[str, bytes, Make, tuple[str, ...], set[str]]] = {
    "requests": (
        "openai",
        CHAT_STREAM,
        _requests,
        ("requests", "urllib3", "http.client"),
        {"requests", "urllib3"},
    ),
    "boto3": (
        "bedrock",
        CONVERSE,
        _boto3,
        ("botocore", "urllib3", "http.client"),
        {"botocore", "urllib3"},
    ),
    "openai": (
        "openai",
        CHAT_STREAM,
        _openai,
        ("httpx2", "httpx", "http.client"),
        {"httpx2"},
    ),
}
"""What a client speaks, and what it is answered; its layers, and those that see its calls:
``http.client`` leaves connections of urllib3 alone."""


@pytest.mark.parametrize("name", STACKS)
def test_layers_captured_and_released_in_any_order_make_one_row(
    name: str, provider: Provider, book: Book
) -> None:
    speaks, answer, make, libraries, seeing = STACKS[name]
    tap = Tap(book, hosts={provider.host: speaks})
    provider.play(Answer(answer))
    for order in itertools.permutations(libraries):
        client, call = make(provider)
        with closing(client):
            _check(order, call, tap, book, seeing)
            clients.wrap(tap, client)
            _check(order, call, tap, book, {"wrap"})


def _check(
    order: tuple[str, ...],
    call: Callable[[], object],
    tap: Tap,
    book: Book,
    seeing: set[str],
) -> None:
    """Switch the captures on one after another, and off again in the same order."""
    on = seeing & {"wrap"}
    for library in (*order, *order):
        if library in on:
            clients.uninstrument([library])
        else:
            assert clients.instrument(tap, [library]) == (library,)
        on ^= {library}
        book.calls.clear()
        call()
        assert len(book.calls) == bool(on & seeing), (order, on)
        assert all(each.usage is not None for each in book.calls)
