"""What calls had cost before they were priced again."""

from __future__ import annotations

import sqlalchemy as sa

from flask_llm_cost.db.migrations import steps

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    steps.create_table(
        "llm_cost_revisions",
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("event_id", steps.event_id(), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("run", steps.text(36), nullable=False),
        sa.Column("revised_at", sa.BigInteger, nullable=False),
        sa.Column("new_total", sa.BigInteger),
        sa.Column("cost_total", sa.BigInteger),
        sa.Column("cost_input", sa.BigInteger),
        sa.Column("cost_cache_read", sa.BigInteger),
        sa.Column("cost_cache_write", sa.BigInteger),
        sa.Column("cost_output", sa.BigInteger),
        sa.Column("cost_units", sa.BigInteger),
        sa.Column("cost_source", steps.text(16)),
        sa.Column("cost_complete", sa.Boolean(create_constraint=False)),
        sa.Column("flags", steps.text(255), nullable=False),
        sa.Column("details", steps.long_text()),
        sa.PrimaryKeyConstraint(
            "started_at", "event_id", "number", name="pk_llm_cost_revisions"
        ),
    )
    steps.create_index(
        "ix_llm_cost_revisions_run",
        "llm_cost_revisions",
        ["run", "started_at", "event_id"],
    )


def downgrade() -> None:
    # Calls keep the cost that they have now; only what it was before is forgotten.
    steps.drop_table("llm_cost_revisions")
