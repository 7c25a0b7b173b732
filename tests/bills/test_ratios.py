"""Discounts and prices: told apart, of one account or of all, by less than 0.01 %."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Iterable
from decimal import Decimal

import pytest

from tests.bills.months import a_call
from tests.bills.months import bill_of
from tests.bills.months import DAY
from tests.bills.months import ledger_of
from tests.bills.months import Row
from tests.bills.months import rows_of
from tests.bills.months import START
from tests.bills.test_reconcile import amount
from tests.bills.test_reconcile import causes
from tests.bills.test_reconcile import compare
from tests.bills.test_reconcile import DAYS
from tests.bills.test_reconcile import made


def cheaper(rows: Iterable[Row], ratio: str, **only: str) -> list[Row]:
    """Rows at a part of their rate: those that have these values, or all."""
    return [
        dataclasses.replace(row, rate=row.rate * Decimal(ratio))
        if all(getattr(row, name) == value for name, value in only.items())
        else row
        for row in rows
    ]


@pytest.mark.parametrize("ratio", ["0.85", "0.9999", "0.99991", "0.999"])
def test_a_small_discount_is_one(ratio: str) -> None:
    calls, rows = made()
    billed = cheaper(rows, ratio)
    report = compare(bill_of(billed, DAYS), ledger_of(calls))
    assert causes(report) == {"discount": amount(billed) - amount(rows)}


@pytest.mark.parametrize("ratio", ["0.85", "0.9999", "0.99991"])
@pytest.mark.parametrize(
    "only", [{"model": "one"}, {"model": "one", "meter": "output"}]
)
def test_a_price_of_nearly_all_dollars_is_no_discount(
    ratio: str, only: dict[str, str]
) -> None:
    calls, rows = made()
    billed = cheaper(rows, ratio, **only)
    report = compare(bill_of(billed, DAYS), ledger_of(calls))
    assert causes(report) == {"price": amount(billed) - amount(rows)}


def test_a_price_near_the_discount_is_told_apart() -> None:
    calls, rows = made()
    discounted = cheaper(rows, "0.93")
    billed = cheaper(discounted, "0.99996", model="two", meter="input")
    report = compare(bill_of(billed, DAYS), ledger_of(calls))
    assert causes(report) == {
        "discount": amount(discounted) - amount(rows),
        "price": amount(billed) - amount(discounted),
    }


def test_a_discount_is_named_beside_a_price_that_is_far_from_it() -> None:
    calls, rows = made()
    tripled = cheaper(rows, "3", model="two", meter="input")
    billed = cheaper(tripled, "0.93")
    found = causes(compare(bill_of(billed, DAYS), ledger_of(calls)))
    assert set(found) == {"discount", "price"}
    assert found["discount"] < 0 < found["price"]


def accounts(ratios: dict[str, str]) -> tuple[t.Any, list[Row], list[Row]]:
    calls, rows = made()
    more = [
        a_call(START + n * DAY + DAY / 3, model, input=3001 + n, output=703 + n)
        for n in range(DAYS)
        for model in ("one", "two")
    ]
    for call in more:
        rows += [dataclasses.replace(row, project="second") for row in rows_of(call)]
    billed = list(rows)
    for project, ratio in ratios.items():
        billed = cheaper(billed, ratio, project=project)
    return ledger_of([*calls, *more]), rows, billed


@pytest.mark.parametrize(
    "ratios",
    [{"second": "0.9"}, {"ours": "0.9", "second": "0.8"}, {"second": "0.9999"}],
)
def test_accounts_have_discounts_of_their_own(ratios: dict[str, str]) -> None:
    ledger, rows, billed = accounts(ratios)
    report = compare(bill_of(billed, DAYS), ledger)
    assert causes(report) == {"discount": amount(billed) - amount(rows)}
    assert report.verdict == "explained"


def test_a_price_of_one_account_is_no_discount() -> None:
    ledger, _, billed = accounts({})
    billed = cheaper(billed, "0.9", project="second", meter="input", model="one")
    report = compare(bill_of(billed, DAYS), ledger)
    assert "discount" not in causes(report)
