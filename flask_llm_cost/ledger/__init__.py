"""The ledger: keeps every call, exactly once. The only room that writes."""

from __future__ import annotations

import atexit
import contextlib
import datetime as dt
import functools
import os
import threading
import time
import typing as t
import weakref
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
from ..db.migrations import HEAD
from ..errors import StorageError
from ..interrupts import of_signal
from ..jsonl import encode
from . import destination
from .spool import Spool
from .writer import Writer

if t.TYPE_CHECKING:
    import sqlalchemy as sa

    from ..db.engine import Engines
    from ..db.partitions import Partition
    from ..db.partitions import Step
    from ..rollups.build import Roller
    from ..rollups.erase import Erased
    from .reprice import Quote
    from .reprice import Repriced
    from .reprice import Reviser
    from .reprice import Scope
    from .store import Store
    from .store import Stored
    from .writer import Drained

SPOOL_FOLDER: t.Final = "llm_cost_spool"

_EXIT_SECONDS: t.Final = 5.0
_SYNC_PAUSE: t.Final = 5.0
_LAG_PAUSE: t.Final = 30.0
_ROLL_SECONDS: t.Final = 2.0
_ERASE_PAUSE: t.Final = 0.5

Failed: t.TypeAlias = Callable[[Call | None, Exception], None]
"""Told that a call could not be kept; or, with ``None``, that the ledger cannot be
written for now and calls wait in the spool."""


