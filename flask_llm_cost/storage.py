"""What a storage of calls does: the ledger in a database, and the one of monthly files.

What only a database can do is a capability: an attribute that is ``None`` on the other.
What both share, failure reports and the hooks at fork and exit, is here too.
"""

from __future__ import annotations

import atexit
import datetime as dt
import functools
import os
import typing as t
import weakref
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from .call import Call
from .errors import StorageError

if t.TYPE_CHECKING:
    import sqlalchemy as sa

    from .budgets.storage import Budgets
    from .db.partitions import Step as Step
    from .ledger.distributing import Distribution
    from .ledger.partitioning import Partitions
    from .ledger.queue import Queue
    from .ledger.replica import Replica
    from .ledger.reprice import Repriced as Repriced
    from .ledger.reprice import Repricer
    from .ledger.schema import Schema as Schema
    from .ledger.store import Stored
    from .ledger.unlisted import UnlistedHosts
    from .rollups.build import RollupBuilder
    from .rollups.erase import Erased as Erased

_Capability = t.TypeVar("_Capability")

NO_QUEUE: t.Final = (
    "each call is written to its monthly file at once, and none is queued or rejected."
)
NO_TABLES: t.Final = (
    "monthly files have no tables to upgrade or check. To store calls in a database, set"
    " it to 'database', run `flask llm-cost db upgrade`, and import the files with"
    " `flask llm-cost calls import`."
)
NO_PARTITIONS: t.Final = (
    "each month already has its own file. Delete old ones with `flask llm-cost prune`."
)
NO_DISTRIBUTION: t.Final = (
    "monthly files are stored on one machine. To distribute calls, store them in"
    " PostgreSQL."
)
NO_ROLLUPS: t.Final = (
    "monthly files have no rollups: every answer is computed from the calls, in the"
    " current LLM_COST_TIMEZONE."
)
NO_REPRICING: t.Final = (
    "monthly files keep each call as it was recorded. To reprice calls, import them into"
    " a database with `flask llm-cost calls import`."
)


EXIT_SECONDS: t.Final = 5.0
"""How long the end of a process may wait for queued calls to be stored."""

Gather: t.TypeAlias = Callable[[float], bool]
"""Appends the calls that are due; waits for some seconds at most. Returns whether the storage
has all calls that ended so far. It must not raise."""

Failed: t.TypeAlias = Callable[[Call | None, Exception], None]
"""Receives a call that could not be stored, or ``None`` if the storage is unavailable and
calls are queued meanwhile."""


def caused_by(cause: Exception, message: str) -> StorageError:
    """Make an error to report, not to raise: ``raise ... from`` would set its cause."""
    error = StorageError(message)
    error.__cause__ = cause
    return error


class Reporter:
    """Reports what could not be stored, and counts the calls that are lost.

    :param failed: Must not raise.
    """

    def __init__(self, failed: Failed | None) -> None:
        self.lost = 0
        self._failed = failed

    def report(self, call: Call | None, error: Exception) -> None:
        """Report an error."""
        if self._failed is not None:
            self._failed(call, error)

    def lose(self, call: Call, error: Exception) -> None:
        """Report an error that costs a call."""
        self.lost += 1
        self.report(call, error)


class StoredBillText(t.NamedTuple):
    """A stored bill, as JSON: only ``bills`` knows its contents."""

    key: str
    stored_at: dt.datetime
    header: str
    result: str | None
    """That of the last comparison to the ledger."""


class BillStorage(t.Protocol):
    """Stores bills next to the calls."""

    def put(self, key: str, header: str, lines: Iterable[str]) -> bool:
        """Store a bill, all of it or nothing; return false if it is stored already."""
        ...

    def all(self) -> list[StoredBillText]:
        """List the bills, latest first."""
        ...

    def lines(self, key: str) -> list[str]:
        """Return the lines of a bill, in order."""
        ...

    def note(self, key: str, result: str) -> None:
        """Store the result of a comparison."""
        ...

    def forget(self, key: str) -> bool:
        """Delete a bill; return whether there was one."""
        ...


