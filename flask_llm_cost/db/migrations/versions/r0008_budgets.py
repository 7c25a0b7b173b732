"""Windows of budgets, holds of calls under way, alerts, and what the webhook is owed."""

from __future__ import annotations

import sqlalchemy as sa

from flask_llm_cost.db.migrations import steps

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    steps.create_table(
        "llm_cost_budgets",
        sa.Column("definition", steps.text(32), primary_key=True),
        sa.Column("name", steps.text(100), nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
    )
    steps.create_table(
        "llm_cost_budget_windows",
        sa.Column("id", steps.text(32), primary_key=True),
        sa.Column("definition", steps.text(32), nullable=False),
        sa.Column("name", steps.text(100), nullable=False),
        sa.Column("period", steps.text(8), nullable=False),
        sa.Column("whose", steps.long_text(), nullable=False),
        sa.Column("starts_at", sa.BigInteger, nullable=False),
        sa.Column("ends_at", sa.BigInteger),
        sa.Column("allowed", sa.BigInteger),
        sa.Column("spent", sa.BigInteger, nullable=False),
        sa.Column("held", sa.BigInteger, nullable=False),
        sa.Column("lost", sa.BigInteger, nullable=False),
    )
    steps.create_index(
        "ix_llm_cost_budget_windows_name",
        "llm_cost_budget_windows",
        ["name", "starts_at"],
    )
    steps.create_table(
        "llm_cost_budget_holds",
        sa.Column("event_id", steps.event_id(), nullable=False),
        sa.Column("window_id", steps.text(32), nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("state", steps.text(8), nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "event_id", "window_id", name="pk_llm_cost_budget_holds"
        ),
    )
    steps.create_index(
        "ix_llm_cost_budget_holds_lease",
        "llm_cost_budget_holds",
        ["state", "expires_at"],
    )
    steps.create_index(
        "ix_llm_cost_budget_holds_window", "llm_cost_budget_holds", ["window_id"]
    )
    steps.create_table(
        "llm_cost_budget_alerts",
        sa.Column("window_id", steps.text(32), nullable=False),
        sa.Column("threshold", sa.BigInteger, nullable=False),
        sa.Column("raised_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "window_id", "threshold", name="pk_llm_cost_budget_alerts"
        ),
    )
    steps.create_table(
        "llm_cost_outbox",
        sa.Column("id", steps.text(32), primary_key=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("body", steps.long_text(), nullable=False),
    )
    steps.create_index("ix_llm_cost_outbox_due", "llm_cost_outbox", ["due_at"])


def downgrade() -> None:
    for name in (
        "outbox",
        "budget_alerts",
        "budget_holds",
        "budget_windows",
        "budgets",
    ):
        steps.drop_table(f"llm_cost_{name}")
