"""Questions that a call waits for: on threads of ours, for a limited time."""

from __future__ import annotations

import signal
import threading
import time
import typing as t

import pytest

from flask_llm_cost import interrupts
from flask_llm_cost.db.query_threads import QueryThreads
from flask_llm_cost.db.timeouts import current
from flask_llm_cost.db.timeouts import TimeLimit


class Alarm(Exception):
    """What an app's signal handler raises."""


@pytest.fixture
def threads() -> t.Iterator[QueryThreads]:
    made = QueryThreads(2, lambda since: False)
    yield made
    made.close()


def test_work_is_done_on_a_thread_of_its_own_with_the_limit(
    threads: QueryThreads,
) -> None:
    limit = TimeLimit(60)
    found = threads.run(lambda: (threading.current_thread(), current()), limit)
    assert found[0] is not threading.current_thread()
    assert found[1] is limit


def test_callers_that_come_together_start_no_thread_too_many() -> None:
    """One that is too many would never end, and write to SQLite beside the other."""
    threads = QueryThreads(1, lambda since: False)
    callers = [
        threading.Thread(target=threads.run, args=(lambda: 1, TimeLimit(60)))
        for _ in range(8)
    ]
    with threads._lock:  # as if each had found that there is none
        for caller in callers:
            caller.start()
        time.sleep(0.1)
    for caller in callers:
        caller.join()
    assert len(threads._threads) == 1
    threads.close()


def test_an_error_is_the_callers(threads: QueryThreads) -> None:
    def fail() -> None:
        raise Alarm

    with pytest.raises(Alarm):
        threads.run(fail, TimeLimit(60))


def test_no_caller_waits_longer_than_its_limit(threads: QueryThreads) -> None:
    go = threading.Event()
    limit = TimeLimit(0.05)
    with pytest.raises(TimeoutError):
        threads.run(go.wait, limit)
    assert limit.expired
    go.set()
    assert threads.run(lambda: 1, TimeLimit(60)) == 1


def test_no_caller_waits_for_another_while_there_may_be_more_threads(
    threads: QueryThreads,
) -> None:
    go = threading.Event()
    with pytest.raises(TimeoutError):
        threads.run(go.wait, TimeLimit(0.05))
    assert threads.run(lambda: 1, TimeLimit(60)) == 1
    go.set()


def test_callers_that_come_one_after_another_share_a_thread(
    threads: QueryThreads,
) -> None:
    for _ in range(20):
        threads.run(lambda: 1, TimeLimit(60))
        while not threads._idle:
            time.sleep(0.001)
    assert len(threads._threads) == 1


def test_nothing_is_done_for_a_caller_that_has_gone() -> None:
    threads = QueryThreads(1, lambda since: False)
    go, done = threading.Event(), []
    for work in (go.wait, lambda: done.append(1)):
        with pytest.raises(TimeoutError):
            threads.run(work, TimeLimit(0.05))
    go.set()
    threads.run(lambda: done.append(2), TimeLimit(60))
    assert done == [2]
    threads.close()


def test_callers_wait_in_line_while_others_are_answered() -> None:
    threads = QueryThreads(1, lambda since: False)
    turn = threading.Lock()

    def work() -> None:
        with turn:
            threading.Event().wait(0.04)

    failed: list[BaseException] = []

    def call() -> None:
        try:
            # Each has less time than all together take.
            threads.run(work, TimeLimit(0.3))
        except BaseException as error:
            failed.append(error)

    callers = [threading.Thread(target=call) for _ in range(12)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert failed == []
    threads.close()


def test_an_upgrade_is_waited_for() -> None:
    upgrading = [True, True, False]
    threads = QueryThreads(1, lambda since: upgrading.pop(0))
    go = threading.Event()
    with pytest.raises(TimeoutError):
        threads.run(go.wait, TimeLimit(0.02))
    assert upgrading == []
    go.set()
    threads.close()


def test_a_question_within_an_answer_waits_for_no_other_thread() -> None:
    threads = QueryThreads(1, lambda since: False)
    assert (
        threads.run(lambda: threads.run(lambda: 1, TimeLimit(60)), TimeLimit(60)) == 1
    )
    threads.close()


def test_what_a_signal_handler_raises_reaches_the_caller_as_it_is(
    threads: QueryThreads,
) -> None:
    raised, ended = threading.Event(), threading.Event()

    def handler(*args: object) -> None:
        if not raised.is_set():
            raised.set()
            raise Alarm

    def work() -> None:
        # Python handles one that comes just before a wait only after the wait.
        while not raised.is_set():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            raised.wait(0.05)
        ended.set()

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(Alarm):
            threads.run(work, TimeLimit(60))
        assert ended.wait(20)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_where_no_thread_starts_the_callers_own_answers(
    threads: QueryThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert threads.run(threading.current_thread, TimeLimit(60)) is (
        threading.current_thread()
    )


def test_handlers_and_finalizers_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[bool] = []

    class Dropped:
        def __del__(self) -> None:
            found.append(interrupts.in_handler())

    def handler(number: int, frame: object) -> None:
        (lambda: found.append(interrupts.in_handler()))()

    before = signal.signal(signal.SIGUSR1, handler)
    monkeypatch.setattr(interrupts, "_recent", (-1.0, frozenset()))
    try:
        signal.raise_signal(signal.SIGUSR1)
        handler(0, None)  # called, not as a handler
        Dropped()
        found.append(interrupts.in_handler())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert found == [True, False, True, False]
