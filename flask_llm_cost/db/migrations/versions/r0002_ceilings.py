"""Add what incomplete calls can cost at most, what budgets count for them, the scope of
calls, sums by meter, bills and counters for monitoring."""

from __future__ import annotations

import typing as t

import sqlalchemy as sa
from alembic import op

from flask_llm_cost.db.column_types import EVENT_ID
from flask_llm_cost.db.column_types import LONG_TEXT
from flask_llm_cost.db.column_types import Text
from flask_llm_cost.db.migrations import steps

revision = "0002"
down_revision = "0001"

_CEILING: t.Final = ("llm_cost_calls", "llm_cost_revisions")
_ROLLUPS: t.Final = ("llm_cost_rollups", "llm_cost_tag_rollups")
_MEASURES: t.Final = ("cost_open", "unbounded")
_WINDOWS: t.Final = "llm_cost_budget_windows"
_METER_SUMS: t.Final = "llm_cost_meter_sums"
_TAG_METER_SUMS: t.Final = "llm_cost_tag_meter_sums"
_CORRECTIONS: t.Final = "llm_cost_corrections"
_UNLISTED: t.Final = "llm_cost_unlisted_hosts"
_BILLS: t.Final = ("llm_cost_bill_statements", "llm_cost_bill_lines")
_DAYS: t.Final = (
    *("llm_cost_day_marks", "llm_cost_quality_days", "llm_cost_tag_key_days"),
    *("llm_cost_tag_value_days", "llm_cost_costliest_calls"),
)
_DAY_MEASURES: t.Final = (
    *("calls", "priced", "unpriced", "unpriced_with_usage", "unpriced_tokens"),
    *("incomplete", "failed", "with_usage", "input_tokens", "output_tokens"),
    *("cache_read_tokens", "cache_write_tokens", "reasoning_tokens"),
    *("with_latency", "latency_sum_ms", "cost_total", "cost_input"),
    *("cost_cache_read", "cost_cache_write", "cost_output", "cost_units", "estimated"),
    *("estimated_tokens", "cost_estimated", "cost_open", "unbounded"),
)
_METRICS: t.Final = ("llm_cost_metrics", "llm_cost_metric_values")


def upgrade() -> None:
    for table in _CEILING:
        steps.add_column(table, sa.Column("cost_ceiling", sa.BigInteger))
    steps.add_column(_CEILING[0], sa.Column("scope", Text(255)))
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
    _create_meter_sums()
    _create_bills()
    _create_metrics()
    _create_days()
    steps.create_table(
        _UNLISTED,
        sa.Column("host", Text(255), primary_key=True),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
    )


