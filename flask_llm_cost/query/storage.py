"""What pages and commands ask of a storage of calls.

It is defined here, by those who ask: a storage does not know who reads it. The ledger in a
database and the ledger of monthly files both implement :class:`Storage`. What only a
database can do is a capability: an attribute that is ``None`` on the other.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from ..errors import StorageError

if t.TYPE_CHECKING:
    import sqlalchemy as sa

    from ..budgets.storage import Budgets
    from ..call import Call
    from ..db.partitions import Step as Step
    from ..ledger.partitioning import Partitions
    from ..ledger.queue import Queue
    from ..ledger.replica import Replica
    from ..ledger.reprice import Repriced as Repriced
    from ..ledger.reprice import Repricer
    from ..ledger.schema import Schema as Schema
    from ..ledger.store import Stored
    from ..rollups.build import RollupBuilder
    from ..rollups.erase import Erased as Erased

_Capability = t.TypeVar("_Capability")

NO_QUEUE: t.Final = (
    "each call is written to its monthly file at once, and none is queued or rejected."
)
NO_TABLES: t.Final = (
    "monthly files have no tables that could be upgraded or checked. To store calls in a"
    " database, set it to 'database', run `flask llm-cost db upgrade`, and import the"
    " files with `flask llm-cost calls import`."
)
NO_PARTITIONS: t.Final = (
    "each month is a file already. Delete old ones with `flask llm-cost prune`."
)
NO_ROLLUPS: t.Final = (
    "monthly files have no rollups: every answer is computed from the calls, in the"
    " current LLM_COST_TIMEZONE."
)
NO_REPRICING: t.Final = (
    "monthly files keep each call as it was recorded. To reprice calls, import them into"
    " a database with `flask llm-cost calls import`."
)


class Storage(t.Protocol):
    """Where one app's calls are."""

    @property
    def lost(self) -> int:
        """How many calls this process could not store."""

    @property
    def folder(self) -> Path:
        """The folder that calls are written to first."""

    @property
    def label(self) -> str:
        """Where the calls are, for people: no password is in it."""

    def append(self, call: Call, *, now: bool = False) -> bool:
        """Record a call. Never raises.

        :param now: Do not queue it, if that is possible.
        :return: Whether it can be read already.
        """

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything captured so far can be read.

        :return: False if some of it is still queued, or was rejected.
        """

    def reading(
        self,
        *,
        fresh: bool = False,
        since: dt.datetime | None = None,
        until: dt.datetime | None = None,
    ) -> AbstractContextManager[sa.Connection]:
        """Connect to the calls in one read-only transaction, in which nothing changes.

        :param fresh: Read from the ledger itself, not from a replica.
        :param since: Nothing older is read.
        :param until: Nothing from that moment on is read.
        :raises StorageError: If they cannot be read.
        """

    def prunable(self, before: dt.datetime) -> int:
        """Count the calls that :meth:`prune` would delete."""

    def prune(
        self,
        before: dt.datetime,
        *,
        months_only: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Delete the calls before a moment; return how many there were.

        :param months_only: Only whole months that are stored apart from others.
        :param progress: Called with the number of deleted calls after each step.
        """

    def clear(self, scope: t.Literal["today", "all"]) -> int:
        """Delete today's calls (in ``LLM_COST_TIMEZONE``), or all, and their totals.

        :return: How many there were.
        """

    def erase_tag(
        self, key: str, value: str, *, progress: Callable[[Erased], None] | None = None
    ) -> Erased:
        """Erase one value of a tag everywhere; the calls that had it stay without it.

        :param progress: Called with what was erased so far, after each step.
        """

    def after_fork(self) -> None:
        """Forget what belongs to the parent, in a forked child."""

    def close(self) -> None:
        """Store what is queued, then close threads, files and connections."""

    # Capabilities

    @property
    def queue(self) -> Queue | None:
        """Calls that are captured and not stored yet."""

    @property
    def schema(self) -> Schema | None:
        """The tables: upgrade, downgrade, check."""

    @property
    def partitions(self) -> Partitions | None:
        """The monthly partitions of the table of calls."""

    @property
    def rollups(self) -> RollupBuilder | None:
        """The totals by hour and day."""

    @property
    def repricing(self) -> Repricer | None:
        """Repricing of stored calls, and its undo."""

    @property
    def budgets(self) -> Budgets | None:
        """The budgets that are enforced; ``None`` also if the app has none."""

    @property
    def replica(self) -> Replica | None:
        """The database that pages read from; ``None`` also if it is the ledger's own."""

    @property
    def restore(self) -> Callable[[Iterable[Call]], Stored] | None:
        """Store calls that were pruned, without changing a total."""

    @property
    def withdraw(self) -> Callable[[Sequence[str]], int] | None:
        """Delete trial calls by their ids, and what they added to any total."""


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
