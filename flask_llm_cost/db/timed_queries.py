"""Queries of a call: for how long they may take, and when there are none."""

from __future__ import annotations

import threading
import time
import typing as t
from collections.abc import Callable

from .. import wait_limit
from ..errors import StorageError
from ..interrupts import in_handler
from ..interrupts import pass_on
from ..wait_limit import WaitLimit
from .query_threads import QueryThreads
from .timeouts import TimeLimit

_R = t.TypeVar("_R")

_PAUSE_SECONDS: t.Final = 0.5, 30.0
"""After a timeout, how long calls do not wait again: at first, and at most."""


class NoAnswer(StorageError):
    """The database did not answer in time."""


class TimedQueries:
    """Queries of calls to one database.

    :param threads: Answers them.
    :param pauses: Do not ask for a while after a timeout.
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
        if time.monotonic() < self.paused_until:
            raise StorageError(
                f"The ledger's database {label} did not answer a moment ago."
            )
        mine = wait_limit.current() or WaitLimit()
        left = mine.left - keep if seconds is None else seconds
        if left <= 0:
            raise StorageError(f"This call has waited for {label} long enough.")
        limit = TimeLimit(left)
        try:
            result = self._threads.run(work, limit, in_line=in_line)
        except Exception as error:
            pass_on(error)
            if not limit.expired and not isinstance(error, TimeoutError):
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
        return result

    def go_on(self) -> None:
        """Ask again: the database answers."""
        self.paused_until = 0.0

    def close(self) -> None:
        """End the threads."""
        self._threads.close()

    def _note_timeout(self) -> None:
        if not self._pauses:
            return
        first, longest = _PAUSE_SECONDS
        with self._lock:
            now = time.monotonic()
            if now >= self.paused_until:  # once for all that waited together
                self._pause = min(max(first, self._pause * 2), longest)
                self.paused_until = now + self._pause