def _create_days() -> None:
    """Create the tables of sums by day, which the next build of rollups begins."""
    steps.create_table(
        _DAYS[0],
        sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
    )
    texts = {"provider": 64, "model": 255, "operation": 32, "outcome": 16}
    numbers = ("calls", "tagged", "timed", "identified", "unbounded", "pico")
    steps.create_table(
        _DAYS[1],
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        *(sa.Column(name, Text(n), nullable=False) for name, n in texts.items()),
        sa.Column("http_status", sa.SmallInteger),
        sa.Column("usage_source", Text(16), nullable=False),
        sa.Column("stream", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("flags", Text(255), nullable=False),
        sa.Column("priced", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("complete", sa.Boolean(create_constraint=False)),
        sa.Column("used", sa.Boolean(create_constraint=False), nullable=False),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in (*numbers, "open_pico", "copies", "excess_pico")
        ),
        sa.PrimaryKeyConstraint("start", "number", name="pk_llm_cost_quality_days"),
    )
    steps.create_table(
        _DAYS[2],
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("key", Text(200), nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("summed", sa.Boolean(create_constraint=False), nullable=False),
        sa.PrimaryKeyConstraint("start", "key", name="pk_llm_cost_tag_key_days"),
    )
    steps.create_table(
        _DAYS[3],
        sa.Column("key", Text(200), nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("value", Text(1024), nullable=False),
        sa.Column("first_at", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sa.Column("models", LONG_TEXT, nullable=False),
        *(sa.Column(name, sa.BigInteger) for name in _DAY_MEASURES),
        sa.PrimaryKeyConstraint(
            "key", "start", "number", name="pk_llm_cost_value_days"
        ),
    )
    steps.create_table(
        _DAYS[4],
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("event_id", EVENT_ID, nullable=False),
        sa.Column("cost_total", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "start", "started_at", "event_id", name="pk_llm_cost_costliest_calls"
        ),
    )


def _create_meter_sums() -> None:
    """Create the tables of sums by meter. The next build of rollups begins them."""
    texts = {"scope": 255, "provider": 64, "model": 255, "meter": 64, "mode": 32}
    texts |= {"tier": 64, "rate": 80, "price_key": 255, "source": 16, "status": 16}
    numbers = ("calls", "cost", "listed", "open_amount", "unbounded")

    def columns() -> t.Iterator[sa.Column[t.Any]]:
        for name, length in texts.items():
            yield sa.Column(name, Text(length), nullable=False)
        yield sa.Column("quantity", Text(255), nullable=False)
        for name in numbers:
            yield sa.Column(name, sa.BigInteger, nullable=False)

    steps.create_table(
        _METER_SUMS,
        sa.Column("kind", Text(8), nullable=False),
        sa.Column("hour", sa.BigInteger, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        *columns(),
        sa.PrimaryKeyConstraint(
            "kind", "hour", "number", name="pk_llm_cost_meter_sums"
        ),
    )
    steps.create_table(
        _TAG_METER_SUMS,
        sa.Column("key", Text(200), nullable=False),
        sa.Column("kind", Text(8), nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("value", Text(1024), nullable=False),
        *columns(),
        sa.PrimaryKeyConstraint(
            "key", "kind", "start", "number", name="pk_llm_cost_tag_meter_sums"
        ),
    )
    steps.create_table(
        _CORRECTIONS,
        sa.Column("tag", Text(200), nullable=False),
        sa.Column("day", sa.BigInteger, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("copied", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("value", Text(1024), nullable=False),
        *columns(),
        sa.PrimaryKeyConstraint("tag", "day", "number", name="pk_llm_cost_corrections"),
    )


def _create_bills() -> None:
    """Create the tables of bills."""
    steps.create_table(
        _BILLS[0],
        sa.Column("id", Text(32), primary_key=True),
        sa.Column("stored_at", sa.BigInteger, nullable=False),
        sa.Column("header", LONG_TEXT, nullable=False),
        sa.Column("result", LONG_TEXT),
    )
    steps.create_table(
        _BILLS[1],
        sa.Column("statement", Text(32), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("line", LONG_TEXT, nullable=False),
        sa.PrimaryKeyConstraint("statement", "number", name="pk_llm_cost_bill_lines"),
    )


def _create_metrics() -> None:
    """Create the tables of counters, which begin at zero."""
    names = (
        *("calls", "failed", "unpriced", "incomplete", "estimated", "input_tokens"),
        *("cache_read_tokens", "cache_write_tokens", "output_tokens", "with_latency"),
        *("latency_sum_ms", "cost_total", "cost_estimated"),
    )
    steps.create_table(
        _METRICS[0],
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("provider", Text(64), nullable=False),
        sa.Column("model", Text(255), nullable=False),
        sa.Column("tags", LONG_TEXT, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in names),
    )
    steps.create_table(
        _METRICS[1],
        sa.Column("key", Text(200), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("value", Text(1024), nullable=False),
        sa.PrimaryKeyConstraint("key", "number", name="pk_llm_cost_metric_values"),
    )


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
    sums = (_METER_SUMS, _TAG_METER_SUMS, _CORRECTIONS)
    for table in (*sums, *_BILLS, *_METRICS, *_DAYS, _UNLISTED):
        steps.drop_table(table)
    meta = sa.table("llm_cost_meta", sa.column("name", sa.String))
    ours = meta.c.name.in_(["meter_sums", "closed_months", "scope_key", "days"])
    op.execute(sa.delete(meta).where(ours))
    if steps.has_column(_WINDOWS, "unsettled"):
        _move_unsettled()
    steps.drop_column(_WINDOWS, "unsettled")
    for table in _ROLLUPS:
        for name in _MEASURES:
            steps.drop_column(table, name)
    for table in _CEILING:
        steps.drop_column(table, "cost_ceiling")
    steps.drop_column(_CEILING[0], "scope")


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
