"""Months of a ledger, and the bills that match them before anything is planted."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
import typing as t
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Mapping
from decimal import Decimal

from flask_llm_cost.bills.ledger_side import Ledger
from flask_llm_cost.bills.line import Line
from flask_llm_cost.bills.statement import Statement
from flask_llm_cost.calendar import utc_hour
from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.call import Usage
from flask_llm_cost.db.rows import row_of
from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.rollups.meters import Adder

START: t.Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DAY: t.Final = dt.timedelta(days=1)
MILLION: t.Final = Decimal(10**6)
RATES: t.Final = {
    "one": {"input": Decimal("2.5"), "output": Decimal(10), "cache_read": Decimal(1)},
    "two": {"input": Decimal("0.15"), "output": Decimal("0.6")},
}


@dataclasses.dataclass
class Row:
    """What was billed for one meter of one call."""

    at: dt.datetime
    model: str
    meter: str
    quantity: int
    rate: Decimal
    mode: str | None = None
    billed_at: dt.datetime | None = None
    project: str = "ours"

    @property
    def amount(self) -> Decimal:
        return self.quantity * self.rate / MILLION

    @property
    def day(self) -> dt.date:
        return (self.billed_at or self.at).date()


def rows_of(call: Call) -> list[Row]:
    """What a call is billed, if all is well."""
    assert call.usage is not None
    usage = {
        "input": call.usage.input_tokens,
        "output": call.usage.output_tokens,
        "cache_read": call.usage.cache_read_tokens,
    }
    mode = None if call.cost is None else call.cost.mode
    return [
        Row(call.started_at, call.model, meter, n, RATES[call.model][meter], mode)
        for meter, n in usage.items()
        if n
    ]


def usage_of(counts: Mapping[str, int]) -> Usage:
    """The usage of these tokens, by meter."""
    fields: dict[str, t.Any] = {f"{meter}_tokens": n for meter, n in counts.items()}
    return Usage(**fields)


def a_call(at: dt.datetime, model: str, mode: str | None = None, **counts: int) -> Call:
    """A call with these tokens, at the price list's rates."""
    parts = {
        meter: Part(Decimal(n), RATES[model][meter], n * RATES[model][meter] / MILLION)
        for meter, n in counts.items()
    }
    total = sum((part.amount_usd for part in parts.values()), Decimal(0))
    return Call(
        mint_event_id(at),
        at,
        "openai",
        model,
        usage=usage_of(counts),
        cost=Cost(total, parts, "bundled", price_key=f"openai/{model}", mode=mode),
        usage_source="response",
        http_status=200,
    )


def some_calls(chance: random.Random, days: int, per_day: int = 6) -> list[Call]:
    """Calls of both models on each day, none near midnight."""
    made = []
    for day in range(days):
        for n in range(per_day):
            at = START + day * DAY + dt.timedelta(hours=2 + n * 18 / per_day)
            model = ("one", "two")[n % 2]
            counts: dict[str, t.Any] = {
                meter: chance.randrange(1000, 90_000, 2) for meter in RATES[model]
            }
            made.append(a_call(at, model, **counts))
    return made


class _Stored:
    def __init__(self, call: Call) -> None:
        self.__dict__.update(row_of(call))


def ledger_of(calls: Iterable[Call], **more: t.Any) -> Ledger:
    """The sums that a ledger of these calls keeps."""
    hours: dict[dt.datetime, Adder] = defaultdict(Adder)
    for call in calls:
        hours[utc_hour(call.started_at)].add(_Stored(call))
    found = [(hour, hours[hour].sums) for hour in sorted(hours)]
    return Ledger(lambda: found, **more)


def bill_of(rows: Iterable[Row], days: int, **changes: t.Any) -> Statement:
    """A bill with a line for each day, project, model, meter and mode."""
    sums: dict[tuple[t.Any, ...], list[t.Any]] = {}
    for row in rows:
        key = row.day, row.project, row.model, row.meter, row.mode
        known = sums.setdefault(key, [0, Decimal(0)])
        known[0] += row.quantity
        known[1] += row.amount
    lines = [
        a_line(
            day,
            str(amount),
            model=model,
            meter=meter,
            mode=mode,
            quantity=Decimal(quantity),
            scope={"project": project},
        )
        for (day, project, model, meter, mode), (quantity, amount) in sums.items()
    ]
    return statement(lines, days, **changes)


def a_line(day: dt.date, billed: str, **changes: t.Any) -> Line:
    start = dt.datetime.combine(day, dt.time(), dt.UTC)
    values: dict[str, t.Any] = {
        "source": "openai",
        "start": start,
        "end": start + DAY,
        "kind": "usage",
        "name": "a line",
        "currency": "USD",
        "billed_text": billed,
        "provider": "openai",
    }
    return Line(**(values | changes))


def statement(lines: Iterable[Line], days: int, **changes: t.Any) -> Statement:
    values: dict[str, t.Any] = {
        "source": "openai",
        "account": None,
        "start": START,
        "end": START + days * DAY,
        "currency": "USD",
        "lines": tuple(lines),
        "digest": "0" * 64,
        "covered": frozenset((START + n * DAY).date() for n in range(days)),
    }
    return Statement(**(values | changes))
