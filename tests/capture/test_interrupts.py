"""Signal handlers run at any bytecode: inside our locks, and amid a line that is written.

Before, a call recorded in a SIGTERM handler hung for good if the main thread was inside a
spool append, and so did every later one; ``flush(5)`` ignored its time-out.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import signal
import threading
import time
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from decimal import Decimal

import pytest
import requests
from flask import Flask

from flask_llm_cost import LlmCost
from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Usage
from flask_llm_cost.request import RequestCost
from flask_llm_cost.signals import call_recorded
from flask_llm_cost.storage import Storage
from tests.capture.server import Answer
from tests.capture.server import CHAT_JSON
from tests.capture.server import Provider
from tests.conftest import MakeApp

WAYS = pytest.mark.parametrize(
    ("storage", "write"),
    [("database", "spool"), ("database", "sync"), ("jsonl", "spool")],
)

Handler: t.TypeAlias = Callable[[], t.Any]


class Late(Exception):
    """What the app's handler raises; of a kind that code of ours catches, too."""


@pytest.fixture(autouse=True)
def no_hanging() -> Iterator[None]:
    def stop(*_: object) -> t.NoReturn:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def handle() -> Iterator[Callable[[Handler], None]]:
    """Set what the handler of SIGUSR1 does."""
    before = signal.getsignal(signal.SIGUSR1)

    def set_handler(handler: Handler) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: handler())

    yield set_handler
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Interrupt the main thread at its next call of a function of the system, once."""

    def at(name: str) -> None:
        real = getattr(os, name)
        armed = [True]

        def interrupted(*args: t.Any, **options: t.Any) -> t.Any:
            if threading.current_thread() is threading.main_thread() and armed:
                armed.clear()
                signal.raise_signal(signal.SIGUSR1)
            return real(*args, **options)

        monkeypatch.setattr(os, name, interrupted)

    return at


def track(llm_cost: LlmCost, number: int = 1, **options: t.Any) -> Call:
    return llm_cost.track(
        provider="openai", model="gpt-4o", input_tokens=number, **options
    )


def counts(llm_cost: LlmCost) -> list[int]:
    return sorted(row.input_tokens or 0 for row in llm_cost.calls.rows())


@pytest.mark.parametrize(
    ("storage", "write"),
    [("database", "spool"), ("database", "sync"), ("jsonl", "spool")],
)
def test_a_call_in_a_signal_handler_is_recorded_once(
    make_app: MakeApp,
    handle: Callable[[Handler], None],
    interrupt: Callable[[str], None],
    storage: str,
    write: str,
) -> None:
    app = make_app(LLM_COST_STORAGE=storage, LLM_COST_WRITE=write)
    llm_cost = app.extensions["llm_cost"].extension
    seen: list[Call] = []
    with (
        call_recorded.connected_to(lambda _, call: seen.append(call), app),
        app.app_context(),
    ):
        track(llm_cost, 0)
        handle(lambda: track(llm_cost, 2))
        if write == "sync":
            interrupt_statement(app.extensions["llm_cost"].ledger)
        else:
            interrupt("write")
        track(llm_cost, 1)
        track(llm_cost, 3)
        assert llm_cost.flush(60)
        assert counts(llm_cost) == [0, 1, 2, 3]
    assert len(seen) == len({call.event_id for call in seen}) == 4


def test_a_captured_call_in_a_signal_handler_is_recorded(
    make_app: MakeApp,
    handle: Callable[[Handler], None],
    interrupt: Callable[[str], None],
    provider: Provider,
) -> None:
    app = make_app(LLM_COST_PROVIDER_HOSTS={provider.host: "openai"})
    llm_cost = app.extensions["llm_cost"].extension
    provider.play(Answer(CHAT_JSON))
    with requests.Session() as session, app.app_context():
        session.mount("http://", llm_cost.adapter())
        handle(lambda: session.post(provider.url(), json={"model": "gpt-4o"}).json())
        interrupt("write")
        track(llm_cost)
        assert llm_cost.flush(60)
        assert len(list(llm_cost.calls.rows())) == 2


def test_a_flush_in_a_signal_handler_ends_by_its_time_out(
    app: Flask,
    llm_cost: LlmCost,
    handle: Callable[[Handler], None],
    interrupt: Callable[[str], None],
) -> None:
    flushed: list[bool] = []

    def flush() -> None:
        track(llm_cost, 2)
        begun = time.monotonic()
        flushed.append(llm_cost.flush(1))
        assert time.monotonic() - begun < 3

    handle(flush)
    with app.app_context():
        track(llm_cost, 0)
        interrupt("write")
        track(llm_cost, 1)
        assert flushed == [False]  # the interrupted call is not stored yet
        thread = threading.Thread(target=track, args=(llm_cost, 3))
        thread.start()
        thread.join(5)
        assert not thread.is_alive()
        assert llm_cost.flush(60)
        assert counts(llm_cost) == [0, 1, 2, 3]


def test_the_pricing_mode_of_a_call_in_a_signal_handler_holds(
    app: Flask,
    llm_cost: LlmCost,
    handle: Callable[[Handler], None],
    interrupt: Callable[[str], None],
) -> None:
    handle(lambda: track(llm_cost, 2, pricing_mode="batch"))
    interrupt("write")
    with app.app_context():
        track(llm_cost, 2)
        assert llm_cost.flush(60)
        one, other = sorted(row.cost_usd or 0 for row in llm_cost.calls.rows())
    assert other == 2 * one > 0


def test_a_request_counts_a_call_that_ends_while_another_is_counted(
    handle: Callable[[Handler], None],
) -> None:
    call = Call("x", dt.datetime.now(dt.UTC), "openai", "gpt-4o")
    cost = Cost(total_usd=Decimal(2), parts={}, source="file")
    call = dataclasses.replace(call, cost=cost, usage=Usage())

    class Context:
        def __setattr__(self, name: str, value: t.Any) -> None:
            super().__setattr__(name, value)
            if value == 2:
                signal.raise_signal(signal.SIGUSR1)

    context = Context()
    counted = RequestCost(context)
    handle(lambda: counted.add(call))
    counted.add(call)
    assert counted.usd == 4
    assert vars(context) == {"llm_cost_usd": Decimal(4)}


@pytest.mark.parametrize("kind", [Late, TimeoutError, ValueError, OverflowError])
@WAYS
def test_the_app_gets_what_its_signal_handler_raises(
    make_app: MakeApp,
    handle: Callable[[Handler], None],
    interrupt: Callable[[str], None],
    kind: type[Exception],
    write: str,
    storage: str,
) -> None:
    app = make_app(LLM_COST_WRITE=write, LLM_COST_STORAGE=storage)
    llm_cost = app.extensions["llm_cost"].extension
    raised = kind("the app's own")

    def stop() -> t.NoReturn:
        raise raised

    handle(stop)
    ledger: Storage = app.extensions["llm_cost"].ledger
    with app.app_context():
        track(llm_cost, 1)
        if write == "sync":
            interrupt_statement(ledger)
        else:
            interrupt("write")
        with pytest.raises(kind) as caught:
            track(llm_cost, 2)
        assert caught.value is raised
        assert raised.__context__ is None
        assert llm_cost.flush(60)
        assert counts(llm_cost) == [1, 2]


def interrupt_statement(ledger: t.Any) -> None:
    """Interrupt the main thread while its next statement is executed."""
    from sqlalchemy import event

    armed = [True]

    def interrupted(*_: object) -> None:
        # It stays a listener: SQLAlchemy is iterating over them.
        if armed:
            armed.clear()
            signal.raise_signal(signal.SIGUSR1)

    for engine in (ledger._engines.answering(), ledger._engines.writing()):
        event.listen(engine, "before_cursor_execute", interrupted)
