"""Store calls in the tables: each exactly once, none partially."""

from __future__ import annotations

import contextlib
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
from ..db.rows import tag_set_of
from ..db.rows import TagSet
from ..db.rows import values_of
from ..db.statements import Key
from ..db.tables import calls as calls_table
from ..errors import StorageError
from ..interrupts import pass_on
from ..rollups.aggregates import NotIncluded
from ..rollups.dirty_marks import mark_dirty_ms
from ..rollups.horizon import horizon
from ..rollups.lock import lock
from ..rollups.restore import subtract_pruned
from ..rollups.zone import check_zone
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
    :param restore_zone: If given, only pruned calls are stored, and subtracted from the
        rollups of pruned calls, which are in this time zone.
    """

    def __init__(
        self,
        engines: Engines,
        counters: Counters | None = None,
        *,
        restore_zone: dt.tzinfo | None = None,
    ) -> None:
        self._engines = engines
        self._counters = counters
        self._restore_zone = restore_zone
        self._tag_sets = TagSetIds()
        self._made_statement: InsertCalls | None = None

    def write(self, calls: Iterable[Call], *, now: bool = False) -> Stored:
        """Store calls; those that are stored already are counted as duplicates.

        :param now: Limit the time, since someone waits for it.
        :raises StorageError: If the database cannot be used or has no tables. Some calls may
            be stored; they are duplicates when all are written again.
        """
        stored = Stored()
        entries = self._entries(calls, stored)
        engines = self._engines
        try:
            with engines.time_limited() if now else contextlib.nullcontext():
                engines.prepare()
                with engines.explained():
                    engine = engines.reading() if now else engines.writing()
                    self._insert_new(engine, entries, stored)
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

    def _insert_new(
        self, engine: sa.Engine, entries: list[_Entry], stored: Stored
    ) -> None:
        if not entries:
            return
        try:
            self._insert(engine, entries)
        except _REJECTED as error:
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
        sets = [entry.tags for entry in entries if entry.tags is not None]
        ids = self._tag_sets.store(engine, sets)
        calls = [entry.call for entry in entries]
        counters = self._counters
        prepared = None if counters is None else counters.prepare(engine, calls)
        statement, event_id = self._statement(engine.dialect)
        rows = [
            (event_id(values[0]), *values[1:], tags and ids[tags.text])
            for _, values, tags in entries
        ]
        with engine.begin() as connection:
            if self._restore_zone is not None:
                lock(connection)
            connection.exec_driver_sql(statement, rows)
            mark_dirty_ms(connection, [entry.values[1] for entry in entries])
            if self._restore_zone is not None:
                keys = [entry.key for entry in entries]
                subtract_pruned(connection, keys, self._restore_zone)
            else:
                _check_horizon(connection, min(call.started_at for call in calls))
            if counters is not None and prepared is not None:
                alerts = counters.count(connection, calls, prepared)
        if counters is not None:
            counters.committed(calls, alerts)

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
