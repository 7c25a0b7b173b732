"""What monitoring reads: counters that never decrease, and gauges that may."""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from collections import defaultdict
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import period_of
from ..calendar import Span
from ..checks import label_name
from ..db.tables import METRICS
from ..money import from_pico
from ..rollups import metrics
from .aggregate import breakdown
from .filters import CallFilter

if t.TYPE_CHECKING:
    from ..budgets.standing import Standing

_CALLS: t.Final = {
    "calls": "Calls stored in the ledger.",
    "failed_calls": "Calls that got an HTTP error or no response, and used nothing.",
    "unpriced_calls": "Calls that may have cost something, but have no known cost.",
    "incomplete_calls": "Calls whose cost is only partly known.",
    "estimated_calls": "Calls whose usage was estimated.",
}
_TOKENS: t.Final = {
    "input_tokens": "input",
    "cache_read_tokens": "cache_read",
    "cache_write_tokens": "cache_write",
    "output_tokens": "output",
}
_BUDGET: t.Final = {
    "limit": "The limit.",
    "spent": "The cost of the calls in the ledger.",
    "reserved": "Reserved for calls in progress.",
    "lost": "Reserved for calls that never ended.",
    "unsettled": "Counted for calls whose true cost is not known.",
}
_EXACT: t.Final = ("cost_total", "cost_estimated")


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric."""

    labels: Mapping[str, str]
    value: Decimal | int
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, in the terms of Prometheus."""

    name: str
    kind: t.Literal["counter", "gauge", "summary"]
    help: str
    samples: Sequence[Sample]


def counters(connection: sa.Connection, keys: Sequence[str]) -> Iterator[Metric]:
    """Yield what was ever stored: later changes of calls do not lower it.

    :param keys: The tags that are labels.
    """
    found = _by_labels(metrics.read(connection), keys)

    def samples(name: str, **more: str) -> list[Sample]:
        return [
            Sample(dict(labels) | more, _value(name, sums[name]))
            for labels, sums in found.items()
        ]

    for name, text in _CALLS.items():
        measure = name.removesuffix("_calls")
        yield Metric(f"{name}_total", "counter", text, samples(measure))
    tokens = [s for name, kind in _TOKENS.items() for s in samples(name, type=kind)]
    yield Metric("tokens_total", "counter", "Tokens used.", tokens)
    text = "Known cost of calls in USD when they were stored."
    yield Metric("cost_usd_total", "counter", text, samples("cost_total"))
    text = "Cost of estimated usage in USD, which is not in the known cost."
    yield Metric("estimated_cost_usd_total", "counter", text, samples("cost_estimated"))
    latencies = [
        Sample(dict(labels), value, suffix)
        for labels, sums in found.items()
        for suffix, value in (
            ("_count", sums["with_latency"]),
            ("_sum", Decimal(sums["latency_sum_ms"]).scaleb(-3)),
        )
    ]
    yield Metric("latency_seconds", "summary", "Latency of calls.", latencies)


def _value(name: str, number: int) -> Decimal | int:
    return from_pico(number) if name in _EXACT else number


_Labels: t.TypeAlias = tuple[tuple[str, str], ...]


def _by_labels(
    found: Mapping[metrics.Labels, metrics.Counts], keys: Sequence[str]
) -> dict[_Labels, dict[str, int]]:
    """Sum what differs only in tags that are not labels any more."""
    sums: defaultdict[_Labels, dict[str, int]] = defaultdict(
        lambda: dict.fromkeys(METRICS, 0)
    )
    for (provider, model, text), counts in sorted(found.items()):
        tags = json.loads(text)
        labels = {"provider": provider, "model": model}
        labels |= {label_name(key): tags.get(key, "") for key in keys}
        each = sums[tuple(labels.items())]
        for name, number in counts.items():
            each[name] += number
    return sums


def spend(
    connection: sa.Connection, now: dt.datetime, zone: dt.tzinfo
) -> Iterator[Metric]:
    """Yield what the current day and month cost so far."""
    spans: tuple[tuple[str, Span], ...] = (("today", "day"), ("month", "month"))
    for name, span in spans:
        start, end = period_of(span, now, zone)
        where = CallFilter(start=start, end=end, zone=zone)
        samples = [
            Sample(
                dict(zip(("provider", "model"), group.key, strict=True)),
                group.totals.spend_usd,
            )
            for group in breakdown(connection, where, "provider", "model")
        ]
        text = f"Known cost in USD of the current {span}, in the ledger's time zone."
        yield Metric(f"{name}_cost_usd", "gauge", text, samples)


def budgets(standings: Sequence[Standing]) -> Iterator[Metric]:
    """Yield how budgets stand: the most used window of each, if each value has its own."""
    labeled = [
        (each, {"budget": each.budget.name, "period": each.budget.period})
        for each in standings
    ]
    for name, text in _BUDGET.items():
        samples = [
            Sample(labels, from_pico(amount))
            for each, labels in labeled
            if (amount := getattr(each, name)) is not None
        ]
        yield Metric(f"budget_{name}_usd", "gauge", text, samples)
