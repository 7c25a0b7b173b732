"""How calls get into the tables: each exactly once, none in part."""

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
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects import sqlite

from ..budgets.counters import Counters
from ..calendar import from_ms
from ..calendar import utc_ms
from ..call import Call
from ..db.engine import brief
from ..db.engine import Engines
from ..db.insert import insert_calls
from ..db.insert import InsertCalls
from ..db.rows import BIGGEST
from ..db.rows import tag_set_of
from ..db.rows import TagSet
from ..db.rows import values_of
from ..db.tables import calls as calls_table
from ..db.tables import tag_sets
from ..db.tables import tag_values
from ..errors import StorageError
from ..rollups.dirty_marks import horizon
from ..rollups.dirty_marks import mark_ms
from ..rollups.sums import NotThere

if t.TYPE_CHECKING:
    from ..rollups.restore import PutBack


class _Pruned(Exception):
    """Calls of that time were pruned, and this one may be among them."""


# A database that answers so has understood, and will not have this row at any time.
_REFUSED: t.Final = (
    _Pruned,
    NotThere,
    exc.IntegrityError,
    exc.DataError,
    OverflowError,
    UnicodeError,
    ValueError,
)
_DAY: t.Final = dt.timedelta(days=1)

_REMEMBERED: t.Final = 50_000


@dataclass(slots=True)
class Stored:
    """What became of some calls."""

    new: int = 0
    duplicate: int = 0
    """In the ledger already."""
    refused: list[tuple[Call, str]] = field(default_factory=list)
    """Calls that no retry can store, and why."""


class _Entry(t.NamedTuple):
    call: Call
    values: tuple[t.Any, ...]
    tags: TagSet | None

    @property
    def key(self) -> tuple[int, str]:
        """When it started (ms), and its event id."""
        return self.values[1], self.values[0]


