"""Rules of the specification's columns that hold for each row of an export.

The validator from the package index (:mod:`.test_focus_validator`) knows 1.2 only.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import typing as t
from collections.abc import Iterator
from decimal import Decimal

import pytest

from flask_llm_cost.bills import StoredBills
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.call import Usage
from flask_llm_cost.contract import METERS
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.query import focus
from flask_llm_cost.query.billed import billed_month
from tests.ledger.samples import make_call
from tests.ledger.samples import NOON

from .focus_memory import CHARGES
from .test_focus import a_bill
from .test_focus import MONTH
from .test_focus import priced
from .test_focus import store

NOT_NULL = frozenset(
    ("BilledCost", "BillingAccountId", "BillingAccountType", "BillingCurrency")
    + ("BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory", "ChargeFrequency")
    + ("ChargePeriodEnd", "ChargePeriodStart", "ContractedCost", "EffectiveCost")
    + ("InvoiceIssuerName", "ListCost", "PricingCurrency", "ServiceCategory")
    + ("PricingCurrencyEffectiveCost", "ServiceName", "ServiceSubcategory")
)
OF_VERSION: dict[focus.Spec, frozenset[str]] = {
    "1.2": frozenset(("ProviderName", "PublisherName")),
    "1.4": frozenset(("HostProviderName", "ServiceProviderName")),
}
ALLOWED = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {"", "Correction"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "PricingCategory": {"", "Standard", "Dynamic", "Committed", "Other"},
    "ServiceCategory": {"AI and Machine Learning"},
    "ServiceSubcategory": {"Generative AI"},
}
TIMES = (
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargePeriodEnd",
    "ChargePeriodStart",
)
NUMBERS = (
    ("BilledCost", "ConsumedQuantity", "ContractedCost", "ContractedUnitPrice")
    + ("EffectiveCost", "ListCost", "ListUnitPrice", "PricingQuantity")
    + ("PricingCurrencyContractedUnitPrice", "PricingCurrencyEffectiveCost")
    + ("PricingCurrencyListUnitPrice",)
)


def every_meter() -> Iterator[Cost]:
    """A cost of each meter, at standard and batch rates; and one that was reported."""
    for meter in METERS:
        for mode, rate in (("standard", "2.5"), ("batch", "0.0000033")):
            unit = Decimal(1_000_000 if METERS[meter].unit == "token" else 1)
            part = Part(Decimal(7), Decimal(rate), round(7 * Decimal(rate) / unit, 12))
            yield Cost(
                part.amount_usd,
                {meter: part},
                "bundled",
                price_key="openai/m",
                mode=mode,
                tier="above_200k",
            )
    usd = Decimal("0.02")
    yield Cost(usd, {"reported": Part(Decimal(1), usd, usd)}, "provider")


def store_every_meter(ledger: Ledger) -> None:
    """Store a call with each of these costs, of three tenants."""
    usage = Usage(input_tokens=7)
    store(
        ledger,
        [
            make_call(n, usage=usage, cost=cost, tags={"tenant": f"t{n % 3}"})
            for n, cost in enumerate(every_meter())
        ],
    )


def store_closed(ledger: Ledger) -> None:
    """Store a month with a bill, which was closed and corrected."""
    store(ledger, [priced(1000, "2.5", n, tags={"tenant": "a"}) for n in range(3)])
    a_bill(ledger)
    ledger.rollups.build()
    ledger.rollups.close(MONTH, NOON + dt.timedelta(days=40))
    store(ledger, [priced(7, "0.0000033", 9, tags={"tenant": "b"})])


def texts(ledger: Ledger, spec: focus.Spec) -> list[dict[str, str]]:
    """The rows as a file has them."""
    billed = billed_month(StoredBills(ledger.bills), MONTH)
    month = focus.Month(MONTH, ("tenant",), billed=billed)
    with ledger.reading() as connection:
        found = [focus.csv_values(r, spec) for r in focus.rows(connection, month)]
    names = focus.COLUMNS[spec]
    return [
        {n: "" if v is None else str(v) for n, v in zip(names, values, strict=True)}
        for values in found
    ]


def times(quantity: str, price: str) -> Decimal:
    return Decimal(quantity) * Decimal(price)


@pytest.mark.parametrize("spec", t.get_args(focus.Spec))
@pytest.mark.parametrize("fill", [store_every_meter, store_closed])
def test_each_row_follows_the_rules_of_its_columns(
    fill: t.Callable[[Ledger], None], spec: focus.Spec, ledger: Ledger
) -> None:
    fill(ledger)
    found = texts(ledger, spec)
    assert len(found) > 5
    for row in found:
        assert all(row[name] for name in NOT_NULL | OF_VERSION[spec]), row
        assert all(row[name] in known for name, known in ALLOWED.items()), row
        assert all(dt.datetime.fromisoformat(row[name]) for name in TIMES)
        assert all(Decimal(row[n]).is_finite() for n in NUMBERS if row[n])
        assert all(isinstance(v, str) for v in json.loads(row["Tags"]).values())
        # Of a charge for usage: what it is, how much of it, and at what price.
        assert bool(row["SkuId"]) == (row["ChargeCategory"] in {"Usage", "Purchase"})
        assert bool(row["PricingQuantity"]) == bool(row["PricingUnit"])
        assert bool(row["ConsumedQuantity"]) == bool(row["ConsumedUnit"])
        assert row["SkuPriceId"] or not row["ConsumedQuantity"]
        for price, cost in (
            ("ListUnitPrice", "ListCost"),
            ("ContractedUnitPrice", "ContractedCost"),
        ):
            if row[price]:
                assert times(row["PricingQuantity"], row[price]) == Decimal(row[cost])


def test_a_price_is_of_one_thing(ledger: Ledger) -> None:
    store_every_meter(ledger)
    seen: dict[str, tuple[str, str]] = {}
    for row in texts(ledger, "1.4"):
        if row["SkuPriceId"]:
            of = row["SkuId"], row["ListUnitPrice"]
            assert seen.setdefault(row["SkuPriceId"], of) == of
    assert len(seen) == 2 * len(METERS)


@pytest.mark.parametrize("state", ["open", "closed"])
def test_memory_does_not_grow_with_the_days(state: str) -> None:
    command = [sys.executable, "-m", "tests.query.focus_memory", state]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows, grown = map(int, out.split())
    assert rows == 31 * CHARGES
    assert grown < 6_000  # kilobytes; to keep what the month has took 17,000
