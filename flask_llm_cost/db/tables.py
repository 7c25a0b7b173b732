"""The ledger's tables, as SQLAlchemy Core tables.

The same definitions serve SQLite, PostgreSQL and MySQL/MariaDB. Times are BIGINT
milliseconds since 1970 (exact on every engine, and usable for range partitions on all of
them), money is BIGINT pico-USD (1e-12 USD), and NULL is unknown.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

import sqlalchemy as sa

from ..call import COUNTS
from .column_types import EVENT_ID
from .column_types import LONG_TEXT
from .column_types import Millis
from .column_types import TABLE_OPTIONS
from .column_types import Text

metadata = sa.MetaData()
"""Never the host's, so that its migrations do not include our tables."""

PREFIX: t.Final = "llm_cost_"

COST_GROUPS: t.Final = (
    "cost_input",  # uncached input of every modality
    "cost_cache_read",
    "cost_cache_write",  # of every time to live
    "cost_output",  # of every modality
    "cost_units",  # what is not a token, and reported totals
)
"""The columns that a cost is split into, in pico-USD. Their sum is ``cost_total``."""

PRICED_COLUMNS: t.Final = (
    "cost_total",
    *COST_GROUPS,
    "cost_source",
    "cost_complete",
    "cost_ceiling",
    "flags",
    "details",
)
"""The columns of a call that repricing changes."""

calls = sa.Table(
    PREFIX + "calls",
    metadata,
    sa.Column("started_at", Millis, nullable=False),
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
    # NULL: the call's usage is unknown. Disjoint, as in Usage.
    *(sa.Column(name, sa.BigInteger) for name in COUNTS),
    sa.Column("other_tokens", sa.BigInteger),  # their sum; by name in details
    sa.Column("total_input_tokens", sa.BigInteger),
    sa.Column("total_output_tokens", sa.BigInteger),
    # NULL: no price was known.
    *(sa.Column(name, sa.BigInteger) for name in ("cost_total", *COST_GROUPS)),
    sa.Column("cost_source", Text(16)),
    sa.Column("cost_complete", sa.Boolean(create_constraint=False)),
    sa.Column("tag_set_id", sa.BigInteger),  # NULL: no tags
    # Sorted, separated by one space; "" for none.
    sa.Column("flags", Text(255), nullable=False),
    # JSON text: other_tokens, units, parts, price provenance, reported and estimated cost.
    sa.Column("details", LONG_TEXT),
    # Of an incomplete cost; NULL if it has no known limit. Complete: cost_total.
    sa.Column("cost_ceiling", sa.BigInteger),
    # Parts ``name=id``, separated by one space.
    sa.Column("scope", Text(255)),
    sa.PrimaryKeyConstraint("started_at", "event_id", name="pk_llm_cost_calls"),
    **TABLE_OPTIONS,
)
"""One row per HTTP attempt. It has no serial id, for the sake of partitions and sharded
PostgreSQL. An event id suffices to find a call: it contains the time."""

sa.Index("ix_llm_cost_calls_model", calls.c.model, calls.c.started_at)
sa.Index("ix_llm_cost_calls_tag_set", calls.c.tag_set_id, calls.c.started_at)

tag_sets = sa.Table(
    PREFIX + "tag_sets",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    # Canonical JSON: sorted keys, no spaces.
    sa.Column("tags", LONG_TEXT, nullable=False),
    sa.Column("seen_at", Millis, nullable=False),
    **TABLE_OPTIONS,
)
"""Each distinct set of tags. The id is a 63-bit hash of its canonical JSON."""

tag_values = sa.Table(
    PREFIX + "tag_values",
    metadata,
    sa.Column("tag_set_id", sa.BigInteger, nullable=False),
    sa.Column("key", Text(200), nullable=False),
    sa.Column("value", Text(1024), nullable=False),
    sa.PrimaryKeyConstraint("tag_set_id", "key", name="pk_llm_cost_tag_values"),
    **TABLE_OPTIONS,
)
"""The tags of each set, one row per tag, for filters and breakdowns."""

sa.Index(
    "ix_llm_cost_tag_values_key",
    tag_values.c.key,
    tag_values.c.value,
    mysql_length={"value": 191},
    mariadb_length={"value": 191},
)

meta = sa.Table(
    PREFIX + "meta",
    metadata,
    sa.Column("name", Text(64), primary_key=True),
    sa.Column("value", LONG_TEXT, nullable=False),
    **TABLE_OPTIONS,
)
"""Named values about the ledger itself, such as its time zone."""

unlisted_hosts = sa.Table(
    PREFIX + "unlisted_hosts",
    metadata,
    sa.Column("host", Text(255), primary_key=True),  # "" for all beyond the first ones
    sa.Column("calls", sa.BigInteger, nullable=False),
    sa.Column("seen_at", Millis, nullable=False),
    **TABLE_OPTIONS,
)
"""Unlisted hosts, and how many calls to each were seen, but not recorded."""

