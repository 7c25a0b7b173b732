"""Add what incomplete calls can cost at most, and what budgets count for them."""

from __future__ import annotations

import typing as t

import sqlalchemy as sa
from alembic import op

from flask_llm_cost.db.migrations import steps

revision = "0002"
down_revision = "0001"

_CEILING: t.Final = ("llm_cost_calls", "llm_cost_revisions")
_ROLLUPS: t.Final = ("llm_cost_rollups", "llm_cost_tag_rollups")
_MEASURES: t.Final = ("cost_open", "unbounded")
_WINDOWS: t.Final = "llm_cost_budget_windows"


def upgrade() -> None:
    for table in _CEILING:
        steps.add_column(table, sa.Column("cost_ceiling", sa.BigInteger))
    for table in _ROLLUPS:
        for name in _MEASURES:
            steps.add_column(table, _zero(name))
        # No call has a ceiling yet.
        names = ("unbounded", "incomplete", "estimated")
        rollups = sa.table(table, *map(sa.column, names))
        unbounded = rollups.c.incomplete + rollups.c.estimated
        op.execute(sa.update(rollups).values(unbounded=unbounded))
    steps.add_column(_WINDOWS, _zero("unsettled"))
    _move_unpriced()


def _move_unpriced() -> None:
    """Count unpriced calls as unsettled: until now, they counted as lost."""
    windows, reservations = _budget_tables()
    w, r = windows.c, reservations.c
    amount = (
        sa.select(sa.func.coalesce(sa.func.sum(r.amount), 0))
        .where(r.window_id == w.id, r.state == "unpriced")
        .scalar_subquery()
    )
    op.execute(
        sa.update(windows)
        .where(w.id.in_(sa.select(r.window_id).where(r.state == "unpriced")))
        .values(lost=w.lost - amount, unsettled=w.unsettled + amount)
    )
    op.execute(
        sa.update(reservations).where(r.state == "unpriced").values(state="open")
    )


def _budget_tables() -> tuple[sa.TableClause, sa.TableClause]:
    names = ("id", "lost", "unsettled")
    return (
        sa.table(_WINDOWS, *map(sa.column, names)),
        sa.table(
            "llm_cost_budget_reservations",
            sa.column("window_id"),
            sa.column("state", sa.String),
            sa.column("amount"),
        ),
    )


def downgrade() -> None:
    if steps.has_column(_WINDOWS, "unsettled"):
        _move_unsettled()
    steps.drop_column(_WINDOWS, "unsettled")
    for table in _ROLLUPS:
        for name in _MEASURES:
            steps.drop_column(table, name)
    for table in _CEILING:
        steps.drop_column(table, "cost_ceiling")


def _move_unsettled() -> None:
    windows, reservations = _budget_tables()
    op.execute(sa.update(windows).values(lost=windows.c.lost + windows.c.unsettled))
    op.execute(
        sa.update(reservations)
        .where(reservations.c.state == "open")
        .values(state="unpriced")
    )


def _zero(name: str) -> sa.Column[t.Any]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")