class Storage(t.Protocol):
    """Where one app's calls are. Nothing is opened before it is needed."""

    folder: Path
    """The folder that calls are written to first."""
    reporter: Reporter
    """Reports the calls that could not be stored."""

    @property
    def lost(self) -> int:
        """How many calls this process could not store."""
        return self.reporter.lost

    @property
    def label(self) -> str:
        """Where the calls are stored, for display: without passwords."""
        ...

    def folders(self) -> Mapping[Path, str]:
        """Return the folders of its files, and what to do if one is on a network."""
        ...

    @property
    def hash_key(self) -> str | None:
        """The key of fingerprints of API keys: the same in every process.

        It never waits: ``None`` if it was not read yet, or cannot be.
        """
        ...

    def append(self, call: Call, *, now: bool = False) -> bool:
        """Record a call. Never raises: errors are reported.

        :param now: Do not queue it, whatever ``LLM_COST_WRITE`` says. Files never do.
        :return: Whether it is stored already.
        """
        ...

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything captured so far can be read.

        :return: False if some of it is still queued, or was rejected.
        """
        ...

    def reading(
        self,
        *,
        fresh: bool = False,
        since: dt.datetime | None = None,
        until: dt.datetime | None = None,
    ) -> AbstractContextManager[sa.Connection]:
        """Connect to the calls in one read-only transaction, in which nothing changes.

        :param fresh: Read from the ledger itself, not from a replica: what is read decides
            what is written.
        :param since: Nothing older is read: files of earlier months stay closed.
        :param until: Nothing from that moment on is read.
        :raises StorageError: If they cannot be read.
        :raises SetupRequired: If tables are missing or of another version.
        """
        ...

    def prunable(self, before: dt.datetime) -> int:
        """Count the calls that :meth:`prune` would delete."""
        ...

    def prune(
        self,
        before: dt.datetime,
        *,
        months_only: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Delete the calls before a time; return how many there were.

        A database keeps their rollups. Whole months are dropped with their partitions, the
        rest is deleted in short transactions: it can be interrupted and run again.

        :param months_only: Only whole months that are stored separately (partitions, files).
        :param progress: Called with the number of deleted calls after each step.
        """
        ...

    def clear(self, scope: t.Literal["today", "all"]) -> int:
        """Delete today's calls (in ``LLM_COST_TIMEZONE``), or all, and their totals.

        :return: How many there were.
        """
        ...

    def erase_tag(
        self, key: str, value: str, *, progress: Callable[[Erased], None] | None = None
    ) -> Erased:
        """Erase one value of a tag everywhere; the calls that had it stay without it.

        Totals stay; those of the value move to the calls without the tag. It can be
        interrupted and run again. The app must stop recording the value first.

        :param progress: Called with what was erased so far, after each step.
        """
        ...

    def after_fork(self) -> None:
        """Forget what belongs to the parent, in a forked child."""
        ...

    def flush_at_exit(self) -> None:
        """Store what is queued, at the end of the process."""
        ...

    def close(self) -> None:
        """Store what is queued, then close threads, files and connections.

        A closed storage opens again when it is used.
        """
        ...

    @property
    def bills(self) -> BillStorage:
        """The bills of providers that the calls are compared to."""
        ...

    # Capabilities

    @property
    def queue(self) -> Queue | None:
        """Calls that are captured and not stored yet."""
        return None

    @property
    def schema(self) -> Schema | None:
        """The tables: upgrade, downgrade, check."""
        return None

    @property
    def partitions(self) -> Partitions | None:
        """The monthly partitions of the table of calls."""
        return None

    @property
    def distribution(self) -> Distribution | None:
        """What distributes the table of calls over nodes."""
        return None

    @property
    def rollups(self) -> RollupBuilder | None:
        """The totals by hour and day."""
        return None

    @property
    def repricing(self) -> Repricer | None:
        """Repricing of stored calls, and its undo."""
        return None

    @property
    def budgets(self) -> Budgets | None:
        """The budgets that are enforced; ``None`` also if the app has none."""
        return None

    @property
    def replica(self) -> Replica | None:
        """The database that pages read from; ``None`` also if it is the ledger's own."""
        return None

    @property
    def unlisted(self) -> UnlistedHosts | None:
        """The counts of calls that are seen, but not recorded."""
        return None

    @property
    def restore(self) -> Callable[[Iterable[Call]], Stored] | None:
        """Store calls that were pruned, without changing a total."""
        return None

    @property
    def withdraw(self) -> Callable[[Sequence[str]], int] | None:
        """Delete trial calls by their ids, and what they added to any total."""
        return None


def required(capability: _Capability | None, reason: str) -> _Capability:
    """Return a capability that a command needs.

    :param reason: Why there is none, and what to do instead: :data:`NO_TABLES`, ...
    :raises StorageError: If the storage does not have it.
    """
    if capability is None:
        raise StorageError(f"LLM_COST_STORAGE is 'jsonl': {reason}")
    return capability


def queued_calls(ledger: Storage) -> int:
    """Count the calls that are captured and not stored yet.

    :raises OSError: If the spool cannot be read.
    """
    return 0 if ledger.queue is None else ledger.queue.count()


def rejected_lines(ledger: Storage) -> int:
    """Count the calls that cannot be stored.

    :raises OSError: If the spool cannot be read.
    """
    return 0 if ledger.queue is None else len(ledger.queue.rejected())


def replica_lag(ledger: Storage) -> dt.timedelta | None:
    """Return how far the replica is behind; ``None`` without one, or if that is unknown."""
    return None if ledger.replica is None else ledger.replica.lag()


_open: weakref.WeakSet[Storage] = weakref.WeakSet()


def register(storage: Storage) -> None:
    """Call a storage after a fork and at exit, for as long as it is referenced."""
    _install_hooks()
    _open.add(storage)


# Not at import: hooks run in the order of their registration (at exit: in reverse), and
# those of the ledger's writer must be registered before.
@functools.cache
def _install_hooks() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)
    atexit.register(_flush_all)


def _after_fork() -> None:
    for storage in list(_open):
        storage.after_fork()


def _flush_all() -> None:
    for storage in list(_open):
        storage.flush_at_exit()
