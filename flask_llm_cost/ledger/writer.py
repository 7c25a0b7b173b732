"""Stores queued calls, and retries when it cannot."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import random
import sys
import threading
import time
import typing as t
import weakref
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass

from .. import jsonl
from ..call import Call
from ..db import fork_gate
from ..db import import_lock as imports
from ..errors import StorageError
from ..interrupts import acquire_into
from ..interrupts import Busy
from ..interrupts import Lock
from ..interrupts import pass_on
from ..interrupts import Section
from ..interrupts import within
from ..storage import Gather
from .recent import RecentCalls
from .spool import Spool
from .spool_file import SpoolFile
from .writer_thread import join_thread
from .writer_thread import WriterThread

if t.TYPE_CHECKING:
    from .store import Store

_log = logging.getLogger("flask_llm_cost")

BATCH: t.Final = 500
"""The maximum number of calls in one transaction."""

POLL_SECONDS: t.Final = 0.5
ORPHANS_SECONDS: t.Final = 30.0
"""How often it claims the files of killed processes."""

BUILD_SECONDS: t.Final = 60.0
"""How often it builds rollups."""

_LONGEST_PAUSE: t.Final = 30.0
_FORK_SECONDS: t.Final = 1.0
_FIRST_LOOK_SECONDS: t.Final = 0.001
_LAST_LOOK_SECONDS: t.Final = 0.05
"""How often a flush looks whether its lines are stored: at first, and at last."""

_GATHER_SECONDS: t.Final = 5.0
"""How long a drain waits for a thread that is recording a call."""

_LONGEST_LINE: t.Final = 1024 * 1024

_random: t.Final = random.SystemRandom()
"""Not the module's generator, which an app may have seeded."""


@dataclass(slots=True)
class Drained:
    """The result of draining the spool."""

    new: int = 0
    duplicate: int = 0
    """Calls stored already: after a crash, a file is read again from its start."""
    rejected: int = 0
    """Lines that cannot be stored; each is in its own ``.bad`` file."""


