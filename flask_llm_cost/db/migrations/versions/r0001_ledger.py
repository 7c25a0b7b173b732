"""Create every table of the ledger."""

from __future__ import annotations

import typing as t

import sqlalchemy as sa
from alembic import op

from flask_llm_cost.db.column_types import EVENT_ID
from flask_llm_cost.db.column_types import LONG_TEXT
from flask_llm_cost.db.column_types import Text
from flask_llm_cost.db.migrations import steps

revision = "0001"
down_revision = None

_COSTS: t.Final = (
    "cost_total",
    "cost_input",
    "cost_cache_read",
    "cost_cache_write",
    "cost_output",
    "cost_units",
)
_SUMS: t.Final = (
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
    *_COSTS,
    "estimated",
    "estimated_tokens",
    "cost_estimated",
)

Columns: t.TypeAlias = tuple[sa.Column[t.Any], ...]


def upgrade() -> None:
    _create_calls()
    _create_tags()
    _create_rollups()
    _create_revisions()
    _create_tag_rollups()
    _create_budgets()
    _create_alerts()
    steps.create_table(
        "llm_cost_meta",
        sa.Column("name", Text(64), primary_key=True),
        sa.Column("value", LONG_TEXT, nullable=False),
    )
    # Repeatable, as every step is.
    op.execute("DELETE FROM llm_cost_meta WHERE name = 'rollup_lock'")
    op.execute("INSERT INTO llm_cost_meta (name, value) VALUES ('rollup_lock', '')")


def downgrade() -> None:
    for name in (
        "outbox",
        "budget_alerts",
        "budget_reservations",
        "budget_windows",
        "budgets",
        "tag_rollups",
        "tag_dirty_marks",
        "tag_keys",
        "revisions",
        "rollup_latencies",
        "rollups",
        "dirty_marks",
        "meta",
        "tag_values",
        "tag_sets",
        "calls",
    ):
        steps.drop_table(f"llm_cost_{name}")


