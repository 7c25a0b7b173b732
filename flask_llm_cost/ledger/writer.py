"""The thread that brings spooled calls into the ledger, and what it does when it cannot."""

from __future__ import annotations

import logging
import os
import random
import sys
import threading
import time
import typing as t
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from .. import jsonl
from ..call import Call
from ..db import import_lock as imports
from ..errors import StorageError
from .spool import Spool
from .spool import SpoolFile

if t.TYPE_CHECKING:
    from .store import Store

_log = logging.getLogger("flask_llm_cost")

BATCH: t.Final = 500
"""Calls in one transaction, at most."""

POLL_SECONDS: t.Final = 0.5
ORPHANS_SECONDS: t.Final = 30.0
"""How often it looks for what killed processes left."""

ROLL_SECONDS: t.Final = 60.0
"""How often it adds up what was written."""

_LONGEST_PAUSE: t.Final = 30.0
_FORK_SECONDS: t.Final = 1.0
_LONGEST_LINE: t.Final = 1024 * 1024

_random: t.Final = random.SystemRandom()
"""Not the module's, which an app may have seeded to draw the same numbers again."""


@dataclass(slots=True)
class Drained:
    """What became of the lines of the spool."""

    new: int = 0
    duplicate: int = 0
    """In the ledger already: after a crash a file is read again from its beginning."""
    set_aside: int = 0
    """Lines that cannot be stored; each is in a ``.bad`` file of its own."""


class Writer:
    """Drains one process's spool, and the files of processes that are gone.

    :param store: Gives the store; first asked when there is something to write, so that
        no request waits until SQLAlchemy is loaded.
    :param absorb: Brings what waits in memory to the spool; called before each drain.
    :param failed: Told when the database goes away.
    :param roll: Adds up what was written, for some seconds at most.
    :param work: What else is due after each drain. It must not raise.
    """

    def __init__(
        self,
        spool: Spool,
        store: Callable[[], Store],
        absorb: Callable[[], None],
        failed: Callable[[Exception], None],
        roll: Callable[[], object] | None = None,
        work: Callable[[], None] | None = None,
    ) -> None:
        self.failures = 0
        """Drains that failed, since the start."""
        self.set_aside = 0
        """Lines set aside, since the start."""
        self._spool = spool
        self._store = store
        self._absorb = absorb
        self._failed = failed
        self._roll = roll
        self._work = work
        self._roll_at = 0.0
        self._roll_failed = False
        self._wrote = False
        self._busy = threading.Lock()
        self._working = threading.Lock()
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._failed_in_a_row = 0
        self._orphans_at = 0.0
        _writers.add(self)

    def start(self) -> bool:
        """Start the thread, once; False if threads cannot be had."""
        if not _threads_run():
            return False
        if self._thread is None:
            thread = threading.Thread(
                # The thread does not keep a closed app's ledger alive.
                target=_run,
                args=(weakref.ref(self), self._wake),
                name="llm-cost-writer",
                daemon=True,
            )
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending, or the system refuses
                return False
            self._thread = thread
        return True

    def stop(self, timeout: float) -> None:
        """End the thread after what it is doing now."""
        self._closed = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def pending(self) -> bool:
        """Whether lines of this process are not stored yet."""
        return self._spool.pending

    def flush(self, timeout: float, *, once: bool = False) -> bool:
        """Wait until all lines appended so far are stored.

        :param once: Do not wait any longer once a drain failed.
        """
        self._absorb()
        until = time.monotonic() + timeout
        files = self._spool.seal()
        failures, aside = self.failures, self.set_aside
        if files and not self.start():
            self._drain_inline()
        with self._changed:
            while not self._gone(files):
                left = until - time.monotonic()
                if left <= 0 or (once and self.failures > failures):
                    return False
                self._wake.set()
                self._changed.wait(min(left, POLL_SECONDS))
        return self.set_aside == aside

    def _gone(self, files: list[SpoolFile]) -> bool:
        sealed = self._spool.sealed()
        return not any(file in sealed for file in files)

    def _drain_inline(self) -> None:
        try:
            self.drain()
        except (StorageError, OSError):
            self.failures += 1

    def wrote(self) -> None:
        """Something was written without the spool: it is to be added up, too."""
        self._wrote = True

    def drain(self, *, orphans: bool = False) -> Drained:
        """Store what waits, now, on the caller's thread.

        :raises StorageError: If the database is away, or its tables are.
        """
        drained = Drained()
        # Not under the lock: it runs receivers of signals, which may flush or drain.
        self._absorb()
        with self._busy:
            for file in self._spool.sealed():
                self._store_file(file, drained)
            for file in self._spool.seal():
                self._store_file(file, drained)
            if orphans:
                for file in self._spool.claim():
                    self._store_file(file, drained)
        return drained

    def _store_file(self, file: SpoolFile, drained: Drained) -> None:
        while True:
            lines, end = file.read(BATCH)
            if end == file.offset:
                break
            self._store_lines(lines, drained)
            file.offset = end
        # Only now. Should we die before, its lines are found to be duplicates.
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
                self._set_aside(line, str(error), drained)
                continue
            calls[id(call)] = line
            decoded.append(call)
        if not decoded:
            return
        stored = self._store().write(decoded)
        self.wrote()
        drained.new += stored.new
        drained.duplicate += stored.duplicate
        for call, reason in stored.refused:
            self._set_aside(calls[id(call)], reason, drained)

    def _set_aside(self, line: bytes, reason: str, drained: Drained) -> None:
        path = self._spool.set_aside(line, reason)
        self.set_aside += 1
        drained.set_aside += 1
        count = len(self._spool.bad())
        _log.error(
            "A call cannot be stored (%s). Its line was set aside in %s; %d such lines are"
            " there now.",
            reason,
            path,
            count,
        )

    # The thread

    def cycle(self) -> float:
        """Drain once, and tell how many seconds to wait before the next time."""
        orphans = time.monotonic() >= self._orphans_at
        # This loop must outlive whatever a driver, a host's listener or a full disk
        # raises: the lines stay in their files, and it tries again.
        try:
            with self._working:
                self.drain(orphans=orphans)
        except Exception as error:
            pause = self._note(error)
        else:
            if orphans:
                self._orphans_at = time.monotonic() + ORPHANS_SECONDS
            if self._failed_in_a_row:
                _log.info("The ledger can be written again.")
            self._failed_in_a_row = 0
            pause = POLL_SECONDS
        if self._work is not None:
            self._work()
        with self._changed:
            self._changed.notify_all()
        if self._wrote and not self._failed_in_a_row:
            self._roll_up()
        return pause

    def _roll_up(self) -> None:
        if self._roll is None or time.monotonic() < self._roll_at:
            return
        # As in the cycle: whatever goes wrong, the calls are kept, and it tries again.
        try:
            with self._working:
                self._roll()
        except Exception as error:
            if not self._roll_failed:
                _log.warning("Calls are not added up for now: %s", error)
            self._roll_failed = True
        else:
            self._wrote = self._roll_failed = False
        self._roll_at = time.monotonic() + ROLL_SECONDS * _random.uniform(0.8, 1.2)

    def _note(self, error: Exception) -> float:
        self.failures += 1
        self._failed_in_a_row += 1
        # A deadlock or a locked file passes; an outage is said once, not each time.
        if self._failed_in_a_row == 3:
            self._failed(error)
        elif not isinstance(error, StorageError):
            _log.warning("The ledger's writer tries again.", exc_info=error)
        pause = POLL_SECONDS * 2.0 ** min(self._failed_in_a_row - 1, 10)
        return min(pause, _LONGEST_PAUSE) * _random.uniform(0.5, 1.0)


