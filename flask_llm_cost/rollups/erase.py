"""How a value of a tag, such as a person's id, is taken out of the ledger for good.

A set of tags that has the value stays under its id, without it. So no call has to be
changed, and a writer that still knows the set by its id stores calls that are without the
value, too. The sums of the value become those of calls without the key.

It works in short transactions, may break off at any time, and goes on when it is run again.
"""

from __future__ import annotations

import json
import typing as t
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from ..db.rows import tag_set_of
from ..db.tables import budget_windows
from ..db.tables import calls
from ..db.tables import ERASED
from ..db.tables import tag_rollups
from ..db.tables import tag_sets
from ..db.tables import tag_values
from ..jsonl import without_tag
from ..ledger.spool import Spool
from ..tags import TRACE_KEY
from .tag_sums import merged_values
from .tag_sums import read_values
from .tag_sums import replace_values

_encode: t.Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(slots=True)
class Erased:
    """What had the value."""

    sets: int = 0
    """Distinct sets of tags."""
    calls: int = 0
    sums: int = 0
    """Days of which the value had sums."""
    lines: int = 0
    """Lines set aside, or of monthly files."""
    waiting: int = 0
    """Lines that other processes have not stored yet: they still have it."""
    unreadable: int = 0
    """Lines set aside that cannot be read and seem to have it: look at them by hand."""


@dataclass(frozen=True, slots=True)
class Eraser:
    """Takes one value of one key out of a ledger's tables.

    :param turn: Takes the rollers' turn: no sum that is read before is kept after.
    """

    engine: sa.Engine
    turn: Callable[[sa.Connection], None]
    key: str
    value: str
    batch: int = 500

    def run(self, erased: Erased, progress: Callable[[Erased], None]) -> None:
        """Erase what is there, and count it."""
        for step in (self._traces, self._sets, self._sums, self._budgets):
            while step(erased):
                progress(erased)

    def _traces(self, erased: Erased) -> bool:
        if self.key != TRACE_KEY:
            return False
        return self._change(erased, calls.c.trace_id == self.value, "trace_id")

    def _change(
        self, erased: Erased, which: sa.ColumnElement[bool], column: str
    ) -> bool:
        """Empty a column of some calls."""
        c = calls.c
        with self.engine.begin() as connection:
            self.turn(connection)
            some = sa.select(c.started_at, c.event_id).where(which).limit(self.batch)
            rows = sorted(connection.execute(some).all())
            if rows:
                these = (
                    c.started_at.between(rows[0].started_at, rows[-1].started_at),
                    c.event_id.in_([row.event_id for row in rows]),
                )
                connection.execute(
                    sa.update(calls).where(which, *these).values({column: None})
                )
        if column == "trace_id":
            erased.calls += len(rows)
        return bool(rows)

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
            found = [
                (row.id, json.loads(row.tags)) for row in connection.execute(query)
            ]
        # A call whose only tag it was has no tags then, and no set.
        for place, tags in found:
            if len(tags) == 1:
                self._count(erased, [place])
                while self._change(erased, calls.c.tag_set_id == place, "tag_set_id"):
                    pass
        self._count(erased, [place for place, tags in found if len(tags) > 1])
        with self.engine.begin() as connection:
            self.turn(connection)
            for place, tags in found:
                del tags[self.key]
                connection.execute(
                    sa.update(tag_sets).where(s.id == place).values(tags=_encode(tags))
                )
            ids = [place for place, _ in found]
            gone = sa.delete(tag_values).where(v.tag_set_id.in_(ids), *carries)
            connection.execute(gone)
        erased.sets += len(found)
        return bool(found)

    def _count(self, erased: Erased, places: list[int]) -> None:
        query = sa.select(sa.func.count()).where(calls.c.tag_set_id.in_(places))
        with self.engine.connect() as connection:
            erased.calls += connection.scalar(query) or 0

    def _budgets(self, erased: Erased) -> bool:
        """Whose a budget's window is stands there to be read, and is found by a hash."""
        w = budget_windows.c
        with self.engine.begin() as connection:
            rows = connection.execute(sa.select(w.id, w.tags).order_by(w.id)).all()
            for place, text in rows:
                whose = json.loads(text)
                if isinstance(whose, dict) and whose.get(self.key) == self.value:
                    whose[self.key] = ERASED
                    changed = sa.update(budget_windows).where(w.id == place)
                    connection.execute(changed.values(tags=_encode(whose)))
        return False

    def _sums(self, erased: Erased) -> bool:
        r = tag_rollups.c
        query = (
            sa.select(r.kind, r.start)
            .where(r.key == self.key, r.value == self.value)
            .order_by(r.kind, r.start)
            .limit(self.batch // 10)
        )
        with self.engine.begin() as connection:
            self.turn(connection)
            found = connection.execute(query).all()
            for kind, start in found:
                values = dict(read_values(connection, self.key, kind, start))
                rest = {"": values.pop(self.value)}
                replace_values(
                    connection, self.key, kind, start, merged_values(values, rest)
                )
        erased.sums += len(found)
        return bool(found)


def stored_value(key: str, value: str) -> str:
    """The value as the ledger keeps it."""
    tags = tag_set_of({key: value})
    assert tags is not None
    return tags.tags[key]


def erase_aside(spool: Spool, key: str, value: str, erased: Erased) -> None:
    """Take the value out of the lines that were set aside."""
    for path, line, reason in spool.aside():
        try:
            changed = without_tag(line, key, value)
        except ValueError:
            # No JSON, or it would not be here: what stands there is all that counts.
            text = json.dumps(value, ensure_ascii=False).encode()
            plain = json.dumps(value).encode()
            changed = line.replace(text, b'""').replace(plain, b'""')
            if value.encode() in changed:
                erased.unreadable += 1
        if changed is not None and changed != line:
            spool.set_aside(changed, reason)
            path.unlink()
            erased.lines += 1
