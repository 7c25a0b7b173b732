"""Checks and repairs the counters of budgets against the calls in the ledger."""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from collections.abc import Sequence

import sqlalchemy as sa

from ..db.budget_tables import budget_alerts
from ..db.budget_tables import budget_reservations
from ..db.budget_tables import budget_windows
from ..db.budget_tables import ERASED
from ..db.rows import call_of
from ..db.sql import capped_sum
from ..db.sql import joined_sum
from ..db.sql import split_sum
from ..db.sql import tagged
from ..db.tables import calls
from ..db.tables import rollups
from ..money import from_pico
from ..money import MAX_PICO
from ..rollups.horizon import horizon
from .changes import become_writer
from .changes import insert_unsettled
from .changes import STATES
from .definition import Budget
from .definition import BudgetWindow
from .definition import model_of
from .unsettled import unsettled

_a: t.Final = budget_alerts.c
_c: t.Final = calls.c
_r: t.Final = budget_reservations.c
_w: t.Final = budget_windows.c


class Audit:
    """Compares the counters of some budgets with the calls of their ledger."""

    def __init__(self, budgets: Sequence[Budget]) -> None:
        self._budgets = budgets

    def clear(self, connection: sa.Connection, since: dt.datetime | None) -> None:
        """Count again after calls were deleted.

        Windows stay, since writers know them, and so do reservations of calls in progress.

        :param since: Do not change windows that ended before; ``None`` changes all.
        """
        where = (
            [] if since is None else [sa.or_(_w.ends_at.is_(None), _w.ends_at > since)]
        )
        for row in self._locked(connection, *where):
            connection.execute(sa.delete(budget_alerts).where(_a.window_id == row.id))
            change = sa.update(budget_windows).where(_w.id == row.id)
            if since is None:
                connection.execute(
                    sa.delete(budget_reservations).where(
                        _r.window_id == row.id, _r.state != "reserved"
                    )
                )
                connection.execute(change.values(spent=0, lost=0, unsettled=0))
                continue
            # What is unsettled of the deleted calls: it has their time.
            connection.execute(
                sa.delete(budget_reservations).where(
                    _r.window_id == row.id,
                    _r.state == STATES["unsettled"],
                    _r.expires_at >= since,
                )
            )
            open_ = _reserved(connection, row.id).get((row.id, STATES["unsettled"]), 0)
            connection.execute(change.values(unsettled=open_))
            spent = self._spent(connection, row)
            if spent is not None:
                connection.execute(change.values(spent=spent))

    def verify(self, connection: sa.Connection) -> tuple[list[str], int]:
        """Return the differences, one line each, and how many windows are unverifiable."""
        reserved = _reserved(connection)
        lines, unverifiable = [], 0
        for row in connection.execute(
            sa.select(budget_windows).order_by(_w.name, _w.starts_at, _w.id)
        ):
            spent = self._spent(connection, row)
            unverifiable += spent is None
            for name, actual, expected in (
                ("spent", row.spent, spent),
                *(
                    (name, getattr(row, name), reserved.get((row.id, state), 0))
                    for name, state in STATES.items()
                ),
            ):
                if expected is not None and actual != expected:
                    lines.append(
                        f"{row.name} {row.tags if row.tags != '{}' else ''}"
                        f" {row.starts_at:%Y-%m-%d %H:%M}: {name} is"
                        f" ${from_pico(actual):f}, expected ${from_pico(expected):f}"
                    )
        return lines, unverifiable

    def repair(self, connection: sa.Connection) -> None:
        """Set every counter to what the ledger says."""
        rows = self._locked(connection)
        reserved = _reserved(connection)
        for row in rows:
            spent = self._spent(connection, row)
            connection.execute(
                sa.update(budget_windows)
                .where(_w.id == row.id)
                .values(
                    spent=row.spent if spent is None else spent,
                    **{
                        name: reserved.get((row.id, state), 0)
                        for name, state in STATES.items()
                    },
                )
            )

    def _locked(
        self, connection: sa.Connection, *where: sa.ColumnElement[bool]
    ) -> Sequence[sa.Row[t.Any]]:
        """Select windows for update."""
        become_writer(connection)
        query = sa.select(budget_windows).where(*where).order_by(_w.id)
        return connection.execute(query.with_for_update()).all()

    def _spent(self, connection: sa.Connection, row: t.Any) -> int | None:
        """Return what was spent in a window; ``None`` if the ledger cannot tell."""
        for budget in self._budgets:
            if budget.definition == row.definition:
                tags = json.loads(row.tags)
                if ERASED in tags.values():
                    return None  # it is no longer known which calls counted there
                window = budget.window(tags, row.starts_at)
                # Windows in the calendar of another time zone are no longer counted.
                same = (window.starts_at, window.ends_at) == (
                    row.starts_at,
                    row.ends_at,
                )
                if not same or not _verifiable(connection, window):
                    return None
                return spent_in(connection, window)
        return None


