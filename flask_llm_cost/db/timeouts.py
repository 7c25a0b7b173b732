"""Whoever waits for the database does not wait for ever.

Not every driver bounds how long it waits for a server that accepts and never answers. So
the connections are watched that someone uses who is in a hurry, and are broken when the
time is up: the driver then says so, as of any connection that is lost.
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

_LOOK_SECONDS: t.Final = 0.25


class Wait:
    """One who waits, and how long yet."""

    def __init__(self, seconds: float) -> None:
        self.until = time.monotonic() + seconds
        self.over = False
        """Whether the time was up before there was an answer."""
        self._sockets: dict[int, socket.socket] = {}
        self._lock = threading.Lock()

    def watch(self, connection: t.Any) -> None:
        """Break this connection if the time is up before it is let go."""
        found = _socket(connection)
        if found is not None:
            self.let_go(connection)
            with self._lock:
                self._sockets[id(connection)] = found
            # Only now is there something to look at: SQLite needs no thread for it.
            _watch.begin(self)

    def let_go(self, connection: t.Any) -> None:
        """This connection is waited for no more: another may use it."""
        with self._lock:
            found = self._sockets.pop(id(connection), None)
        if found is not None:
            found.close()

    def end(self) -> None:
        with self._lock:
            while self._sockets:
                self._sockets.popitem()[1].close()

    def give_up(self) -> None:
        """Break what is waited for."""
        with self._lock:
            for each in self._sockets.values():
                self.over = True
                with contextlib.suppress(OSError):  # it is broken already
                    each.shutdown(socket.SHUT_RDWR)


def _socket(connection: t.Any) -> socket.socket | None:
    """A handle of our own on a connection's socket; ``None`` if it shows none."""
    try:
        shown = connection if hasattr(connection, "fileno") else connection._sock
        return socket.socket(fileno=os.dup(shown.fileno()))
    except Exception:  # closed meanwhile, or of a kind that has none
        return None


class _Watch:
    """Looks at all who wait, on one thread of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waits: set[Wait] = set()
        self._someone = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, wait: Wait) -> None:
        with self._lock:
            self._waits.add(wait)
            if self._thread is None:
                thread = threading.Thread(
                    target=self._run, name="llm-cost-watch", daemon=True
                )
                # If the interpreter is ending, nobody watches.
                with contextlib.suppress(RuntimeError):
                    thread.start()
                    self._thread = thread
        self._someone.set()

    def end(self, wait: Wait) -> None:
        with self._lock:
            self._waits.discard(wait)

    def _run(self) -> None:
        while self._someone.wait():
            with self._lock:
                late = [w for w in self._waits if time.monotonic() >= w.until]
                if not self._waits:
                    self._someone.clear()
            for wait in late:
                wait.give_up()
            time.sleep(_LOOK_SECONDS)


_watch = _Watch()
_mine = threading.local()


@contextmanager
def hurried(seconds: float) -> Iterator[Wait]:
    """Break the connections used in here that have not answered after so long."""
    outer = current()
    if outer is not None:
        yield outer
        return
    wait = _mine.wait = Wait(seconds)
    try:
        yield wait
    finally:
        _mine.wait = None
        _watch.end(wait)
        wait.end()


def current() -> Wait | None:
    """Who waits on this thread."""
    return getattr(_mine, "wait", None)


def connected(connect: Callable[[], t.Any]) -> t.Any:
    """A new connection, for which nobody waits for longer than they can.

    :raises TimeoutError: If it was not made in time.
    """
    wait = current()
    if wait is None:
        return connect()
    left = wait.until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    made: Future[t.Any] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        # The app's own code may make connections: what it raises is for who waits.
        try:
            made.set_result(context.run(connect))
        except BaseException as error:
            made.set_exception(error)

    # There is no socket yet to be watched.
    threading.Thread(target=run, name="llm-cost-connect", daemon=True).start()
    try:
        return made.result(left)
    except TimeoutError as error:
        if not made.done() or made.exception() is not error:
            wait.over = True
            made.add_done_callback(_close)
        raise


def _close(made: Future[t.Any]) -> None:
    """Nobody wants this connection any more."""
    if made.exception() is None:
        with contextlib.suppress(Exception):
            made.result().close()


def _let_go() -> None:
    global _watch
    _watch = _Watch()
    _mine.wait = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
