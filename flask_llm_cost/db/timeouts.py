"""Time limits for waiting on the database.

Not every driver limits how long it waits for a server that accepts a connection and never
answers. So the connections that are used under a time limit are watched, and their sockets
are shut down when it expires: the driver then raises as for any lost connection.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import socket
import threading
import time
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from ..interrupts import pass_on

BUSY_SECONDS: t.Final = 1.0
"""The longest that a call waits for a database that keeps answering."""

_POLL_SECONDS: t.Final = 0.05


class TimeLimit:
    """How long one thread waits, and the connections that it waits for.

    :param seconds: Without an answer.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.restart()
        self.locks = True
        """Whether to wait for a lock of SQLite, rather than to try it once."""
        self.expired = False
        """Whether the time was up before there was an answer."""
        self._sockets: dict[int, socket.socket] = {}
        self._lock = threading.Lock()

    @property
    def left(self) -> float:
        """The remaining seconds; 0 if the time is up."""
        return 0.0 if self.expired else max(0.0, self.until - time.monotonic())

    def restart(self) -> None:
        """Count from now."""
        self.began = time.monotonic()
        self.until = self.began + self.seconds

    def note_answer(self, at: float | None = None, within: float | None = None) -> None:
        """Count from an answer on: the database is busy, but neither locked nor silent.

        :param at: When it came; now if left out.
        :param within: In how many seconds another one is due, if that is known.
        """
        at = time.monotonic() if at is None else at
        within = self.seconds if within is None else min(within, self.seconds)
        self._extend(at + within)

    def allow(self, seconds: float) -> None:
        """Do not count this time: the server is far away, or busy."""
        if self.left:
            self._extend(self.until + seconds)

    def _extend(self, until: float) -> None:
        self.until = max(
            self.until, min(until, self.began + max(self.seconds, BUSY_SECONDS))
        )

    def watch(self, connection: t.Any) -> None:
        """Break this connection if the limit expires before :meth:`release`."""
        found = _socket(connection)
        if found is not None:
            self.release(connection)
            with self._lock:
                self._sockets[id(connection)] = found
            # Only now, so that SQLite needs no watching thread.
            _watcher.add(self)

    def release(self, connection: t.Any) -> None:
        """Stop watching this connection: another thread may use it next."""
        with self._lock:
            found = self._sockets.pop(id(connection), None)
        if found is not None:
            found.close()

    def end(self) -> None:
        with self._lock:
            while self._sockets:
                self._sockets.popitem()[1].close()

    def expire(self) -> None:
        """Break the watched connections."""
        with self._lock:
            for each in self._sockets.values():
                self.expired = True
                with contextlib.suppress(OSError):  # it is broken already
                    each.shutdown(socket.SHUT_RDWR)


def _socket(connection: t.Any) -> socket.socket | None:
    """Return our own handle of a connection's socket; ``None`` if it exposes none."""
    try:
        found = connection if hasattr(connection, "fileno") else connection._sock
        return socket.socket(fileno=os.dup(found.fileno()))
    except Exception as error:
        pass_on(error)
        return None  # closed meanwhile, or a kind of connection without a socket


class _Watcher:
    """Checks all time limits of a process, on one thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits: set[TimeLimit] = set()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, limit: TimeLimit) -> None:
        with self._lock:
            self._limits.add(limit)
            if self._thread is None:
                thread = threading.Thread(
                    target=self._run, name="llm-cost-watch", daemon=True
                )
                # At interpreter exit, no thread starts and nothing is watched.
                with contextlib.suppress(RuntimeError):
                    thread.start()
                    self._thread = thread
        self._wake.set()

    def discard(self, limit: TimeLimit) -> None:
        with self._lock:
            self._limits.discard(limit)

    def _run(self) -> None:
        while self._wake.wait():
            with self._lock:
                late = [each for each in self._limits if not each.left]
                if not self._limits:
                    self._wake.clear()
            for each in late:
                each.expire()
            time.sleep(_POLL_SECONDS)


_watcher = _Watcher()
_local = threading.local()


@contextmanager
def time_limit(seconds: float) -> Iterator[TimeLimit]:
    """Break the connections used within that have not answered in time.

    Within another time limit, that one applies.
    """
    outer = current()
    if outer is not None:
        yield outer
        return
    limit = TimeLimit(seconds)
    with applied(limit):
        yield limit


@contextmanager
def applied(limit: TimeLimit) -> Iterator[None]:
    """Apply a time limit to this thread, which has none."""
    _local.limit = limit
    try:
        yield
    finally:
        _local.limit = None
        _watcher.discard(limit)
        limit.end()


@contextmanager
def unlimited() -> Iterator[None]:
    """Suspend the time limit of this thread, for what must not be done halfway."""
    outer, _local.limit = current(), None
    try:
        yield
    finally:
        _local.limit = outer


def current() -> TimeLimit | None:
    """Return the time limit of this thread."""
    return getattr(_local, "limit", None)


def note_answer(within: float | None = None) -> None:
    """Let the time limit of this thread count from now: the database has answered.

    :param within: As for :meth:`TimeLimit.note_answer`.
    :raises TimeoutError: If it came too late.
    """
    limit = current()
    if limit is not None:
        if not limit.left:
            raise TimeoutError
        limit.note_answer(within=within)


def connect(make: Callable[[], t.Any]) -> t.Any:
    """Make a connection within the current time limit.

    :raises TimeoutError: If it was not made in time.
    """
    limit = current()
    if limit is None:
        return make()
    left = limit.left
    if not left:
        raise TimeoutError
    future: Future[t.Any] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        # The app's own code may make connections: its exceptions are for the caller.
        try:
            future.set_result(context.run(make))
        except BaseException as error:
            future.set_exception(error)

    # There is no socket yet that could be watched.
    threading.Thread(target=run, name="llm-cost-connect", daemon=True).start()
    try:
        return future.result(left)
    except TimeoutError as error:
        if not future.done() or future.exception() is not error:
            limit.expired = True
            future.add_done_callback(_close)
        raise


def _close(future: Future[t.Any]) -> None:
    """Close a connection that was made too late."""
    if future.exception() is None:
        with contextlib.suppress(Exception):
            future.result().close()


def _after_fork() -> None:
    global _watcher
    _watcher = _Watcher()
    _local.limit = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
