"""Calls added up by day for each value of the tags that are declared."""

from __future__ import annotations

import sqlalchemy as sa

from flask_llm_cost.db.migrations import steps

revision = "0007"
down_revision = "0006"

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
    "estimated",
    "estimated_tokens",
    "cost_estimated",
)


def upgrade() -> None:
    steps.create_table(
        "llm_cost_tag_keys",
        sa.Column("key", steps.text(200), primary_key=True),
        sa.Column("since", sa.BigInteger),
        sa.Column("until", sa.BigInteger),
    )
    steps.create_table(
        "llm_cost_tag_marks",
        sa.Column("key", steps.text(200), nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key", "start", name="pk_llm_cost_tag_marks"),
    )
    steps.create_table(
        "llm_cost_tag_rollups",
        sa.Column("key", steps.text(200), nullable=False),
        sa.Column("kind", steps.text(8), nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("value", steps.text(1024), nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _SUMS),
        sa.PrimaryKeyConstraint(
            "key", "kind", "start", "number", name="pk_llm_cost_tag_rollups"
        ),
    )


def downgrade() -> None:
    for name in ("tag_rollups", "tag_marks", "tag_keys"):
        steps.drop_table(f"llm_cost_{name}")
