"""Calls of every shape, made by hypothesis, and one plain one."""

from __future__ import annotations

import datetime as dt
import typing as t
from decimal import Decimal

from hypothesis import strategies as st

from flask_llm_cost.calendar import from_ms
from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import OUTCOMES
from flask_llm_cost.call import Part
from flask_llm_cost.call import Usage
from flask_llm_cost.call import USAGE_SOURCES
from flask_llm_cost.event_id import mint_event_id

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def make_call(number: int = 0, **changes: t.Any) -> Call:
    """A priced call, so many milliseconds after noon."""
    started_at = changes.pop("started_at", NOON + dt.timedelta(milliseconds=number))
    amount = Decimal("0.0025") + Decimal(number).scaleb(-12)
    values: dict[str, t.Any] = {
        "event_id": mint_event_id(started_at),
        "started_at": started_at,
        "provider": "openai",
        "model": "gpt-4o",
        "usage": Usage(input_tokens=1000, output_tokens=number),
        "usage_source": "response",
        "cost": Cost(
            total_usd=amount,
            parts={"input": Part(Decimal(1000), Decimal("2.5"), amount)},
            source="bundled",
        ),
        "http_status": 200,
        "tags": {"feature": "chat", "user": str(number % 7)},
    }
    return Call(**values | changes)


counts = st.integers(0, 10**6)
names = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)
texts = st.text(max_size=20)
some = st.none() | texts
flags = st.frozensets(names, max_size=3)
picos = st.integers(0, 10**15)
amounts = picos.map(lambda n: Decimal(n).scaleb(-12))
decimals = st.decimals(0, 10**9, places=6)
moments = st.integers(0, 4_000_000_000_000).map(from_ms)
usages = st.builds(
    Usage,
    input_tokens=counts,
    input_audio_tokens=counts,
    input_image_tokens=counts,
    cache_read_tokens=counts,
    cache_write_tokens=counts,
    cache_write_1h_tokens=counts,
    output_tokens=counts,
    output_audio_tokens=counts,
    output_image_tokens=counts,
    reasoning_tokens=counts,
    other_tokens=st.dictionaries(
        st.sampled_from(["input_video", "cache_write_12h", "output_video"]), counts
    ),
    units=st.dictionaries(names, decimals, max_size=2),
)
METERS = (
    "input",
    "input_audio",
    "cache_read",
    "cache_write_1h",
    "output",
    "output_image",
    "web_search",
    "reported",
)


@st.composite
def costs(draw: st.DrawFn) -> Cost:
    parts = draw(
        st.dictionaries(
            st.sampled_from(METERS), st.builds(Part, decimals, decimals, amounts)
        )
    )
    return Cost(
        total_usd=sum((p.amount_usd for p in parts.values()), Decimal(0)),
        parts=parts,
        source=draw(st.sampled_from(["provider", "override", "file", "bundled"])),
        price_key=draw(some.filter(lambda key: key != "")),
        valid_from=draw(st.none() | moments),
        tier=draw(st.none() | names),
        mode=draw(st.none() | names),
        complete=draw(st.booleans()),
        flags=draw(flags),
        estimate_usd=draw(st.none() | amounts),
    )


@st.composite
def calls(draw: st.DrawFn) -> Call:
    started_at = draw(moments)
    return Call(
        event_id=mint_event_id(started_at),
        started_at=started_at,
        provider=draw(texts),
        model=draw(texts),
        request_model=draw(some),
        operation=draw(texts),
        usage=draw(st.none() | usages),
        cost=draw(st.none() | costs()),
        reported_cost=draw(st.none() | amounts),
        latency_ms=draw(st.none() | counts),
        first_byte_ms=draw(st.none() | counts),
        stream=draw(st.booleans()),
        usage_source=draw(st.sampled_from(USAGE_SOURCES)),
        outcome=draw(st.sampled_from(OUTCOMES)),
        http_status=draw(st.none() | st.integers(100, 999)),
        response_id=draw(some),
        service_tier=draw(some),
        trace_id=draw(some),
        tags=draw(st.dictionaries(names, texts, max_size=3)),
        flags=draw(flags),
    )
