"""Queries of a call: how long they may take, and when none are made."""

from __future__ import annotations

import threading
import time
import typing as t
from collections.abc import Callable

from ..errors import StorageError
from ..interrupts import in_handler
from ..interrupts import pass_on
from ..wait_limit import here
from ..wait_limit import WaitLimit
from .query_threads import QueryThreads
from .timeouts import TimeLimit

_R = t.TypeVar("_R")

_PAUSE_SECONDS: t.Final = 0.5, 30.0
"""After a timeout, how long calls do not wait again: at first, and at most."""

_SQLITE_LOCKED: t.Final = 5, 6
"""The result codes ``SQLITE_BUSY`` and ``SQLITE_LOCKED``."""


class NoAnswer(StorageError):
    """The database did not answer in time."""


class TimedQueries:
    """Queries of calls to one database.

    :param threads: Answers them.
    :param pauses: Do not ask for a while after a timeout. Otherwise, ask, but wait for no
        lock then: calls that meet it one after another, as in an event loop, wait once.
    """

    def __init__(self, threads: QueryThreads, *, pauses: bool) -> None:
        self.paused_until = 0.0
        self._pause = 0.0
        self._pauses = pauses
        self._threads = threads
        self._lock = threading.RLock()

    def run(
        self,
        work: Callable[[], _R],
        label: str,
        *,
        keep: float,
        in_line: bool,
        seconds: float | None,
    ) -> _R:
        """Do as :meth:`.Engines.run`.

        :param label: Names the database in errors.
        """
        if in_handler():
            raise StorageError(
                "The database is not queried from a signal handler or a finalizer."
            )
        paused = time.monotonic() < self.paused_until
        if paused and self._pauses:
            raise StorageError(
                f"The ledger's database {label} did not answer a moment ago."
            )
        mine = here.limit or WaitLimit()
        left = mine.left - keep if seconds is None else seconds
        if left <= 0:
            raise StorageError(f"This call has used up its waiting time for {label}.")
        limit = TimeLimit(left)
        limit.locks = not paused
        try:
            result = self._threads.run(work, limit, in_line=in_line)
        except Exception as error:
            pass_on(error)
            if not limit.expired and not isinstance(error, TimeoutError):
                if limit.locks and _is_locked(error):
                    self._note_lock()
                raise
            if self._threads.answered_at < limit.began:  # else it is busy
                self._note_timeout()
            raise NoAnswer(
                f"The ledger's database {label} was locked, or did not answer, for"
                f" {limit.seconds:g} s."
            ) from error
        finally:
            mine.left -= limit.seconds - limit.left
        self._pause = 0.0
        if not self._pauses:
            self.go_on()
        return result

    def go_on(self) -> None:
        """Ask again: the database answers."""
        self.paused_until = 0.0

    def close(self) -> None:
        """End the threads."""
        self._threads.close()

    def _note_lock(self) -> None:
        if not self._pauses:
            self.paused_until = time.monotonic() + _PAUSE_SECONDS[0]

    def _note_timeout(self) -> None:
        if not self._pauses:
            self._note_lock()
            return
        first, longest = _PAUSE_SECONDS
        with self._lock:
            now = time.monotonic()
            if now >= self.paused_until:  # once for all that waited together
                self._pause = min(max(first, self._pause * 2), longest)
                self.paused_until = now + self._pause


def _is_locked(error: Exception) -> bool:
    """Whether SQLite has waited for a lock in vain."""
    driver = getattr(error.__cause__, "orig", None)
    # The lower byte is the kind of an error.
    return getattr(driver, "sqlite_errorcode", 0) & 0xFF in _SQLITE_LOCKED