def _reserved(
    connection: sa.Connection, window_id: str | None = None
) -> dict[tuple[str, str], int]:
    """Return the sums of reservations, by window and state.

    :param window_id: Only those of this window.
    """
    query = sa.select(
        _r.window_id, _r.state, capped_sum(_r.amount).label("amount")
    ).group_by(_r.window_id, _r.state)
    if window_id is not None:
        query = query.where(_r.window_id == window_id)
    return {
        (row.window_id, row.state): min(int(row.amount), MAX_PICO)
        for row in connection.execute(query)
    }


def spent_in(connection: sa.Connection, window: BudgetWindow) -> int:
    """Return what the calls of a window cost, in pico-USD.

    Pruned calls are included for budgets of all calls: only their totals are known.
    """
    budget = window.budget
    where = [*_inside(window), _c.cost_total.is_not(None)]
    by = (_c.provider, _c.model, _c.request_model)
    query = sa.select(*by, *split_sum("cost", _c.cost_total))
    total = sum(
        joined_sum(row._mapping, "cost")
        for row in connection.execute(query.where(*where).group_by(*by))
        if budget.covers(row.provider, row.request_model or row.model)
    )
    if _is_of_all_calls(budget):
        total += _pruned(connection, window)
    return min(total, MAX_PICO)


def count_unsettled(connection: sa.Connection, window: BudgetWindow) -> int:
    """Count what is unsettled of calls that were stored before their window had a row.

    :return: The sum, in pico-USD.
    """
    query = sa.select(calls).where(
        *_inside(window),
        sa.or_(_c.cost_complete.is_(sa.false()), _c.cost_total.is_(None)),
    )
    amounts = {}
    for row in connection.execute(query.execution_options(yield_per=500)):
        call = call_of(row)
        if window.budget.covers(call.provider, model_of(call)):
            found = unsettled(window.budget, call)
            if found is not None:
                amounts[call.event_id, window.id] = found.amount(None)
    insert_unsettled(connection, amounts)
    return min(sum(amounts.values()), MAX_PICO)


def _inside(window: BudgetWindow) -> list[sa.ColumnElement[bool]]:
    """Select the calls of a window, of any model."""
    where = [_c.started_at >= window.starts_at]
    if window.ends_at is not None:
        where.append(_c.started_at < window.ends_at)
    for key, value in {**window.budget.tags, **window.tags}.items():
        where.append(tagged(key, value))
    return where


def _pruned(connection: sa.Connection, window: BudgetWindow) -> int:
    r = rollups.c
    # Budgets count estimated costs, too, which sums keep apart.
    query = sa.select(
        *split_sum("cost", r.cost_total), *split_sum("estimated", r.cost_estimated)
    ).where(r.kind == "pruned", r.start >= window.starts_at)
    if window.ends_at is not None:
        query = query.where(r.start < window.ends_at)
    [row] = connection.execute(query)
    return sum(joined_sum(row._mapping, name) for name in ("cost", "estimated"))


def _verifiable(connection: sa.Connection, window: BudgetWindow) -> bool:
    """Whether the ledger still knows the cost of every call of a window."""
    limit = horizon(connection)
    return limit is None or limit <= window.starts_at or _is_of_all_calls(window.budget)


def _is_of_all_calls(budget: Budget) -> bool:
    return not budget.tags and not budget.models