def _threads_run() -> bool:
    """Whether a thread goes on while no request is handled.

    uWSGI stops them all then, in whatever they do, unless it is told to enable threads.
    """
    server = sys.modules.get("uwsgi")
    options = getattr(server, "opt", None)
    return not isinstance(options, dict) or bool(
        {"enable-threads", "threads", "gevent"} & options.keys()
    )


def _decode(line: bytes) -> Call:
    if len(line) > _LONGEST_LINE:
        raise ValueError(f"a line of {len(line)} bytes is no call")
    return jsonl.decode(line)


def _run(reference: weakref.ref[Writer], wake: threading.Event) -> None:
    pid = os.getpid()
    pause = 0.0
    while True:
        wake.wait(pause)
        wake.clear()
        writer = reference()
        if writer is None or writer.closed or os.getpid() != pid:
            return
        pause = writer.cycle()
        # Calls of an app that is gone are stored before its ledger is let go.
        kept = writer if writer.pending else None
        del writer
        if kept is not None:
            wake.wait(pause)
            pause = 0.0
        del kept


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()
_paused: list[threading.Lock] = []


def _pause() -> None:
    """Before a fork: let every writer finish what it is doing in a database driver.

    Else the child would inherit locks of the driver and of SQLAlchemy, held by a thread
    that it does not have. A database that hangs is not waited for.
    """
    for writer in list(_writers):
        loads = imports.loads()
        # What it loads meanwhile takes its time, and says nothing about its database.
        while not writer._working.acquire(timeout=_FORK_SECONDS):
            before, loads = loads, imports.loads()
            if loads == before:
                break
        else:
            _paused.append(writer._working)
    imports.before_fork()


def _go_on() -> None:
    imports.after_fork()
    while _paused:
        _paused.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_pause, after_in_parent=_go_on, after_in_child=_go_on)
