"""FOCUS rows: exact, and as the specification wants them."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections import Counter
from decimal import Decimal
from decimal import localcontext

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_llm_cost.bills import Line
from flask_llm_cost.bills import Report
from flask_llm_cost.bills import Residual
from flask_llm_cost.bills import Statement
from flask_llm_cost.bills import StoredBills
from flask_llm_cost.bills.report import add_up
from flask_llm_cost.bills.report import DayReport
from flask_llm_cost.bills.report import Verdict
from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.call import Usage
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.money import context
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.query import focus
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.billed import billed_month
from flask_llm_cost.query.charges import Day
from flask_llm_cost.query.filters import CallFilter
from tests.conftest import every_database
from tests.conftest import MakeApp
from tests.conftest import MakeLedger
from tests.ledger import samples
from tests.ledger.samples import make_call
from tests.ledger.samples import NOON
from tests.ledger.test_ledger import spool
from tests.rollups.test_build import calls_over
from tests.rollups.test_meter_sums import sums_of

MONTH = NOON.date().replace(day=1)


def store(ledger: Ledger, made: list[Call]) -> None:
    spool(ledger, made)
    ledger.queue.drain()


def rows(
    ledger: Ledger, *keys: str, notes: focus.Notes | None = None
) -> list[focus.Row]:
    with ledger.reading() as connection:
        return [*focus.rows(connection, focus.Month(MONTH, keys), notes)]


def effective(found: list[focus.Row]) -> Decimal:
    with localcontext(context(200)):
        return sum((row["EffectiveCost"] for row in found), Decimal(0))


def spend(ledger: Ledger) -> Decimal:
    start = dt.datetime(MONTH.year, MONTH.month, 1, tzinfo=dt.UTC)
    end = (start + dt.timedelta(days=32)).replace(day=1)
    with ledger.reading() as connection:
        return totals(connection, CallFilter(start=start, end=end)).spend_usd


def priced(count: int, rate: str, n: int = 0, **changes: object) -> Call:
    """A call whose cost is rounded to a pico-dollar, as parts are."""
    exact = Decimal(count) * Decimal(rate) / 1_000_000
    amount = round(exact, 12)
    parts = {"input": Part(Decimal(count), Decimal(rate), amount)}
    cost = Cost(amount, parts, "bundled", price_key="openai/m")
    return make_call(n, usage=Usage(input_tokens=count), cost=cost, **changes)


@every_database
def test_the_rows_sum_to_the_ledger(ledger: Ledger) -> None:
    store(ledger, calls_over(30, every=7))
    found = rows(ledger)
    assert effective(found) == spend(ledger) > 0
    ledger.prune(NOON + dt.timedelta(hours=12))
    assert effective(rows(ledger)) == spend(ledger)


def test_a_price_times_a_quantity_is_the_cost_and_rounding_is_a_row(
    ledger: Ledger,
) -> None:
    store(ledger, [priced(7, "0.0000033", n) for n in range(5)])
    usage, rounding = rows(ledger)
    assert usage["PricingQuantity"] * usage["ListUnitPrice"] == usage["ListCost"]
    assert usage["ConsumedQuantity"] == 35
    assert (usage["ConsumedUnit"], usage["PricingUnit"]) == ("Tokens", "1000000 Tokens")
    assert usage["EffectiveCost"] == Decimal("0.0000000001155")
    assert rounding["ChargeCategory"] == "Adjustment"
    assert rounding["EffectiveCost"] == Decimal("-0.0000000000005")
    assert effective([usage, rounding]) == spend(ledger)


def test_declared_tags_split_the_rows_and_keep_the_sum(ledger: Ledger) -> None:
    store(
        ledger,
        [
            priced(1000, "2.5", n, tags={"tenant": f"t{n % 2}", "x": str(n)})
            for n in range(6)
        ],
    )
    found = rows(ledger, "tenant")
    assert [json.loads(row["Tags"]) for row in found] == [
        {"tenant": "t0"},
        {"tenant": "t1"},
    ]
    assert [row["ConsumedQuantity"] for row in found] == [3000, 3000]
    assert effective(found) == spend(ledger)
    ledger.prune(NOON + dt.timedelta(days=1))
    [row] = rows(ledger, "tenant")
    assert (json.loads(row["Tags"]), row["ConsumedQuantity"]) == ({}, 6000)


def test_a_reported_cost_has_no_unit_price(ledger: Ledger) -> None:
    usd = Decimal("0.02")
    parts = {"reported": Part(Decimal(1), usd, usd)}
    cost = Cost(usd, parts, "provider", estimate_usd=Decimal("0.03"))
    store(ledger, [make_call(usage=Usage(input_tokens=8), cost=cost)])
    [row] = rows(ledger)
    assert row["ListUnitPrice"] is None
    assert (row["EffectiveCost"], row["ListCost"]) == (usd, Decimal("0.03"))
    assert "ConsumedQuantity" not in row


def test_calls_without_a_known_cost_are_notes(ledger: Ledger) -> None:
    notes = focus.Notes()
    store(
        ledger,
        [
            make_call(0, cost=None),
            make_call(1, cost=None, usage=None),
            priced(10, "1", 2, usage_source="estimated"),
            make_call(3, cost=None, usage=None, outcome="http_error"),
        ],
    )
    assert rows(ledger, notes=notes) == []
    assert [*notes.lines()] == [
        "1 call without a price is not in the file.",
        "1 call that reported no usage is not in the file.",
        "1 call with estimated usage is not in the file.",
    ]


@settings(max_examples=60)
@given(made=st.lists(samples.calls(), max_size=6, unique_by=lambda call: call.event_id))
def test_every_kind_of_call_keeps_the_sum(made: list[Call]) -> None:
    found = [*focus._rows_of(Day(NOON, (), sums_of(*made)), None, focus.Notes())]
    known = [
        call.cost.total_usd
        for call in made
        if call.cost is not None and call.usage_source != "estimated"
    ]
    reported = [
        call.cost.total_usd
        for call in made
        if call.cost is not None
        and call.usage_source == "estimated"
        and call.cost.source in {"provider", "bill"}
    ]
    with localcontext(context(200)):
        assert effective(found) == sum(known + reported, Decimal(0))


@pytest.mark.parametrize(("spec", "columns"), [("1.2", 57), ("1.4", 65)])
def test_the_command_writes_every_column(
    make_app: MakeApp, spec: str, columns: int
) -> None:
    app: Flask = make_app()
    llm_cost = app.extensions["llm_cost"].extension
    llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1000, at=NOON)
    assert llm_cost.flush(20)
    month = f"{NOON:%Y-%m}"
    result = app.test_cli_runner().invoke(
        args=["llm-cost", "focus", "--month", month, "--spec", spec]
    )
    assert result.exit_code == 0, result.output
    header, line = csv.reader(io.StringIO(result.stdout))
    own = Counter(name.startswith("x_") for name in header)
    assert own[False] == columns
    row = dict(zip(header, line, strict=True))
    assert row["BilledCost"] == "0.0"
    assert row["EffectiveCost"] == "0.0025"
    assert row["BillingPeriodStart"] == f"{month}-01T00:00:00Z"


@pytest.mark.parametrize("month", ["11/2026", "2026-13", "1969-12", "9999-12"])
def test_what_is_not_a_month_is_a_usage_error(app: Flask, month: str) -> None:
    wrong = app.test_cli_runner().invoke(args=["llm-cost", "focus", "--month", month])
    assert wrong.exit_code == 2
    assert f"'{month}' is not a valid month; use YYYY-MM" in wrong.output


@every_database
def test_corrections_of_a_closed_month_are_rows_of_their_own(
    database: str | None, make_ledger: MakeLedger
) -> None:
    ledger = make_ledger(database, rollup_tags=("tenant", "x"))
    store(ledger, [priced(1000, "2.5", n, tags={"tenant": "a"}) for n in range(3)])
    ledger.rollups.build()
    ledger.rollups.close(MONTH, NOON + dt.timedelta(days=40))
    before = rows(ledger, "tenant")
    store(ledger, [priced(7, "0.0000033", 9, tags={"tenant": "b"})])
    for _ in range(2):
        after = rows(ledger, "tenant")
        new = [row for row in after if row.get("ChargeClass")]
        assert [row for row in after if not row.get("ChargeClass")] == before
        assert {row["ChargeClass"] for row in new} == {"Correction"}
        assert {row["Tags"] for row in new} == {'{"tenant": "b"}'}
        assert effective(after) == spend(ledger)
        ledger.rollups.build()
    notes = focus.Notes()
    assert {row["Tags"] for row in rows(ledger, "tenant", "x", notes=notes)} == {"{}"}
    assert [*notes.lines()] == [
        "The rows have no tags: closed months do not keep combinations of tags."
    ]


def test_a_negotiated_multiplier_is_under_the_list_price(ledger: Ledger) -> None:
    book = PriceBook.layered(overrides={"openai/*": {"multiplier": "0.8"}})
    found = book.cost("openai", "gpt-4o", Usage(input_tokens=1_000_000))
    store(ledger, [make_call(usage=Usage(input_tokens=1_000_000), cost=found)])
    with ledger.reading() as connection:
        month = focus.Month(MONTH, book=book)
        [row] = focus.rows(connection, month)
    assert (row["ContractedCost"], row["EffectiveCost"]) == (2, 2)
    assert (row["ListCost"], row["ListUnitPrice"]) == (Decimal("2.5"), Decimal("2.5"))
    assert row["PricingQuantity"] * row["ListUnitPrice"] == row["ListCost"]


def a_bill(ledger: Ledger, verdict: Verdict = "explained") -> Decimal:
    """Store a bill of the month that has more than the ledger; return its sum."""
    start = dt.datetime(MONTH.year, MONTH.month, 1, tzinfo=dt.UTC)
    end = (start + dt.timedelta(days=32)).replace(day=1)
    dates = [start.date() + dt.timedelta(days=n) for n in range((end - start).days)]
    line = Line("openai", start, start + dt.timedelta(days=1), "usage", "x", "USD", "1")
    statement = Statement(
        *("openai", "org-1", start, end, "USD", (line,), "ab" * 32),
        covered=frozenset(dates),
    )
    more = {
        "credit": Decimal("-5"),
        "tax": Decimal("1.2"),
        "commitment": Decimal(100),
        "tool_fee": Decimal("0.3"),
        "rounding": Decimal("7e-16"),
    }
    residuals = [Residual(cause, usd, NOON.date()) for cause, usd in more.items()]
    known = {day: Decimal(0) for day in dates} | {NOON.date(): spend(ledger)}
    extra = add_up(more.values())
    days = [
        DayReport(
            day,
            add_up([usd, extra]) if day == NOON.date() else usd,
            usd,
            verdict if usd else "nothing",
        )
        for day, usd in known.items()
    ]
    billed = add_up(day.billed_usd for day in days)
    report = Report(
        *("openai", None, "ab" * 32, dates[0], dates[-1], "USD", billed),
        *(spend(ledger), Decimal(0), 0, 0, tuple(residuals), Decimal(1), None),
        *(verdict, None, tuple(days)),
    )
    bills = StoredBills(ledger.bills)
    bills.note(bills.put(statement), [report])
    return billed


def billed_rows(ledger: Ledger) -> list[focus.Row]:
    billed = billed_month(StoredBills(ledger.bills), MONTH)
    with ledger.reading() as connection:
        return [*focus.rows(connection, focus.Month(MONTH, billed=billed))]


@every_database
def test_a_reconciled_month_has_what_was_billed(ledger: Ledger) -> None:
    store(ledger, [priced(7, "0.0000033", n) for n in range(5)])
    store(ledger, [priced(1000, "2.5", 9, provider="anthropic", model="c")])
    wanted = a_bill(ledger)
    store(ledger, [priced(1000, "2.5", 50)])  # after the comparison
    found = billed_rows(ledger)
    with localcontext(context(200)):
        assert sum(row["BilledCost"] for row in found) == wanted
    assert effective(found) == spend(ledger)
    categories = {row["ChargeCategory"]: row for row in found}
    assert set(categories) == {"Usage", "Adjustment", "Credit", "Tax", "Purchase"}
    assert categories["Purchase"]["ChargeFrequency"] == "One-Time"
    assert categories["Credit"]["EffectiveCost"] == 0
    reconciled = {row["ProviderName"]: row["x_Reconciled"] for row in found}
    assert reconciled == {"openai": "true", "anthropic": "false"}


def test_a_month_that_is_not_explained_has_no_billed_cost(ledger: Ledger) -> None:
    store(ledger, [priced(1000, "2.5")])
    a_bill(ledger, "unexplained")
    [row] = billed_rows(ledger)
    assert (row["BilledCost"], row["x_Reconciled"]) == (0, "false")