dirty_marks = sa.Table(
    PREFIX + "dirty_marks",
    metadata,
    # Random, so that two writers never wait for each other.
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hour", Millis, nullable=False),
    **TABLE_OPTIONS,
)
"""UTC hours with calls that were added, changed or deleted since their rollup was built.
Every change to a call appends a mark in the same transaction."""

sa.Index("ix_llm_cost_dirty_marks_hour", dirty_marks.c.hour)

MEASURES: t.Final = (
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
    *COST_GROUPS,
    "estimated",
    "estimated_tokens",
    "cost_estimated",
    "cost_open",
    "unbounded",
)
"""The measures of a rollup, named as in :class:`.Totals`. Costs of estimated usage are in
``cost_estimated`` only, and their ceilings in ``cost_open``."""

rollups = sa.Table(
    PREFIX + "rollups",
    metadata,
    sa.Column("kind", Text(8), nullable=False),
    sa.Column("start", Millis, nullable=False),
    sa.Column("provider", Text(64), nullable=False),
    sa.Column("model", Text(255), nullable=False),
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in MEASURES),
    sa.PrimaryKeyConstraint(
        "kind", "start", "provider", "model", name="pk_llm_cost_rollups"
    ),
    **TABLE_OPTIONS,
)
"""Totals by provider and model. ``kind`` is ``hour`` (of the calls in the table), ``pruned``
(by hour, of calls that were pruned), ``day`` (of both) or ``dropping`` (by hour, of the part
of an hour that a month being dropped takes away)."""

