"""Store calls in the tables: each exactly once, none partially."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

import sqlalchemy as sa
from sqlalchemy import exc

from ..budgets.counters import Counters
from ..calendar import from_ms
from ..call import Call
from ..db.engine import brief
from ..db.engine import Engines
from ..db.insert import insert_calls
from ..db.insert import InsertCalls
from ..db.rows import COLUMNS
from ..db.rows import tag_set_of
from ..db.rows import TagSet
from ..db.rows import values_of
from ..db.statements import Key
from ..db.tables import calls as calls_table
from ..errors import StorageError
from ..interrupts import pass_on
from ..rollups import metrics
from ..rollups.aggregates import NotIncluded
from ..rollups.dirty_marks import mark_dirty_ms
from ..rollups.horizon import horizon
from ..rollups.lock import lock
from ..rollups.restore import subtract_pruned
from ..rollups.zone import check_zone
from ..scope import with_fingerprint
from .hash_key import hash_key
from .tag_sets import TagSetIds


class _Pruned(Exception):
    """Calls of that time were pruned, and this one may be among them."""


# With these, the database has understood the row and will never accept it.
_REJECTED: t.Final = (
    _Pruned,
    NotIncluded,
    exc.IntegrityError,
    exc.DataError,
    OverflowError,
    UnicodeError,
    ValueError,
)


_SCOPE: t.Final = COLUMNS.index("scope")
# A distributed PostgreSQL reports no better for what a node rejects of a copied batch. If
# something else was wrong, the first single row fails with it, too.
_BATCH_REJECTED: t.Final = (*_REJECTED, exc.InternalError)

_TOO_LARGE: t.Final = 1153
_GONE: t.Final = 2006
_LOST: t.Final = 2013
"""Errors of MySQL and MariaDB."""


@dataclass(slots=True)
class Stored:
    """The result of storing some calls."""

    new: int = 0
    duplicate: int = 0
    """Calls that are in the ledger already."""
    rejected: list[tuple[Call, str]] = field(default_factory=list)
    """Calls that no retry can store, with the reasons."""


class _Entry(t.NamedTuple):
    call: Call
    values: tuple[t.Any, ...]
    tags: TagSet | None

    @property
    def key(self) -> Key:
        return from_ms(self.values[1]), self.values[0]


class Store:
    """Writes calls to one ledger.

    :param counters: The budgets to count the calls in, if there are any.
    :param metrics_tags: Tags that the counters for monitoring are split by.
    :param restore_zone: If given, only pruned calls are stored, and subtracted from the
        rollups of pruned calls, which are in this time zone.
    """

    def __init__(
        self,
        engines: Engines,
        counters: Counters | None = None,
        *,
        metrics_tags: Sequence[str] = (),
        restore_zone: dt.tzinfo | None = None,
    ) -> None:
        self._engines = engines
        self._counters = counters
        self._tag_values = metrics.TagValues(metrics_tags)
        self._restore_zone = restore_zone
        self._tag_sets = TagSetIds()
        self._lost_connections = 0
        self._made_statement: InsertCalls | None = None
        self.hash_key: str | None = None
        """The ledger's key of fingerprints, once it was read."""

    def write(
        self, calls: Iterable[Call], *, now: bool = False, seconds: float | None = None
    ) -> Stored:
        """Store calls; those that are stored already are counted as duplicates.

        :param now: Limit the time, since a call waits for it.
        :param seconds: How long to wait then, if not as long as the call may.
        :raises StorageError: If the database cannot be used or has no tables. Some calls may
            be stored; they are duplicates when all are written again.
        """
        stored = Stored()
        entries = self._entries(calls, stored)
        engines = self._engines
        try:
            if now:
                engines.run(
                    lambda engine: self._insert_entries(engine, entries, stored),
                    seconds=seconds,
                )
            else:
                engines.prepare()
                with engines.explained():
                    self._insert_entries(engines.writing(), entries, stored)
        except exc.DBAPIError as error:
            raise StorageError(
                f"The ledger in {self._engines.label} cannot be written: {brief(error)}"
            ) from error
        if engines.changed_file():
            raise StorageError(f"The ledger's file {engines.label} was replaced.")
        return stored

    def _entries(self, calls: Iterable[Call], stored: Stored) -> list[_Entry]:
        entries: dict[str, _Entry] = {}
        for call in calls:
            try:
                entry = _Entry(call, values_of(call), tag_set_of(call.tags))
            except (ValueError, OverflowError) as error:
                pass_on(error)
                stored.rejected.append((call, str(error)))
                continue
            # An id contains the time, so calls with the same id have the same key.
            if entries.setdefault(call.event_id, entry) is not entry:
                stored.duplicate += 1
        return list(entries.values())

    def _insert_entries(
        self, engine: sa.Engine, entries: list[_Entry], stored: Stored
    ) -> None:
        if any(entry.call.key_digest is not None for entry in entries):
            if self.hash_key is None:
                self.hash_key = hash_key(engine)
            entries = [_fingerprinted(entry, self.hash_key) for entry in entries]
        self._insert_new(engine, entries, stored)

    def _insert_new(
        self, engine: sa.Engine, entries: list[_Entry], stored: Stored
    ) -> None:
        if not entries:
            return
        try:
            self._insert(engine, entries)
        except exc.OperationalError as error:
            pass_on(error)
            if not self._is_too_large(engine, error, entries):
                raise
            self._insert_halves(engine, entries, stored)
        except _BATCH_REJECTED as error:
            pass_on(error)
            known = self._known(engine, entries)
            stored.duplicate += len(known)
            if self._counters is not None:
                self._counters.release_duplicates(engine, [event for _, event in known])
            for entry in entries:
                if entry.key not in known:
                    self._insert_one(engine, entry, stored)
        else:
            stored.new += len(entries)

    def _is_too_large(
        self, engine: sa.Engine, error: exc.OperationalError, entries: list[_Entry]
    ) -> bool:
        """Whether MySQL or MariaDB rejected the size of a statement."""
        code = next(iter(getattr(error.orig, "args", ())), None)
        if code in (_LOST, _GONE):
            # The server may hang up before the driver has read why.
            with engine.connect() as connection:
                most = connection.exec_driver_sql(
                    "SELECT @@max_allowed_packet"
                ).scalar()
            size = sum(len(str(entry.values)) for entry in entries)
            if len(entries) > 1:
                size *= 2  # at most, as it is sent; to split too early does no harm
            return size > (most or 0)
        return code == _TOO_LARGE

    def _insert_halves(
        self, engine: sa.Engine, entries: list[_Entry], stored: Stored
    ) -> None:
        if len(entries) > 1:
            middle = len(entries) // 2
            self._insert_new(engine, entries[:middle], stored)
            self._insert_new(engine, entries[middle:], stored)
            return
        reason = "it is larger than the database's max_allowed_packet"
        stored.rejected.append((entries[0].call, reason))
        if self._counters is not None:
            self._counters.abandon(entries[0].call.event_id)

    def _insert_one(self, engine: sa.Engine, entry: _Entry, stored: Stored) -> None:
        try:
            self._insert(engine, [entry])
        except _REJECTED as error:
            pass_on(error)
            if self._known(engine, [entry]):
                stored.duplicate += 1
            else:
                stored.rejected.append((entry.call, brief(error)))
                if self._counters is not None:
                    self._counters.abandon(entry.call.event_id)
        else:
            stored.new += 1

    def _insert(self, engine: sa.Engine, entries: Sequence[_Entry]) -> None:
        """Insert all or none of the calls, in one transaction."""
        self._forget_after_failover()
        sets = [entry.tags for entry in entries if entry.tags is not None]
        ids = self._tag_sets.store(engine, sets)
        calls = [entry.call for entry in entries]
        counters = self._counters
        prepared = None if counters is None else counters.prepare(engine, calls)
        labels = self._tag_values.of(engine, [entry.tags for entry in entries])
        statement = self._statement(engine.dialect)
        rows = [
            (statement.event_id(values[0]), *values[1:], tags and ids[tags.text])
            for _, values, tags in entries
        ]
        with engine.begin() as connection:
            if self._restore_zone is not None:
                lock(connection)
            statement.run(connection, rows)
            mark_dirty_ms(connection, [entry.values[1] for entry in entries])
            if self._restore_zone is not None:
                keys = [entry.key for entry in entries]
                subtract_pruned(connection, keys, self._restore_zone)
            else:
                _check_horizon(connection, min(call.started_at for call in calls))
                values = zip((entry.values for entry in entries), labels, strict=True)
                metrics.append(connection, metrics.counts(values))
            if counters is not None and prepared is not None:
                alerts = counters.count(connection, calls, prepared)
        if counters is not None:
            counters.committed(calls, alerts)

    def _forget_after_failover(self) -> None:
        # A replica that took over may lack the latest sets of tags and budget windows.
        lost = self._engines.lost_connections
        if lost != self._lost_connections:
            self._lost_connections = lost
            self._tag_sets = TagSetIds()
            self._tag_values.forget()
            if self._counters is not None:
                self._counters.forget()

    def _statement(self, dialect: sa.Dialect) -> InsertCalls:
        if self._made_statement is None:
            self._made_statement = insert_calls(dialect)
        return self._made_statement

    def _known(self, engine: sa.Engine, entries: Sequence[_Entry]) -> set[Key]:
        c = calls_table.c
        query = sa.select(c.started_at, c.event_id).where(
            c.started_at.in_([entry.key[0] for entry in entries]),
            c.event_id.in_([entry.key[1] for entry in entries]),
        )
        with engine.connect() as connection:
            return {(row.started_at, row.event_id) for row in connection.execute(query)}


