"""Changes of one transaction to counters and reservations.

Rows are always changed in the order of their ids, and reservations before windows, so that
two transactions never wait for each other.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ..db.budget_tables import budget_reservations
from ..db.budget_tables import budget_windows
from ..event_id import event_time
from ..money import MAX_PICO

_w: t.Final = budget_windows.c
_r: t.Final = budget_reservations.c

COUNTERS: t.Final = ("spent", "reserved", "lost", "unsettled")
"""What a window counts."""

STATES: t.Final = {"reserved": "reserved", "lost": "lost", "unsettled": "open"}
"""The state of the reservations that a counter sums."""

_COUNTERS: t.Final = {state: counter for counter, state in STATES.items()}

_BECOME_WRITER: t.Final = sa.update(budget_windows).where(sa.false()).values(reserved=0)
_DELETE: t.Final = sa.delete(budget_reservations).where(
    _r.event_id == sa.bindparam("event_", type_=_r.event_id.type),
    _r.window_id == sa.bindparam("window_", type_=_r.window_id.type),
)


def _sum(name: str) -> sa.ColumnElement[int]:
    """Add to a counter, but never above BIGINT: an overflow would lose the call."""
    room = sa.bindparam(f"{name}_room_", type_=sa.BigInteger)
    return sa.case(
        (_w[name] > room, sa.literal(MAX_PICO, sa.BigInteger)),
        else_=_w[name] + sa.bindparam(f"{name}_", type_=sa.BigInteger),
    )


_CHANGE: t.Final = (
    sa.update(budget_windows)
    .where(_w.id == sa.bindparam("id_", type_=_w.id.type))
    .values(
        spent=_sum("spent"),
        reserved=_sum("reserved"),
        lost=_sum("lost"),
        unsettled=_sum("unsettled"),
        allowed=sa.func.coalesce(
            sa.bindparam("allowed_", type_=sa.BigInteger), _w.allowed
        ),
    )
)


@dataclass(slots=True)
class Delta:
    """What is added to the counters of one window, in pico-USD."""

    spent: int = 0
    reserved: int = 0
    lost: int = 0
    unsettled: int = 0

    def add(self, state: str, amount: int) -> None:
        """Add to the counter of reservations in this state."""
        name = _COUNTERS[state]
        setattr(self, name, getattr(self, name) + amount)


class Changes:
    """What one transaction adds to the counters of windows.

    :param limits: The current limits of windows, in pico-USD, to be stored with them.
    """

    def __init__(self, limits: Mapping[str, int | None] | None = None) -> None:
        self._limits = limits or {}
        self._deltas: dict[str, Delta] = {}

    def at(self, window_id: str) -> Delta:
        """Return the change of one window."""
        return self._deltas.setdefault(window_id, Delta())

    def remove(self, reservation: sa.Row[t.Any]) -> None:
        """Subtract a reservation from the counter that its state belongs to."""
        delta = self.at(reservation.window_id)
        delta.add(reservation.state, -reservation.amount)

    def write(self, connection: sa.Connection) -> None:
        """Change the rows of the windows."""
        rows = [
            {"id_": key, "allowed_": self._limits.get(key)}
            | {f"{name}_": getattr(delta, name) for name in COUNTERS}
            | {
                f"{name}_room_": MAX_PICO - max(getattr(delta, name), 0)
                for name in COUNTERS
            }
            for key, delta in sorted(self._deltas.items())
        ]
        if rows:
            connection.execute(_CHANGE, rows)


def become_writer(connection: sa.Connection) -> None:
    """Lock what is selected next, also on SQLite.

    SQLite does not lock rows that are selected; it has one writer, from its first write on.
    """
    if connection.dialect.name == "sqlite":
        connection.execute(_BECOME_WRITER)


def lock_reservations(
    connection: sa.Connection, event_ids: Sequence[str], *states: str
) -> Sequence[sa.Row[t.Any]]:
    """Select the reservations of some calls for update.

    :param states: Only reservations in these states, if any is given.
    """
    query = sa.select(budget_reservations).where(_r.event_id.in_(event_ids))
    if states:
        query = query.where(_r.state.in_(states))
    query = query.order_by(_r.event_id, _r.window_id)
    return connection.execute(query.with_for_update()).all()


def delete_reservations(
    connection: sa.Connection, rows: Sequence[sa.Row[t.Any]]
) -> None:
    """Delete reservations; the counters change separately."""
    if rows:
        connection.execute(
            _DELETE, [{"event_": r.event_id, "window_": r.window_id} for r in rows]
        )


def insert_unsettled(
    connection: sa.Connection, amounts: Mapping[tuple[str, str], int]
) -> None:
    """Insert what is unsettled, by event id and window; the counters change separately."""
    rows = [
        {
            "event_id": event_id,
            "window_id": window,
            "amount": amount,
            "state": STATES["unsettled"],
            "expires_at": event_time(event_id),
        }
        for (event_id, window), amount in sorted(amounts.items())
        if amount
    ]
    if rows:
        connection.execute(sa.insert(budget_reservations), rows)
