"""Calls that are alike enough to meet in a breakdown, and a ledger to put them in."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from contextlib import AbstractContextManager
from decimal import Decimal

import sqlalchemy as sa
from hypothesis import strategies as st

from flask_llm_cost.calendar import from_ms
from flask_llm_cost.calendar import utc_ms
from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import CostSource
from flask_llm_cost.call import OUTCOMES
from flask_llm_cost.call import Part
from flask_llm_cost.call import Usage
from flask_llm_cost.call import USAGE_SOURCES
from flask_llm_cost.config import Settings
from flask_llm_cost.db.rows import row_of
from flask_llm_cost.db.rows import tag_set_of
from flask_llm_cost.db.tables import calls as calls_table
from flask_llm_cost.db.tables import metadata
from flask_llm_cost.db.tables import tag_sets
from flask_llm_cost.db.tables import tag_values
from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.query.calls import CallQuery

NOON = dt.datetime(2026, 4, 20, 12, tzinfo=dt.UTC)


def cost_of(
    usd: str | Decimal,
    *,
    complete: bool = True,
    meter: str = "input",
    more: str | Decimal | None = None,
    source: CostSource = "bundled",
) -> Cost:
    """A cost of one part.

    :param more: How much higher the ceiling is, if the cost is not complete.
    """
    amount = Decimal(usd)
    part = Part(Decimal(1000), Decimal(1), amount)
    return Cost(
        amount,
        {meter: part},
        source,
        "openai/gpt-4o",
        complete=complete,
        ceiling_usd=None if complete or more is None else amount + Decimal(more),
    )


def make_call(at: dt.datetime | str = NOON, **changes: t.Any) -> Call:
    """A call of 100 tokens in, 10 out and $0.01 on gpt-4o."""
    if isinstance(at, str):
        at = dt.datetime.fromisoformat(at)
    values: dict[str, t.Any] = {
        "event_id": mint_event_id(at),
        "started_at": from_ms(utc_ms(at)),
        "provider": "openai",
        "model": "gpt-4o",
        "usage": Usage(input_tokens=100, output_tokens=10),
        "usage_source": "response",
        "cost": cost_of("0.01"),
        "response_id": "r1",
    }
    return Call(**values | changes)


class Store:
    """A ledger's tables, and what a query needs of a ledger."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        metadata.create_all(engine)

    def reading(
        self, *, since: dt.datetime | None = None, until: dt.datetime | None = None
    ) -> AbstractContextManager[sa.Connection]:
        return self.engine.connect()

    def fill(self, *found: Call) -> None:
        """Hold exactly these calls."""
        with self.engine.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
            insert(connection, found)

    def query(self, now: dt.datetime = NOON, **settings: t.Any) -> CallQuery:
        return CallQuery(self.reading, Settings(**settings), lambda: now)


def insert(connection: sa.Connection, found: Iterable[Call]) -> None:
    """Add calls and their tags."""
    rows, sets = [], {}
    for call in found:
        tag_set = tag_set_of(call.tags)
        if tag_set is not None:
            sets[tag_set.id] = tag_set
        set_id = None if tag_set is None else tag_set.id
        rows.append(row_of(call) | {"tag_set_id": set_id})
    if sets:
        connection.execute(tag_values.delete().where(tag_values.c.tag_set_id.in_(sets)))
        connection.execute(tag_sets.delete().where(tag_sets.c.id.in_(sets)))
        connection.execute(
            tag_sets.insert(),
            [{"id": s.id, "tags": s.text, "seen_at": NOON} for s in sets.values()],
        )
        connection.execute(
            tag_values.insert(),
            [
                {"tag_set_id": s.id, "key": key, "value": value}
                for s in sets.values()
                for key, value in s.tags.items()
            ],
        )
    if rows:
        connection.execute(calls_table.insert(), rows)


_counts = st.integers(0, 50)
_usages = st.builds(
    Usage,
    input_tokens=_counts,
    input_audio_tokens=_counts,
    cache_read_tokens=_counts,
    cache_write_1h_tokens=_counts,
    output_tokens=_counts,
    other_tokens=st.dictionaries(
        st.sampled_from(["input_video", "output_video", "cache_write_12h"]), _counts
    ),
)
_picos = st.integers(0, 5) | st.integers(0, 10**15)
_amounts = _picos.map(lambda n: Decimal(n).scaleb(-12))
_costs = st.builds(
    cost_of,
    _amounts,
    complete=st.booleans(),
    more=st.none() | _amounts,
    source=st.sampled_from(["bundled", "provider", "bill"]),
    meter=st.sampled_from(["input", "cache_read", "output_audio", "web_search"]),
)
# Around the hours that New York's clocks lose and repeat, often the same millisecond.
_spring = utc_ms(dt.datetime(2026, 3, 8, tzinfo=dt.UTC))
_autumn = utc_ms(dt.datetime(2026, 11, 1, tzinfo=dt.UTC))
moments = st.builds(
    lambda base, ms: from_ms(base + ms),
    st.sampled_from([_spring, _autumn]),
    st.integers(0, 3) | st.integers(0, 3 * 86_400_000),
)
calls = st.builds(
    make_call,
    moments,
    provider=st.sampled_from(["openai", "anthropic"]),
    model=st.sampled_from(["gpt-4o", "claude", "mystery"]),
    usage=st.none() | _usages,
    usage_source=st.sampled_from(USAGE_SOURCES),
    cost=st.none() | _costs,
    latency_ms=st.none() | st.integers(0, 3),
    stream=st.booleans(),
    outcome=st.sampled_from(OUTCOMES),
    response_id=st.none() | st.just("r1"),
    trace_id=st.none() | st.just("t1"),
    tags=st.dictionaries(
        st.sampled_from(["feature", "user"]), st.sampled_from(["", "chat", "Chat"])
    ),
)
ledgers = st.lists(calls, max_size=12)
