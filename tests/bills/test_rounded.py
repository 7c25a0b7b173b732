"""Bills that round each line to cents."""

from __future__ import annotations

import dataclasses
import random
from decimal import Decimal

import pytest

from flask_llm_cost.bills.statement import Statement
from tests.bills.months import a_call
from tests.bills.months import bill_of
from tests.bills.months import DAY
from tests.bills.months import ledger_of
from tests.bills.months import rows_of
from tests.bills.months import some_calls
from tests.bills.months import START
from tests.bills.test_reconcile import amount
from tests.bills.test_reconcile import compare
from tests.bills.test_reconcile import DAYS


def rounded(bill: Statement, unit: str) -> Statement:
    lines = [
        dataclasses.replace(
            line, billed_text=str((line.billed or Decimal(0)).quantize(Decimal(unit)))
        )
        for line in bill.lines
    ]
    return dataclasses.replace(bill, lines=tuple(lines))


@pytest.mark.parametrize("unit", ["0.01", "0.001", "0.0001"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lines_in_cents_are_rounded(unit: str, seed: int) -> None:
    calls = some_calls(random.Random(seed), DAYS)
    rows = [row for call in calls for row in rows_of(call)]
    report = compare(rounded(bill_of(rows, DAYS), unit), ledger_of(calls))
    assert {each.cause for each in report.residuals} == {"rounding"}
    assert report.verdict == "reconciled"


def test_what_is_missing_is_still_named_beside_rounding() -> None:
    calls = some_calls(random.Random(4), DAYS)
    extra = rows_of(a_call(START + DAY, "one", input=40_000))
    rows = [row for call in calls for row in rows_of(call)] + extra
    found = compare(rounded(bill_of(rows, DAYS), "0.01"), ledger_of(calls)).by_cause()
    assert set(found) == {"rounding", "uncaptured"}
    assert found["uncaptured"] == amount(extra)


def test_another_price_in_cents_is_not_rounding() -> None:
    calls = some_calls(random.Random(5), DAYS)
    rows = [
        dataclasses.replace(row, rate=row.rate * 2)
        for call in calls
        for row in rows_of(call)
    ]
    report = compare(rounded(bill_of(rows, DAYS), "0.01"), ledger_of(calls))
    assert report.verdict != "reconciled"
    assert abs(report.by_cause().get("rounding", Decimal(0))) < Decimal("0.005")
