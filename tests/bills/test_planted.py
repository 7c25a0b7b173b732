"""A year of a ledger with many causes at once: each is named exactly, and none besides."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
import typing as t
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from flask_llm_cost import bills
from flask_llm_cost.bills.reconcile import reconcile
from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.prices import PriceBook
from tests.bills.months import a_call
from tests.bills.months import a_line
from tests.bills.months import bill_of
from tests.bills.months import DAY
from tests.bills.months import ledger_of
from tests.bills.months import rows_of
from tests.bills.months import some_calls
from tests.bills.months import START
from tests.bills.months import usage_of
from tests.bills.test_reconcile import amount
from tests.bills.test_reconcile import causes
from tests.bills.test_reconcile import compare

HOUR: t.Final = dt.timedelta(hours=1)


class Month:
    """A ledger, what is billed for it, and the amounts that were planted."""

    def __init__(self, seed: int, days: int) -> None:
        self.chance = random.Random(seed)
        self.days = days
        self.calls = some_calls(self.chance, days)
        self.rows = [row for call in self.calls for row in rows_of(call)]
        self.doubles: dict[t.Any, dict[str, Decimal]] = defaultdict(dict)
        self.fees: list[t.Any] = []
        self.planted: dict[str, Decimal] = defaultdict(Decimal)

    def plant(self, cause: str, usd: Decimal) -> None:
        self.planted[cause] += usd

    def odd(self) -> int:
        return self.chance.randrange(1001, 60_000, 2)

    def extra(self, day: int) -> Call:
        at = START + day * DAY + 5 * HOUR
        return a_call(at, "one", input=self.odd(), output=self.odd())

    def first_of(self, day: int) -> int:
        """The number of a call of that day, of the model ``one``."""
        return day * 6

    # Quantities

    def uncaptured(self, day: int) -> None:
        found = rows_of(self.extra(day))
        self.rows += found
        self.plant("uncaptured", amount(found))

    def not_on_bill(self, day: int) -> None:
        call = self.extra(day)
        self.calls.append(call)
        self.plant("not_on_bill", -amount(rows_of(call)))

    def no_usage(self, day: int) -> None:
        call = self.extra(day)
        self.rows += rows_of(call)
        self.calls.append(dataclasses.replace(call, usage=None, cost=None))
        self.plant("no_usage", amount(rows_of(call)))

    def double_capture(self, day: int) -> None:
        call = self.calls[self.first_of(day)]
        self.calls.append(call)
        for row in rows_of(call):
            key = row.day, frozenset((row.model,))
            self.doubles[key][row.meter] = Decimal(row.quantity)
        self.plant("double_capture", -amount(rows_of(call)))

    def day_edge(self, day: int) -> None:
        at = START + (day + 1) * DAY - dt.timedelta(seconds=9)
        call = a_call(at, "two", input=self.odd(), output=self.odd())
        self.calls.append(call)
        self.rows += [
            dataclasses.replace(row, billed_at=row.at + HOUR) for row in rows_of(call)
        ]
        self.plant("day_edge", Decimal(0))

    # Rates

    def unpriced(self, day: int) -> None:
        n = self.first_of(day)
        self.plant("unpriced", amount(rows_of(self.calls[n])))
        self.calls[n] = dataclasses.replace(self.calls[n], cost=None)

    def estimated(self, day: int) -> None:
        n = self.first_of(day)
        self.plant("estimated", amount(rows_of(self.calls[n])))
        self.calls[n] = dataclasses.replace(self.calls[n], usage_source="estimated")

    def incomplete(self, day: int) -> None:
        n = self.first_of(day)
        call = self.calls[n]
        assert call.cost is not None
        part = call.cost.parts["input"]
        cost = Cost(part.amount_usd, {"input": part}, "file", complete=False)
        self.calls[n] = dataclasses.replace(call, cost=cost)
        rest = [row for row in rows_of(call) if row.meter != "input"]
        self.plant("incomplete", amount(rest))

    def tier(self, day: int) -> None:
        call = self.extra(day)
        self.calls.append(call)
        half = [
            dataclasses.replace(row, mode="batch", rate=row.rate / 2)
            for row in rows_of(call)
        ]
        self.rows += half
        self.plant("tier", -amount(half))

    def price(self, day: int) -> None:
        when = (START + day * DAY).date()
        for n, row in enumerate(self.rows):
            if (row.day, row.model, row.meter) == (when, "two", "output"):
                self.rows[n] = dataclasses.replace(row, rate=Decimal("0.75"))
                self.plant("price", self.rows[n].amount - row.amount)

    # Lines

    def fee(self, day: int) -> None:
        for kind in ("credit", "tax", "storage", "session_fee"):
            usd = Decimal(self.odd()).scaleb(-7)
            when = (START + day * DAY).date()
            self.fees.append(a_line(when, str(usd), kind=kind))
            self.plant(kind, usd)

    def report(self) -> t.Any:
        bill = bill_of(self.rows, self.days)
        bill = dataclasses.replace(bill, lines=(*bill.lines, *self.fees))
        known = self.doubles
        ledger = ledger_of(self.calls, doubles=lambda *key: known.get(key, {}))
        return compare(bill, ledger)


QUANTITIES: t.Final[tuple[Callable[[Month, int], None], ...]] = (
    Month.uncaptured,
    Month.not_on_bill,
    Month.no_usage,
    Month.double_capture,
    Month.day_edge,
)
RATES: t.Final[tuple[Callable[[Month, int], None], ...]] = (
    Month.unpriced,
    Month.estimated,
    Month.incomplete,
    Month.tier,
    Month.price,
)


@pytest.mark.parametrize("seed", range(4))
def test_every_planted_cause_is_named(seed: int) -> None:
    month = Month(seed, 40)
    days = list(range(0, 38, 2))
    month.chance.shuffle(days)
    for day, plant in zip(days, (*QUANTITIES, *RATES, Month.fee), strict=False):
        plant(month, day)
    report = month.report()
    assert causes(report) == dict(month.planted)
    assert report.unexplained_usd == 0


@pytest.mark.parametrize("quantity", QUANTITIES[:2])
@pytest.mark.parametrize("rate", RATES)
def test_a_quantity_and_a_rate_are_told_apart(
    quantity: Callable[[Month, int], None], rate: Callable[[Month, int], None]
) -> None:
    month = Month(7, 6)
    rate(month, 2)
    quantity(month, 2)
    assert causes(month.report()) == dict(month.planted)


def test_a_year_is_named() -> None:
    month = Month(99, 365)
    for day in range(0, 363, 3):
        month.chance.choice((*QUANTITIES, *RATES, Month.fee))(month, day)
    assert causes(month.report()) == dict(month.planted)


def test_no_cause_is_invented() -> None:
    for seed in range(5):
        assert causes(Month(seed, 30).report()) == {}


SAMPLES: t.Final = Path(__file__).parent / "samples"


def calls_of(bill: bills.Statement) -> list[Call]:
    """Calls that used what the bill's own usage says, priced by the bundled book."""
    book, found = PriceBook.bundled(), []
    for number, line in enumerate(bill.usage):
        assert line.model is not None
        at = line.start + HOUR + number * dt.timedelta(milliseconds=1)
        usage = usage_of({line.meter or "": int(line.quantity or 0)})
        call = Call(
            mint_event_id(at),
            at,
            "openai",
            line.model,
            usage=usage,
            cost=book.cost("openai", line.model, usage, at),
        )
        found.append(call)
    return found


def real_bill() -> bills.Statement:
    """A real extract: see samples/SOURCES.md."""
    documents = [
        bills.Document.of_path(p) for p in sorted(SAMPLES.glob("openai_*.json"))
    ]
    [bill] = bills.read(documents)
    return bill


def test_three_real_days_tie_to_the_last_digit() -> None:
    bill = real_bill()
    [report] = reconcile(bill, ledger_of(calls_of(bill)))
    verdicts = {day.day.isoformat(): day.verdict for day in report.days}
    assert verdicts == {
        "2025-10-05": "not_comparable",
        "2025-10-06": "not_comparable",
        "2025-10-07": "reconciled",
        "2025-10-08": "not_comparable",
        "2025-10-09": "nothing",
        "2025-10-10": "reconciled",
        "2025-10-11": "reconciled",
        "2025-10-12": "nothing",
    }
    assert str(report.billed_usd.normalize()) == "0.982742"
    assert report.billed_usd == report.ledger_usd
    assert report.residuals == ()
    assert report.verdict == "reconciled"
    [empty] = reconcile(bill, ledger_of([]))
    assert empty.verdict == "unexplained"
