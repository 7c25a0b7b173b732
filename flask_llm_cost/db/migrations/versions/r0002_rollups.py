"""Calls added up by hour and day, and marks of the hours that are to be added up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from flask_llm_cost.db.migrations import steps

revision = "0002"
down_revision = "0001"

_SUMS = (
    "calls",
    "priced",
    "unpriced",
    "unpriced_with_usage",
    "unpriced_tokens",
    "incomplete",
    "failed",
    "with_usage",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "with_latency",
    "latency_sum_ms",
    "cost_total",
    "cost_input",
    "cost_cache_read",
    "cost_cache_write",
    "cost_output",
    "cost_units",
)


def _keys() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("kind", steps.text(8), nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("provider", steps.text(64), nullable=False),
        sa.Column("model", steps.text(255), nullable=False),
    )


def upgrade() -> None:
    steps.create_table(
        "llm_cost_marks",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hour", sa.BigInteger, nullable=False),
    )
    steps.create_index("ix_llm_cost_marks_hour", "llm_cost_marks", ["hour"])
    steps.create_table(
        "llm_cost_rollups",
        *_keys(),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _SUMS),
        sa.PrimaryKeyConstraint(
            "kind", "start", "provider", "model", name="pk_llm_cost_rollups"
        ),
    )
    steps.create_table(
        "llm_cost_rollup_latencies",
        *_keys(),
        sa.Column("bucket", sa.BigInteger, nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "kind", "start", "provider", "model", "bucket", name="pk_llm_cost_latencies"
        ),
    )
    # Every hour that has calls is to be added up. (A second run changes nothing: the
    # ids are the hours, below 0 where no writer's are.)
    op.execute("DELETE FROM llm_cost_marks WHERE id < 0")
    op.execute(
        "INSERT INTO llm_cost_marks (id, hour) SELECT DISTINCT"
        " -1 - (started_at - started_at % 3600000), started_at - started_at % 3600000"
        " FROM llm_cost_calls"
    )
    op.execute("DELETE FROM llm_cost_facts WHERE name = 'roller'")
    op.execute("INSERT INTO llm_cost_facts (name, value) VALUES ('roller', '')")


def downgrade() -> None:
    steps.drop_table("llm_cost_rollup_latencies")
    steps.drop_table("llm_cost_rollups")
    steps.drop_table("llm_cost_marks")
    op.execute(
        "DELETE FROM llm_cost_facts WHERE name IN ('roller', 'timezone', 'horizon')"
    )
