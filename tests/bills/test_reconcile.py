"""Planted causes are named with their exact amounts, and no others are."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
import typing as t
from collections.abc import Iterable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_llm_cost.bills.ledger_side import Ledger
from flask_llm_cost.bills.reconcile import reconcile
from flask_llm_cost.bills.report import add_up
from flask_llm_cost.bills.report import Report
from flask_llm_cost.bills.statement import Statement
from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.call import Usage
from tests.bills.months import a_call
from tests.bills.months import a_line
from tests.bills.months import bill_of
from tests.bills.months import DAY
from tests.bills.months import ledger_of
from tests.bills.months import Row
from tests.bills.months import rows_of
from tests.bills.months import some_calls
from tests.bills.months import START
from tests.bills.months import statement

DAYS: t.Final = 5
HOUR: t.Final = dt.timedelta(hours=1)
CENT: t.Final = Decimal("0.01")


def made(seed: int = 1, days: int = DAYS) -> tuple[list[Call], list[Row]]:
    calls = some_calls(random.Random(seed), days)
    return calls, [row for call in calls for row in rows_of(call)]


def compare(bill: Statement, ledger: Ledger, **more: t.Any) -> Report:
    [report] = reconcile(bill, ledger, **more)
    sums = add_up(each.amount_usd for each in report.residuals)
    assert sums == report.difference_usd
    return report


def causes(report: Report) -> dict[str, Decimal]:
    """The sums by cause, without those of rounding."""
    found = report.by_cause()
    assert abs(found.pop("rounding", Decimal(0))) < Decimal("1e-9")
    return found


def amount(rows: Iterable[Row]) -> Decimal:
    return add_up(row.amount for row in rows)


def later(call: Call, by: dt.timedelta) -> list[Row]:
    """What a call is billed, that much later."""
    return [dataclasses.replace(row, billed_at=row.at + by) for row in rows_of(call)]


def test_a_month_that_matches_is_reconciled() -> None:
    calls, rows = made()
    report = compare(bill_of(rows, DAYS), ledger_of(calls))
    assert report.verdict == "reconciled"
    assert report.residuals == ()
    assert report.coverage == 1
    assert report.billed_usd == report.ledger_usd == amount(rows)
    assert {day.verdict for day in report.days} == {"reconciled"}


def test_a_source_that_was_never_tried_is_explained_at_best() -> None:
    calls, rows = made()
    report = compare(bill_of(rows, DAYS), ledger_of(calls), tried=False)
    assert report.verdict == "explained"
    assert "never been tested" in str(report.reason)


# Quantities


def test_what_was_not_captured_is_named_with_its_scope() -> None:
    calls, rows = made()
    extra = [
        dataclasses.replace(row, project="notebooks")
        for row in rows_of(a_call(START + DAY, "one", input=1001, output=77))
    ]
    report = compare(bill_of(rows + extra, DAYS), ledger_of(calls))
    assert causes(report) == {"uncaptured": amount(extra)}
    assert {each.scope for each in report.residuals} == {"notebooks"}
    assert report.verdict == "explained"


def test_what_was_not_billed_is_named() -> None:
    calls, rows = made()
    free = a_call(START + DAY, "one", input=1000)
    report = compare(bill_of(rows, DAYS), ledger_of([*calls, free]))
    assert causes(report) == {"not_on_bill": -amount(rows_of(free))}


def test_calls_without_usage_are_named() -> None:
    calls, rows = made()
    cut = a_call(START + DAY, "one", input=500)
    cut = dataclasses.replace(cut, usage=None, cost=None, usage_source="unknown")
    lost = rows_of(a_call(START + DAY, "one", input=1000, output=300))
    report = compare(bill_of(rows + lost, DAYS), ledger_of([*calls, cut]))
    assert causes(report) == {"no_usage": amount(lost)}
    assert report.unpriced_calls == 1


def test_a_cut_call_explains_no_more_than_its_ceiling() -> None:
    calls, rows = made()
    cut = a_call(START + DAY, "one", input=500)
    assert cut.cost is not None
    most = cut.cost.total_usd + CENT
    cost = dataclasses.replace(cut.cost, complete=False, ceiling_usd=most)
    cut = dataclasses.replace(cut, cost=cost, flags=frozenset(["cut"]))
    lost = rows_of(a_call(START + DAY, "one", output=1500))
    bill = bill_of(rows + rows_of(cut) + lost, DAYS)
    report = compare(bill, ledger_of([*calls, cut]))
    assert causes(report) == {"no_usage": CENT, "uncaptured": amount(lost) - CENT}


@pytest.mark.parametrize("lost", [1500, 2000, 2003])
def test_several_cut_calls_explain_no_more_than_their_ceilings(lost: int) -> None:
    calls, rows = made()
    for n in range(2):
        cut = a_call(START + DAY + n * HOUR, "one", input=500)
        assert cut.cost is not None
        most = cut.cost.total_usd + CENT
        cost = dataclasses.replace(cut.cost, complete=False, ceiling_usd=most)
        calls.append(dataclasses.replace(cut, cost=cost, flags=frozenset(["cut"])))
        rows += rows_of(cut)
    missing = rows_of(a_call(START + DAY, "one", output=lost))
    report = compare(bill_of(rows + missing, DAYS), ledger_of(calls))
    most = min(amount(missing), 2 * CENT)
    rest = amount(missing) - most
    assert causes(report) == {"no_usage": most} | ({"uncaptured": rest} if rest else {})


def test_calls_that_were_captured_twice_are_named() -> None:
    calls, rows = made()
    again = calls[4]
    meters = {row.meter: Decimal(row.quantity) for row in rows_of(again)}
    known = {(again.started_at.date(), frozenset(("one",))): meters}
    ledger = ledger_of([*calls, again], doubles=lambda *key: known.get(key, {}))
    report = compare(bill_of(rows, DAYS), ledger)
    assert causes(report) == {"double_capture": -amount(rows_of(again))}


def test_a_day_with_everything_twice_is_double_capture() -> None:
    calls, rows = made()
    twice = [call for call in calls if call.started_at < START + DAY]
    report = compare(bill_of(rows, DAYS), ledger_of([*calls, *twice]))
    again = amount(row for call in twice for row in rows_of(call))
    assert causes(report) == {"double_capture": -again}
    assert report.verdict == "unexplained"  # more than 1 %


def test_calls_around_midnight_cancel_out() -> None:
    calls, rows = made()
    late = a_call(START + DAY - dt.timedelta(seconds=5), "one", input=4000, output=90)
    report = compare(bill_of(rows + later(late, HOUR), DAYS), ledger_of([*calls, late]))
    assert causes(report) == {"day_edge": Decimal(0)}
    assert report.verdict == "reconciled"


def test_more_than_spans_midnight_is_no_day_edge() -> None:
    calls, rows = made()
    noon = a_call(START + 12 * HOUR, "one", input=4000)
    report = compare(bill_of(rows + later(noon, DAY), DAYS), ledger_of([*calls, noon]))
    whole = amount(rows_of(noon))
    assert causes(report) == {"not_on_bill": -whole, "uncaptured": whole}


def test_batches_may_be_billed_two_days_later() -> None:
    calls, rows = made()
    batch = a_call(START + 12 * HOUR, "one", "batch", input=4000)
    middle = a_call(START + DAY, "one", "batch", input=10)
    bill = bill_of(rows + later(batch, 2 * DAY) + rows_of(middle), DAYS)
    report = compare(bill, ledger_of([*calls, batch, middle]))
    assert causes(report) == {"day_edge": Decimal(0)}


def test_what_came_after_the_watermark_is_lag() -> None:
    calls, rows = made()
    mark = START + 2 * DAY + 22 * HOUR
    late = a_call(mark + HOUR / 2, "one", input=4000)
    report = compare(bill_of(rows, DAYS, watermark=mark), ledger_of([*calls, late]))
    assert causes(report) == {"lag": -amount(rows_of(late))}
    assert [day.verdict for day in report.days[3:]] == ["not_comparable"] * 2


# Rates


def unpriced(call: Call) -> Call:
    return dataclasses.replace(call, cost=None)


def at_rate(rows: Iterable[Row], model: str, meter: str, rate: str) -> list[Row]:
    return [
        dataclasses.replace(row, rate=Decimal(rate))
        if (row.model, row.meter) == (model, meter)
        else row
        for row in rows
    ]


def test_what_has_no_price_is_named() -> None:
    calls, rows = made()
    calls[2] = unpriced(calls[2])
    report = compare(bill_of(rows, DAYS), ledger_of(calls))
    assert causes(report) == {"unpriced": amount(rows_of(calls[2]))}
    assert report.verdict == "explained"
    assert report.unpriced_calls == 1


def test_estimates_are_named() -> None:
    calls, rows = made()
    calls[2] = dataclasses.replace(calls[2], usage_source="estimated")
    report = compare(bill_of(rows, DAYS), ledger_of(calls))
    assert causes(report) == {"estimated": amount(rows_of(calls[2]))}


def test_a_meter_without_a_rate_is_incomplete() -> None:
    calls, rows = made()
    call = calls[2]
    assert call.cost is not None
    part = call.cost.parts["input"]
    cost = Cost(part.amount_usd, {"input": part}, "file", complete=False)
    calls[2] = dataclasses.replace(call, cost=cost)
    report = compare(bill_of(rows, DAYS), ledger_of(calls))
    lacking = [row for row in rows_of(call) if row.meter != "input"]
    assert causes(report) == {"incomplete": amount(lacking)}


def test_another_mode_is_a_tier() -> None:
    calls, rows = made()
    flex = a_call(START + DAY, "one", input=6000, output=100)
    billed = [
        dataclasses.replace(row, mode="batch", rate=row.rate / 2)
        for row in rows_of(flex)
    ]
    report = compare(bill_of(rows + billed, DAYS), ledger_of([*calls, flex]))
    assert causes(report) == {"tier": -amount(billed)}
    assert report.coverage == 1


def test_another_time_to_live_is_named() -> None:
    usd = Decimal("0.00375")
    cost = Cost(usd, {"cache_write": Part(Decimal(1000), Decimal("3.75"), usd)}, "file")
    call = dataclasses.replace(
        a_call(START, "one", input=1), usage=Usage(cache_write_tokens=1000), cost=cost
    )
    line = a_line(
        START.date(),
        "0.006",
        model="one",
        meter="cache_write_1h",
        quantity=Decimal(1000),
    )
    report = compare(statement([line], DAYS), ledger_of([call]))
    assert causes(report) == {"cache_ttl": Decimal("0.00225")}


def test_one_ratio_is_a_discount() -> None:
    calls, rows = made()
    billed = [dataclasses.replace(row, rate=row.rate * Decimal("0.85")) for row in rows]
    report = compare(bill_of(billed, DAYS), ledger_of(calls))
    assert causes(report) == {"discount": amount(billed) - amount(rows)}
    assert report.verdict == "explained"


def test_a_discount_explains_no_cost_of_what_is_free_in_the_ledger() -> None:
    calls, rows = made()
    billed = [dataclasses.replace(row, rate=row.rate * Decimal("0.85")) for row in rows]
    parts = {"input": Part(Decimal(900), Decimal(0), Decimal(0))}
    gift = dataclasses.replace(
        a_call(START, "two", input=900),
        model="gift",
        cost=Cost(Decimal(0), parts, "file"),
    )
    line = a_line(START.date(), "5", model="gift", meter="input", quantity=Decimal(900))
    bill = bill_of(billed, DAYS)
    bill = dataclasses.replace(bill, lines=(*bill.lines, line))
    assert causes(compare(bill, ledger_of([*calls, gift]))) == {
        "discount": amount(billed) - amount(rows),
        "unexplained": Decimal(5),
    }


@pytest.mark.parametrize(
    ("more", "found"), [("0", {"tier", "discount"}), ("0.0321", {"unexplained"})]
)
def test_a_discount_explains_no_other_remainder(more: str, found: set[str]) -> None:
    calls, rows = made()
    flex = a_call(START + DAY, "one", input=6000)
    half = [
        dataclasses.replace(row, mode="batch", rate=row.rate / 2)
        for row in rows_of(flex)
    ]
    billed = [
        dataclasses.replace(row, rate=row.rate * Decimal("0.85")) for row in rows + half
    ]
    bill = bill_of(billed, DAYS)
    lines = [
        dataclasses.replace(line, billed_text=str(line.billed + Decimal(more)))
        if (line.start, line.model, line.meter) == (START + DAY, "one", "input")
        and line.mode is None
        and line.billed is not None
        else line
        for line in bill.lines
    ]
    bill = dataclasses.replace(bill, lines=tuple(lines))
    report = compare(bill, ledger_of([*calls, flex]))
    assert {"tier", "discount"} | found == set(causes(report))


def test_one_rate_is_a_price() -> None:
    calls, rows = made()
    billed = at_rate(rows, "one", "input", "2.75")
    report = compare(bill_of(billed, DAYS), ledger_of(calls))
    assert causes(report) == {"price": amount(billed) - amount(rows)}


def test_a_quantity_and_a_rate_differ_in_one_cell() -> None:
    calls, rows = made()
    extra = rows_of(a_call(START + DAY, "one", input=5000))
    billed = at_rate(rows + extra, "one", "input", "2.75")
    report = compare(bill_of(billed, DAYS), ledger_of(calls))
    assert causes(report) == {
        "uncaptured": amount(extra),
        "price": amount(billed) - amount(rows + extra),
    }


@pytest.mark.parametrize(
    "unknown", ["0.013370000001", "-0.000000017", "5.123456789012"]
)
def test_an_unknown_remainder_stays_unexplained(unknown: str) -> None:
    calls, rows = made()
    bill = bill_of(rows, DAYS)
    first, *others = bill.lines
    assert first.billed is not None
    text = str(first.billed + Decimal(unknown))
    lines = (dataclasses.replace(first, billed_text=text), *others)
    report = compare(dataclasses.replace(bill, lines=lines), ledger_of(calls))
    assert report.unexplained_usd == Decimal(unknown)
    assert report.verdict == "unexplained"
    assert [each.candidates for each in report.residuals] == [()]


def incomplete(call: Call, more: Decimal | None) -> Call:
    assert call.cost is not None
    most = None if more is None else call.cost.total_usd + more
    cost = dataclasses.replace(call.cost, complete=False, ceiling_usd=most)
    return dataclasses.replace(call, cost=cost)


def with_remainder(rows: Iterable[Row], usd: Decimal) -> Statement:
    """A bill with more on each line of the model ``one`` on the second day."""
    bill = bill_of(rows, DAYS)
    lines = [
        dataclasses.replace(line, billed_text=str(line.billed + usd))
        if line.start == START + DAY and line.model == "one" and line.billed is not None
        else line
        for line in bill.lines
    ]
    return dataclasses.replace(bill, lines=tuple(lines))


def test_an_incomplete_call_explains_its_ceiling_once() -> None:
    calls, rows = made()
    more = Decimal("0.00912345")
    calls[8] = incomplete(calls[8], CENT)
    report = compare(with_remainder(rows, more), ledger_of(calls))
    assert causes(report) == {"incomplete": more, "unexplained": 2 * more}


def test_an_incomplete_call_without_a_ceiling_is_a_candidate_only() -> None:
    calls, rows = made()
    calls[8] = incomplete(calls[8], None)
    bill = with_remainder(rows, Decimal("1234.56789"))
    report = compare(bill, ledger_of(calls))
    assert report.verdict == "unexplained"
    assert {each.candidates for each in report.residuals} == {("incomplete",)}


def test_any_amount_for_a_few_units_is_no_price() -> None:
    calls, rows = made()
    usd = Decimal("0.04")
    search = dataclasses.replace(
        calls[8],
        usage=Usage(units={"web_search": Decimal(4)}),
        cost=Cost(usd, {"web_search": Part(Decimal(4), CENT, usd)}, "bundled"),
    )
    bill = bill_of(rows, DAYS)
    line = a_line(
        (START + DAY).date(),
        "3.41",
        model="one",
        meter="web_search",
        quantity=Decimal(4),
    )
    bill = dataclasses.replace(bill, lines=(*bill.lines, line))
    report = compare(bill, ledger_of([*calls, search]))
    assert causes(report) == {"unexplained": Decimal("3.37")}


@pytest.mark.parametrize("count", [1, None])
def test_a_negative_amount_is_neither_a_price_nor_a_discount(count: int | None) -> None:
    calls, rows = made()
    bill = bill_of(rows, DAYS)
    lines = [
        dataclasses.replace(line, billed_text=str(-line.billed))
        for line in bill.lines[:count]
        if line.billed is not None
    ]
    lines += bill.lines[len(lines) :]
    report = compare(dataclasses.replace(bill, lines=tuple(lines)), ledger_of(calls))
    assert set(causes(report)) == {"unexplained"}
    assert report.suggestions == ()


def test_two_causes_that_fit_are_candidates() -> None:
    calls, rows = made()
    late = a_call(START + DAY - dt.timedelta(seconds=5), "one", input=4000)
    silent = a_call(START + DAY + HOUR, "one", input=1)
    silent = dataclasses.replace(silent, usage=None, cost=None)
    bill = bill_of(rows + later(late, HOUR), DAYS)
    report = compare(bill, ledger_of([*calls, late, silent]))
    found = [each for each in report.residuals if each.cause == "unexplained"]
    assert [each.candidates for each in found] == [("no_usage", "day_edge")]
    assert report.verdict == "unexplained"


# Lines


@pytest.mark.parametrize(
    "kind", ["credit", "tax", "storage", "session_fee", "commitment", "adjustment"]
)
def test_the_kind_of_a_line_is_its_cause(kind: str) -> None:
    calls, rows = made()
    bill = bill_of(rows, DAYS)
    line = a_line(START.date(), "-3.21", kind=kind)
    bill = dataclasses.replace(bill, lines=(*bill.lines, line))
    report = compare(bill, ledger_of(calls))
    assert causes(report) == {kind: Decimal("-3.21")}
    assert report.verdict == "explained"
    assert report.coverage == 1


def test_other_lines_of_a_cloud_are_left_out() -> None:
    calls, rows = made()
    bill = bill_of(rows, DAYS)
    line = a_line(START.date(), "77", kind="ignored")
    bill = dataclasses.replace(bill, lines=(*bill.lines, line))
    report = compare(bill, ledger_of(calls))
    assert report.verdict == "reconciled"
    assert report.ignored_usd == 77


def test_a_line_that_is_not_understood_is_unexplained() -> None:
    calls, rows = made()
    bill = bill_of(rows, DAYS)
    line = a_line(START.date(), "0.5", name="moon rays")
    bill = dataclasses.replace(bill, lines=(*bill.lines, line))
    report = compare(bill, ledger_of(calls))
    assert report.unexplained_usd == Decimal("0.5")
    assert report.residuals[0].meter == "moon rays"


# What must never pass


def never_good(report: Report) -> None:
    assert report.verdict == "unexplained"
    assert not report.good


def test_an_empty_ledger_is_unexplained() -> None:
    _, rows = made()
    report = compare(bill_of(rows, DAYS), ledger_of([]))
    never_good(report)
    assert causes(report) == {"uncaptured": amount(rows)}


@pytest.mark.parametrize("kind", ["tool_fee", "credit", "tax"])
def test_an_empty_ledger_explains_no_line(kind: str) -> None:
    bill = statement([a_line(START.date(), "50", kind=kind)], DAYS)
    never_good(compare(bill, ledger_of([])))


def test_an_empty_bill_is_unexplained() -> None:
    calls, rows = made()
    never_good(compare(bill_of([], DAYS), ledger_of(calls)))


def test_nothing_on_either_side_is_nothing() -> None:
    assert compare(bill_of([], DAYS), ledger_of([])).verdict == "nothing"


def test_a_ledger_of_another_project_is_unexplained() -> None:
    _, rows = made(1)
    others, _ = made(2)
    never_good(compare(bill_of(rows, DAYS), ledger_of(others)))


def test_a_bill_of_another_month_is_unexplained() -> None:
    calls, rows = made()
    moved = [dataclasses.replace(row, at=row.at + 40 * DAY) for row in rows]
    start = START + 40 * DAY
    covered = frozenset((start + n * DAY).date() for n in range(DAYS))
    bill = bill_of(moved, DAYS, start=start, end=start + DAYS * DAY, covered=covered)
    never_good(compare(bill, ledger_of(calls)))


def test_half_a_month_that_was_captured_is_unexplained() -> None:
    calls, rows = made()
    never_good(compare(bill_of(rows, DAYS), ledger_of(calls[::2])))
    twice = [dataclasses.replace(row, quantity=2 * row.quantity) for row in rows]
    never_good(compare(totals_of(twice), ledger_of(calls)))


def test_no_day_can_be_compared_in_another_currency() -> None:
    calls, rows = made()
    bill = bill_of(rows, DAYS)
    lines = tuple(dataclasses.replace(each, currency="EUR") for each in bill.lines)
    bill = dataclasses.replace(bill, lines=lines, currency="EUR")
    report = compare(bill, ledger_of(calls))
    assert report.verdict == "not_comparable"
    assert "--rate" in str(report.reason)
    assert compare(bill, ledger_of(calls), rate=Decimal(1)).verdict == "reconciled"


def test_pruned_and_missing_days_are_not_comparable() -> None:
    calls, rows = made()
    bill = bill_of(rows, DAYS)
    bill = dataclasses.replace(bill, covered=bill.covered - {(START + 3 * DAY).date()})
    ledger = ledger_of(calls, since=START + DAY)
    report = compare(bill, ledger, now=START + 4 * DAY + HOUR)
    verdicts = ["not_comparable", "reconciled", "reconciled", *["not_comparable"] * 2]
    assert [day.verdict for day in report.days] == verdicts
    kept = [row for row in rows if row.day in {d.day for d in report.days[1:3]}]
    assert report.billed_usd == report.ledger_usd == amount(kept)


# Totals


def totals_of(rows: Iterable[Row]) -> Statement:
    days: dict[dt.date, Decimal] = {}
    for row in rows:
        days[row.day] = days.get(row.day, Decimal(0)) + row.amount
    return statement([a_line(day, str(usd)) for day, usd in days.items()], DAYS)


def test_days_that_tie_are_reconciled_by_their_totals() -> None:
    calls, rows = made()
    report = compare(totals_of(rows), ledger_of(calls))
    assert (report.verdict, report.residuals) == ("reconciled", ())


def test_a_total_that_differs_has_candidates_only() -> None:
    calls, rows = made()
    calls[0] = unpriced(calls[0])
    report = compare(totals_of(rows), ledger_of(calls))
    [residual] = report.residuals
    assert residual.evidence == "total"
    assert residual.candidates == ("unpriced", "price")
    assert report.verdict == "unexplained"


def test_aliases_meet_their_snapshots() -> None:
    calls, rows = made()
    billed = [dataclasses.replace(row, model=f"{row.model}-2026-01-01") for row in rows]
    assert compare(bill_of(billed, DAYS), ledger_of(calls)).verdict == "reconciled"


def test_scopes_are_compared_apart() -> None:
    calls, rows = made()
    other = [dataclasses.replace(row, project="theirs") for row in rows]
    bill = bill_of(rows + other, DAYS)
    assert compare(bill, ledger_of(calls)).verdict == "unexplained"
    report = compare(bill, ledger_of(calls), scopes={"*": "ours"})
    assert (report.scope, report.verdict) == ("ours", "reconciled")


# Laws


@settings(max_examples=80)
@given(
    st.integers(0, 10**6),
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from([None, "one", "two", "three"]),
            st.sampled_from([None, "input", "output", "web_search"]),
            st.none() | st.integers(0, 10**6),
            st.decimals(-5, 50, places=14),
            st.sampled_from(["usage", "usage", "tool_fee", "credit", "ignored"]),
            st.sampled_from([None, "batch"]),
        ),
        max_size=8,
    ),
)
def test_residuals_always_sum_to_the_difference(
    seed: int, lines: list[tuple[t.Any, ...]]
) -> None:
    calls = some_calls(random.Random(seed), 3)[: seed % 9]
    for n in range(0, len(calls), 2):
        calls[n] = unpriced(calls[n])
    bill = statement(
        [
            a_line(
                (START + day * DAY).date(),
                f"{billed:f}",
                model=model,
                meter=meter,
                quantity=None if quantity is None else Decimal(quantity),
                kind=kind,
                mode=mode,
            )
            for day, model, meter, quantity, billed, kind, mode in lines
        ],
        3,
    )
    report = compare(bill, ledger_of(calls))
    assert Decimal(report.as_json()["difference_usd"]) == report.difference_usd