def _create_calls() -> None:
    steps.create_table(
        "llm_cost_calls",
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("event_id", EVENT_ID, nullable=False),
        sa.Column("provider", Text(64), nullable=False),
        sa.Column("model", Text(255), nullable=False),
        sa.Column("request_model", Text(255)),
        sa.Column("operation", Text(32), nullable=False),
        sa.Column("stream", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("usage_source", Text(16), nullable=False),
        sa.Column("outcome", Text(16), nullable=False),
        sa.Column("http_status", sa.SmallInteger),
        sa.Column("service_tier", Text(64)),
        sa.Column("response_id", Text(255)),
        sa.Column("trace_id", Text(255)),
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
        sa.Column("reasoning_tokens", sa.BigInteger),
        sa.Column("other_tokens", sa.BigInteger),
        sa.Column("total_input_tokens", sa.BigInteger),
        sa.Column("total_output_tokens", sa.BigInteger),
        *_costs(),
        sa.Column("tag_set_id", sa.BigInteger),
        sa.Column("flags", Text(255), nullable=False),
        sa.Column("details", LONG_TEXT),
        sa.PrimaryKeyConstraint("started_at", "event_id", name="pk_llm_cost_calls"),
    )
    for name, column in (("model", "model"), ("tag_set", "tag_set_id")):
        steps.create_index(
            f"ix_llm_cost_calls_{name}", "llm_cost_calls", [column, "started_at"]
        )


def _costs() -> Columns:
    return (
        *(sa.Column(name, sa.BigInteger) for name in _COSTS),
        sa.Column("cost_source", Text(16)),
        sa.Column("cost_complete", sa.Boolean(create_constraint=False)),
    )


def _create_tags() -> None:
    steps.create_table(
        "llm_cost_tag_sets",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("tags", LONG_TEXT, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
    )
    steps.create_table(
        "llm_cost_tag_values",
        sa.Column("tag_set_id", sa.BigInteger, nullable=False),
        sa.Column("key", Text(200), nullable=False),
        sa.Column("value", Text(1024), nullable=False),
        sa.PrimaryKeyConstraint("tag_set_id", "key", name="pk_llm_cost_tag_values"),
    )
    steps.create_index(
        "ix_llm_cost_tag_values_key",
        "llm_cost_tag_values",
        ["key", "value"],
        mysql_length={"value": 191},
        mariadb_length={"value": 191},
    )


def _create_rollups() -> None:
    steps.create_table(
        "llm_cost_dirty_marks",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hour", sa.BigInteger, nullable=False),
    )
    steps.create_index("ix_llm_cost_dirty_marks_hour", "llm_cost_dirty_marks", ["hour"])
    steps.create_table(
        "llm_cost_rollups",
        *_rollup_keys(),
        *_sums(),
        sa.PrimaryKeyConstraint(
            "kind", "start", "provider", "model", name="pk_llm_cost_rollups"
        ),
    )
    steps.create_table(
        "llm_cost_rollup_latencies",
        *_rollup_keys(),
        sa.Column("bucket", sa.BigInteger, nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "kind", "start", "provider", "model", "bucket", name="pk_llm_cost_latencies"
        ),
    )


def _rollup_keys() -> Columns:
    return (
        sa.Column("kind", Text(8), nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("provider", Text(64), nullable=False),
        sa.Column("model", Text(255), nullable=False),
    )


def _sums() -> Columns:
    return tuple(sa.Column(name, sa.BigInteger, nullable=False) for name in _SUMS)


def _create_revisions() -> None:
    steps.create_table(
        "llm_cost_revisions",
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("event_id", EVENT_ID, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("run", Text(36), nullable=False),
        sa.Column("revised_at", sa.BigInteger, nullable=False),
        sa.Column("new_total", sa.BigInteger),
        *_costs(),
        sa.Column("flags", Text(255), nullable=False),
        sa.Column("details", LONG_TEXT),
        sa.PrimaryKeyConstraint(
            "started_at", "event_id", "number", name="pk_llm_cost_revisions"
        ),
    )
    steps.create_index(
        "ix_llm_cost_revisions_run",
        "llm_cost_revisions",
        ["run", "started_at", "event_id"],
    )


def _create_tag_rollups() -> None:
    steps.create_table(
        "llm_cost_tag_keys",
        sa.Column("key", Text(200), primary_key=True),
        sa.Column("since", sa.BigInteger),
        sa.Column("until", sa.BigInteger),
    )
    steps.create_table(
        "llm_cost_tag_dirty_marks",
        sa.Column("key", Text(200), nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key", "start", name="pk_llm_cost_tag_dirty_marks"),
    )
    steps.create_table(
        "llm_cost_tag_rollups",
        sa.Column("key", Text(200), nullable=False),
        sa.Column("kind", Text(8), nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("value", Text(1024), nullable=False),
        *_sums(),
        sa.PrimaryKeyConstraint(
            "key", "kind", "start", "number", name="pk_llm_cost_tag_rollups"
        ),
    )


def _create_budgets() -> None:
    steps.create_table(
        "llm_cost_budgets",
        sa.Column("definition", Text(32), primary_key=True),
        sa.Column("name", Text(100), nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
    )
    windows = "llm_cost_budget_windows"
    steps.create_table(
        windows,
        sa.Column("id", Text(32), primary_key=True),
        sa.Column("definition", Text(32), nullable=False),
        sa.Column("name", Text(100), nullable=False),
        sa.Column("period", Text(8), nullable=False),
        sa.Column("tags", LONG_TEXT, nullable=False),
        sa.Column("starts_at", sa.BigInteger, nullable=False),
        sa.Column("ends_at", sa.BigInteger),
        sa.Column("allowed", sa.BigInteger),
        sa.Column("spent", sa.BigInteger, nullable=False),
        sa.Column("reserved", sa.BigInteger, nullable=False),
        sa.Column("lost", sa.BigInteger, nullable=False),
    )
    steps.create_index(f"ix_{windows}_name", windows, ["name", "starts_at"])
    reservations = "llm_cost_budget_reservations"
    steps.create_table(
        reservations,
        sa.Column("event_id", EVENT_ID, nullable=False),
        sa.Column("window_id", Text(32), nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("state", Text(8), nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("event_id", "window_id", name=f"pk_{reservations}"),
    )
    steps.create_index(
        f"ix_{reservations}_lease", reservations, ["state", "expires_at"]
    )
    steps.create_index(f"ix_{reservations}_window", reservations, ["window_id"])


def _create_alerts() -> None:
    steps.create_table(
        "llm_cost_budget_alerts",
        sa.Column("window_id", Text(32), nullable=False),
        sa.Column("threshold", sa.BigInteger, nullable=False),
        sa.Column("raised_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "window_id", "threshold", name="pk_llm_cost_budget_alerts"
        ),
    )
    steps.create_table(
        "llm_cost_outbox",
        sa.Column("id", Text(32), primary_key=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("body", LONG_TEXT, nullable=False),
    )
    steps.create_index("ix_llm_cost_outbox_due", "llm_cost_outbox", ["due_at"])
