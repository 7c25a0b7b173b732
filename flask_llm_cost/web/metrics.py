"""``/metrics``: counters and gauges in the text format of Prometheus."""

from __future__ import annotations

import hmac
import typing as t
from collections.abc import Iterator
from decimal import Decimal

from flask import request

from ..calendar import period_of
from ..money import digits
from ..query import metrics as query
from ..query.metrics import Metric
from ..query.metrics import Sample
from .current import host
from .current import now
from .current import queued
from .current import rejected

CONTENT_TYPE: t.Final = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPES: t.Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def is_authorized() -> bool:
    """Whether the request sends ``LLM_COST_METRICS_TOKEN``."""
    token = host().settings.metrics_token
    given = request.authorization
    if token is None or given is None or given.type != "bearer" or not given.token:
        return False
    return hmac.compare_digest(given.token.encode(), token.encode())


def metrics() -> Iterator[Metric]:
    """Ask the ledger for everything that monitoring reads."""
    settings, ledger = host().settings, host().ledger
    # Not from a replica: another one could be behind, and counters would fall.
    month, _ = period_of("month", now(), settings.timezone)
    with ledger.reading(fresh=True, since=month) as connection:
        if ledger.rollups is not None:  # files have no counters
            yield from query.counters(connection, settings.metrics_tags)
        yield from query.spend(connection, now(), settings.timezone)
        if ledger.budgets is not None:
            standings = ledger.budgets.standings(connection, now(), most=1)
            yield from query.budgets(standings)
    for name, number, meaning in (
        ("queued_calls", queued(), "Calls of this host that are not stored yet."),
        ("rejected_calls", rejected(), "Calls of this host that cannot be stored."),
    ):
        samples = [] if number is None else [Sample({}, number)]
        yield Metric(name, "gauge", meaning, samples)


def text(found: Iterator[Metric]) -> Iterator[str]:
    """Yield metrics as text."""
    for metric in found:
        name = f"llm_cost_{metric.name}"
        yield f"# HELP {name} {metric.help}\n# TYPE {name} {metric.kind}\n"
        for sample in metric.samples:
            pairs = ",".join(
                f'{key}="{value.translate(_ESCAPES)}"'
                for key, value in sample.labels.items()
            )
            labels = f"{{{pairs}}}" if pairs else ""
            yield f"{name}{sample.suffix}{labels} {_number(sample.value)}\n"


def _number(value: Decimal | int) -> str:
    return digits(value) if isinstance(value, Decimal) else str(value)
