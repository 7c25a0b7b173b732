"""Keyset pagination: the orders in which calls are listed, and positions in them."""

from __future__ import annotations

import base64
import datetime as dt
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from uuid import UUID

import sqlalchemy as sa

from ..db.tables import calls
from ..errors import FilterError
from ..event_id import event_time
from .filters import CallFilter

Sort: t.TypeAlias = t.Literal[
    "recent",
    "expensive",
    "input",
    "output",
    "slow",
    "unknown_pricing",
    "incomplete",
]

SORTS: t.Final[tuple[str, ...]] = t.get_args(Sort)

_COLUMNS: t.Final[Mapping[str, sa.ColumnElement[t.Any]]] = {
    "expensive": calls.c.cost_total,
    "input": calls.c.total_input_tokens,
    "output": calls.c.total_output_tokens,
    "slow": calls.c.latency_ms,
}
"""The column that a sort orders by before the time."""

_BIGINT: t.Final = 2**63
_MS: t.Final = dt.timedelta(milliseconds=1)


def order(sort: str, *, backwards: bool = False) -> list[sa.ColumnElement[t.Any]]:
    """Return the ORDER BY of a sort. Unknown values come last, equal ones by time."""
    time = [calls.c.started_at, calls.c.event_id]
    if backwards:
        steps = [column.asc() for column in time]
    else:
        steps = [column.desc() for column in time]
    column = _COLUMNS.get(sort)
    if column is None:
        return list(steps)
    if backwards:
        return [column.is_(None).desc(), column.asc(), *steps]
    return [column.is_(None), column.desc(), *steps]


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a call in an order: the content of a cursor."""

    sort: str
    event_id: str
    value: int | None = None
    """Of the column that the sort orders by; ``None`` if it has none, or is unknown."""

    @classmethod
    def of(cls, row: t.Any, sort: str) -> Position:
        """Return the position of a :class:`.CallRow`."""
        column = _COLUMNS.get(sort)
        if column is None:
            return cls(sort, row.event_id)
        name = "cost_pico" if column is calls.c.cost_total else column.name
        return cls(sort, row.event_id, getattr(row, name))

    @classmethod
    def read(cls, name: str, cursor: str, sort: str) -> Position:
        """:raises FilterError: Naming the parameter, if it is not a cursor of this list."""
        try:
            padded = cursor[:200].encode() + b"=" * (-len(cursor) % 4)
            text = base64.b64decode(padded, b"-_", validate=True).decode()
            _, value, event_id = text.split(" ")
            event_time(event_id)
            found = cls(sort, str(UUID(event_id)), int(value) if value else None)
        except (ValueError, OverflowError):
            found = None
        # Only the exact text that we wrote is accepted.
        if found is None or not found._fits() or found.cursor() != cursor:
            raise FilterError(
                name, "it is not a cursor of this list; go back to the first page."
            )
        return found

    def _fits(self) -> bool:
        return self.value is None or (
            self.sort in _COLUMNS and -_BIGINT <= self.value < _BIGINT
        )

    def cursor(self) -> str:
        """Return it as text for a link."""
        value = "" if self.value is None else self.value
        text = f"{self.sort} {value} {self.event_id}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def clauses(
        self, where: CallFilter, *, backwards: bool = False
    ) -> list[sa.ColumnElement[bool]]:
        """Return the conditions for the calls after this position, or before it."""
        if self.sort not in _COLUMNS:
            # SQLite uses only the first of two bounds on one side, and would read all
            # earlier pages again.
            moment = event_time(self.event_id)
            if backwards and where.start is not None:
                where = replace(where, start=max(where.start, moment))
            elif not backwards and where.end is not None and moment < where.end:
                where = replace(where, end=moment + _MS)
        return [*where.clauses(), self._past(backwards)]

    def _past(self, backwards: bool) -> sa.ColumnElement[bool]:
        # Expanded, since MariaDB uses no index for (a, b) < (x, y).
        time, event = calls.c.started_at, calls.c.event_id
        moment, event_id = event_time(self.event_id), self.event_id
        if backwards:
            past = sa.and_(time >= moment, sa.or_(time > moment, event > event_id))
        else:
            past = sa.and_(time <= moment, sa.or_(time < moment, event < event_id))
        column, value = _COLUMNS.get(self.sort), self.value
        if column is None:
            return past
        if value is None:
            if backwards:
                return sa.or_(column.is_not(None), past)
            return sa.and_(column.is_(None), past)
        if backwards:
            return sa.and_(column >= value, sa.or_(column > value, past))
        return sa.or_(
            column.is_(None), sa.and_(column <= value, sa.or_(column < value, past))
        )
