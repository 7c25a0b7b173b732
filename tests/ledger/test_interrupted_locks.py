"""A signal handler of the app may raise anywhere: no lock stays locked, no note stays."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import typing as t
from collections.abc import Callable
from types import FrameType

import pytest
from flask import Flask

from flask_llm_cost import wait_limit
from flask_llm_cost.attempt import Attempt
from flask_llm_cost.db import import_lock
from flask_llm_cost.interrupts import Busy
from flask_llm_cost.interrupts import within
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.state import AppState

# It may be raised amid the end of a generator, which has no caller.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


ROUNDS: t.Final = 20


class Alarm(Exception):
    """What the handler raises."""


def interrupted(do: Callable[[], object]) -> list[Alarm]:
    """Interrupt this at each function that it calls, and at the end of each block's entry.

    :return: What was raised, which holds every frame that was interrupted.
    """
    raised: list[Alarm] = []
    before = sys.gettrace()
    while True:
        sys.settrace(_alarm_at(len(raised)))
        try:
            do()
        except Alarm as error:
            raised.append(error)
        else:
            return raised
        finally:
            sys.settrace(before)


def _alarm_at(number: int) -> t.Any:
    moments = itertools.count()

    def trace(frame: FrameType, what: str, value: object) -> t.Any:
        entered = what == "return" and frame.f_code.co_name == "__enter__"
        if (what == "call" or entered) and next(moments) == number:
            sys.settrace(None)
            raise Alarm
        return trace

    return trace


def free(lock: t.Any) -> bool:
    """Whether another thread could have a lock."""
    found: list[bool] = []

    def ask() -> None:
        found.append(lock.acquire(blocking=False))
        if found == [True]:
            lock.release()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return found[0]


def test_no_lock_of_a_ledger_stays_locked(make_ledger: Callable[..., Ledger]) -> None:
    ledger = make_ledger()
    assert ledger._store  # what is imported is imported once

    def make() -> None:
        ledger._made_engines = ledger._made_store = None
        assert ledger._store

    raised = interrupted(make)
    assert raised
    assert free(ledger._lock)
    assert free(ledger.queue._lock)
    assert free(import_lock._lock)


def test_no_note_of_a_call_stays(app: Flask, state: AppState) -> None:
    llm_cost = state.extension
    attempt = Attempt("openai", "chat", "gpt-4o")
    with app.app_context():

        def send() -> None:
            snapshot = llm_cost.begin(attempt)
            assert snapshot is not None

        def track() -> None:
            llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)

        for do in (send, track):
            do()
            assert interrupted(do)
            assert wait_limit.here.limit is None
            assert not state.intake.interrupted
        assert llm_cost.flush()


def test_a_lock_that_is_had_just_as_a_handler_raises_is_released() -> None:
    lock = threading.RLock()
    turn, taken = threading.Semaphore(0), threading.Semaphore(0)

    def interrupt() -> None:
        for _ in range(ROUNDS):
            turn.acquire()
            with lock:
                taken.release()
                time.sleep(0.002)  # the main thread waits for the lock, or will
            os.kill(os.getpid(), signal.SIGUSR1)

    def wait() -> None:
        turn.release()
        taken.acquire()
        with within(lock, 60):
            while True:
                time.sleep(0.001)

    def handle(number: int, frame: FrameType | None) -> t.NoReturn:
        raise Alarm

    before = signal.signal(signal.SIGUSR1, handle)
    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    try:
        for _ in range(ROUNDS):
            with pytest.raises(Alarm):
                wait()
            assert free(lock)
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("make", [threading.Lock, threading.RLock])
def test_a_lock_that_is_not_free_in_time_is_not_released(make: t.Any) -> None:
    lock, entered, end = make(), threading.Event(), threading.Event()

    def hold() -> None:
        with within(lock, 60):
            entered.set()
            end.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(60)
    with pytest.raises(Busy), within(lock, 0):
        raise AssertionError
    assert not free(lock)
    end.set()
    holder.join()
    assert free(lock)


FIRST_IMPORT = """
import importlib.abc, signal, sys
from flask import Flask
from flask_llm_cost import LlmCost

app = Flask("host", instance_path=sys.argv[1])
app.config["LLM_COST_BUDGETS"] = [{"name": "x", "limit_usd": 5, "behavior": "raise"}]
llm_cost = LlmCost(app)
tracked = 0

def track(*args):
    global tracked
    tracked += 1
    with app.app_context():
        llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)

class Signal(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.startswith("flask_llm_cost") and name not in seen:
            seen.add(name)
            signal.raise_signal(signal.SIGUSR1)

seen = set()
signal.signal(signal.SIGUSR1, track)
sys.meta_path.insert(0, Signal())
track()
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
with app.app_context():
    assert llm_cost.flush(60)
    assert tracked > 3, tracked
    assert llm_cost.calls.count() == tracked, (llm_cost.calls.count(), tracked)
"""


def test_a_call_is_tracked_in_a_handler_amid_the_first_import(tmp_path: t.Any) -> None:
    subprocess.run(
        [sys.executable, "-c", FIRST_IMPORT, str(tmp_path / "i")], check=True
    )
