"""Calls, tag sets, and what the ledger knows of itself."""

from __future__ import annotations

import sqlalchemy as sa

from flask_llm_cost.db.migrations import steps

revision = "0001"
down_revision = None


def upgrade() -> None:
    steps.create_table(
        "llm_cost_calls",
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("event_id", steps.event_id(), nullable=False),
        sa.Column("provider", steps.text(64), nullable=False),
        sa.Column("model", steps.text(255), nullable=False),
        sa.Column("request_model", steps.text(255)),
        sa.Column("operation", steps.text(32), nullable=False),
        sa.Column("stream", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("usage_source", steps.text(16), nullable=False),
        sa.Column("outcome", steps.text(16), nullable=False),
        sa.Column("http_status", sa.SmallInteger),
        sa.Column("service_tier", steps.text(64)),
        sa.Column("response_id", steps.text(255)),
        sa.Column("trace_id", steps.text(255)),
        sa.Column("latency_ms", sa.BigInteger),
        sa.Column("first_byte_ms", sa.BigInteger),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("input_audio_tokens", sa.BigInteger),
        sa.Column("input_image_tokens", sa.BigInteger),
        sa.Column("cache_read_tokens", sa.BigInteger),
        sa.Column("cache_write_tokens", sa.BigInteger),
        sa.Column("cache_write_1h_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("output_audio_tokens", sa.BigInteger),
        sa.Column("output_image_tokens", sa.BigInteger),
        sa.Column("other_tokens", sa.BigInteger),
        sa.Column("reasoning_tokens", sa.BigInteger),
        sa.Column("total_input_tokens", sa.BigInteger),
        sa.Column("total_output_tokens", sa.BigInteger),
        sa.Column("cost_total", sa.BigInteger),
        sa.Column("cost_input", sa.BigInteger),
        sa.Column("cost_cache_read", sa.BigInteger),
        sa.Column("cost_cache_write", sa.BigInteger),
        sa.Column("cost_output", sa.BigInteger),
        sa.Column("cost_units", sa.BigInteger),
        sa.Column("cost_source", steps.text(16)),
        sa.Column("cost_complete", sa.Boolean(create_constraint=False)),
        sa.Column("tag_set_id", sa.BigInteger),
        sa.Column("flags", steps.text(255), nullable=False),
        sa.Column("details", steps.long_text()),
        sa.PrimaryKeyConstraint("started_at", "event_id", name="pk_llm_cost_calls"),
    )
    steps.create_index(
        "ix_llm_cost_calls_model", "llm_cost_calls", ["model", "started_at"]
    )
    steps.create_index(
        "ix_llm_cost_calls_tag_set", "llm_cost_calls", ["tag_set_id", "started_at"]
    )
    steps.create_table(
        "llm_cost_tag_sets",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("tags", steps.long_text(), nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
    )
    steps.create_table(
        "llm_cost_tag_values",
        sa.Column("tag_set_id", sa.BigInteger, nullable=False),
        sa.Column("key", steps.text(200), nullable=False),
        sa.Column("value", steps.text(1024), nullable=False),
        sa.PrimaryKeyConstraint("tag_set_id", "key", name="pk_llm_cost_tag_values"),
    )
    steps.create_index(
        "ix_llm_cost_tag_values_key",
        "llm_cost_tag_values",
        ["key", "value"],
        mysql_length={"value": 191},
        mariadb_length={"value": 191},
    )
    steps.create_table(
        "llm_cost_facts",
        sa.Column("name", steps.text(64), primary_key=True),
        sa.Column("value", steps.long_text(), nullable=False),
    )


def downgrade() -> None:
    for name in ("facts", "tag_values", "tag_sets", "calls"):
        steps.drop_table(f"llm_cost_{name}")
