"""Tables of budgets: windows, reservations, and alerts to send."""

from __future__ import annotations

import typing as t

import sqlalchemy as sa

from .column_types import EVENT_ID
from .column_types import LONG_TEXT
from .column_types import Millis
from .column_types import TABLE_OPTIONS
from .column_types import Text
from .tables import metadata
from .tables import PREFIX

budgets = sa.Table(
    PREFIX + "budgets",
    metadata,
    sa.Column("definition", Text(32), primary_key=True),
    sa.Column("name", Text(100), nullable=False),
    sa.Column("since", Millis, nullable=False),
    **TABLE_OPTIONS,
)
"""Since when every call is counted in a budget when it is stored. Windows that began before
are summed from their calls once."""

ERASED: t.Final = "(erased)"
"""Replaces an erased tag value in the ``tags`` of a budget's window."""

budget_windows = sa.Table(
    PREFIX + "budget_windows",
    metadata,
    sa.Column("id", Text(32), primary_key=True),  # a hash of definition, tags and times
    sa.Column("definition", Text(32), nullable=False),
    sa.Column("name", Text(100), nullable=False),
    sa.Column("period", Text(8), nullable=False),
    sa.Column("tags", LONG_TEXT, nullable=False),  # JSON: the tag values it applies to
    sa.Column("starts_at", Millis, nullable=False),
    sa.Column("ends_at", Millis),  # NULL: it never ends
    # Pico-USD. The limit is NULL if the app sets none ("limit" is a keyword of SQL).
    sa.Column("allowed", sa.BigInteger),
    sa.Column("spent", sa.BigInteger, nullable=False),
    sa.Column("reserved", sa.BigInteger, nullable=False),
    sa.Column("lost", sa.BigInteger, nullable=False),
    sa.Column("unsettled", sa.BigInteger, nullable=False, server_default="0"),
    **TABLE_OPTIONS,
)
"""The counters of each window of each budget."""

sa.Index(
    "ix_llm_cost_budget_windows_name",
    budget_windows.c.name,
    budget_windows.c.starts_at,
)

budget_reservations = sa.Table(
    PREFIX + "budget_reservations",
    metadata,
    sa.Column("event_id", EVENT_ID, nullable=False),
    sa.Column("window_id", Text(32), nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("state", Text(8), nullable=False),
    sa.Column("expires_at", Millis, nullable=False),
    sa.PrimaryKeyConstraint(
        "event_id", "window_id", name="pk_llm_cost_budget_reservations"
    ),
    **TABLE_OPTIONS,
)
"""What calls may cost. ``state`` is ``reserved`` (in progress), ``lost`` (the lease expired)
or ``open`` (unsettled: the call is stored, and its true cost is not known)."""

sa.Index(
    "ix_llm_cost_budget_reservations_lease",
    budget_reservations.c.state,
    budget_reservations.c.expires_at,
)
sa.Index("ix_llm_cost_budget_reservations_window", budget_reservations.c.window_id)

budget_alerts = sa.Table(
    PREFIX + "budget_alerts",
    metadata,
    sa.Column("window_id", Text(32), nullable=False),
    sa.Column("threshold", sa.BigInteger, nullable=False),  # in millionths
    sa.Column("raised_at", Millis, nullable=False),
    sa.PrimaryKeyConstraint("window_id", "threshold", name="pk_llm_cost_budget_alerts"),
    **TABLE_OPTIONS,
)
"""The thresholds that were reached: one row each, however many processes reach it."""

outbox = sa.Table(
    PREFIX + "outbox",
    metadata,
    sa.Column("id", Text(32), primary_key=True),
    sa.Column("created_at", Millis, nullable=False),
    sa.Column("due_at", Millis, nullable=False),
    sa.Column("attempts", sa.BigInteger, nullable=False),
    sa.Column("body", LONG_TEXT, nullable=False),
    **TABLE_OPTIONS,
)
"""Alerts that the webhook has not accepted yet."""

sa.Index("ix_llm_cost_outbox_due", outbox.c.due_at)
