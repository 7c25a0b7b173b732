"""Erase one value of a tag, such as a person's id, from the tables.

A tag set that contains the value keeps its id and loses the tag. So no call has to change,
and calls that a writer stores under the set's known id do not have the value either. The
value's rollups move to the calls without the key.

It works in short transactions, and can be interrupted and run again at any time.
"""

from __future__ import annotations

import json
import typing as t
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from ..db.budget_tables import budget_windows
from ..db.budget_tables import ERASED
from ..db.rows import tag_set_of
from ..db.statements import by_key
from ..db.tables import calls
from ..db.tables import tag_rollups
from ..db.tables import tag_sets
from ..db.tables import tag_values
from ..tags import TRACE_KEY
from . import closing
from . import days
from . import metrics
from . import tag_meter_sums
from .aggregates import merge
from .lock import lock
from .tag_rollups import read_values
from .tag_rollups import replace_values

_encode: t.Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(slots=True)
class Erased:
    """What was erased."""

    sets: int = 0
    """Distinct tag sets."""
    calls: int = 0
    rollups: int = 0
    """Days with rollups of the value."""
    lines: int = 0
    """Rejected lines, or lines of monthly files."""
    queued: int = 0
    """Lines queued by other processes: they still have the value."""
    unreadable: int = 0
    """Rejected lines that cannot be parsed and seem to have the value: check by hand."""


@dataclass(frozen=True, slots=True)
class TagEraser:
    """Erases one value of one key from a ledger's tables."""

    engine: sa.Engine
    key: str
    value: str
    """As the ledger stores it: see :func:`stored_value`."""
    batch: int = 500

    def run(self, erased: Erased, progress: Callable[[Erased], None]) -> None:
        """Erase the value.

        :param erased: What is erased is added to this.
        :param progress: Called after each transaction.
        """
        steps = self._traces, self._sets, self._rollups, self._budgets, self._metrics
        for step in steps:
            while step(erased):
                progress(erased)

    def _traces(self, erased: Erased) -> bool:
        if self.key != TRACE_KEY:
            return False
        changed = self._clear_column(calls.c.trace_id, self.value)
        erased.calls += changed
        return changed > 0

    def _clear_column(self, column: sa.Column[t.Any], value: object) -> int:
        """Set a column to NULL in some calls; return in how many."""
        c = calls.c
        where = column == value
        some = sa.select(c.started_at, c.event_id).where(where).limit(self.batch)
        with self.engine.begin() as connection:
            lock(connection)
            keys = sorted(
                (row.started_at, row.event_id) for row in connection.execute(some)
            )
            if keys:
                update = sa.update(calls).where(where, *by_key(keys))
                connection.execute(update.values({column.name: None}))
        return len(keys)

    def _sets(self, erased: Erased) -> bool:
        v, s = tag_values.c, tag_sets.c
        carries = v.key == self.key, v.value == self.value
        query = (
            sa.select(s.id, s.tags)
            .join_from(tag_values, tag_sets, v.tag_set_id == s.id)
            .where(*carries)
            .order_by(s.id)
            .limit(self.batch)
        )
        with self.engine.connect() as connection:
            found = {row.id: json.loads(row.tags) for row in connection.execute(query)}
        erased.calls += self._count(list(found))
        for set_id, tags in found.items():
            if len(tags) == 1:  # its calls have no tags then, and so no tag set
                while self._clear_column(calls.c.tag_set_id, set_id):
                    pass
        with self.engine.begin() as connection:
            lock(connection)
            for set_id, tags in found.items():
                del tags[self.key]
                update = sa.update(tag_sets).where(s.id == set_id)
                connection.execute(update.values(tags=_encode(tags)))
            connection.execute(
                sa.delete(tag_values).where(v.tag_set_id.in_(list(found)), *carries)
            )
            if found:
                days.mark_key(connection, self.key, self.value)
        erased.sets += len(found)
        return bool(found)

    def _count(self, set_ids: list[int]) -> int:
        query = sa.select(sa.func.count()).where(calls.c.tag_set_id.in_(set_ids))
        with self.engine.connect() as connection:
            return connection.scalar(query) or 0

    def _budgets(self, erased: Erased) -> bool:
        """Replace the value in the tags of budget windows, whose ids are hashes."""
        w = budget_windows.c
        with self.engine.begin() as connection:
            rows = connection.execute(sa.select(w.id, w.tags).order_by(w.id)).all()
            for window_id, text in rows:
                tags = json.loads(text)
                if isinstance(tags, dict) and tags.get(self.key) == self.value:
                    tags[self.key] = ERASED
                    update = sa.update(budget_windows).where(w.id == window_id)
                    connection.execute(update.values(tags=_encode(tags)))
        return False

    def _metrics(self, erased: Erased) -> bool:
        with self.engine.begin() as connection:
            lock(connection)
            metrics.erase(connection, self.key, self.value)
        return False

    def _rollups(self, erased: Erased) -> bool:
        r = tag_rollups.c
        query = (
            sa.select(r.kind, r.start)
            .where(r.key == self.key, r.value == self.value)
            .order_by(r.kind, r.start)
            .limit(self.batch // 10)
        )
        with self.engine.begin() as connection:
            lock(connection)
            tag_meter_sums.erase(connection, self.key, self.value)
            closing.erase(connection, self.key, self.value)
            found = connection.execute(query).all()
            for kind, start in found:
                values = dict(read_values(connection, self.key, kind, start))
                rest = {"": values.pop(self.value)}
                merged = merge(values, rest)
                replace_values(connection, self.key, kind, start, merged)
        erased.rollups += len(found)
        return bool(found)


def stored_value(key: str, value: str) -> str:
    """Return a tag value as the ledger stores it."""
    tags = tag_set_of({key: value})
    assert tags is not None
    return tags.tags[key]
