"""Calls that are captured, but not in the database yet: this process's spool and writer."""

from __future__ import annotations

import datetime as dt
import os
import time
import typing as t
from collections.abc import Callable
from pathlib import Path

from ..call import Call
from ..interrupts import pass_on
from ..jsonl import encode
from ..storage import EXIT_SECONDS
from ..storage import Gather
from ..storage import Reporter
from .destination import UNKNOWN
from .own_process import OwnProcess
from .recent import RecentCalls
from .spool import ADVICE
from .spool import NETWORK_ADVICE
from .spool import Spool
from .spool import Waiting
from .writer import Drained
from .writer import Writer

if t.TYPE_CHECKING:
    from .store import Store

_RETRY_SECONDS: t.Final = 5.0


class Queue(OwnProcess):
    """The spool of one ledger, and the thread that stores what is in it.

    :param folder: The spool's folder.
    :param destination: Names the database that the lines are for.
    :param store: Gives the store; first called when there is something to write.
    :param gather: Called before each drain to append the calls that are due.
    :param build: Builds rollups, for some seconds at most.
    :param maintain: Called after each drain of the writer's. It must not raise.
    :param between: Called after each batch of a drain. It must not raise.
    :param notify: Called after a drain on the caller's thread.
    """

    def __init__(
        self,
        folder: Path,
        reporter: Reporter,
        *,
        destination: Callable[[], str],
        fsync: bool,
        store: Callable[[], Store],
        gather: Gather,
        build: Callable[[], object],
        maintain: Callable[[], None],
        between: Callable[[], None],
        notify: Callable[[], None],
    ) -> None:
        self.folder = folder
        self._reporter = reporter
        self._destination = destination
        self._fsync = fsync
        self._store = store
        self._gather = gather
        self._build = build
        self._maintain = maintain
        self._between = between
        self._notify = notify
        self._reset()

    def _reset(self) -> None:
        super()._reset()
        self._made_spool: Spool | None = None
        self._made_writer: Writer | None = None
        self._running = False
        self._tend_at = 0.0
        self._recent = RecentCalls()

    def after_fork(self) -> None:
        spool = self._made_spool
        self._reset()
        if spool is not None:
            spool.after_fork()

    # Appending

    def append(self, call: Call) -> None:
        """Append a call to the spool, and see that the writer runs.

        :raises OSError: If it could not be written as a whole.
        """
        line = encode(call)
        self.spool.append(line)
        self._recent.add(line[:-1], call)
        self.wake()

    def reject(self, call: Call, reason: str) -> None:
        """Move a call that no retry can store to a separate file."""
        self.spool.rejected.add(encode(call).rstrip(), reason)

    def wake(self) -> None:
        """Start this process's writer, once. Never raises."""
        if self._running and self._pid == os.getpid():
            return
        try:
            self._running = self.writer.start()
        except Exception as error:
            pass_on(error)
            self._reporter.report(None, error)

    def hurry(self) -> None:
        """Have the writer store at once what was appended."""
        if self._made_writer is not None:
            self._made_writer.hurry()

    def tend(self) -> None:
        """Do the writer's work where it has no thread. Never raises.

        For the end of a request. Where the thread runs, it returns at once.
        """
        if self._running or not self.pending or time.monotonic() < self._tend_at:
            return
        try:
            pause = self.writer.cycle()
        except Exception as error:
            pass_on(error)
            self._reporter.report(None, error)
            pause = _RETRY_SECONDS
        self._tend_at = time.monotonic() + pause

    # Storing

    @property
    def pending(self) -> bool:
        """Whether this process has appended calls that are not stored yet."""
        spool = self._made_spool
        return self._pid == os.getpid() and spool is not None and spool.pending

    def flush(self, timeout: float, *, once: bool = False) -> bool:
        """Wait until everything appended so far is stored.

        :param once: Stop waiting as soon as a drain fails.
        :return: False if some of it is still queued, or was rejected.
        """
        until = time.monotonic() + timeout
        gathered = self._gather(timeout)
        if not self.pending:
            return gathered
        left = max(0.0, until - time.monotonic())
        return self.writer.flush(left, once=once) and gathered

    def drain(self) -> Drained:
        """Store what this process queued and what dead processes left, now.

        :raises StorageError: If the database is unavailable or has no tables.
        """
        drained = self.writer.drain(orphans=True)
        self._notify()
        return drained

    def close(self) -> None:
        """Stop the writer and close the spool; both open again when they are used."""
        # The writer first: it would open again what is closed below.
        if self._made_writer is not None:
            self._made_writer.stop(EXIT_SECONDS)
        with self._lock:
            spool, self._made_spool, self._made_writer = self._made_spool, None, None
            self._running = False
        if spool is not None:
            spool.close()

    @property
    def destination(self) -> str | None:
        """Which database its calls are for, if that is known."""
        name, _ = self.spool.ledger
        return None if name == UNKNOWN else name

    # What is queued

    def count(self) -> int:
        """Count the calls that are not in the database yet, in files of every process."""
        return self.spool.count()

    def since(self) -> dt.datetime | None:
        """Return when the oldest queued file was last written to.

        :return: Aware UTC; ``None`` if nothing is queued.
        """
        at = self.spool.oldest()
        return None if at is None else dt.datetime.fromtimestamp(at, dt.UTC)

    def other_databases(self) -> list[Waiting]:
        """List the files of the spool's folder that are for other databases."""
        return self.spool.other_databases()

    def folders(self) -> dict[Path, str]:
        """Return the spool's folder, and what to do if it is on a network."""
        return {self.folder: NETWORK_ADVICE}

    def unusable(self) -> list[str]:
        """Describe the entries of the spool that cannot be read, and what to do."""
        return [f"{path}: {reason}. {ADVICE}" for path, reason in self.spool.unusable()]

    def rejected(self) -> list[Path]:
        """List the files of calls that cannot be stored."""
        return self.spool.rejected.files()

    def requeue(self) -> int:
        """Queue the rejected calls again; return how many there are.

        For after an upgrade, or after a file was corrected by hand. What still cannot be
        stored is rejected again by the next drain.
        """
        return self.spool.requeue()

    # Both are made when they are first needed: the destination may ask the host app.

    @property
    def spool(self) -> Spool:
        made = self._made_spool
        if made is not None and self._pid == os.getpid():
            return made  # the way of every call
        with self._own_process():
            if self._made_spool is None:
                self._made_spool = Spool(
                    self.folder, self._destination(), fsync=self._fsync
                )
            return self._made_spool

    @property
    def writer(self) -> Writer:
        with self._own_process():
            if self._made_writer is None:
                self._made_writer = Writer(
                    self.spool,
                    self._store,
                    self._gather,
                    lambda error: self._reporter.report(None, error),
                    self._build,
                    self._maintain,
                    self._recent,
                    self._between,
                )
            return self._made_writer
