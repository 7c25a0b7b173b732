"""The ledger in a database."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from ..budgets.policy import Policy
from ..budgets.storage import Budgets
from ..calendar import period_of
from ..call import Call
from ..config import Settings
from ..db.import_lock import loading
from ..interrupts import pass_on
from ..storage import EXIT_SECONDS
from ..storage import Failed
from ..storage import Gather
from ..storage import register
from ..storage import Reporter
from ..storage import Storage
from . import destination
from .own_process import OwnProcess
from .queue import Queue
from .recording import Recording
from .temporary import TemporaryFolder

if t.TYPE_CHECKING:
    import sqlalchemy as sa

    from ..budgets.counters import Counters
    from ..db.engine import Engines
    from ..db.location import HostEngine
    from ..rollups.build import RollupBuilder
    from ..rollups.erase import Erased
    from ..rollups.retention import Retention
    from .bill_rows import BillRows
    from .distributing import Distribution
    from .partitioning import Partitions
    from .replica import Replica
    from .reprice import Repricer
    from .schema import Schema
    from .store import Store
    from .store import Stored
    from .unlisted import UnlistedHosts

_log = logging.getLogger("flask_llm_cost")

SPOOL_FOLDER: t.Final = "llm_cost_spool"

_BUILD_SECONDS: t.Final = 2.0


class Ledger(OwnProcess, Storage):
    """One app's ledger in a database.

    :param instance_path: The folder of files that the settings do not place elsewhere.
    :param host_engine: Returns the host app's engine; ``None`` if the ledger is a
        separate file.
    :param failed: Receives what could not be stored. It must not raise.
    :param gather: Called before each drain to append the calls that are due.
    :param policy: The budgets to keep counters for, if there are any.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        instance_path: str,
        host_engine: HostEngine | None = None,
        failed: Failed | None = None,
        gather: Gather | None = None,
        policy: Policy | None = None,
    ) -> None:
        self._settings = settings
        self._instance_path = instance_path
        self._get_host = host_engine
        self._host: sa.Engine | None = None
        self._temporary = TemporaryFolder()
        self._policy = policy
        self.reporter = Reporter(failed)
        self.folder = Path(instance_path, settings.spool_dir or SPOOL_FOLDER)
        self._queue = Queue(
            self.folder,
            self.reporter,
            destination=self._destination,
            fsync=settings.spool_fsync,
            store=lambda: self._store,
            gather=gather or (lambda timeout: True),
            build=self._build_rollups,
            maintain=self._maintain,
            between=self._keep_leases,
            notify=self._notify,
        )
        self._reset()
        register(self)

    def _reset(self) -> None:
        super()._reset()
        self._made_engines: Engines | None = None
        self._made_store: Store | None = None
        self._made_budgets: Budgets | None = None
        self._made_replica: Replica | None = None
        self._made_unlisted: UnlistedHosts | None = None
        self._recording = Recording(
            self._queue,
            self.reporter,
            lambda: self._store,
            sync=self._settings.write == "sync",
        )

    def after_fork(self) -> None:
        engines = self._made_engines
        self._reset()
        self.queue.after_fork()
        if engines is not None:
            engines.after_fork()

    @property
    def label(self) -> str:
        return self._engines.label

    def folders(self) -> dict[Path, str]:
        return self._engines.folders() | self.queue.folders()

    # Recording calls

    @property
    def hash_key(self) -> str | None:
        store = self._made_store
        return None if store is None else store.hash_key

    def append(self, call: Call, *, now: bool = False) -> bool:
        stored = self._recording.append(call, now=now)
        if stored and self._policy is not None:
            self.queue.wake()  # its thread sends the alerts
        elif self._made_budgets is not None and self._made_budgets.holds(call):
            self.queue.hurry()
        return stored

    # Storing what is queued

    def flush(self, timeout: float = 10.0) -> bool:
        done = self.queue.flush(timeout)
        self._notify()
        self._store_unlisted()
        return done

    def flush_at_exit(self) -> None:
        if self.queue.flush(EXIT_SECONDS, once=True):
            self._store_unlisted()
        self._temporary.remove()

    def close(self) -> None:
        self._reset_if_forked()
        self.flush_at_exit()
        self.queue.close()
        with self._lock:
            self._close_database()

    def _close_database(self) -> None:
        engines, self._made_engines = self._made_engines, None
        self._made_store = self._made_budgets = self._made_replica = None
        if engines is not None:
            engines.close()

    # Reading

    @contextmanager
    def reading(
        self,
        *,
        fresh: bool = False,
        since: dt.datetime | None = None,
        until: dt.datetime | None = None,
    ) -> Iterator[sa.Connection]:
        with self._engines.snapshot(fresh=fresh) as connection:
            yield connection

    # Deleting

    def prunable(self, before: dt.datetime) -> int:
        return self._retention.prunable(before)

    def prune(
        self,
        before: dt.datetime,
        *,
        batch: int = 1000,
        months_only: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        # Store queued calls first: once the horizon has moved past them, they would be
        # rejected, since they could be pruned calls.
        self.queue.drain()
        return self._retention.prune(
            before, batch=batch, months_only=months_only, progress=progress
        )

    def clear(self, scope: t.Literal["today", "all"]) -> int:
        self.queue.drain()  # else they would come back
        since = None
        if scope == "today":
            zone = self._settings.timezone
            since = period_of("day", dt.datetime.now(dt.UTC), zone)[0]
        deleted = self._retention.clear(since)
        counters = self._counters
        if counters is not None:
            with self._engines.explained(), self._engines.writing().begin() as change:
                counters.clear(change, since)
        return deleted

    def erase_tag(
        self,
        key: str,
        value: str,
        *,
        timeout: float = 10.0,
        progress: Callable[[Erased], None] | None = None,
    ) -> Erased:
        from .erase import erase_tag

        return erase_tag(
            self._engines, self.queue, key, value, timeout=timeout, progress=progress
        )

    @property
    def bills(self) -> BillRows:
        from .bill_rows import BillRows

        return BillRows(self._engines)

    # What only a database can do

    @property
    def queue(self) -> Queue:
        return self._queue

    @property
    def schema(self) -> Schema:
        from .schema import Schema

        return Schema(self._engines)

    @property
    def partitions(self) -> Partitions:
        from .partitioning import Partitions

        return Partitions(self._engines)

    @property
    def distribution(self) -> Distribution:
        from .distributing import Distribution

        return Distribution(self._engines)

    @property
    def rollups(self) -> RollupBuilder:
        with loading():
            from ..rollups.build import RollupBuilder

        return RollupBuilder(
            self._engines, self._settings.timezone, self._settings.rollup_tags
        )

    @property
    def _retention(self) -> Retention:
        from ..rollups.retention import Retention

        return Retention(self.rollups)

    @property
    def repricing(self) -> Repricer:
        from .reprice import Repricer

        return Repricer(self._engines, self._counters)

    @property
    def budgets(self) -> Budgets | None:
        if self._policy is None:
            return None
        with self._own_process():
            if self._made_budgets is None:
                self._made_budgets = Budgets(
                    self._engines, self._policy, settle=self._settle_ended
                )
            return self._made_budgets

    @property
    def _counters(self) -> Counters | None:
        budgets = self.budgets
        return None if budgets is None else budgets.counters

    @property
    def replica(self) -> Replica | None:
        if self._settings.read_database_uri is None:
            return None
        with self._own_process():
            if self._made_replica is None:
                from .replica import Replica

                self._made_replica = Replica(self._engines)
            return self._made_replica

    @property
    def unlisted(self) -> UnlistedHosts:
        with self._own_process():
            if self._made_unlisted is None:
                with loading():
                    from .unlisted import UnlistedHosts

                self._made_unlisted = UnlistedHosts(lambda: self._engines)
            return self._made_unlisted

    def restore(self, calls: Iterable[Call]) -> Stored:
        """Store calls from before the last :meth:`prune`, which deleted them.

        Single calls can be read again, and no total changes: each is taken out of the
        rollups of pruned calls in the same transaction. A call that cannot be in those
        rollups is refused. Budgets counted the calls when they were new, and do not count
        them again.

        :raises StorageError: If the ledger cannot be written.
        """
        from .store import restore

        return restore(self._engines, self._settings.timezone, calls)

    def withdraw(self, event_ids: Sequence[str]) -> int:
        """Delete trial calls, and what they added to rollups and budgets.

        :return: How many there were.
        :raises StorageError: If the ledger cannot be written.
        """
        from .withdraw import withdraw

        return withdraw(self._engines, event_ids, self._counters)

    # For the queue

    def _build_rollups(self) -> None:
        self.rollups.build(seconds=_BUILD_SECONDS)

    def _notify(self) -> None:
        """Notify the app of the budget thresholds that were reached."""
        if self._made_budgets is not None:
            self._made_budgets.notify()

    def _store_unlisted(self) -> None:
        if self._made_unlisted is not None:
            self._made_unlisted.store(now=True)

    def _settle_ended(self, seconds: float) -> bool:
        """Store the calls of this process that have ended; false if there are none.

        :param seconds: How long to wait for that.
        """
        # Called by a sender: whatever happens, budgets decide.
        try:
            if self.queue.pending:
                self.queue.flush(seconds, once=True)
                return True
        except Exception as error:
            pass_on(error)
        return False

    def _keep_leases(self) -> None:
        if self._made_budgets is not None:
            self._made_budgets.keep_leases()

    def _maintain(self) -> None:
        if self._made_budgets is not None:
            self._made_budgets.maintain()
        if self._made_unlisted is not None:
            self._made_unlisted.store()

    # What is made when it is first needed. SQLAlchemy is loaded then, by the writer's
    # thread if possible: an app's first call does not wait for it.

    @property
    def _engines(self) -> Engines:
        with self._own_process():
            if self._made_engines is None:
                with loading():
                    from ..db.engine import Engines

                self._made_engines = Engines(
                    self._settings,
                    self._instance_path,
                    self._host_engine,
                    self._temporary,
                )
            return self._made_engines

    @property
    def _store(self) -> Store:
        with self._own_process():
            if self._made_store is None:
                with loading():
                    from .store import Store

                self._made_store = Store(
                    self._engines,
                    self._counters,
                    metrics_tags=self._settings.metrics_tags,
                )
            return self._made_store

    def _own_process(self) -> threading.RLock:
        lock = super()._own_process()
        engines = self._made_engines
        if engines is not None and engines.changed_file():
            with lock:
                self._open_again(engines)
        return lock

    def _open_again(self, engines: Engines) -> None:
        if self._made_engines is engines:  # else another thread has seen it, too
            _log.warning(
                "The ledger's file %s was deleted or replaced while it was in use, and"
                " is opened again. Calls that it contained are missing, unless they"
                " are in the new file; queued calls are stored there.",
                engines.label,
            )
            self._close_database()

    def _host_engine(self) -> sa.Engine | None:
        if self._host is None and self._get_host is not None:
            self._host = self._get_host()
        return self._host

    def _destination(self) -> str:
        return destination.find(
            self._settings.database_uri,
            self._instance_path,
            self._host_engine,
            self._temporary,
        )
