"""Change the cost of stored calls; their previous costs are kept as revisions."""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import sqlalchemy as sa

from ..call import Call
from ..db.rows import call_of
from ..db.statements import by_key
from ..db.statements import Key
from ..db.tables import calls
from ..db.tables import PRICED_COLUMNS
from ..db.tables import revisions
from ..db.tables import tag_sets
from ..db.writers import lock_calls
from ..money import to_pico
from ..rollups.dirty_marks import mark_dirty

Row: t.TypeAlias = Mapping[str, t.Any]
_c: t.Final = calls.c
_r: t.Final = revisions.c

VALUES: t.Final = [column for column in _c if not column.primary_key]
"""The columns of a call other than its key."""


@dataclass(frozen=True, slots=True)
class CostChange:
    """One call whose cost was changed."""

    call: Call
    """As it is now, or was when it was deleted."""
    before: int | None
    """Its cost before, in pico-USD; ``None`` is unknown."""
    deleted: bool = False

    @property
    def after(self) -> int | None:
        """Its cost now; ``None`` if it is unknown, or the call was deleted."""
        cost = None if self.deleted else self.call.cost
        return None if cost is None else to_pico(cost.total_usd)


class Revision(t.NamedTuple):
    """New values for a call."""

    key: Key
    columns: Row
    """All of :data:`.tables.PRICED_COLUMNS`."""
    expected: Row | None = None
    """If the columns differ from these by now, the call is not changed."""
    number: int | None = None
    """If the number of the call's last revision differs by now, it is not changed."""


def revise(
    connection: sa.Connection, run: str, now: dt.datetime, wanted: Iterable[Revision]
) -> list[CostChange]:
    """Change the cost of calls, in the caller's transaction.

    Every change of a stored cost goes through here.

    :return: The calls that were changed. The others have been changed or pruned meanwhile.
    """
    found = sorted(wanted)
    if not found:
        return []
    # First, since SQLite detects conflicts at the first write of a transaction.
    mark_dirty(connection, (each.key[0] for each in found))
    keys = [each.key for each in found]
    rows = {
        (row.started_at, row.event_id): row._asdict()
        for row in lock_calls(connection, keys, *VALUES)
    }
    numbers = _numbers(connection, keys)
    due = [
        each
        for each in found
        if each.key in rows
        and _is_unchanged(each, rows[each.key], numbers.get(each.key, 0))
    ]
    if due:
        _insert(connection, run, now, due, rows, numbers)
        _update(connection, due)
    after = {each.key: {**rows[each.key], **each.columns} for each in due}
    return changes_of(connection, rows, after)


def _numbers(connection: sa.Connection, keys: Sequence[Key]) -> dict[Key, int]:
    query = (
        sa.select(_r.started_at, _r.event_id, sa.func.max(_r.number).label("number"))
        .where(*by_key(keys, revisions))
        .group_by(_r.started_at, _r.event_id)
    )
    return {
        (row.started_at, row.event_id): row.number for row in connection.execute(query)
    }


def _is_unchanged(wanted: Revision, row: Row, number: int) -> bool:
    if wanted.number is not None and wanted.number != number:
        return False
    expected = wanted.expected
    return expected is None or all(row[n] == expected[n] for n in PRICED_COLUMNS)


def _insert(
    connection: sa.Connection,
    run: str,
    now: dt.datetime,
    due: Sequence[Revision],
    rows: Mapping[Key, Row],
    numbers: Mapping[Key, int],
) -> None:
    connection.execute(
        sa.insert(revisions),
        [
            {
                "started_at": each.key[0],
                "event_id": each.key[1],
                "number": numbers.get(each.key, 0) + 1,
                "run": run,
                "revised_at": now,
                "new_total": each.columns["cost_total"],
                **{name: rows[each.key][name] for name in PRICED_COLUMNS},
            }
            for each in due
        ],
    )


def _update(connection: sa.Connection, due: Sequence[Revision]) -> None:
    update = (
        sa.update(calls)
        .where(
            _c.started_at == sa.bindparam("at_", type_=_c.started_at.type),
            _c.event_id == sa.bindparam("id_", type_=_c.event_id.type),
        )
        .values({name: sa.bindparam(f"new_{name}") for name in PRICED_COLUMNS})
    )
    connection.execute(
        update,
        [
            {
                "at_": each.key[0],
                "id_": each.key[1],
                **{f"new_{name}": each.columns[name] for name in PRICED_COLUMNS},
            }
            for each in due
        ],
    )


def changes_of(
    connection: sa.Connection, rows: Mapping[Key, Row], after: Mapping[Key, Row] | None
) -> list[CostChange]:
    """Describe changes of calls.

    :param rows: The calls as they were.
    :param after: Those that were changed, as they are now; ``None`` if all were deleted.
    """
    now = rows if after is None else after
    ids = {row["tag_set_id"] for row in now.values()} - {None}
    tags: dict[int | None, dict[str, str]] = {}
    if ids:
        query = sa.select(tag_sets.c.id, tag_sets.c.tags).where(tag_sets.c.id.in_(ids))
        tags = {row.id: json.loads(row.tags) for row in connection.execute(query)}
    return [
        CostChange(
            call_of(SimpleNamespace(**row), tags.get(row["tag_set_id"], {})),
            before=rows[key]["cost_total"],
            deleted=after is None,
        )
        for key, row in now.items()
    ]
