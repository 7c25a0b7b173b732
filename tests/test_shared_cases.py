"""Inputs from public bug reports, each with what is right and why."""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest

from flask_llm_cost.prices import PriceBook
from flask_llm_cost.providers import read_exchange
from tests.corpus import SHARED

AT = dt.datetime(2026, 11, 29, 12, tzinfo=dt.UTC)
FOLDER = SHARED / "cases"

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="no ../shared")


def paths(member: str) -> list[t.Any]:
    found = [
        p for p in sorted(FOLDER.glob("*.json")) if member in json.loads(p.read_text())
    ]
    return [pytest.param(path, id=path.stem) for path in found] or [
        pytest.param(None, marks=pytest.mark.skip(reason="no ../shared"))
    ]


def body_of(case: dict[str, t.Any]) -> bytes:
    if case["events"] is None:
        return json.dumps(case["response"]).encode()
    return b"".join(b"data: %s\n\n" % json.dumps(e).encode() for e in case["events"])


@pytest.mark.parametrize("path", paths("url"))
def test_an_exchange_is_read_and_priced_rightly(path: Path) -> None:
    case = json.loads(path.read_text())
    right = case["right"]
    request = case["request"]
    reading = read_exchange(
        method=case["method"],
        url=case["url"],
        request_body=None if request is None else json.dumps(request).encode(),
        status=200,
        headers=case["headers"],
        body=body_of(case),
        hosts=case["hosts"],
    )
    assert reading is not None
    assert reading.usage is not None
    assert reading.model is not None
    for name, count in right.get("usage", {}).items():
        assert getattr(reading.usage, name) == count
    for name, quantity in right.get("units", {}).items():
        assert reading.usage.units.get(name) == Decimal(quantity)
    if "max_total_input" in right:
        total = reading.usage.total_input_tokens
        assert total <= right["max_total_input"] or reading.flags
    if "cost_usd" in right:
        quote = PriceBook.bundled().quote(
            reading.provider,
            reading.model,
            reading.usage,
            at=AT,
            service_tier=reading.service_tier,
            reported_cost=reading.reported_cost,
            flags=reading.flags,
        )
        assert quote.cost is not None
        assert quote.cost.total_usd == Decimal(right["cost_usd"])


@pytest.mark.parametrize("path", paths("prices"))
def test_a_bundled_price_is_right(path: Path) -> None:
    for provider, model, rate, usd in json.loads(path.read_text())["prices"]:
        found = PriceBook.bundled().find(provider, model, at=AT)
        assert found is not None, model
        rates = {str(key): value for key, value in found.price.rates.items()}
        assert rates[rate] == Decimal(usd), (model, rate)
