"""The thread that stores queued calls, and retries when it cannot."""

from __future__ import annotations

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
from queue import Empty
from queue import SimpleQueue

from .. import jsonl
from ..call import Call
from ..db import import_lock as imports
from ..errors import StorageError
from ..interrupts import pass_on
from ..interrupts import Section
from ..storage import Gather
from .spool import Spool
from .spool_file import SpoolFile

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
    """Lines that cannot be stored; each is in a ``.bad`` file of its own."""


class Writer:
    """Drains one process's spool, and the files of dead processes.

    :param store: Returns the store; first called when there is something to write, so that
        no request waits until SQLAlchemy is imported.
    :param gather: Called before each drain to append the calls that are due.
    :param failed: Called when the database cannot be used.
    :param build: Builds rollups, for some seconds at most.
    :param maintain: Called after each drain of the thread. It must not raise.
    """

    def __init__(
        self,
        spool: Spool,
        store: Callable[[], Store],
        gather: Gather,
        failed: Callable[[Exception], None],
        build: Callable[[], object] | None = None,
        maintain: Callable[[], None] | None = None,
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
        self._build_at = 0.0
        self._build_failed = False
        self._wrote = False
        self._busy = threading.Lock()
        self._draining = Section()
        self._working = threading.Lock()
        self._cycling = Section()
        # Not an event: setting one takes a lock, which a signal handler may interrupt.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._closed = False
        self._starting = threading.RLock()
        self._thread: threading.Thread | None = None
        self._failed_in_a_row = 0
        self._orphans_at = 0.0
        _writers.add(self)

    def start(self) -> bool:
        """Start the thread, once; return False if threads are not available."""
        if not _threads_run():
            return False
        with self._starting:
            if self._thread is None:
                # Before its start, which lets other threads run, and finalizers that
                # record calls on this one.
                self._thread = thread = self._new_thread()
                try:
                    thread.start()
                except RuntimeError:  # at interpreter exit, or no threads are left
                    return False
                finally:
                    if thread.ident is None:
                        self._thread = None
        return True

    def _new_thread(self) -> threading.Thread:
        # A weak reference, so that the thread does not keep a closed app alive.
        return threading.Thread(
            target=_run,
            args=(weakref.ref(self), self._wake),
            name="llm-cost-writer",
            daemon=True,
        )

    def stop(self, timeout: float) -> None:
        """Stop the thread after its current work."""
        self._closed = True
        self._wake.put(None)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def hurry(self) -> None:
        """Have the thread drain at once, unless the database is failing."""
        if not self._failed_in_a_row:
            self._wake.put(None)

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
        if files and not self.start():
            self._drain_inline(until)
        pause = _FIRST_LOOK_SECONDS
        # Not a condition: what interrupts its lock may leave it locked.
        while not self._are_stored(files):
            left = until - time.monotonic()
            if left <= 0 or (once and self.failures > failures):
                return False
            self._wake.put(None)
            time.sleep(min(left, pause))
            pause = min(2 * pause, _LAST_LOOK_SECONDS)
        return sealed and self.rejected == rejected

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
        if not self._busy.acquire(timeout=max(0.0, left)):
            return drained
        try:
            with self._draining:
                for file in self._queued(orphans):
                    self._store_file(file, drained, until)
        finally:
            self._busy.release()
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
        # Last: after a crash before this, its lines are duplicates.
        self._spool.remove(file)

    def _store_lines(self, lines: list[bytes], drained: Drained) -> None:
        calls: dict[int, bytes] = {}
        decoded: list[Call] = []
        for line in lines:
            if not line:
                continue
            try:
                call = _decode(line)
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
        # Whatever a driver, a host's listener or a full disk raises, the loop goes on: the
        # lines stay in their files for the next time.
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


def _wait(wake: SimpleQueue[None], seconds: float) -> None:
    try:
        wake.get(timeout=seconds)
        while True:
            wake.get_nowait()
    except Empty:
        return


def _run(reference: weakref.ref[Writer], wake: SimpleQueue[None]) -> None:
    pid = os.getpid()
    pause = 0.0
    while True:
        _wait(wake, pause)
        writer = reference()
        if writer is None or writer.closed or os.getpid() != pid:
            return
        pause = writer.cycle()
        # If the app is gone, keep its ledger alive until its calls are stored.
        alive = writer if writer.pending else None
        del writer
        if alive is not None:
            _wait(wake, pause)
            pause = 0.0
        del alive


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()
_paused: list[threading.Lock] = []


def _pause() -> None:
    """Before a fork: wait until no writer is inside a database driver.

    Else the child would inherit locks of the driver and of SQLAlchemy, held by a thread
    that it does not have. It does not wait for a database that hangs.
    """
    for writer in list(_writers):
        loads = imports.loads()
        # As long as the writer is importing modules, its database does not hang.
        while not writer._working.acquire(timeout=_FORK_SECONDS):
            before, loads = loads, imports.loads()
            if loads == before:
                break
        else:
            _paused.append(writer._working)
    imports.before_fork()


def _resume() -> None:
    imports.after_fork()
    while _paused:
        _paused.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_pause, after_in_parent=_resume, after_in_child=_resume)