class Writer:
    """Drains one process's spool, and the files of dead processes.

    :param store: Returns the store; first called when there is something to write, so that
        no request waits until SQLAlchemy is imported.
    :param gather: Called before each drain to append the calls that are due.
    :param failed: Called when the database cannot be used.
    :param build: Builds rollups, for some seconds at most.
    :param maintain: Called after each drain of the thread. It must not raise.
    :param between: Called after each batch. It must not raise.
    :param recent: Has the calls of lines that this process has written, if it remembers any.
    """

    def __init__(
        self,
        spool: Spool,
        store: Callable[[], Store],
        gather: Gather,
        failed: Callable[[Exception], None],
        build: Callable[[], object] | None = None,
        maintain: Callable[[], None] | None = None,
        recent: RecentCalls | None = None,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self.failures = 0
        """The number of drains that failed."""
        self.rejected = 0
        """The number of lines that were rejected."""
        self._spool = spool
        self._store = store
        self._gather = gather
        self._failed = failed
        self._build = build
        self._maintain = maintain
        self._recent = recent or RecentCalls()
        self._between = between
        self._build_at = 0.0
        self._build_failed = False
        self._wrote = False
        self._busy = threading.Lock()
        self._draining = Section()
        self._working = threading.Lock()
        self._cycling = Section()
        self._turn = threading.Lock()
        self._asked = False
        self.due_at = 0.0
        """When it is to run again, by :func:`time.monotonic`."""
        self._closed = False
        self._starting = threading.RLock()
        self._thread: WriterThread | None = None
        self._failed_in_a_row = 0
        self._orphans_at = 0.0
        _writers.add(self)

    def start(self) -> bool:
        """Join the ledger's thread, once; return False if threads are not available."""
        if not _threads_run():
            return False
        with self._starting:
            if self._thread is None:
                self._thread = join_thread(self, self._spool.ledger)
            return self._thread is not None

    def stop(self, timeout: float) -> None:
        """Leave the thread after the current work."""
        self._closed = True
        thread = self._thread
        if thread is None or thread.is_current:
            return
        thread.wake()
        with contextlib.suppress(Busy), within(self._turn, timeout):
            pass  # it has ended its work
        thread.join(timeout)

    def hurry(self) -> None:
        """Have the thread drain at once, unless the database is failing."""
        if not self._failed_in_a_row:
            self._ask()

    def _ask(self) -> None:
        self._asked = True
        if self._thread is not None:
            self._thread.wake()

    def run_if_due(self, now: float) -> None:
        """Take a turn on the thread, if it is time or someone has asked for it."""
        if not self._asked and now < self.due_at:
            return
        with self._turn:
            self._asked = False
            if not self._closed:
                self.due_at = time.monotonic() + self.cycle()

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def pending(self) -> bool:
        """Whether lines of this process are not stored yet."""
        return self._spool.pending

    def flush(self, timeout: float, *, once: bool = False) -> bool:
        """Wait until all lines appended so far are stored.

        :param once: Stop waiting as soon as a drain fails.
        :return: False if some are not stored, or were rejected.
        """
        until = time.monotonic() + timeout
        sealed = self._spool.seal_current(timeout)
        files = self._spool.sealed()
        failures, rejected = self.failures, self.rejected
        if files and (not self.start() or self._is_thread()):
            self._drain_inline(until)
        pause = _FIRST_LOOK_SECONDS
        # Not a condition: what interrupts its lock may leave it locked.
        while not self._are_stored(files):
            left = until - time.monotonic()
            if left <= 0 or (once and self.failures > failures):
                return False
            self._ask()
            time.sleep(min(left, pause))
            pause = min(2 * pause, _LAST_LOOK_SECONDS)
        return sealed and self.rejected == rejected

    def _is_thread(self) -> bool:
        """Whether the caller is code of an app that the thread itself runs."""
        return self._thread is not None and self._thread.is_current

    def _are_stored(self, files: list[SpoolFile]) -> bool:
        sealed = self._spool.sealed()
        return not any(file in sealed for file in files)

    def _drain_inline(self, until: float) -> None:
        try:
            self.drain(until=until)
        except (StorageError, OSError):
            self.failures += 1

    def wrote(self) -> None:
        """Note that calls were stored, directly or by a drain: rollups are to be built."""
        self._wrote = True

    def drain(self, *, orphans: bool = False, until: float = math.inf) -> Drained:
        """Store what is queued now, on the caller's thread.

        :param orphans: Also store what dead processes have left.
        :param until: When to stop, by :func:`time.monotonic`.
        :raises StorageError: If the database cannot be used or has no tables.
        """
        drained = Drained()
        if self._draining.entered:
            return drained  # a signal handler interrupted the drain of this thread
        # Without the lock: it runs receivers of signals, which may flush or drain.
        self._gather(_GATHER_SECONDS)
        left = min(until - time.monotonic(), threading.TIMEOUT_MAX)
        with contextlib.suppress(Busy), within(self._busy, left), self._draining:
            for file in self._queued(orphans):
                self._store_file(file, drained, until)
        return drained

    def _queued(self, orphans: bool) -> Iterator[SpoolFile]:
        yield from self._spool.sealed()
        yield from self._spool.seal()
        if orphans:
            yield from self._spool.claim()

    def _store_file(self, file: SpoolFile, drained: Drained, until: float) -> None:
        while True:
            if time.monotonic() >= until:
                return
            try:
                lines, end = file.read(BATCH)
            except OSError as error:
                self._spool.skip(file.path, error)
                return
            if end == file.offset:
                break
            self._store_lines(lines, drained)
            file.offset = end
            self._between()
        # Last: after a crash before this, its lines are duplicates.
        self._spool.remove(file)

    def _store_lines(self, lines: list[bytes], drained: Drained) -> None:
        calls: dict[int, bytes] = {}
        decoded: list[Call] = []
        for line in lines:
            if not line:
                continue
            try:
                call = self._recent.take(line) or _decode(line)
            except ValueError as error:
                self._reject(line, str(error), drained)
                continue
            calls[id(call)] = line
            decoded.append(call)
        if not decoded:
            return
        stored = self._store().write(decoded)
        self.wrote()
        drained.new += stored.new
        drained.duplicate += stored.duplicate
        for call, reason in stored.rejected:
            self._reject(calls[id(call)], reason, drained)

    def _reject(self, line: bytes, reason: str, drained: Drained) -> None:
        path = self._spool.rejected.add(line, reason)
        self.rejected += 1
        drained.rejected += 1
        count = len(self._spool.rejected.files())
        _log.error(
            "A call was rejected (%s). Its line was moved to %s. Rejected lines: %d.",
            reason,
            path,
            count,
        )

    # The thread

    def cycle(self) -> float:
        """Drain once; return how many seconds to wait before the next time."""
        if self._cycling.entered:
            return POLL_SECONDS
        orphans = time.monotonic() >= self._orphans_at
        # Whatever a driver, a host's listener or a full disk raises, the loop
        # continues: the lines stay in their files until the next attempt.
        try:
            with self._working, self._cycling:
                self.drain(orphans=orphans)
        except Exception as error:
            pass_on(error)
            pause = self._note(error)
        else:
            if orphans:
                self._orphans_at = time.monotonic() + ORPHANS_SECONDS
            if self._failed_in_a_row:
                _log.info("The ledger can be written again.")
            self._failed_in_a_row = 0
            pause = POLL_SECONDS
        if self._maintain is not None:
            self._maintain()
        if self._wrote and not self._failed_in_a_row:
            self._build_rollups()
        return pause

    def _build_rollups(self) -> None:
        if self._build is None or time.monotonic() < self._build_at:
            return
        # As in the cycle: whatever it raises, it is retried, and no call is lost.
        try:
            with self._working, self._cycling:
                self._build()
        except Exception as error:
            pass_on(error)
            if not self._build_failed:
                _log.warning("Rollups cannot be built for now: %s", error)
            self._build_failed = True
        else:
            self._wrote = self._build_failed = False
        self._build_at = time.monotonic() + BUILD_SECONDS * _random.uniform(0.8, 1.2)

    def _note(self, error: Exception) -> float:
        self.failures += 1
        self._failed_in_a_row += 1
        # Deadlocks and locked files pass. An outage is reported once, not every time.
        if self._failed_in_a_row == 3:
            self._failed(error)
        elif not isinstance(error, StorageError):
            _log.warning("Storing calls failed and will be retried.", exc_info=error)
        pause = POLL_SECONDS * 2.0 ** min(self._failed_in_a_row - 1, 10)
        return min(pause, _LONGEST_PAUSE) * _random.uniform(0.5, 1.0)


def _threads_run() -> bool:
    """Whether threads run while no request is handled.

    uWSGI stops all of them then, unless threads are enabled.
    """
    server = sys.modules.get("uwsgi")
    options = getattr(server, "opt", None)
    return not isinstance(options, dict) or bool(
        {"enable-threads", "threads", "gevent"} & options.keys()
    )


def _decode(line: bytes) -> Call:
    if len(line) > _LONGEST_LINE:
        raise ValueError(f"a line of {len(line)} bytes is not a call")
    return jsonl.decode(line)


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()
_paused: list[Lock] = []


def _pause() -> None:
    """Before a fork: wait until no writer is inside a database driver.

    Otherwise the child would inherit locks of the driver and of SQLAlchemy, held by a thread
    that it does not have. It does not wait for a database that hangs.
    """
    for writer in list(_writers):
        before, loads = None, imports.loads()
        # As long as the writer is importing modules, its database does not hang.
        while writer._working not in _paused and loads != before:
            acquire_into(_paused, writer._working, _FORK_SECONDS)
            before, loads = loads, imports.loads()
    fork_gate.before_fork()
    imports.before_fork()


def _resume() -> None:
    imports.after_fork()
    while _paused:
        _paused.pop().release()
    fork_gate.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_pause, after_in_parent=_resume, after_in_child=_resume)