class Ledger:
    """One app's ledger. Nothing is opened before it is needed.

    :param instance_path: Where files go that the settings do not place elsewhere.
    :param host_engine: Gives the host's engine, if its database is the ledger's.
    :param failed: Told of what could not be stored. It must not raise.
    :param gather: Called before each drain: appends calls that are due. It must not raise.
    :param policy: The budgets to keep counters for, if there are any.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        instance_path: str,
        host_engine: Callable[[], sa.Engine] | None = None,
        failed: Failed | None = None,
        gather: Callable[[], None] | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.lost = 0
        """Calls that neither the spool nor the database would take."""
        self._settings = settings
        self._instance_path = instance_path
        self._get_host = host_engine
        self._host: sa.Engine | None = None
        self._failed = failed
        self._gather = gather
        self._policy = policy
        self._fresh()
        _ledgers.add(self)

    def _fresh(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._made_spool: Spool | None = None
        self._made_engines: Engines | None = None
        self._made_store: Store | None = None
        self._made_writer: Writer | None = None
        self._made_budgets: Budgets | None = None
        self._sync_at = 0.0
        self._lag_at = 0.0
        self._tend_at = 0.0
        self._running = False
        self._rescued = False

    def let_go(self) -> None:
        """In a forked child: everything of the parent's stays the parent's."""
        spool, engines = self._made_spool, self._made_engines
        self._fresh()
        if spool is not None:
            spool.let_go()
        if engines is not None:
            engines.after_fork()

    @property
    def folder(self) -> Path:
        """Where calls are taken down. A relative path is one in the instance folder."""
        return Path(self._instance_path, self._settings.spool_dir or SPOOL_FOLDER)

    # Taking calls

    def append(self, call: Call, *, now: bool = False) -> bool:
        """Keep a call. Never raises: what goes wrong is told to ``failed``.

        :param now: Write it to the database at once, whatever the settings say.
        :return: Whether it is in the database already.
        """
        # The app's request goes on, whatever happens in here.
        try:
            now = now or self._settings.write == "sync"
            if now and self._write_now(call):
                if self._policy is not None:
                    self.wake()  # the writer's thread tells of budgets
                return True
            self._spool.append(encode(call))
        except OSError as error:
            self._rescue(call, error)
        except Exception as error:
            if of_signal(error):
                raise
            self._lose(call, error)
        else:
            self.wake()
        return False

    def wake(self) -> None:
        """See that this process's writer runs. Never raises, and costs nothing twice."""
        if self._running and self._pid == os.getpid():
            return
        try:
            self._running = self._writer.start()
        except Exception as error:
            self._tell(None, error)

    def tend(self) -> None:
        """Do the writer's work where it has no thread. Never raises.

        For the end of a request: where there is a thread, it costs nothing.
        """
        if self._running or not self._has_spool() or time.monotonic() < self._tend_at:
            return
        try:
            pause = self._writer.cycle()
        except Exception as error:
            self._tell(None, error)
            pause = _SYNC_PAUSE
        self._tend_at = time.monotonic() + pause

    def _absorb(self) -> None:
        """Bring in what is due, before anything is stored or asked."""
        if self._gather is not None:
            self._gather()

    def _write_now(self, call: Call) -> bool:
        """Write to the database at once; if that fails, the spool has it for now."""
        if time.monotonic() < self._sync_at:
            return False
        try:
            return self._write(call)
        except Exception as error:
            if of_signal(error):
                raise
            self._tell(None, error)
            return False

    def _write(self, call: Call) -> bool:
        if time.monotonic() < self._sync_at:
            raise StorageError("The database could not be written a moment ago.")
        try:
            stored = self._store.write([call], now=True)
        except Exception:
            # Each call would wait for a database that is away.
            self._sync_at = time.monotonic() + _SYNC_PAUSE
            raise
        self._writer.wrote()
        for _, reason in stored.refused:
            self._spool.set_aside(encode(call).rstrip(), reason)
            self._tell(call, StorageError(f"A call was set aside: {reason}"))
        return True

    def _rescue(self, call: Call, error: OSError) -> None:
        """The spool cannot be written: a full disk, or a folder that is read-only."""
        why = (
            f"The spool in {self.folder} cannot be written ({error.strerror or error}). Make"
            " room, or set LLM_COST_SPOOL_DIR to a folder that the app may write to."
        )
        try:
            self._write(call)
        except Exception as second:
            self._lose(call, StorageError(f"A call is lost. {why} ({second})"))
        else:
            if not self._rescued:
                why += " Until then each call is written to the database at once."
                self._tell(None, StorageError(why))
            self._rescued = True

    def _lose(self, call: Call, error: Exception) -> None:
        self.lost += 1
        self._tell(call, error)

    def _tell(self, call: Call | None, error: Exception) -> None:
        if self._failed is not None:
            self._failed(call, error)

    # Bringing them to the database

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything captured so far is in the ledger.

        :return: False if some of it is not: it waits in the spool, or was set aside.
        """
        done = self._flush(timeout, once=False)
        self.tell()
        return done

    def _flush(self, timeout: float, *, once: bool) -> bool:
        self._absorb()
        if not self._has_spool():
            return True
        return self._writer.flush(timeout, once=once)

    def _has_spool(self) -> bool:
        spool = self._made_spool
        return self._pid == os.getpid() and spool is not None and spool.pending

    def drain(self) -> Drained:
        """Store what waits in this process's spool and what dead processes left, now.

        :raises StorageError: If the database is away or its tables are missing.
        """
        drained = self._writer.drain(orphans=True)
        self.tell()
        return drained

    def waiting(self) -> int:
        """How many calls are captured, but not in the database yet."""
        return self._spool.waiting()

    def waits_since(self) -> dt.datetime | None:
        """When the file of captured calls was last written to that waits the longest.

        :return: Aware UTC; ``None`` if nothing waits.
        """
        at = self._spool.oldest()
        return None if at is None else dt.datetime.fromtimestamp(at, dt.UTC)

    def set_aside(self) -> list[Path]:
        """The files of lines that cannot be stored."""
        return self._spool.bad()

    def requeue(self) -> int:
        """Give the lines that were set aside another chance; how many they are.

        After an upgrade, or a file put right by hand. What still cannot be stored is set
        aside again by the next drain.
        """
        return self._spool.requeue()

    def close(self) -> None:
        """Store what waits, then let go of threads, files and connections.

        A closed ledger opens again by itself when it is used.
        """
        if self._pid != os.getpid():
            self.let_go()
        self._flush(_EXIT_SECONDS, once=True)
        # First of all: what it is doing now would open again what is closed below.
        if self._made_writer is not None:
            self._made_writer.stop(_EXIT_SECONDS)
        with self._lock:
            spool, engines = self._made_spool, self._made_engines
            self._made_spool = self._made_engines = None
            self._made_writer = self._made_store = self._made_budgets = None
            self._running = False
        if spool is not None:
            spool.close()
        if engines is not None:
            engines.close()

    # Adding up, and letting go

    def roll(self, *, seconds: float | None = None) -> int:
        """Add up the hours that are over and have new calls; how many they were.

        The writer does so by itself, once a minute.

        :param seconds: Stop after about so long; the rest is for the next time.
        :raises StorageError: If the database is away, or its days are of another zone.
        """
        return self._roller.roll(dt.datetime.now(dt.UTC), seconds=seconds)

    def rezone(self) -> None:
        """Make the ledger's days those of ``LLM_COST_TIMEZONE``, and add up anew.

        :raises StorageError: If calls were pruned: their hours are known, no more.
        """
        self._roller.rezone()
        self.roll()

    def verify(self) -> list[str]:
        """Where sums differ from the calls they are of, a line each."""
        return self._roller.verify()

    def prune(
        self,
        before: dt.datetime,
        *,
        batch: int = 1000,
        months_only: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Delete the calls before a moment; how many they were. Their sums stay.

        Where the table has partitions, whole months go with theirs. The rest goes in short
        transactions. It may break off and go on at any time. What waits in the spool is
        stored before: a line of a call that is pruned already could not be told from a
        new one.

        :param months_only: Leave the rest for later, when its month is over.
        :param progress: Told how many are gone, after each partition and batch.
        """
        self.drain()
        return self._roller.prune(
            before, batch=batch, months_only=months_only, progress=progress
        )

    def put_back(self, calls: Iterable[Call]) -> Stored:
        """Store calls from before the last :meth:`prune`, which deleted them.

        They can be looked at again, and no total changes: each is taken out of the sums
        of what was pruned, in the same transaction. One that cannot be in those sums is
        refused. Budgets have counted them when they were new, and do not do so again.

        :raises StorageError: If the ledger cannot be written.
        """
        return self._roller.put_back(calls)

    def prunable_months(self, before: dt.datetime) -> list[Partition]:
        """Which partitions :meth:`prune` would drop, the oldest first."""
        from ..rollups.months import whole_months

        with self.reading(fresh=True) as connection:
            return whole_months(connection, before)

    # Partitions

    def partitions(self) -> list[Partition]:
        """The partitions of the table of calls, by time; none if it has none."""
        from ..db.partitions import partitions

        with self.reading(fresh=True) as connection:
            return partitions(connection)

    def partition_plan(self, *, ahead: int = 3) -> list[Step]:
        """What :meth:`partition` would do.

        :raises StorageError: If the database has no partitions.
        """
        from ..db.partitions import plan

        engines = self._engines
        engines.prepare()
        with engines.connected(engines.writing()) as connection:
            return plan(connection, dt.datetime.now(dt.UTC), ahead)

    def partition(
        self, *, ahead: int = 3, told: Callable[[Step], None] | None = None
    ) -> None:
        """Give the table of calls monthly partitions, or those that it has not yet.

        :param ahead: How many months after this one have theirs then.
        :param told: Told of each step before it is done.
        :raises StorageError: If the database has no partitions, or no step of it could
            have the table for itself for a moment. What was done stays done.
        """
        from ..db.migrate import exclusive
        from ..db.partitions import run

        engines = self._engines
        engines.prepare()
        with engines.explained(), exclusive(engines.writing()):
            for step in self.partition_plan(ahead=ahead):
                if told is not None:
                    told(step)
                run(engines.writing(), step)

    def prunable(self, before: dt.datetime) -> int:
        """How many calls :meth:`prune` would delete."""
        return self._roller.prunable(before)

    def clear(self, scope: t.Literal["today", "all"]) -> int:
        """Delete today's calls (in ``LLM_COST_TIMEZONE``), or all, and their sums.

        What waits in the spool is stored before, so that it does not come back.

        :return: How many they were.
        """
        self.drain()
        since = None
        if scope == "today":
            zone = self._settings.timezone
            since = period_of("day", dt.datetime.now(dt.UTC), zone)[0]
        gone = self._roller.clear(since)
        budgets = self.budgets
        if budgets is not None:
            with self._engines.explained(), self._engines.writing().begin() as change:
                budgets.counters.clear(change, since)
        return gone

    def withdraw(self, event_ids: Sequence[str]) -> int:
        """Delete calls that were only a trial, and what they added to sums and budgets.

        :return: How many there were.
        :raises StorageError: If the ledger cannot be written.
        """
        budgets = self.budgets
        counters = None if budgets is None else budgets.counters
        return self._roller.withdraw(event_ids, counters)

    # Tags

    def erase_tag(
        self,
        key: str,
        value: str,
        *,
        timeout: float = 10.0,
        progress: Callable[[Erased], None] | None = None,
    ) -> Erased:
        """Take a value of a tag out of everything: calls are then without that tag.

        Totals stay as they are; the value's become those of calls without the tag. It works
        in short transactions, and may break off and be run again. Calls that are
        recorded meanwhile are found too, but the app must stop to give them the value.

        :param timeout: How long to wait for lines of other processes, in seconds.
        :param progress: Told what was erased so far, after each batch.
        """
        from ..jsonl import without_tag
        from ..rollups.erase import erase_aside
        from ..rollups.erase import Erased
        from ..rollups.erase import stored_value

        erased = Erased()
        tell = progress or (lambda erased: None)
        until = time.monotonic() + timeout
        while True:
            self.drain()
            self._roller.erase(key, stored_value(key, value), erased, tell)
            erased.waiting = 0
            for line in self._spool.lines():
                with contextlib.suppress(ValueError):  # torn, or set aside soon
                    erased.waiting += without_tag(line, key, value) is not None
            if not erased.waiting or time.monotonic() > until:
                break
            time.sleep(_ERASE_PAUSE)
        # What another process has stored since.
        self._roller.erase(key, stored_value(key, value), erased, tell)
        erase_aside(self._spool, key, value, erased)
        return erased

    def forget_tag(self, key: str) -> bool:
        """Add calls up by a tag no more, and drop its sums; whether they were kept."""
        return self._roller.forget(key)

    # Pricing again

    def repriceable(self, scope: Scope) -> int:
        """How many calls :meth:`reprice` would look at."""
        return self._reviser.countable(scope)

    def reprice(
        self,
        scope: Scope,
        quote: Quote,
        *,
        now: dt.datetime,
        dry_run: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Repriced:
        """Price calls again; what they had cost before is kept.

        The parameters are those of :meth:`.Reviser.reprice`.
        """
        return self._reviser.reprice(
            scope, quote, now=now, dry_run=dry_run, progress=progress
        )

    def undo_reprice(
        self,
        run: str,
        *,
        now: dt.datetime,
        dry_run: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Repriced:
        """Give the calls of a run the cost that they had before it.

        The parameters are those of :meth:`.Reviser.undo`.
        """
        return self._reviser.undo(run, now=now, dry_run=dry_run, progress=progress)

    # Asking

    @contextmanager
    def reading(
        self,
        *,
        fresh: bool = False,
        since: dt.datetime | None = None,
        until: dt.datetime | None = None,
    ) -> Iterator[sa.Connection]:
        """A connection in one read-only transaction, in which nothing changes.

        :param fresh: Not to the replica of ``LLM_COST_READ_DATABASE_URI``: what is read
            decides what is written.
        :param since: Nothing older is asked for. Only monthly files gain by it.
        :param until: Nothing from that moment on is.
        :raises StorageError: If the database cannot be used.
        :raises SetupRequired: If its tables are missing or of another version.
        """
        with self._engines.snapshot(fresh=fresh) as connection:
            yield connection

    def behind(self) -> dt.timedelta | None:
        """How much older the replica's latest call is than the ledger's.

        ``None``: pages ask no replica, or one of the two cannot be asked.
        """
        if self._settings.read_database_uri is None or time.monotonic() < self._lag_at:
            return None
        try:
            latest = [self._latest(fresh) for fresh in (True, False)]
        except StorageError:
            # A page must not wait for a database that it does not need, each time.
            self._lag_at = time.monotonic() + _LAG_PAUSE
            return None
        ledger, replica = latest
        if ledger is None or replica is None:
            return None if ledger is None else dt.datetime.now(dt.UTC) - ledger
        return max(ledger - replica, dt.timedelta())

    def _latest(self, fresh: bool) -> dt.datetime | None:
        import sqlalchemy as sa

        from ..db.tables import calls

        at = calls.c.started_at
        with self.reading(fresh=fresh) as connection:
            found: dt.datetime | None = connection.scalar(
                sa.select(at).order_by(at.desc()).limit(1)
            )
        return found

    @property
    def database_label(self) -> str:
        """The database's URL, without user and password."""
        return self._engines.label

    # The tables

    def upgrade(self) -> None:
        """Bring the tables to the version of this package."""
        from ..db.migrate import upgrade

        engines = self._engines
        with engines.explained(tables=False):
            upgrade(engines.writing())
        engines.recheck()

    def downgrade(self, revision: str) -> None:
        """Bring the tables back to an earlier version; ``"base"`` drops them all.

        :raises ValueError: If there is no such version.
        """
        from ..db.migrate import downgrade

        engines = self._engines
        with engines.explained(tables=False):
            downgrade(engines.writing(), revision)
        engines.recheck()

    def check(self) -> list[str]:
        """How the tables differ from what this package needs, a line each."""
        from ..db.migrate import check

        engines = self._engines
        with engines.connected(engines.reading()) as connection:
            return check(connection)

    def sql(self, revisions: str = "head", *, dialect: str | None = None) -> str:
        """The upgrade as SQL text, for a database that only its keeper may change.

        :param revisions: Where to, or ``from:to``.
        :param dialect: ``sqlite``, ``postgresql``, ``mysql`` or ``mariadb``; asked of the
            database if left out.
        :raises ValueError: If there is no such version or dialect.
        """
        from ..db.migrate import dialect_name
        from ..db.migrate import sql

        if dialect is None:
            engines = self._engines
            with engines.connected(engines.reading(), tables=False) as connection:
                dialect = dialect_name(connection)
        return sql(dialect, revisions)

    def current(self) -> str | None:
        """The version of the tables, ``None`` if there are none."""
        from ..db.engine import version

        engines = self._engines
        with engines.connected(engines.reading()) as connection:
            return version(connection)

    def head(self) -> str:
        """The version that this package needs."""
        return HEAD

    # What is made when first needed. SQLAlchemy is loaded then, and by the writer's
    # thread if it can be: an app's first call does not wait for it.

    @property
    def _spool(self) -> Spool:
        made = self._made_spool
        if made is not None and self._pid == os.getpid():
            return made  # each call comes here
        with self._mine():
            if self._made_spool is None:
                self._made_spool = Spool(
                    self.folder,
                    self._destination(),
                    fsync=self._settings.spool_fsync,
                )
            return self._made_spool

    @property
    def _engines(self) -> Engines:
        with self._mine():
            if self._made_engines is None:
                with loading():
                    from ..db.engine import Engines

                host = None if self._get_host is None else self._host_engine
                self._made_engines = Engines(self._settings, self._instance_path, host)
            return self._made_engines

    @property
    def _writer(self) -> Writer:
        with self._mine():
            if self._made_writer is None:
                self._made_writer = Writer(
                    self._spool,
                    lambda: self._store,
                    self._absorb,
                    functools.partial(self._tell, None),
                    functools.partial(self.roll, seconds=_ROLL_SECONDS),
                    self._work,
                )
            return self._made_writer

    @property
    def _store(self) -> Store:
        with self._mine():
            if self._made_store is None:
                with loading():
                    from .store import Store

                budgets = self.budgets
                counters = None if budgets is None else budgets.counters
                self._made_store = Store(self._engines, counters)
            return self._made_store

    @property
    def budgets(self) -> Budgets | None:
        """The budgets that are kept here, if there are any."""
        if self._policy is None:
            return None
        with self._mine():
            if self._made_budgets is None:
                self._made_budgets = Budgets(self._engines, self._policy)
            return self._made_budgets

    def _work(self) -> None:
        if self._made_budgets is not None:
            self._made_budgets.work()

    def tell(self) -> None:
        """Tell the app of the thresholds of budgets that were passed."""
        if self._made_budgets is not None:
            self._made_budgets.notify()

    @property
    def _roller(self) -> Roller:
        with loading():
            from ..rollups.build import Roller

        return Roller(
            self._engines, self._settings.timezone, self._settings.rollup_tags
        )

    @property
    def _reviser(self) -> Reviser:
        from .reprice import Reviser

        budgets = self.budgets
        return Reviser(self._engines, None if budgets is None else budgets.counters)

    @contextmanager
    def _mine(self) -> Iterator[None]:
        if self._pid != os.getpid():  # forked by something that ran no hooks
            self.let_go()
        with self._lock:
            yield

    def _host_engine(self) -> sa.Engine:
        if self._host is None:
            assert self._get_host is not None
            self._host = self._get_host()
        return self._host

    def _destination(self) -> str:
        """Which database the lines of the spool are for, without loading SQLAlchemy.

        Apps may share an instance folder, such as one in its tests and in earnest. A
        line that one left there must not end up in the other's ledger.
        """
        folder = self._instance_path
        uri = self._settings.database_uri
        if uri is not None:
            return destination.of_uri(uri, folder)
        if self._get_host is None:
            return destination.own(folder)
        # Whatever keeps the host from having an engine, calls are taken down. The writer
        # says what it is; who can tell the destination later stores them.
        try:
            url = self._host_engine().url
        except Exception:
            return destination.UNKNOWN
        return destination.of_parts(
            url.drivername, url.host, url.port, url.database, folder
        )


def open_ledger(
    settings: Settings,
    *,
    instance_path: str,
    host_engine: Callable[[], sa.Engine] | None = None,
    failed: Failed | None = None,
    gather: Callable[[], None] | None = None,
    policy: Policy | None = None,
) -> Ledger:
    """The ledger that the settings ask for: in a database, or in monthly files.

    The parameters are those of :class:`Ledger`.
    """
    if settings.storage == "jsonl":
        from ..files.monthly import JsonlLedger

        return JsonlLedger(
            settings,
            instance_path=instance_path,
            failed=failed,
            gather=gather,
        )
    return Ledger(
        settings,
        instance_path=instance_path,
        host_engine=host_engine,
        failed=failed,
        gather=gather,
        policy=policy,
    )


_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()


def _let_go() -> None:
    for ledger in list(_ledgers):
        ledger.let_go()


def _flush_all() -> None:
    for ledger in list(_ledgers):
        ledger._flush(_EXIT_SECONDS, once=True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
atexit.register(_flush_all)
