"""Signal handlers run at any bytecode: inside our locks, and amid a line that is written.

Before, a call recorded in a SIGTERM handler hung for good if the main thread was inside a
spool append, and so did every later one; ``flush(5)`` ignored its time-out.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
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
from flask_llm_cost.interrupts import pass_on
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
        assert llm_cost.flush()
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
    session = requests.Session()
    session.mount("http://", llm_cost.adapter())
    provider.play(Answer(CHAT_JSON))
    handle(lambda: session.post(provider.url(), json={"model": "gpt-4o"}).json())
    interrupt("write")
    with app.app_context():
        track(llm_cost)
        assert llm_cost.flush()
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
        assert llm_cost.flush()
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
        assert llm_cost.flush()
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
        assert llm_cost.flush()
        assert counts(llm_cost) == [1, 2]


def interrupt_statement(ledger: t.Any) -> None:
    """Interrupt the next statement where SQLAlchemy would wrap the exception."""
    from sqlalchemy import event

    engine = ledger._engines.reading()

    def interrupted(*_: object) -> None:
        event.remove(engine, "before_cursor_execute", interrupted)
        signal.raise_signal(signal.SIGUSR1)

    event.listen(engine, "before_cursor_execute", interrupted)


def raise_late(*_: object) -> t.NoReturn:
    raise Late


def itself_reset(*_: object) -> t.NoReturn:
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    raise Late


def handles_another(*_: object) -> t.NoReturn:
    try:
        raise_late()
    except Late as error:
        raise KeyError("x") from error


@pytest.mark.parametrize(
    "handler",
    [
        raise_late,
        itself_reset,
        functools.partial(raise_late, 1),
        handles_another,
        type("Handler", (), {"__call__": raise_late})(),
    ],
)
def test_the_exception_of_a_handler_is_recognized(handler: t.Any) -> None:
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        wrapped = wrap_interruption()
    finally:
        signal.signal(signal.SIGUSR1, before)
    with pytest.raises((Late, KeyError)) as caught:
        pass_on(wrapped)
    assert caught.value is wrapped.__cause__


def wrap_interruption() -> BaseException:
    try:
        try:
            signal.raise_signal(signal.SIGUSR1)
            time.sleep(0)
        except Exception as error:
            raise RuntimeError("wrapped").with_traceback(error.__traceback__) from error
    except RuntimeError as error:
        return error
    raise AssertionError


def test_an_error_of_ours_is_not_passed_on() -> None:
    try:
        raise_late(1, None)
    except Late as error:
        pass_on(error)


def test_a_flush_ends_by_its_time_out_where_a_lock_is_never_released(
    app: Flask, llm_cost: LlmCost
) -> None:
    """Ctrl-C inside the lock of a pool may leave it locked: a thread waits for ever."""
    state = app.extensions["llm_cost"]
    with app.app_context():
        track(llm_cost, 1)
        assert llm_cost.flush()
        engines = state.ledger._engines
        locks = [engines.reading().pool._pool.mutex, engines.writing().pool._pool.mutex]
        locks += [state.intake._storing, state.ledger.queue.spool._lock]
        for lock in locks:
            released = threading.Event()
            held = threading.Thread(target=hold, args=(lock, released))
            held.start()
            while lock.acquire(timeout=0):  # until the thread has it
                lock.release()
                time.sleep(0.01)
            if lock is not locks[-1]:
                track(llm_cost, 2)
            begun = time.monotonic()
            flushed = llm_cost.flush(0.5)
            assert time.monotonic() - begun < 3
            released.set()
            held.join()
            assert not flushed or lock is not locks[2]
            assert llm_cost.flush()


def hold(lock: t.Any, released: threading.Event) -> None:
    with lock:
        released.wait()


@pytest.mark.stress
@WAYS
def test_calls_in_signal_handlers_at_any_moment(
    make_app: MakeApp, storage: str, write: str
) -> None:
    app = make_app(LLM_COST_STORAGE=storage, LLM_COST_WRITE=write)
    llm_cost = app.extensions["llm_cost"].extension
    sent = 0
    handling = False

    def handler(*_: object) -> None:
        nonlocal sent, handling
        if handling:
            return
        handling = True
        sent += 1
        track(llm_cost)
        if sent % 10 == 0:
            llm_cost.flush(0.05)
        handling = False

    signal.alarm(120)
    track(llm_cost)  # imports: a module that is half imported is of no use to a handler
    before = signal.signal(signal.SIGUSR1, handler)
    stopped = threading.Event()

    def shoot() -> None:
        while not stopped.wait(0.002):
            os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=shoot)
    thread.start()
    try:
        with app.app_context():
            until = time.monotonic() + 15
            own = 1
            while time.monotonic() < until:
                track(llm_cost)
                own += 1
                if own % 200 == 0:
                    llm_cost.flush(0.2)
    finally:
        stopped.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    with app.app_context():
        assert llm_cost.flush(30)
        assert llm_cost.calls.count() == own + sent
        assert llm_cost.calls.unpriced().count() == 0


@pytest.mark.parametrize("name", ["receiver", "storage"])
def test_what_is_raised_amid_the_apps_own_code_reaches_the_app(
    make_app: MakeApp, handle: Callable[[Handler], None], name: str
) -> None:
    def stop() -> t.NoReturn:
        raise Late

    armed = [True]

    def code(*_: object, **__: object) -> None:
        # Once, and not in the writer's thread, which may call it after this test.
        if armed and threading.current_thread() is threading.main_thread():
            armed.clear()
            signal.raise_signal(signal.SIGUSR1)

    handle(stop)
    app = make_app(**({"LLM_COST_STORAGE": code} if name == "storage" else {}))
    llm_cost = app.extensions["llm_cost"].extension
    if name == "receiver":
        call_recorded.connect(code, app)
    with app.app_context(), pytest.raises(Late):
        track(llm_cost)
