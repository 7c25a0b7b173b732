"""What readings cost by the bundled prices, as the calls that are recorded of them."""

from __future__ import annotations

import datetime as dt

from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Reading
from flask_llm_cost.prices import PriceBook

BOOK = PriceBook.bundled()
AT = dt.datetime(2026, 11, 29, 12, tzinfo=dt.UTC)


def cost_of(reading: Reading) -> Cost | None:
    """Quote a reading like a call that was sent at :data:`AT`."""
    call = Call(
        event_id="",
        started_at=AT,
        provider=reading.provider,
        model=reading.model or "",
        request_model=reading.request_model,
        operation=reading.operation,
        usage=reading.usage,
        reported_cost=reading.reported_cost,
        usage_source=reading.usage_source,
        service_tier=reading.service_tier,
        flags=reading.flags,
    )
    return BOOK.quote_call(call, None, reading.usage_by_model).cost


def priced(reading: Reading) -> Cost:
    """Quote a reading that has a price."""
    cost = cost_of(reading)
    assert cost is not None
    return cost
