"""Reservations of ended calls: they are settled before another call is refused."""

from __future__ import annotations

import json
import threading
import time
import typing as t
from decimal import Decimal

import pytest
import requests
from flask import Flask

from flask_llm_cost.errors import BudgetExceeded
from flask_llm_cost.ledger import writer
from tests.capture.server import Answer
from tests.capture.server import Provider
from tests.conftest import MakeApp

from .test_enforcement import extension_of
from .test_unbounded import ASK
from .test_unbounded import JSON
from .test_unbounded import OPENAI
from .test_unsettled import counted

USAGE = {"prompt_tokens": 40, "completion_tokens": 990}
"""A cent."""


def answering(provider: Provider) -> None:
    answer = OPENAI | {"usage": USAGE}
    provider.play(Answer(json.dumps(answer).encode(), headers=JSON))


def blocking(
    make_app: MakeApp, provider: Provider, limit: str, **config: t.Any
) -> Flask:
    return make_app(
        LLM_COST_BUDGETS=[{"name": "x", "limit_usd": limit, "behavior": "block"}],
        LLM_COST_PROVIDER_HOSTS={provider.host: "openai"},
        **config,
    )


def send_until_refused(app: Flask, url: str, most: int) -> int:
    """Send calls one after the other; return how many were sent."""
    with app.app_context(), requests.Session() as session:
        session.mount("http://", extension_of(app).adapter())
        for number in range(most):
            try:
                assert session.post(url, json=ASK).ok
            except BudgetExceeded:
                return number
    return most


@pytest.mark.parametrize("threads", [1, 4])
def test_ended_calls_leave_no_reservation_behind(
    make_app: MakeApp, provider: Provider, threads: int
) -> None:
    # Each call costs a cent, and its bound is 16 cents: without settling, the sixth of a
    # burst would be refused. On a busy machine the writer may be later than a refusal waits.
    answering(provider)
    app = blocking(make_app, provider, "1")
    sent: list[int] = []

    def work() -> None:
        sent.append(send_until_refused(app, provider.url(), 150))

    while not sent or sum(sent[-threads:]):
        crowd = [threading.Thread(target=work) for _ in range(threads)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        with app.app_context():
            assert extension_of(app).flush(60)
            spent = extension_of(app).calls.total_cost()
    # What is left is less than the bounds of the calls that were on their way.
    assert 1 - Decimal("0.165") * threads < spent <= 1
    assert sum(sent) * Decimal("0.01") == spent
    assert counted(app.extensions["llm_cost"].ledger)[1:] == (0, 0, 0)


def test_a_refusal_waits_only_briefly_for_calls_that_ended(
    make_app: MakeApp, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(provider)
    app = blocking(make_app, provider, "0.17")
    ledger = app.extensions["llm_cost"].ledger
    released = threading.Event()
    write = ledger._store.write

    def slow(*args: t.Any, **options: t.Any) -> t.Any:
        released.wait(60)
        return write(*args, **options)

    monkeypatch.setattr(ledger._store, "write", slow)
    with app.app_context():
        began = time.monotonic()
        assert send_until_refused(app, provider.url(), 2) == 1
        assert 0.1 <= time.monotonic() - began < 30  # it does not wait for the release
        released.set()
        assert extension_of(app).flush(60)
    assert counted(ledger)[1] == 0


def test_a_settled_reservation_wakes_the_writer(
    make_app: MakeApp, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "POLL_SECONDS", 60.0)
    answering(provider)
    app = blocking(make_app, provider, "9")
    ledger = app.extensions["llm_cost"].ledger
    assert send_until_refused(app, provider.url(), 2) == 2
    began = time.monotonic()
    while counted(ledger)[1] and time.monotonic() < began + 60:
        time.sleep(0.01)
    assert time.monotonic() - began < 30