rollup_latencies = sa.Table(
    PREFIX + "rollup_latencies",
    metadata,
    sa.Column("kind", Text(8), nullable=False),
    sa.Column("start", Millis, nullable=False),
    sa.Column("provider", Text(64), nullable=False),
    sa.Column("model", Text(255), nullable=False),
    sa.Column("bucket", sa.BigInteger, nullable=False),
    sa.Column("calls", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint(
        "kind", "start", "provider", "model", "bucket", name="pk_llm_cost_latencies"
    ),
    **TABLE_OPTIONS,
)
"""Numbers of calls by latency, on a log scale: ``bucket`` is its lower bound in ms."""

METER_SUM_KEY: t.Final = (
    ("scope", 255),  # "" if it is not known
    ("provider", 64),
    ("model", 255),
    ("meter", 64),  # "" counts calls
    ("mode", 32),  # "" is standard
    ("tier", 64),
    ("rate", 80),  # exact; "" for what has no unit price
    ("price_key", 255),
    ("source", 16),  # of the cost
    ("status", 16),
)
"""What meter sums are kept by: texts, and their lengths."""


def _meter_sum_columns() -> Iterator[sa.Column[t.Any]]:
    for name, length in METER_SUM_KEY:
        yield sa.Column(name, Text(length), nullable=False)
    # A sum of units may have more digits than any number column.
    yield sa.Column("quantity", Text(255), nullable=False)
    for name in ("calls", "cost", "listed", "open_amount", "unbounded"):
        yield sa.Column(name, sa.BigInteger, nullable=False)


meter_sums = sa.Table(
    PREFIX + "meter_sums",
    metadata,
    sa.Column("kind", Text(8), nullable=False),
    sa.Column("hour", Millis, nullable=False),
    # The key is too long for a primary key on MySQL and MariaDB.
    sa.Column("number", sa.BigInteger, nullable=False),
    *_meter_sum_columns(),
    sa.PrimaryKeyConstraint("kind", "hour", "number", name="pk_llm_cost_meter_sums"),
    **TABLE_OPTIONS,
)
"""Quantities and costs by UTC hour, as bills have them, whatever the ledger's zone. ``kind``
is ``stored`` (of the calls in the table) or ``pruned``. See :mod:`.rollups.meters`."""

tag_meter_sums = sa.Table(
    PREFIX + "tag_meter_sums",
    metadata,
    sa.Column("key", Text(200), nullable=False),
    sa.Column("kind", Text(8), nullable=False),
    # Of the UTC day; of what is kept of a local day, no earlier than that begins.
    sa.Column("start", Millis, nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("value", Text(1024), nullable=False),  # "" for calls without the key
    *_meter_sum_columns(),
    sa.PrimaryKeyConstraint(
        "key", "kind", "start", "number", name="pk_llm_cost_tag_meter_sums"
    ),
    **TABLE_OPTIONS,
)
"""The same by UTC day and value of a key. ``kind`` is ``stored`` or ``pruned``."""

corrections = sa.Table(
    PREFIX + "corrections",
    metadata,
    sa.Column("tag", Text(200), nullable=False),  # a declared key; "" for all calls
    sa.Column("day", Millis, nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("recorded_at", Millis, nullable=False),
    # Whether it is what the month had when it was closed.
    sa.Column("copied", sa.Boolean(create_constraint=False), nullable=False),
    sa.Column("value", Text(1024), nullable=False),
    *_meter_sum_columns(),
    sa.PrimaryKeyConstraint("tag", "day", "number", name="pk_llm_cost_corrections"),
    **TABLE_OPTIONS,
)
"""The sums by meter of closed months, and each change of them since. Rows are only
appended."""

revisions = sa.Table(
    PREFIX + "revisions",
    metadata,
    sa.Column("started_at", Millis, nullable=False),
    sa.Column("event_id", EVENT_ID, nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),  # 1, 2, ... of this call
    sa.Column("run", Text(36), nullable=False),
    sa.Column("revised_at", Millis, nullable=False),
    sa.Column("new_total", sa.BigInteger),
    # The values that the call's row had before.
    *(
        sa.Column(name, calls.c[name].type, nullable=calls.c[name].nullable)
        for name in PRICED_COLUMNS
    ),
    sa.PrimaryKeyConstraint(
        "started_at", "event_id", "number", name="pk_llm_cost_revisions"
    ),
    **TABLE_OPTIONS,
)
"""What a call cost before it was repriced, one row each time. Rows are only appended, and
deleted with their call."""

sa.Index(
    "ix_llm_cost_revisions_run",
    revisions.c.run,
    revisions.c.started_at,
    revisions.c.event_id,
)

METRICS: t.Final = (
    "calls",
    "failed",
    "unpriced",
    "incomplete",
    "estimated",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "with_latency",
    "latency_sum_ms",
    "cost_total",
    "cost_estimated",
)
"""What the counters for monitoring count, named as in :data:`MEASURES`. Here,
``input_tokens`` exclude those read from or written to a cache."""

metrics = sa.Table(
    PREFIX + "metrics",
    metadata,
    # Random, so that two writers never wait for each other.
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("provider", Text(64), nullable=False),
    sa.Column("model", Text(255), nullable=False),
    # JSON: the tags of LLM_COST_METRICS_TAGS.
    sa.Column("tags", LONG_TEXT, nullable=False),
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in METRICS),
    **TABLE_OPTIONS,
)
"""What calls added to the counters when they were stored. Rows of the same labels are merged;
nothing else changes them. See :mod:`.rollups.metrics`."""

metric_values = sa.Table(
    PREFIX + "metric_values",
    metadata,
    sa.Column("key", Text(200), nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("value", Text(1024), nullable=False),
    sa.PrimaryKeyConstraint("key", "number", name="pk_llm_cost_metric_values"),
    **TABLE_OPTIONS,
)
"""The tag values that have counters of their own."""

tag_keys = sa.Table(
    PREFIX + "tag_keys",
    metadata,
    sa.Column("key", Text(200), primary_key=True),
    # Earlier calls were pruned before the key was declared, so their tags are unknown.
    sa.Column("since", Millis),
    # The day from which the key has too many values for rollups.
    sa.Column("until", Millis),
    **TABLE_OPTIONS,
)
"""The tag keys that have rollups."""

tag_dirty_marks = sa.Table(
    PREFIX + "tag_dirty_marks",
    metadata,
    sa.Column("key", Text(200), nullable=False),
    sa.Column("start", Millis, nullable=False),
    sa.PrimaryKeyConstraint("key", "start", name="pk_llm_cost_tag_dirty_marks"),
    **TABLE_OPTIONS,
)
"""Days whose rollups of a key are to be built. Changed only under the rollup lock."""

tag_rollups = sa.Table(
    PREFIX + "tag_rollups",
    metadata,
    sa.Column("key", Text(200), nullable=False),
    sa.Column("kind", Text(8), nullable=False),
    sa.Column("start", Millis, nullable=False),
    # The value is too long for a primary key on MySQL and MariaDB.
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("value", Text(1024), nullable=False),  # "" for calls without the key
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in MEASURES),
    sa.PrimaryKeyConstraint(
        "key", "kind", "start", "number", name="pk_llm_cost_tag_rollups"
    ),
    **TABLE_OPTIONS,
)
"""Totals by day and value of a key. ``kind`` is ``pruned`` (of calls that were pruned),
``day`` (of all calls) or ``dropping`` (of the part of a day that a month being dropped takes
away)."""

bill_statements = sa.Table(
    PREFIX + "bill_statements",
    metadata,
    sa.Column("id", Text(32), primary_key=True),
    sa.Column("stored_at", Millis, nullable=False),
    sa.Column("header", LONG_TEXT, nullable=False),
    sa.Column("result", LONG_TEXT),  # NULL: it was not compared yet
    **TABLE_OPTIONS,
)
"""The bills that were read, and the result of comparing each to the ledger, as JSON."""

bill_lines = sa.Table(
    PREFIX + "bill_lines",
    metadata,
    sa.Column("statement", Text(32), nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("line", LONG_TEXT, nullable=False),
    sa.PrimaryKeyConstraint("statement", "number", name="pk_llm_cost_bill_lines"),
    **TABLE_OPTIONS,
)
"""Their lines, as JSON."""