def _fingerprinted(entry: _Entry, hash_key: str) -> _Entry:
    """Replace the digest of an API key by its fingerprint."""
    call, values = entry.call, entry.values
    if call.key_digest is None:
        return entry
    before, after = values[:_SCOPE], values[_SCOPE + 1 :]
    scope = with_fingerprint(values[_SCOPE], call.key_digest, hash_key)
    return entry._replace(values=(*before, scope, *after))


def restore(engines: Engines, zone: dt.tzinfo, calls: Iterable[Call]) -> Stored:
    """Store calls that were pruned, without changing any total.

    :param zone: The time zone of the rollups.
    :raises StorageError: If the ledger cannot be written, or its rollups are of another
        zone.
    """
    engines.prepare()
    with engines.explained():
        check_zone(engines.writing(), zone)
    return Store(engines, restore_zone=zone).write(calls)


def _check_horizon(connection: sa.Connection, first: dt.datetime) -> None:
    """Reject calls that pruning may have added to rollups, where they would count twice.

    This comes after the insert, which waits for a prune that is deleting the same call; the
    horizon that the prune has set is visible then.

    :raises _Pruned: If the first call is before the horizon.
    """
    limit = horizon(connection)
    if limit is not None and first < limit:
        raise _Pruned(
            f"calls before {limit:%Y-%m-%d %H:%M:%S} UTC were pruned, and one of"
            f" {first:%Y-%m-%d %H:%M:%S} may be included in their rollups already"
        )
