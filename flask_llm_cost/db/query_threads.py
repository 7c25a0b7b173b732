"""Queries to the database that a call of the app waits for.

Our own threads run them. Whatever a lock, a driver, the network or a disk does, the
caller continues when its time is up; and what a signal handler raises in the caller
meets no driver and no lock of a pool.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
import typing as t
import weakref
from collections.abc import Callable
from queue import Empty
from queue import SimpleQueue

from .timeouts import applied
from .timeouts import current
from .timeouts import TimeLimit

_R = t.TypeVar("_R")


_END_SECONDS: t.Final = 1.0

_PACE_SECONDS: t.Final = 0.03
_PACES: t.Final = 3
"""How long the next in line may take: so long at least, or so many times as the last.
After that, what they wait for is a lock or a silent server, and no longer each other."""


class _Query(t.Generic[_R]):
    """Work for the database, and where its result goes."""

    def __init__(self, work: Callable[[], _R], limit: TimeLimit) -> None:
        self.limit = limit
        self.begun = False
        self._work = work
        self._context = contextvars.copy_context()
        # Not a future: putting takes no lock that a signal could leave locked.
        self._answers: SimpleQueue[tuple[_R | None, BaseException | None]] = (
            SimpleQueue()
        )

    def answer(self, last: _Last) -> None:
        """Do the work, unless its caller is gone already."""
        if self.limit.expired:
            return
        # It has waited for others in line. What they waited for a lock counts for it, too.
        self.limit.note_answer(last.answered_at, last.pace)
        self.begun = True
        began = time.monotonic()
        try:
            with applied(self.limit):
                result = self._context.run(self._work)
        except BaseException as error:
            # For the caller: it may be one of the app's own.
            self._answers.put((None, error))
        else:
            last.note(began)
            self._answers.put((result, None))

    def wait(self, extend: Callable[[_Query[t.Any]], None]) -> _R:
        """Wait for the result.

        :param extend: Extends the limit if there is a reason to.
        :raises TimeoutError: If the limit expires first.
        """
        while True:
            try:
                result, error = self._answers.get(timeout=self.limit.left)
            except Empty:
                extend(self)
                if self.limit.left:
                    continue
                self.limit.expired = True
                raise TimeoutError from None
            if error is not None:
                raise error
            return t.cast(_R, result)


class _Last:
    """The last answer of some threads."""

    answered_at = 0.0
    """When it came, by :func:`time.monotonic`."""
    pace = _PACE_SECONDS
    """In how many seconds another one is due in line."""

    def note(self, began: float) -> None:
        """Note an answer that comes now."""
        self.answered_at = time.monotonic()
        self.pace = max(_PACE_SECONDS, _PACES * (self.answered_at - began))


_Queries: t.TypeAlias = "SimpleQueue[_Query[t.Any] | None]"


class QueryThreads:
    """Answers queries, a few at a time and in their order.

    Callers wait in line as long as the database answers others, and then for their limit.

    :param threads: The maximum number of its threads; they start when they are needed.
    :param upgraded: Whether this process has upgraded the tables since a moment of
        :func:`time.monotonic`, which has no time limit.
    """

    def __init__(self, threads: int, upgraded: Callable[[float], bool]) -> None:
        self._last = _Last()
        self._most = threads
        self._upgraded = upgraded
        self._threads: list[threading.Thread] = []
        self._lock = threading.RLock()
        self._queries: _Queries = SimpleQueue()
        # One for each thread that waits for a query; the next caller takes it away.
        self._idle: list[None] = []
        # The threads know only these three, so that they keep no app alive.
        self._dismiss = weakref.finalize(self, _dismiss, self._queries, threads)
        self._dismiss.atexit = False

    def run(
        self, work: Callable[[], _R], limit: TimeLimit, *, in_line: bool = True
    ) -> _R:
        """Have this work done, and wait for its result within a limit.

        :param in_line: Wait in line longer than that while others are answered.
        :raises TimeoutError: If it is not done in time. It may be done later.
        """
        if current() is not None:
            return work()  # this is a part of another answer
        if self._staffed():
            query = _Query(work, limit)
            self._queries.put(query)
            result = query.wait(self._extend if in_line else _keep)
        else:
            with applied(limit):
                result = work()
            self._last.answered_at = time.monotonic()
        return result

    @property
    def answered_at(self) -> float:
        """When a query was last answered."""
        return self._last.answered_at

    def _extend(self, query: _Query[t.Any]) -> None:
        if self._upgraded(query.limit.began):
            query.limit.restart()
        if not query.begun:  # else that has extended it
            query.limit.note_answer(self.answered_at, self._last.pace)

    def close(self) -> None:
        """End its threads; wait for them, but not for a database that hangs."""
        self._dismiss()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(_END_SECONDS)

    def _staffed(self) -> bool:
        """Have a thread for one more query if possible; return whether there is any."""
        try:
            self._idle.pop()
        except IndexError:
            with self._lock:
                if len(self._threads) < self._most:
                    self._start_thread()
        return bool(self._threads)

    def _start_thread(self) -> None:
        thread = threading.Thread(
            target=_serve,
            args=(self._queries, self._idle, self._last),
            name="llm-cost-query",
            daemon=True,
        )
        # At interpreter exit, or if no threads are left, those that run go on.
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._threads.append(thread)


def _keep(query: _Query[t.Any]) -> None:
    """Do not extend its limit."""


def _serve(queries: _Queries, idle: list[None], last: _Last) -> None:
    query = queries.get()
    while query is not None:
        query.answer(last)
        del query
        try:
            query = queries.get_nowait()
        except Empty:
            idle.append(None)
            query = queries.get()


def _dismiss(queries: _Queries, threads: int) -> None:
    for _ in range(threads):
        queries.put(None)
