"""Write ledgers, and the bills of every source for them, with causes that are planted.

What is written here follows the sources' formats and the algebra of bills, and shares no
code with what reads and compares them.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import io
import json
import random
import typing as t
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from decimal import Decimal

from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.call import Usage
from flask_llm_cost.event_id import mint_event_id

START: t.Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DAY: t.Final = dt.timedelta(days=1)
HOUR: t.Final = dt.timedelta(hours=1)
MILLION: t.Final = Decimal(10**6)
FIELDS: t.Final = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
}


@dataclasses.dataclass(frozen=True)
class Used:
    """One meter of one call, as it is billed."""

    day: dt.date
    model: int
    meter: str
    quantity: int
    rate: Decimal  # USD per million
    mode: str = ""
    long: bool = False
    region: str = ""
    scope: str = "ours"
    response: str = ""
    listed: Decimal | None = None  # the rate before a discount

    @property
    def usd(self) -> Decimal:
        return self.quantity * self.rate / MILLION

    @property
    def listed_usd(self) -> Decimal:
        rate = self.rate if self.listed is None else self.listed
        return self.quantity * rate / MILLION


@dataclasses.dataclass(frozen=True)
class Fee:
    """A line that no call accounts for."""

    day: dt.date
    kind: str
    usd: Decimal


@dataclasses.dataclass(frozen=True)
class Total:
    """What is billed for everything that has the same names on a day."""

    day: dt.date
    model: int
    meter: str
    mode: str
    long: bool
    region: str
    scope: str
    quantity: int
    usd: Decimal
    listed: Decimal


def totals(used: Iterable[Used]) -> list[Total]:
    sums: dict[tuple[t.Any, ...], list[t.Any]] = {}
    for each in used:
        key = (each.day, each.model, each.meter, each.mode, each.long, each.region)
        known = sums.setdefault((*key, each.scope), [0, Decimal(0), Decimal(0)])
        known[0] += each.quantity
        known[1] += each.usd
        known[2] += each.listed_usd
    return [Total(*key, *values) for key, values in sums.items()]


def plain(amount: Decimal) -> str:
    return f"{amount:f}"


def as_csv(rows: Sequence[Mapping[str, t.Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


Files: t.TypeAlias = list[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Source:
    """How one source writes a bill."""

    name: str
    provider: str
    models: tuple[str, ...]
    """As calls name them."""
    meters: tuple[str, ...]
    modes: tuple[str, ...]
    fees: tuple[str, ...]
    write: Callable[[Sequence[Used], Sequence[Fee], int], Files]
    long: bool = False
    listed: bool = False
    tied: bool = False
    """Whether it was tried on a real bill."""
    quantities: bool = True
    regions: tuple[str, ...] = ()


def days_of(days: int) -> list[dt.date]:
    return [(START + n * DAY).date() for n in range(days)]


# OpenAI

_OPENAI_SIDES: t.Final = {
    "input": "input",
    "output": "output",
    "cache_read": "cached input",
}
_OPENAI_FEES: t.Final = {
    "tool_fee": "web search tool calls",
    "storage": "vector storage",
    "credit": None,
}


def openai(used: Sequence[Used], fees: Sequence[Fee], days: int) -> Files:
    results: dict[dt.date, list[t.Any]] = defaultdict(list)
    for each in totals(used):
        name = OPENAI.models[each.model]
        if each.mode:
            name = f"{each.mode} | {name}"
        name = f"{name}, {_OPENAI_SIDES[each.meter]}"
        results[each.day].append(
            {
                "object": "organization.costs.result",
                "amount": {"value": plain(each.usd), "currency": "usd"},
                "line_item": name + (", long context" if each.long else ""),
                "project_id": each.scope,
                "quantity": each.quantity,
                "quantity_unit": "tokens",
            }
        )
    for fee in fees:
        results[fee.day].append(
            {
                "object": "organization.costs.result",
                "amount": {"value": plain(fee.usd), "currency": "usd"},
                "line_item": _OPENAI_FEES[fee.kind],
                "project_id": "ours",
                "quantity": None,
            }
        )
    buckets = []
    for day in days_of(days):
        at = dt.datetime.combine(day, dt.time(), dt.UTC)
        buckets.append(
            {
                "object": "bucket",
                "start_time": int(at.timestamp()),
                "end_time": int((at + DAY).timestamp()),
                "results": results[day],
            }
        )
    page = {"object": "page", "data": buckets, "has_more": False, "next_page": None}
    return [("costs.json", json.dumps(page))]


OPENAI: t.Final = Source(
    "openai",
    "openai",
    ("gpt-5-mini-2025-08-07", "gpt-5.4-2026-03-05"),
    ("input", "output", "cache_read"),
    ("priority", "batch", "flex"),
    ("tool_fee", "storage", "credit"),
    openai,
    long=True,
    tied=True,
)

# Anthropic

_ANTHROPIC: t.Final = {
    "input": "uncached_input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_write": "cache_creation.ephemeral_5m_input_tokens",
    "cache_write_1h": "cache_creation.ephemeral_1h_input_tokens",
}
_ANTHROPIC_FEES: t.Final = {
    "tool_fee": "code_execution",
    "session_fee": "session_usage",
}


def anthropic(used: Sequence[Used], fees: Sequence[Fee], days: int) -> Files:
    costs: dict[dt.date, list[t.Any]] = defaultdict(list)
    usage: dict[tuple[t.Any, ...], dict[str, int]] = defaultdict(dict)
    for each in totals(used):
        told = {
            "model": ANTHROPIC.models[each.model],
            "service_tier": each.mode or "standard",
            "context_window": "200k-1M" if each.long else "0-200k",
            "inference_geo": each.region or "not_available",
            "workspace_id": each.scope,
        }
        costs[each.day].append(
            told
            | {
                "amount": plain(each.usd * 100),
                "currency": "USD",
                "cost_type": "tokens",
                "token_type": _ANTHROPIC[each.meter],
                "description": f"{told['model']} Usage - {each.meter}",
            }
        )
        usage[each.day, *told.items()][each.meter] = each.quantity
    for fee in fees:
        costs[fee.day].append(
            {
                "amount": plain(fee.usd * 100),
                "currency": "USD",
                "cost_type": _ANTHROPIC_FEES.get(fee.kind),
                "description": fee.kind,
                "model": None,
                "token_type": None,
            }
        )
    used_up: dict[dt.date, list[t.Any]] = defaultdict(list)
    for (day, *pairs), counts in usage.items():
        used_up[day].append(
            dict(pairs)
            | {
                "uncached_input_tokens": counts.get("input", 0),
                "output_tokens": counts.get("output", 0),
                "cache_read_input_tokens": counts.get("cache_read", 0),
                "cache_creation": {
                    "ephemeral_5m_input_tokens": counts.get("cache_write", 0),
                    "ephemeral_1h_input_tokens": counts.get("cache_write_1h", 0),
                },
                "server_tool_use": {"web_search_requests": 0},
            }
        )
    return [
        (f"{name}.json", json.dumps(_anthropic_page(results, days)))
        for name, results in (("cost", costs), ("usage", used_up))
    ]


def _anthropic_page(results: Mapping[dt.date, t.Any], days: int) -> t.Any:
    return {
        "data": [
            {
                "starting_at": f"{day}T00:00:00Z",
                "ending_at": f"{day + DAY}T00:00:00Z",
                "results": results.get(day, []),
            }
            for day in days_of(days)
        ],
        "has_more": False,
        "next_page": None,
    }


ANTHROPIC: t.Final = Source(
    "anthropic",
    "anthropic",
    ("claude-sonnet-4-20250514", "claude-opus-4-20250514"),
    ("input", "output", "cache_read", "cache_write"),
    ("batch", "flex"),
    ("tool_fee", "session_fee", "credit"),
    anthropic,
    long=True,
    regions=("us",),
)

# Azure

_AZURE_SIDES: t.Final = {"input": "Inp", "output": "Outp", "cache_read": "cached Inp"}
_AZURE_TYPES: t.Final = {
    "credit": "Refund",
    "tax": "Tax",
    "commitment": "Purchase",
    "adjustment": "Adjustment",
    "rounding": "RoundingAdjustment",
}


def azure(used: Sequence[Used], fees: Sequence[Fee], days: int) -> Files:
    rows: list[dict[str, t.Any]] = []
    for each in totals(used):
        words = [("gpt-4o 1120", "gpt-4o-mini 0718")[each.model]]
        words += ["Batch"] if each.mode else []
        words += [_AZURE_SIDES[each.meter], each.region or "glbl", "Tokens"]
        rows.append(
            _azure_row(each.day, " ".join(words), each.usd, "Usage")
            | {
                "Quantity": plain(Decimal(each.quantity) / 1000),
                "UnitOfMeasure": "1K",
                "ResourceId": f"/subscriptions/s/x/{each.scope}",
                "PayGCostInBillingCurrency": plain(each.listed),
            }
        )
    for fee in fees:
        meter = {"storage": "GPT file storage"}.get(fee.kind, "Provisioned Managed")
        row = _azure_row(fee.day, meter, fee.usd, _AZURE_TYPES.get(fee.kind, "Usage"))
        rows.append(row)
    return [("azure.csv", as_csv(rows))]


def _azure_row(day: dt.date, meter: str, usd: Decimal, kind: str) -> dict[str, t.Any]:
    return {
        "Date": f"{day:%m/%d/%Y}",
        "MeterName": meter,
        "MeterCategory": "Foundry Models",
        "CostInBillingCurrency": plain(usd),
        "costInUsd": plain(usd),
        "BillingCurrencyCode": "USD",
        "ChargeType": kind,
        "Quantity": "",
        "UnitOfMeasure": "",
    }


AZURE: t.Final = Source(
    "azure",
    "azure",
    ("gpt-4o-2024-11-20", "gpt-4o-mini-2024-07-18"),
    ("input", "output", "cache_read"),
    ("batch",),
    ("credit", "tax", "commitment", "adjustment", "rounding", "storage"),
    azure,
    listed=True,
    regions=("DZone",),
)

# AWS

_AWS_SIDES: t.Final = {
    "input": "input-tokens",
    "output": "output-tokens",
    "cache_read": "cache-read-input-token-count",
    "cache_write": "cache-write-input-token-count",
}
_AWS_TYPES: t.Final = {
    "credit": "Credit",
    "tax": "Tax",
    "commitment": "Fee",
    "adjustment": "EdpDiscount",
    "storage": "Usage",
}


def aws(used: Sequence[Used], fees: Sequence[Fee], days: int) -> Files:
    rows: list[dict[str, t.Any]] = []
    for each in totals(used):
        name = ("Claude4.6Sonnet", "Nova2.0Lite")[each.model]
        name = f"USE1-{name}-{_AWS_SIDES[each.meter]}"
        name += f"-{each.mode}" if each.mode else ""
        name += "-cross-region-global" if each.region else ""
        rows.append(
            _aws_row(each.day, name, each.usd, "Usage")
            | {
                "line_item_usage_amount": plain(Decimal(each.quantity) / 1000),
                "pricing_public_on_demand_cost": plain(each.listed),
                "line_item_usage_account_id": each.scope,
            }
        )
    for fee in fees:
        name = "USE1-CustomModel-storage" if fee.kind == "storage" else "Bedrock"
        rows.append(_aws_row(fee.day, name, fee.usd, _AWS_TYPES[fee.kind]))
    return [("cur.csv", as_csv(rows))]


def _aws_row(day: dt.date, name: str, usd: Decimal, kind: str) -> dict[str, t.Any]:
    return {
        "line_item_usage_start_date": f"{day}T05:00:00Z",
        "line_item_usage_end_date": f"{day}T06:00:00Z",
        "line_item_usage_account_id": "ours",
        "line_item_line_item_type": kind,
        "line_item_product_code": "AmazonBedrock",
        "line_item_usage_type": name,
        "line_item_usage_amount": "1",
        "pricing_unit": "1K tokens",
        "line_item_currency_code": "USD",
        "line_item_unblended_cost": plain(usd),
        "pricing_public_on_demand_cost": plain(usd),
        "line_item_iam_principal": "",
        "tags": "",
    }


AWS: t.Final = Source(
    "aws",
    "bedrock",
    ("us.anthropic.claude-sonnet-4-6", "us.amazon.nova-2-lite-v1:0"),
    ("input", "output", "cache_read"),
    ("batch", "flex", "priority"),
    ("credit", "tax", "commitment", "adjustment", "storage"),
    aws,
    listed=True,
    regions=("global",),
)

# Google

_GOOGLE_TYPES: t.Final = {
    "tax": "tax",
    "adjustment": "adjustment",
    "rounding": "rounding_error",
}


def google(used: Sequence[Used], fees: Sequence[Fee], days: int) -> Files:
    rows: list[dict[str, t.Any]] = []
    for each in totals(used):
        name = ("Gemini 2.5 Flash", "Gemini 2.5 Pro")[each.model]
        side = {"input": "Text Input", "output": "Text Output"}
        caching = "Input Text Caching"
        words = [name, *(["Batch"] if each.mode else []), side.get(each.meter, caching)]
        words += ["Long"] if each.long else []
        rows.append(
            _google_row(
                each.day, f"{' '.join(words)} - Predictions", each.usd, "regular"
            )
            | {
                "usage": {"amount": each.quantity, "unit": "count"},
                "project": {"id": each.scope},
                "cost_at_list": plain(each.listed),
            }
        )
    for fee in fees:
        if fee.kind == "credit":
            row = _google_row(
                fee.day, "Gemini 2.5 Flash Credits", Decimal(0), "regular"
            )
            rows.append(row | {"credits": [{"name": "c", "amount": plain(fee.usd)}]})
            continue
        kind = _GOOGLE_TYPES.get(fee.kind, "regular")
        words = {
            "storage": "Gemini 2.5 Flash Input Text Caching Storage",
            "commitment": "Gemini Provisioned Throughput",
            "tool_fee": "Gemini Grounding with Google Search",
        }
        rows.append(_google_row(fee.day, words.get(fee.kind, "Gemini"), fee.usd, kind))
    return [("google.json", "\n".join(map(json.dumps, rows)))]


def _google_row(day: dt.date, name: str, usd: Decimal, kind: str) -> dict[str, t.Any]:
    return {
        "billing_account_id": "A",
        "service": {"description": "Vertex AI"},
        "sku": {"description": name},
        "usage_start_time": f"{day}T05:00:00Z",
        "usage_end_time": f"{day}T06:00:00Z",
        "cost": plain(usd),
        "currency": "USD",
        "cost_type": kind,
        "credits": [],
    }


GOOGLE: t.Final = Source(
    "google",
    "vertex",
    ("gemini-2.5-flash", "gemini-2.5-pro"),
    ("input", "output", "cache_read"),
    ("batch",),
    ("credit", "tax", "adjustment", "rounding", "storage", "commitment", "tool_fee"),
    google,
    long=True,
    listed=True,
)

# FOCUS, of AWS

_FOCUS_TYPES: t.Final = {
    "credit": "Credit",
    "tax": "Tax",
    "commitment": "Purchase",
    "adjustment": "Adjustment",
    "storage": "Usage",
}


def focus(used: Sequence[Used], fees: Sequence[Fee], days: int) -> Files:
    rows: list[dict[str, t.Any]] = []
    for each in totals(used):
        name = ("Claude4.6Sonnet", "Nova2.0Lite")[each.model]
        name = f"USE1-{name}-{_AWS_SIDES[each.meter]}"
        name += f"-{each.mode}" if each.mode else ""
        name += "-cross-region-global" if each.region else ""
        rows.append(
            _focus_row(each.day, name, each.usd, "Usage")
            | {
                "ConsumedQuantity": plain(Decimal(each.quantity)),
                "ConsumedUnit": "Tokens",
                "ListCost": plain(each.listed),
                "SubAccountId": each.scope,
            }
        )
    for fee in fees:
        name = "USE1-CustomModel-storage" if fee.kind == "storage" else "Bedrock"
        rows.append(_focus_row(fee.day, name, fee.usd, _FOCUS_TYPES[fee.kind]))
    return [("focus.csv", as_csv(rows))]


def _focus_row(day: dt.date, name: str, usd: Decimal, kind: str) -> dict[str, t.Any]:
    return {
        "BillingAccountId": "A",
        "BillingCurrency": "USD",
        "BilledCost": plain(usd),
        "ListCost": plain(usd),
        "ChargeCategory": kind,
        "ChargeClass": "",
        "ChargeDescription": name,
        "ChargePeriodStart": f"{day}T05:00:00Z",
        "ChargePeriodEnd": f"{day}T06:00:00Z",
        "ProviderName": "AWS",
        "PublisherName": "AWS",
        "ServiceName": "Amazon Bedrock",
        "x_UsageType": name,
    }


FOCUS: t.Final = dataclasses.replace(AWS, name="focus", write=focus)

# Totals per model


def openrouter(used: Sequence[Used], fees: Sequence[Fee], days: int) -> Files:
    sums: dict[tuple[dt.date, int], Decimal] = defaultdict(Decimal)
    tokens: dict[tuple[dt.date, int], dict[str, int]] = defaultdict(
        lambda: {"prompt_tokens": 0, "completion_tokens": 0}
    )
    for each in used:
        key = each.day, each.model
        sums[key] += each.usd
        side = "completion_tokens" if each.meter == "output" else "prompt_tokens"
        tokens[key][side] += each.quantity
    rows = [
        {
            "date": str(day),
            "model": OPENROUTER.models[model],
            "model_permaslug": OPENROUTER.models[model],
            "endpoint_id": "e",
            "provider_name": "Some",
            "usage": float(usd),
            "byok_usage_inference": 0,
            "requests": 5,
            "reasoning_tokens": 0,
            **tokens[day, model],
        }
        for (day, model), usd in sums.items()
    ]
    return [("activity.json", json.dumps({"data": rows}))]


OPENROUTER: t.Final = Source(
    "openrouter",
    "openrouter",
    ("openai/gpt-4.1", "anthropic/claude-sonnet-4"),
    ("input", "output"),
    (),
    (),
    openrouter,
    quantities=False,
)


def generations(used: Sequence[Used], fees: Sequence[Fee], days: int) -> Files:
    sums: dict[tuple[dt.date, int, str], Decimal] = defaultdict(Decimal)
    for each in used:
        sums[each.day, each.model, each.response] += each.usd
    rows = [
        {
            "generation_id": response,
            "created_at": f"{day} 05:00:00.000",
            "cost_total": plain(usd),
            "model_permaslug": OPENROUTER.models[model],
            "byok_usage_inference": "0",
        }
        for (day, model, response), usd in sums.items()
    ]
    return [("activity.csv", as_csv(rows))]


GENERATIONS: t.Final = dataclasses.replace(OPENROUTER, write=generations)


def xai(used: Sequence[Used], fees: Sequence[Fee], days: int) -> Files:
    sums: dict[tuple[int, dt.date], Decimal] = defaultdict(Decimal)
    for each in used:
        sums[each.model, each.day] += each.usd
    series = [
        {
            "group": [name],
            "groupLabels": [name],
            "dataPoints": [
                {"timestamp": f"{day}T00:00:00Z", "values": [float(sums[n, day])]}
                for day in days_of(days)
            ],
        }
        for n, name in enumerate(XAI.models)
    ]
    return [("xai.json", json.dumps({"timeSeries": series, "limitReached": False}))]


XAI: t.Final = Source(
    "xai",
    "xai",
    ("grok-4-0709", "grok-3-mini"),
    ("input", "output"),
    (),
    (),
    xai,
    quantities=False,
)

WITH_QUANTITIES: t.Final = (OPENAI, ANTHROPIC, AZURE, AWS, GOOGLE, FOCUS)
EVERY: t.Final = (*WITH_QUANTITIES, OPENROUTER, XAI)

RATES: t.Final = (
    {"input": "2.5", "output": "10", "cache_read": "0.25"},
    {"input": "0.15", "output": "0.6", "cache_read": "0.03"},
)


def rate(model: int, meter: str) -> Decimal:
    base = Decimal(RATES[model]["input"])
    if meter == "cache_write":
        return base * Decimal("1.25")
    if meter == "cache_write_1h":
        return base * 2
    return Decimal(RATES[model][meter])


FACTORS: t.Final = {"batch": "0.5", "flex": "0.5", "priority": "2"}
"""What another mode costs."""


class Year:
    """A ledger and what is billed for it; each method plants one cause on one day.

    :ivar planted: The amounts by day and cause.
    """

    def __init__(self, source: Source, days: int, seed: int = 1) -> None:
        self.source = source
        self.days = days
        self.chance = random.Random(seed)
        self.calls: list[Call] = []
        self.used: list[Used] = []
        self.fees: list[Fee] = []
        self.planted: dict[tuple[dt.date, str], Decimal] = defaultdict(Decimal)
        self.watermark: dt.datetime | None = None
        for day in range(days):
            for n in range(6):
                self.both(self.call(day, n % 2, hour=2 + 3 * n))

    # Calls

    def odd(self) -> int:
        return self.chance.randrange(20_001, 900_000, 2)

    def call(
        self,
        day: int,
        model: int,
        *,
        hour: float = 5,
        mode: str = "",
        rates: Mapping[str, Decimal] | None = None,
        meters: Sequence[str] | None = None,
        tier: str | None = None,
    ) -> Call:
        at = START + day * DAY + hour * HOUR
        at += dt.timedelta(milliseconds=self.chance.randrange(60_000))
        meters = self.source.meters if meters is None else meters
        factor = Decimal(FACTORS.get(mode, "1"))
        parts = {}
        for meter in meters:
            price = (rates or {}).get(meter, rate(model, meter)) * factor
            n = self.odd()
            parts[meter] = Part(Decimal(n), price, n * price / MILLION)
        counts: dict[str, t.Any] = {
            FIELDS[meter]: int(part.quantity) for meter, part in parts.items()
        }
        event_id = mint_event_id(at)
        return Call(
            event_id,
            at,
            self.source.provider,
            self.source.models[model],
            usage=Usage(**counts),
            cost=Cost(
                sum((p.amount_usd for p in parts.values()), Decimal(0)),
                parts,
                "bundled",
                price_key=f"{self.source.provider}/{self.source.models[model]}",
                mode=mode or None,
                tier=tier,
            ),
            usage_source="response",
            http_status=200,
            response_id=f"gen-{event_id}",
        )

    def rows(self, call: Call, **changes: t.Any) -> list[Used]:
        assert call.cost is not None
        return [
            dataclasses.replace(
                Used(
                    call.started_at.date(),
                    self.source.models.index(call.model),
                    meter,
                    int(part.quantity),
                    part.rate,
                    call.cost.mode or "",
                    call.cost.tier is not None,
                    response=call.response_id or "",
                ),
                **changes,
            )
            for meter, part in call.cost.parts.items()
        ]

    def both(self, call: Call, **changes: t.Any) -> None:
        self.calls.append(call)
        self.used += self.rows(call, **changes)

    def plant(self, day: int, cause: str, usd: Decimal) -> None:
        self.planted[(START + day * DAY).date(), cause] += usd

    def of_day(self, day: int, number: int = 0) -> int:
        """Where one of the first model's calls of a day is."""
        when, name = (START + day * DAY).date(), self.source.models[0]
        found = [
            n
            for n, call in enumerate(self.calls)
            if call.started_at.date() == when and call.model == name
        ]
        return found[number]

    # Quantities

    def uncaptured(self, day: int) -> None:
        found = self.rows(self.call(day, 0), scope="notebooks")
        self.used += found
        self.plant(day, "uncaptured", total(found))

    def not_on_bill(self, day: int) -> None:
        call = self.call(day, 0)
        self.calls.append(call)
        self.plant(day, "not_on_bill", -total(self.rows(call)))

    def no_usage(self, day: int) -> None:
        call = self.call(day, 0)
        self.used += self.rows(call)
        self.calls.append(dataclasses.replace(call, usage=None, cost=None))
        self.plant(day, "no_usage", total(self.rows(call)))

    def cut(self, day: int) -> None:
        """A stream that was cut: its output is known up to a ceiling."""
        call = self.call(day, 0)
        assert call.cost is not None
        rows = self.rows(call)
        output = next(each for each in rows if each.meter == "output")
        read = {m: p for m, p in call.cost.parts.items() if m != "output"}
        floor = sum((p.amount_usd for p in read.values()), Decimal(0))
        ceiling = floor + output.usd * 2
        cost = dataclasses.replace(
            call.cost, total_usd=floor, parts=read, complete=False, ceiling_usd=ceiling
        )
        usage = dataclasses.replace(call.usage, output_tokens=0)  # type: ignore[type-var]
        self.calls.append(
            dataclasses.replace(
                call,
                usage=usage,
                cost=cost,
                usage_source="stream_partial",
                outcome="interrupted",
                flags=frozenset(["cut"]),
            )
        )
        self.used += rows
        self.plant(day, "no_usage", output.usd)

    def double_capture(self, day: int) -> None:
        call = self.calls[self.of_day(day)]
        again = mint_event_id(call.started_at)
        self.calls.append(dataclasses.replace(call, event_id=again))
        self.plant(day, "double_capture", -total(self.rows(call)))

    def day_edge(self, day: int) -> None:
        call = self.call(day, 0, hour=23.9)
        following = call.started_at.date() + DAY
        self.both(call, day=following)
        self.plant(day, "day_edge", -total(self.rows(call)))
        self.plant(day + 1, "day_edge", total(self.rows(call)))

    def late_batch(self, day: int) -> None:
        call = self.call(day, 1, mode="batch", hour=12)
        self.both(call, day=call.started_at.date() + 2 * DAY)
        self.both(self.call(day, 1, mode="batch", hour=3))
        self.both(self.call(day + 1, 1, mode="batch"))
        self.both(self.call(day + 2, 1, mode="batch"))
        self.plant(day, "day_edge", -total(self.rows(call)))
        self.plant(day + 2, "day_edge", total(self.rows(call)))

    # Rates

    def unpriced(self, day: int) -> None:
        n = self.of_day(day, 1)
        self.plant(day, "unpriced", total(self.rows(self.calls[n])))
        self.calls[n] = dataclasses.replace(self.calls[n], cost=None)

    def estimated(self, day: int) -> None:
        n = self.of_day(day, 1)
        self.plant(day, "estimated", total(self.rows(self.calls[n])))
        self.calls[n] = dataclasses.replace(self.calls[n], usage_source="estimated")

    def incomplete(self, day: int) -> None:
        n = self.of_day(day, 1)
        call = self.calls[n]
        assert call.cost is not None
        rows = self.rows(call)
        part = call.cost.parts["input"]
        cost = dataclasses.replace(
            call.cost,
            total_usd=part.amount_usd,
            parts={"input": part},
            complete=False,
            ceiling_usd=None,
        )
        self.calls[n] = dataclasses.replace(call, cost=cost)
        rest = [each for each in rows if each.meter != "input"]
        self.plant(day, "incomplete", total(rest))

    def tier(self, day: int) -> None:
        mode = self.source.modes[day % len(self.source.modes)]
        call = self.call(day, 0)
        factor = Decimal(FACTORS[mode])
        found = [
            dataclasses.replace(each, mode=mode, rate=each.rate * factor)
            for each in self.rows(call)
        ]
        self.calls.append(call)
        self.used += found
        self.plant(day, "tier", total(found) - total(self.rows(call)))

    def long_context(self, day: int) -> None:
        call = self.call(day, 0)
        found = [
            dataclasses.replace(each, long=True, rate=each.rate * 2)
            for each in self.rows(call)
        ]
        self.calls.append(call)
        self.used += found
        self.plant(day, "long_context", total(found) - total(self.rows(call)))

    def cache_ttl(self, day: int) -> None:
        call = self.call(day, 0)
        found = [
            dataclasses.replace(each, meter="cache_write_1h", rate=rate(0, "input") * 2)
            if each.meter == "cache_write"
            else each
            for each in self.rows(call)
        ]
        self.calls.append(call)
        self.used += found
        self.plant(day, "cache_ttl", total(found) - total(self.rows(call)))

    def region(self, day: int) -> None:
        """All of a model in a day is billed in another region, at 1.1 times the price."""
        self._each(day, 0, "region", Decimal("1.1"), region=self.source.regions[0])

    def price(self, day: int) -> None:
        self._each(day, 0, "price", Decimal("1.6"), meter="output")

    def _each(
        self,
        day: int,
        model: int,
        cause: str,
        factor: Decimal,
        meter: str | None = None,
        **changes: t.Any,
    ) -> None:
        when = (START + day * DAY).date()
        for n, each in enumerate(self.used):
            same = each.day == when and each.model == model
            if same and meter in (None, each.meter) and not each.mode and not each.long:
                self.used[n] = dataclasses.replace(
                    each, rate=each.rate * factor, **changes
                )
                self.plant(day, cause, self.used[n].usd - each.usd)

    def discount(self) -> None:
        """One ratio over all lines."""
        for n, each in enumerate(self.used):
            self.used[n] = dataclasses.replace(
                each, rate=each.rate * Decimal("0.93"), listed=each.rate
            )
            self.planted[each.day, "discount"] += self.used[n].usd - each.usd

    def unknown(self, day: int) -> Decimal:
        """Add an amount that nothing explains to one line; return it."""
        when = (START + day * DAY).date()
        usd = Decimal("0.000000012347")
        for n, each in enumerate(self.used):
            if (each.day, each.model, each.meter) == (when, 0, "output"):
                more = usd * MILLION / each.quantity
                self.used[n] = dataclasses.replace(each, rate=each.rate + more)
                return usd
        raise AssertionError

    # Lines

    def fee(self, day: int) -> None:
        for kind in self.source.fees:
            usd = Decimal(self.odd()).scaleb(-7)
            if kind in ("credit", "adjustment"):
                usd = -usd
            self.fees.append(Fee((START + day * DAY).date(), kind, usd))
            self.plant(day, kind, usd)

    def files(self) -> Files:
        return self.source.write(self.used, self.fees, self.days)


def total(used: Iterable[Used]) -> Decimal:
    return sum((each.usd for each in used), Decimal(0))


QUANTITIES: t.Final = (
    "uncaptured",
    "not_on_bill",
    "no_usage",
    "cut",
    "double_capture",
    "day_edge",
)
PRICES: t.Final = ("unpriced", "estimated", "incomplete", "price")


def causes_of(source: Source) -> list[str]:
    """What can be planted on the bills of a source."""
    found = [*QUANTITIES, *PRICES]
    found += ["tier"] if source.modes else []
    found += ["late_batch"] if "batch" in source.modes else []
    found += ["long_context"] if source.long else []
    found += ["cache_ttl"] if "cache_write" in source.meters else []
    found += ["region"] if source.regions else []
    found += ["fee"] if source.fees else []
    return found
