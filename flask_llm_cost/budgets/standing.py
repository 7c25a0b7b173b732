"""The state of budgets: spent, reserved, lost and unsettled amounts, and the forecast."""

from __future__ import annotations

import datetime as dt
import functools
import json
import operator
import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from ..db.budget_tables import budget_alerts
from ..db.budget_tables import budget_reservations
from ..db.budget_tables import budget_windows
from ..db.budget_tables import ERASED
from ..money import from_pico
from ..money import quotient
from ..money import share
from .changes import COUNTERS
from .changes import STATES
from .definition import Budget
from .definition import BudgetWindow

_MILLION: t.Final = 1_000_000
_EARLY: t.Final = 20
"""There is no forecast in the first twentieth of a window."""

Ended: t.TypeAlias = t.Literal["none", "only", "all"]
"""Which windows: those that have not ended, those that have, or both."""

LimitOf: t.TypeAlias = Callable[[Budget, Mapping[str, str]], int | None]

_w: t.Final = budget_windows.c
_r: t.Final = budget_reservations.c

# Each is at most BIGINT, but not their sum.
_COUNTS: t.Final[list[t.Any]] = [sa.cast(_w[name], sa.Numeric(20)) for name in COUNTERS]
_USED: t.Final = functools.reduce(operator.add, _COUNTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The state of one window of a budget; amounts are in pico-USD unless named ``_usd``."""

    budget: Budget
    tags: Mapping[str, str]
    """The tag values the budget applies to, if each value has its own."""
    starts_at: dt.datetime
    ends_at: dt.datetime | None
    limit: int | None
    """``None`` if the app sets no limit."""
    spent: int = 0
    reserved: int = 0
    """For calls in progress."""
    lost: int = 0
    """For calls that never ended."""
    unsettled: int = 0
    """For calls that were cut, reported no usage or have no price."""
    passed: tuple[Decimal, ...] = ()
    """The thresholds that were reached, as fractions of the limit."""
    unsettled_calls: int = 0
    forecast_usd: Decimal | None = None
    """The amount spent at the end of the window at the current rate."""

    @classmethod
    def of(cls, window: BudgetWindow, row: t.Any, limit: int | None) -> Standing:
        """Create the standing of a window from its counters."""
        return cls(
            budget=window.budget,
            tags=window.tags,
            starts_at=window.starts_at,
            ends_at=window.ends_at,
            limit=limit,
            spent=row.spent,
            reserved=row.reserved,
            lost=row.lost,
            unsettled=row.unsettled,
        )

    @classmethod
    def unused(cls, window: BudgetWindow, limit: int | None) -> Standing:
        """Create the standing of a window in which nothing is counted."""
        return cls(
            budget=window.budget,
            tags=window.tags,
            starts_at=window.starts_at,
            ends_at=window.ends_at,
            limit=limit,
        )

    @property
    def used(self) -> int:
        """Spent, reserved, lost and unsettled together."""
        return self.spent + self.reserved + self.lost + self.unsettled

    @property
    def exceeded(self) -> bool:
        """Whether nothing is left."""
        return self.limit is not None and self.used >= self.limit

    @property
    def spent_up(self) -> bool:
        """Whether what is spent and unsettled alone reaches the limit."""
        return self.limit is not None and self.spent + self.unsettled >= self.limit

    @property
    def limit_usd(self) -> Decimal | None:
        """The limit, ``None`` if there is none."""
        return None if self.limit is None else from_pico(self.limit)

    @property
    def spent_usd(self) -> Decimal:
        """The cost of the calls in the ledger."""
        return from_pico(self.spent)

    @property
    def reserved_usd(self) -> Decimal:
        """The amount reserved for calls in progress."""
        return from_pico(self.reserved)

    @property
    def lost_usd(self) -> Decimal:
        """The amount counted for calls that never ended."""
        return from_pico(self.lost)

    @property
    def unsettled_usd(self) -> Decimal:
        """The amount counted for calls that were cut, reported no usage or have no price."""
        return from_pico(self.unsettled)

    @property
    def used_usd(self) -> Decimal:
        """Spent, reserved, lost and unsettled together."""
        return from_pico(self.used)

    @property
    def left_usd(self) -> Decimal | None:
        """The amount that may still be spent."""
        if self.limit is None:
            return None
        return from_pico(max(self.limit - self.used, 0))

    @property
    def used_fraction(self) -> Decimal | None:
        """The fraction of the limit that is used."""
        return None if self.limit is None else share(self.used, self.limit)


def standings(
    connection: sa.Connection,
    budgets: Sequence[Budget],
    now: dt.datetime,
    limit_of: LimitOf,
    *,
    most: int = 50,
    ended: Ended = "none",
) -> tuple[Standing, ...]:
    """Return the state of the current windows of budgets, the most used first.

    :param limit_of: Returns the limit in force, in pico-USD.
    :param most: The maximum number of windows of one budget, where each value of a tag
        has its own.
    :param ended: Other windows; the latest come first.
    """
    found: list[Standing] = []
    for budget in budgets:
        if budget.period != "call":
            found += _standings(connection, budget, now, limit_of, most, ended)
    return tuple(found)


def _standings(
    connection: sa.Connection,
    budget: Budget,
    now: dt.datetime,
    limit_of: LimitOf,
    most: int,
    ended: Ended,
) -> list[Standing]:
    where = [_w.definition == budget.definition]
    order: list[t.Any] = [_USED.desc(), _w.id]
    if ended != "none":
        order.insert(0, _w.starts_at.desc())
    if ended == "only":
        where.append(_w.ends_at <= now)
    elif ended == "none":
        where += [_w.starts_at <= now, sa.or_(_w.ends_at.is_(None), _w.ends_at > now)]
    query = sa.select(budget_windows).where(*where).order_by(*order).limit(most)
    rows = connection.execute(query).all()
    if not rows and not budget.per_value and ended != "only":
        return [_unused(budget, now, limit_of)]
    ids = [row.id for row in rows]
    passed, unsettled = _passed(connection, ids), _unsettled(connection, ids)
    return [
        Standing(
            budget=budget,
            tags=tags,
            starts_at=row.starts_at,
            ends_at=row.ends_at,
            limit=_limit(budget, row, tags, now, limit_of),
            spent=row.spent,
            reserved=row.reserved,
            lost=row.lost,
            unsettled=row.unsettled,
            passed=tuple(sorted(passed.get(row.id, ()))),
            unsettled_calls=unsettled.get(row.id, 0),
            forecast_usd=_forecast(row, now),
        )
        for row in rows
        for tags in (json.loads(row.tags),)
    ]


def _limit(
    budget: Budget,
    row: t.Any,
    tags: Mapping[str, str],
    now: dt.datetime,
    limit_of: LimitOf,
) -> int | None:
    """Return the limit in force; of a window that has ended, the last one it had."""
    ended = row.ends_at is not None and row.ends_at <= now
    if ended or ERASED in tags.values():
        return t.cast("int | None", row.allowed)
    return limit_of(budget, tags)


def _unused(budget: Budget, now: dt.datetime, limit_of: LimitOf) -> Standing:
    return Standing.unused(budget.window({}, now), limit_of(budget, {}))


def _passed(connection: sa.Connection, ids: Sequence[str]) -> dict[str, list[Decimal]]:
    a = budget_alerts.c
    found: dict[str, list[Decimal]] = {}
    # Larger values are not thresholds: they record that a call was refused.
    query = sa.select(a.window_id, a.threshold).where(
        a.window_id.in_(ids), a.threshold <= _MILLION
    )
    for row in connection.execute(query):
        found.setdefault(row.window_id, []).append(quotient(row.threshold, _MILLION))
    return found


def _unsettled(connection: sa.Connection, ids: Sequence[str]) -> dict[str, int]:
    query = (
        sa.select(_r.window_id, sa.func.count().label("n"))
        .where(_r.window_id.in_(ids), _r.state == STATES["unsettled"])
        .group_by(_r.window_id)
    )
    return {row.window_id: row.n for row in connection.execute(query)}


def _forecast(row: t.Any, now: dt.datetime) -> Decimal | None:
    if row.ends_at is None or not row.starts_at < now < row.ends_at or not row.spent:
        return None
    length, elapsed = row.ends_at - row.starts_at, now - row.starts_at
    if elapsed * _EARLY < length:
        return None
    us = dt.timedelta(microseconds=1)
    return from_pico(row.spent * (length // us) // (elapsed // us))
