"""Bills that have only totals: they tie, or the causes that can be all of it are named."""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t
from collections.abc import Iterable
from decimal import Decimal

import pytest

from flask_llm_cost.bills.report import Report
from flask_llm_cost.bills.statement import Statement
from flask_llm_cost.call import Call
from tests.bills.months import a_call
from tests.bills.months import a_line
from tests.bills.months import DAY
from tests.bills.months import ledger_of
from tests.bills.months import Row
from tests.bills.months import rows_of
from tests.bills.months import START
from tests.bills.months import statement
from tests.bills.test_reconcile import amount
from tests.bills.test_reconcile import compare
from tests.bills.test_reconcile import DAYS
from tests.bills.test_reconcile import later
from tests.bills.test_reconcile import made
from tests.bills.test_reconcile import totals_of
from tests.bills.test_reconcile import unpriced

HOUR: t.Final = dt.timedelta(hours=1)


def by_model(rows: Iterable[Row]) -> Statement:
    """A bill with one amount for each day and model."""
    sums: dict[tuple[dt.date, str], Decimal] = {}
    for row in rows:
        key = row.day, row.model
        sums[key] = sums.get(key, Decimal(0)) + row.amount
    lines = [a_line(day, str(usd), model=model) for (day, model), usd in sums.items()]
    return statement(lines, DAYS)


BILLS: t.Final = pytest.mark.parametrize("bill", [totals_of, by_model])
Bill: t.TypeAlias = t.Callable[[Iterable[Row]], Statement]


def candidates(report: Report) -> set[tuple[str, ...]]:
    assert {each.cause for each in report.residuals} == {"unexplained"}
    assert {each.evidence for each in report.residuals} == {"total"}
    assert report.verdict == "unexplained"
    return {each.candidates for each in report.residuals}


@BILLS
def test_totals_that_tie_are_reconciled(bill: Bill) -> None:
    calls, rows = made()
    assert compare(bill(rows), ledger_of(calls)).verdict == "reconciled"


@BILLS
def test_what_nothing_explains_may_not_be_captured(bill: Bill) -> None:
    calls, rows = made()
    extra = rows_of(a_call(START + DAY + HOUR, "one", input=991))
    report = compare(bill(rows + extra), ledger_of(calls))
    assert candidates(report) == {("uncaptured", "price")}
    assert report.unexplained_usd == amount(extra)


@BILLS
def test_what_is_too_much_may_not_be_billed(bill: Bill) -> None:
    calls, rows = made()
    extra = a_call(START + DAY + HOUR, "one", input=991)
    report = compare(bill(rows), ledger_of([*calls, extra]))
    assert candidates(report) == {("not_on_bill", "price")}


@BILLS
def test_days_that_cancel_out_may_be_an_edge(bill: Bill) -> None:
    calls, rows = made()
    late = a_call(START + 2 * DAY - dt.timedelta(minutes=5), "one", input=12345)
    report = compare(bill(rows + later(late, HOUR)), ledger_of([*calls, late]))
    assert candidates(report) == {("day_edge", "price")}
    assert report.unexplained_usd == 0


@BILLS
def test_one_ratio_of_several_totals_may_be_a_discount(bill: Bill) -> None:
    calls, rows = made()
    lower = [dataclasses.replace(row, rate=row.rate * Decimal("0.93")) for row in rows]
    report = compare(bill(lower), ledger_of(calls))
    assert candidates(report) == {("discount", "price")}


@BILLS
def test_answers_that_are_stored_twice_may_be_the_cause(bill: Bill) -> None:
    calls, rows = made()

    def doubles(day: dt.date, models: frozenset[str], *_: object) -> t.Any:
        return {"input": Decimal(991)} if day == calls[0].started_at.date() else {}

    ledger = ledger_of([*calls, calls[0]], doubles=doubles)
    assert candidates(compare(bill(rows), ledger)) == {("double_capture", "price")}


def cut(most: str) -> Call:
    """A call that was cut after 500 tokens, and can have cost this much more."""
    call = a_call(START + DAY + HOUR, "one", input=500)
    assert call.cost is not None
    ceiling = call.cost.total_usd + Decimal(most)
    cost = dataclasses.replace(call.cost, complete=False, ceiling_usd=ceiling)
    return dataclasses.replace(call, cost=cost, flags=frozenset(["cut"]))


@BILLS
@pytest.mark.parametrize(
    ("most", "found"), [("0.1", "no_usage"), ("0.001", "uncaptured")]
)
def test_a_cut_call_is_a_candidate_up_to_its_ceiling(
    bill: Bill, most: str, found: str
) -> None:
    calls, rows = made()
    call = cut(most)
    lost = rows_of(a_call(call.started_at, "one", output=1500))
    report = compare(bill(rows + rows_of(call) + lost), ledger_of([*calls, call]))
    assert candidates(report) == {(found, "price")}


@BILLS
def test_a_call_without_a_price_is_a_candidate(bill: Bill) -> None:
    calls, rows = made()
    calls[0] = unpriced(calls[0])
    report = compare(bill(rows), ledger_of(calls))
    assert candidates(report) == {("unpriced", "price")}
