"""How do the budgets stand: spent, held, lost, and where are they heading?"""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from ..db.tables import budget_alerts
from ..db.tables import budget_reservations
from ..db.tables import budget_windows
from ..money import from_pico
from . import Budget

_MILLION: t.Final = 1_000_000
_EARLY: t.Final = 20
"""A twentieth of a window must have passed before it says where it is heading."""

_w: t.Final = budget_windows.c
_h: t.Final = budget_reservations.c


@dataclass(frozen=True, slots=True)
class Standing:
    """How one window of a budget stands, in USD."""

    budget: Budget
    tags: Mapping[str, str]
    """Whose it is, where each value of a tag has a budget."""
    starts_at: dt.datetime
    ends_at: dt.datetime | None
    limit_usd: Decimal | None
    """``None``: the app names none."""
    spent_usd: Decimal
    held_usd: Decimal
    """For calls that are under way."""
    lost_usd: Decimal
    """For calls of which no one knows what they cost."""
    passed: tuple[Decimal, ...]
    """The thresholds that were passed, as parts of the limit."""
    unpriced: int
    """Calls in ``lost_usd`` that have no price."""
    projected_usd: Decimal | None
    """What will be spent at the window's end, if it goes on so."""

    @property
    def used_usd(self) -> Decimal:
        """Spent, held and lost together."""
        return self.spent_usd + self.held_usd + self.lost_usd

    @property
    def left_usd(self) -> Decimal | None:
        """What may still be spent."""
        if self.limit_usd is None:
            return None
        return max(self.limit_usd - self.used_usd, Decimal(0))

    @property
    def exceeded(self) -> bool:
        """Whether nothing is left."""
        return self.left_usd is not None and not self.left_usd

    @property
    def share(self) -> Decimal | None:
        """The part of the limit that is used."""
        return self.used_usd / self.limit_usd if self.limit_usd else None


def standings(
    connection: sa.Connection,
    budgets: Sequence[Budget],
    now: dt.datetime,
    *,
    most: int = 50,
    past: bool = False,
) -> tuple[Standing, ...]:
    """How the windows stand that ``now`` is in: for each budget, the fullest first.

    :param most: Windows of one budget, where each value of a tag has its own.
    :param past: Also windows that are over, the latest first.
    """
    found: list[Standing] = []
    for budget in budgets:
        if budget.period != "call":
            found += _of(connection, budget, now, most, past)
    return tuple(found)


def _of(
    connection: sa.Connection, budget: Budget, now: dt.datetime, most: int, past: bool
) -> list[Standing]:
    where = [_w.definition == budget.definition]
    order: list[t.Any] = [(_w.spent + _w.reserved + _w.lost).desc(), _w.id]
    if past:
        order.insert(0, _w.starts_at.desc())
    else:
        where += [_w.starts_at <= now, sa.or_(_w.ends_at.is_(None), _w.ends_at > now)]
    query = sa.select(budget_windows).where(*where).order_by(*order).limit(most)
    rows = connection.execute(query).all()
    ids = [row.id for row in rows]
    passed, unpriced = _passed(connection, ids), _unpriced(connection, ids)
    if not rows and "*" not in budget.tags.values():
        return [_empty(budget, now)]
    return [
        Standing(
            budget,
            json.loads(row.tags),
            row.starts_at,
            row.ends_at,
            None if row.allowed is None else from_pico(row.allowed),
            from_pico(row.spent),
            from_pico(row.reserved),
            from_pico(row.lost),
            tuple(sorted(passed.get(row.id, ()))),
            unpriced.get(row.id, 0),
            _projected(row, now),
        )
        for row in rows
    ]


def _empty(budget: Budget, now: dt.datetime) -> Standing:
    span, none = budget.window(now), Decimal(0)
    limit = None if callable(budget.limit_usd) else budget.limit_usd
    return Standing(
        budget, {}, span.start, span.end, limit, none, none, none, (), 0, None
    )


def _passed(connection: sa.Connection, ids: Sequence[str]) -> dict[str, list[Decimal]]:
    a = budget_alerts.c
    found: dict[str, list[Decimal]] = {}
    # Above the limit itself: not a threshold, but that a call was refused.
    query = sa.select(a.window_id, a.threshold).where(
        a.window_id.in_(ids), a.threshold <= _MILLION
    )
    for row in connection.execute(query):
        found.setdefault(row.window_id, []).append(Decimal(row.threshold) / _MILLION)
    return found


def _unpriced(connection: sa.Connection, ids: Sequence[str]) -> dict[str, int]:
    query = (
        sa.select(_h.window_id, sa.func.count().label("n"))
        .where(_h.window_id.in_(ids), _h.state == "unpriced")
        .group_by(_h.window_id)
    )
    return {row.window_id: row.n for row in connection.execute(query)}


def _projected(row: t.Any, now: dt.datetime) -> Decimal | None:
    if row.ends_at is None or not row.starts_at < now < row.ends_at:
        return None
    whole, gone = row.ends_at - row.starts_at, now - row.starts_at
    if gone * _EARLY < whole:
        return None
    us = dt.timedelta(microseconds=1)
    return from_pico(row.spent * (whole // us) // (gone // us))
