"""What the ledger says of budgets, by which their counters are checked and mended."""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from collections.abc import Mapping
from collections.abc import Sequence

import sqlalchemy as sa

from ..db.rows import BIGGEST
from ..db.tables import budget_alerts
from ..db.tables import budget_reservations
from ..db.tables import budget_windows
from ..db.tables import calls
from ..db.tables import rollups
from ..db.tables import tag_values
from ..money import from_pico
from ..rollups.dirty_marks import horizon
from . import Budget
from . import Window

_MILLION: t.Final = 1_000_000
_a: t.Final = budget_alerts.c
_c: t.Final = calls.c
_h: t.Final = budget_reservations.c
_w: t.Final = budget_windows.c

NOBODY: t.Final = "(erased)"
"""In the place of an erased value, where a budget says whose it is."""

NOTHING: t.Final = sa.update(budget_windows).where(sa.false()).values(reserved=0)
"""Changes nothing, as the writer: SQLite locks nothing for a SELECT, and has one writer, from
its first write on."""


class Audit:
    """Compares the counters of some budgets with the calls of their ledger."""

    def __init__(self, budgets: Sequence[Budget]) -> None:
        self._budgets = budgets

    def clear(self, connection: sa.Connection, since: dt.datetime | None) -> None:
        """After calls were deleted: what is left is what was spent.

        Windows stay, since writers know them; so do the holds of calls under way.

        :param since: Windows that ended before are left alone; ``None``: none are.
        """
        rows = self._locked(
            connection,
            sa.true()
            if since is None
            else sa.or_(_w.ends_at.is_(None), _w.ends_at > since),
        )
        for row in rows:
            values: dict[str, int] = {}
            spent = 0 if since is None else self._spent(connection, row)
            if spent is not None:
                values["spent"] = spent
            if since is None:
                values["lost"] = 0
                connection.execute(
                    sa.delete(budget_reservations).where(
                        _h.window_id == row.id, _h.state != "held"
                    )
                )
            connection.execute(sa.delete(budget_alerts).where(_a.window_id == row.id))
            if values:
                change = sa.update(budget_windows).where(_w.id == row.id)
                connection.execute(change.values(values))

    def _locked(
        self, connection: sa.Connection, where: sa.ColumnElement[bool]
    ) -> Sequence[sa.Row[t.Any]]:
        """Windows that no other changes until this transaction ends."""
        if connection.dialect.name == "sqlite":
            connection.execute(NOTHING)
        query = sa.select(budget_windows).where(where).order_by(_w.id)
        return connection.execute(query.with_for_update()).all()

    def _spent(self, connection: sa.Connection, row: t.Any) -> int | None:
        """What the ledger says was spent in a window; ``None`` if it cannot tell."""
        for budget in self._budgets:
            if budget.definition == row.definition:
                span, whose = Window(row.starts_at, row.ends_at), json.loads(row.tags)
                if NOBODY in whose.values():
                    return None  # no call says any more that it counted there
                # One of another zone's calendar is counted no more.
                if budget.window(span.start) != span or not checkable(
                    connection, budget, span
                ):
                    return None
                return spent_of(connection, budget, whose, span)
        return None

    def differences(self, connection: sa.Connection) -> tuple[list[str], int]:
        """Where counters differ from the ledger, a line each; how many cannot be told."""
        held = self._held(connection)
        lines, unsure = [], 0
        for row in connection.execute(
            sa.select(budget_windows).order_by(_w.name, _w.starts_at, _w.id)
        ):
            spent = self._spent(connection, row)
            unsure += spent is None
            for name, is_, should in (
                ("spent", row.spent, spent),
                ("held", row.reserved, held.get((row.id, True), 0)),
                ("lost", row.lost, held.get((row.id, False), 0)),
            ):
                if should is not None and is_ != should:
                    lines.append(
                        f"{row.name} {row.tags if row.tags != '{}' else ''}"
                        f" {row.starts_at:%Y-%m-%d %H:%M}: {name} is"
                        f" ${from_pico(is_):f}, and should be ${from_pico(should):f}"
                    )
        return lines, unsure

    def _held(self, connection: sa.Connection) -> dict[tuple[str, bool], int]:
        query = sa.select(
            _h.window_id, _h.state, sa.func.sum(_h.amount).label("amount")
        ).group_by(_h.window_id, _h.state)
        found: dict[tuple[str, bool], int] = {}
        for row in connection.execute(query):
            key = row.window_id, row.state == "held"
            found[key] = found.get(key, 0) + int(row.amount)
        return found

    def mend(self, connection: sa.Connection) -> None:
        """Set every counter to what the ledger says."""
        rows = self._locked(connection, sa.true())
        held = self._held(connection)
        for row in rows:
            spent = self._spent(connection, row)
            connection.execute(
                sa.update(budget_windows)
                .where(_w.id == row.id)
                .values(
                    spent=row.spent if spent is None else spent,
                    reserved=held.get((row.id, True), 0),
                    lost=held.get((row.id, False), 0),
                )
            )


def spent_of(
    connection: sa.Connection, budget: Budget, whose: Mapping[str, str], span: Window
) -> int:
    """What the calls of a window cost, in pico-USD.

    Pruned calls are in it where a budget is of all calls: only their sums are known.
    """
    where = [_c.started_at >= span.start, _c.cost_total.is_not(None)]
    if span.end is not None:
        where.append(_c.started_at < span.end)
    for key, value in {**budget.tags, **whose}.items():
        where.append(_tagged(key, value))
    by = (_c.provider, _c.model, _c.request_model)
    query = sa.select(
        *by,
        # In two parts: the sum of all may be more than an engine's integer holds.
        sa.func.sum(_c.cost_total - _c.cost_total % _MILLION).label("millions"),
        sa.func.sum(_c.cost_total % _MILLION).label("rest"),
    )
    total = sum(
        int(row.millions) + int(row.rest)
        for row in connection.execute(query.where(*where).group_by(*by))
        if budget.covers(row.provider, row.request_model or row.model)
    )
    if not budget.tags and not budget.models:
        total += _pruned(connection, span)
    return min(total, BIGGEST)


def _tagged(key: str, value: str) -> sa.ColumnElement[bool]:
    if key == "trace_id":
        return _c.trace_id == value
    sets = sa.select(tag_values.c.tag_set_id).where(
        tag_values.c.key == key, tag_values.c.value == value
    )
    return _c.tag_set_id.in_(sets)


def _pruned(connection: sa.Connection, span: Window) -> int:
    r = rollups.c
    query = sa.select(sa.func.sum(r.cost_total)).where(
        r.kind == "pruned", r.start >= span.start
    )
    if span.end is not None:
        query = query.where(r.start < span.end)
    return int(connection.scalar(query) or 0)


def checkable(connection: sa.Connection, budget: Budget, span: Window) -> bool:
    """Whether the ledger still knows what every call of a window cost."""
    limit = horizon(connection)
    whole = not budget.tags and not budget.models
    return whole or limit is None or limit <= span.start