class Store:
    """Writes calls to one ledger."""

    def __init__(
        self,
        engines: Engines,
        counters: Counters | None = None,
        put_back: PutBack | None = None,
    ) -> None:
        self._engines = engines
        self._put_back = put_back
        """If given, calls are taken that were pruned, and those alone."""
        self._counters = counters
        self._places: dict[str, tuple[int, int]] = {}
        """Tag sets known to be there: their ids, and the day on which that was said."""
        self._made_statement: InsertCalls | None = None

    def write(self, calls: Iterable[Call], *, now: bool = False) -> Stored:
        """Store calls; those that are there already count as duplicates.

        :param now: Someone waits for it: give up soon.
        :raises StorageError: If the database is away, or its tables are. What was
            stored before that is found to be a duplicate when all are written again.
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
        return stored

    def _entries(self, calls: Iterable[Call], stored: Stored) -> list[_Entry]:
        entries: dict[str, _Entry] = {}
        for call in calls:
            try:
                entry = _Entry(call, values_of(call), tag_set_of(call.tags))
            except (ValueError, OverflowError) as error:
                stored.refused.append((call, str(error)))
                continue
            # The time is in the id: two of one id are of one time.
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
        except _REFUSED:
            known = self._known(engine, entries)
            stored.duplicate += len(known)
            if self._counters is not None:
                self._counters.release_duplicates(engine, [event for _, event in known])
            rest = [entry for entry in entries if entry.key not in known]
            for entry in rest:
                self._insert_one(engine, entry, stored)
        else:
            stored.new += len(entries)

    def _insert_one(self, engine: sa.Engine, entry: _Entry, stored: Stored) -> None:
        try:
            self._insert(engine, [entry])
        except _REFUSED as error:
            if self._known(engine, [entry]):
                stored.duplicate += 1
            else:
                stored.refused.append((entry.call, brief(error)))
                if self._counters is not None:
                    self._counters.abandon(entry.call.event_id)
        else:
            stored.new += 1

    def _insert(self, engine: sa.Engine, entries: Sequence[_Entry]) -> None:
        """All or none of them, in one transaction."""
        ids = self._intern(engine, entries)
        calls = [entry.call for entry in entries]
        counters = self._counters
        prepared = None if counters is None else counters.prepare(engine, calls)
        statement, event_id = self._statement(engine.dialect)
        rows = [
            (event_id(values[0]), *values[1:], tags and ids[tags.text])
            for _, values, tags in entries
        ]
        with engine.begin() as connection:
            if self._put_back is not None:
                self._put_back.begin(connection)
            connection.exec_driver_sql(statement, rows)
            mark_ms(connection, [entry.values[1] for entry in entries])
            if self._put_back is not None:
                self._put_back.settle(connection, calls)
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

    def _known(
        self, engine: sa.Engine, entries: Sequence[_Entry]
    ) -> set[tuple[int, str]]:
        c = calls_table.c
        query = sa.select(c.started_at, c.event_id).where(
            c.started_at.in_([from_ms(entry.key[0]) for entry in entries]),
            c.event_id.in_([entry.key[1] for entry in entries]),
        )
        with engine.connect() as connection:
            return {
                (utc_ms(row.started_at), row.event_id)
                for row in connection.execute(query)
            }

    # Tag sets

    def _intern(self, engine: sa.Engine, entries: Iterable[_Entry]) -> dict[str, int]:
        """See that the sets are there; their ids, by their text."""
        now = dt.datetime.now(dt.UTC)
        today = now.toordinal()
        ids: dict[str, int] = {}
        missing: dict[str, TagSet] = {}
        for tags in (entry.tags for entry in entries):
            if tags is not None:
                place, day = self._places.get(tags.text, (0, 0))
                if day == today:
                    ids[tags.text] = place
                else:
                    missing[tags.text] = tags
        pending = [(tags.id, tags) for tags in missing.values()]
        while pending:
            found = self._put(engine, dict(pending), now)
            for place, tags in pending:
                if found[place] == tags.text:
                    ids[tags.text] = place
                    self._remember(tags.text, place, today)
            # Two sets of one hash: the later one has the next id that is free.
            pending = [(n + 1 & BIGGEST, s) for n, s in pending if s.text not in ids]
        return ids

    def _remember(self, text: str, place: int, today: int) -> None:
        if len(self._places) >= _REMEMBERED:
            self._places.clear()
        self._places[text] = place, today

    def _put(
        self, engine: sa.Engine, sets: dict[int, TagSet], now: dt.datetime
    ) -> dict[int, str]:
        """Insert sets where nothing is yet, and tell what is there then."""
        # In one order everywhere, or two processes would wait for each other.
        order = sorted(sets)
        with engine.begin() as connection:
            connection.execute(
                _insert_missing(connection, tag_sets),
                [{"id": n, "tags": sets[n].text, "seen_at": now} for n in order],
            )
            query = sa.select(tag_sets.c.id, tag_sets.c.tags)
            found = {
                row.id: row.tags
                for row in connection.execute(query.where(tag_sets.c.id.in_(order)))
            }
            values = [
                {"tag_set_id": n, "key": key, "value": value}
                for n in order
                if found[n] == sets[n].text
                for key, value in sorted(sets[n].tags.items())
            ]
            if values:
                connection.execute(_insert_missing(connection, tag_values), values)
            connection.execute(
                sa.update(tag_sets)
                .where(tag_sets.c.id.in_(order), tag_sets.c.seen_at < now - _DAY)
                .values(seen_at=now)
            )
        return found


def _check_horizon(connection: sa.Connection, first: dt.datetime) -> None:
    """Let no call in that prune may have moved to the sums: it would count twice.

    To be asked after the insert: a call that is being pruned meanwhile holds that up,
    until the horizon can be seen here.

    :raises _Pruned: If the first call is older than what was pruned.
    """
    limit = horizon(connection)
    if limit is not None and first < limit:
        raise _Pruned(
            f"calls before {limit:%Y-%m-%d %H:%M:%S} UTC were pruned, and one of"
            f" {first:%Y-%m-%d %H:%M:%S} may be counted in their sums already"
        )


def _insert_missing(connection: sa.Connection, table: sa.Table) -> sa.Insert:
    """An insert that leaves a row alone whose primary key is there."""
    name = connection.dialect.name
    if name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    if name == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    first = table.primary_key.columns[0]
    return mysql.insert(table).on_duplicate_key_update({first.name: first})
