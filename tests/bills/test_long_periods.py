"""Bills that have one amount for a month: the month is compared as a whole."""

from __future__ import annotations

import datetime as dt
import random
import typing as t
from collections.abc import Iterable
from decimal import Decimal

import pytest

from flask_llm_cost.bills.line import Line
from tests.bills.months import a_call
from tests.bills.months import a_line
from tests.bills.months import DAY
from tests.bills.months import ledger_of
from tests.bills.months import Row
from tests.bills.months import rows_of
from tests.bills.months import some_calls
from tests.bills.months import START
from tests.bills.months import statement
from tests.bills.test_reconcile import amount
from tests.bills.test_reconcile import causes
from tests.bills.test_reconcile import compare

MONTH: t.Final = 31


def monthly(rows: Iterable[Row]) -> list[Line]:
    """A line with a quantity for each model and meter."""
    sums: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        sums.setdefault((row.model, row.meter), []).append(row)
    return [
        a_line(
            START.date(),
            str(amount(some)),
            end=START + MONTH * DAY,
            model=model,
            meter=meter,
            quantity=Decimal(sum(row.quantity for row in some)),
        )
        for (model, meter), some in sums.items()
    ]


def total(rows: Iterable[Row]) -> list[Line]:
    """One line for everything."""
    return [a_line(START.date(), str(amount(rows)), end=START + MONTH * DAY)]


@pytest.mark.parametrize("write", [monthly, total])
def test_a_month_that_ties_is_reconciled(
    write: t.Callable[[Iterable[Row]], list[Line]],
) -> None:
    calls = some_calls(random.Random(1), MONTH)
    rows = [row for call in calls for row in rows_of(call)]
    report = compare(statement(write(rows), MONTH), ledger_of(calls))
    assert (report.verdict, report.residuals) == ("reconciled", ())
    assert report.billed_usd == report.ledger_usd == amount(rows)


def test_what_a_month_lacks_is_named() -> None:
    calls = some_calls(random.Random(2), MONTH)
    extra = rows_of(a_call(START + 9 * DAY, "one", input=1001))
    rows = [row for call in calls for row in rows_of(call)] + extra
    report = compare(statement(monthly(rows), MONTH), ledger_of(calls))
    assert causes(report) == {"uncaptured": amount(extra)}
    assert report.verdict == "explained"


def test_a_month_that_is_not_over_is_not_comparable() -> None:
    calls = some_calls(random.Random(3), MONTH)
    rows = [row for call in calls for row in rows_of(call)]
    now = START + 30 * DAY + dt.timedelta(hours=5)
    report = compare(statement(monthly(rows), MONTH), ledger_of(calls), now=now)
    assert report.verdict == "not_comparable"
    assert report.billed_usd == 0
