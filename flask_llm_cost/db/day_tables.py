"""Tables with data of a day's calls that pages need in addition to rollups.

They say nothing of calls that were pruned. See :mod:`.rollups.days`.
"""

from __future__ import annotations

import typing as t

import sqlalchemy as sa

from .column_types import EVENT_ID
from .column_types import LONG_TEXT
from .column_types import Millis
from .column_types import TABLE_OPTIONS
from .column_types import Text
from .tables import MEASURES
from .tables import metadata
from .tables import PREFIX

day_marks = sa.Table(
    PREFIX + "day_marks",
    metadata,
    sa.Column("start", Millis, primary_key=True, autoincrement=False),
    **TABLE_OPTIONS,
)
"""Days that are to be built. Changed only under the rollup lock."""

QUALITY_COUNTS: t.Final = (
    *("calls", "tagged", "timed", "identified", "unbounded"),
    *("pico", "open_pico", "copies", "excess_pico"),
)

quality_days = sa.Table(
    PREFIX + "quality_days",
    metadata,
    sa.Column("start", Millis, nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("provider", Text(64), nullable=False),
    sa.Column("model", Text(255), nullable=False),
    sa.Column("operation", Text(32), nullable=False),
    sa.Column("outcome", Text(16), nullable=False),
    sa.Column("http_status", sa.SmallInteger),
    sa.Column("usage_source", Text(16), nullable=False),
    sa.Column("stream", sa.Boolean(create_constraint=False), nullable=False),
    sa.Column("flags", Text(255), nullable=False),
    sa.Column("priced", sa.Boolean(create_constraint=False), nullable=False),
    sa.Column("complete", sa.Boolean(create_constraint=False)),
    sa.Column("used", sa.Boolean(create_constraint=False), nullable=False),
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in QUALITY_COUNTS),
    sa.PrimaryKeyConstraint("start", "number", name="pk_llm_cost_quality_days"),
    **TABLE_OPTIONS,
)
"""Calls that are equal in all that the data-quality page distinguishes."""

tag_key_days = sa.Table(
    PREFIX + "tag_key_days",
    metadata,
    sa.Column("start", Millis, nullable=False),
    sa.Column("key", Text(200), nullable=False),
    sa.Column("calls", sa.BigInteger, nullable=False),
    # Whether its values are in the table below: they may be too many.
    sa.Column("summed", sa.Boolean(create_constraint=False), nullable=False),
    sa.PrimaryKeyConstraint("start", "key", name="pk_llm_cost_tag_key_days"),
    **TABLE_OPTIONS,
)
"""The tag keys of a day."""

tag_value_days = sa.Table(
    PREFIX + "tag_value_days",
    metadata,
    sa.Column("key", Text(200), nullable=False),  # "": all calls of the day
    sa.Column("start", Millis, nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("value", Text(1024), nullable=False),  # "": calls without the key
    sa.Column("first_at", Millis, nullable=False),
    sa.Column("last_at", Millis, nullable=False),
    sa.Column("models", LONG_TEXT, nullable=False),  # a JSON list
    # NULL is 0, and takes no space.
    *(sa.Column(name, sa.BigInteger) for name in MEASURES),
    sa.PrimaryKeyConstraint("key", "start", "number", name="pk_llm_cost_value_days"),
    **TABLE_OPTIONS,
)
"""The calls of a day by the value of a tag, whether it is declared for rollups or not."""

costliest_calls = sa.Table(
    PREFIX + "costliest_calls",
    metadata,
    sa.Column("start", Millis, nullable=False),
    sa.Column("started_at", Millis, nullable=False),
    sa.Column("event_id", EVENT_ID, nullable=False),
    sa.Column("cost_total", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint(
        "start", "started_at", "event_id", name="pk_llm_cost_costliest_calls"
    ),
    **TABLE_OPTIONS,
)
"""The most expensive calls of a day."""

DAY_TABLES: t.Final = (quality_days, tag_key_days, tag_value_days, costliest_calls)
