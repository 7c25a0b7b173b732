"""A year of each source's bills: each planted cause is named exactly, and no other."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import io
import itertools
import json
import typing as t
from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest

from flask_llm_cost import bills
from flask_llm_cost.bills.calls import HeldCall
from flask_llm_cost.bills.reconcile import Ledger
from flask_llm_cost.bills.reconcile import reconcile
from flask_llm_cost.bills.report import Report
from flask_llm_cost.bills.statement import Statement
from flask_llm_cost.call import Call
from flask_llm_cost.db.rows import row_of
from flask_llm_cost.event_id import mint_event_id
from flask_llm_cost.money import from_pico
from flask_llm_cost.rollups.meters import status_of
from tests.bills import generator
from tests.bills.generator import causes_of
from tests.bills.generator import QUANTITIES
from tests.bills.generator import Source
from tests.bills.generator import START
from tests.bills.generator import WITH_QUANTITIES
from tests.bills.generator import Year
from tests.bills.months import ledger_of

Found = dict[tuple[dt.date, str], Decimal]

ANY_SOURCE = pytest.mark.parametrize(
    "source", WITH_QUANTITIES, ids=lambda source: str(source.name)
)


def doubles_of(calls: Sequence[Call]) -> t.Any:
    """What a ledger says that it has twice."""

    def doubles(day: dt.date, models: frozenset[str]) -> Mapping[str, Decimal]:
        seen, found = set(), defaultdict[str, Decimal](Decimal)
        for call in calls:
            if call.started_at.date() != day or call.model not in models:
                continue
            if call.response_id in seen and call.usage is not None:
                for meter, name in generator.FIELDS.items():
                    found[meter] += getattr(call.usage, name)
            seen.add(call.response_id)
        return {meter: n for meter, n in found.items() if n}

    return doubles


def held(year: Year) -> Ledger:
    return ledger_of(year.calls, doubles=doubles_of(year.calls))


def bill(year: Year, folder: Path) -> Statement:
    documents = []
    for name, text in year.files():
        path = folder / name
        path.write_text(text)
        documents.append(bills.Document.of_path(str(path)))
    [statement] = bills.read(documents)
    return statement


def compared(year: Year, folder: Path, **more: t.Any) -> Report:
    [report] = reconcile(bill(year, folder), held(year), **more)
    assert report.as_json()  # exact text everywhere
    total = sum((each.amount_usd for each in report.residuals), Decimal(0))
    assert total == report.difference_usd
    return report


def named(report: Report) -> Found:
    """The amounts by day and cause; rounding is checked apart."""
    found: Found = defaultdict(Decimal)
    for each in report.residuals:
        found[each.day, each.cause] += each.amount_usd
    return dict(found)


def assert_exact(
    report: Report, planted: Mapping[tuple[dt.date, str], Decimal]
) -> None:
    """Compare to the pico-dollar, which is what parts are rounded to."""
    found = named(report)
    off = {
        key: (planted.get(key), found.get(key))
        for key in {*planted, *found}
        if abs(planted.get(key, Decimal(0)) - found.get(key, Decimal(0)))
        > Decimal("2e-10")
    }
    assert off == {}
    assert abs(report.unexplained_usd) == 0


@ANY_SOURCE
def test_a_year_is_named(source: Source, tmp_path: Path) -> None:
    year = Year(source, 365)
    causes = causes_of(source)
    quantities = itertools.cycle(c for c in causes if c in QUANTITIES)
    rates = itertools.cycle(c for c in causes if c not in QUANTITIES)
    for day in range(0, 360, 4):
        getattr(year, next(quantities))(day)
        getattr(year, next(rates))(day)
    report = compared(year, tmp_path)
    assert_exact(report, year.planted)
    kinds = {cause for _, cause in year.planted}
    assert {each.cause for each in report.residuals} - {"rounding"} == kinds - {
        "rounding"
    }


@ANY_SOURCE
def test_every_pair_of_causes_is_told_apart(source: Source, tmp_path: Path) -> None:
    rates = [c for c in causes_of(source) if c not in (*QUANTITIES, "late_batch")]
    for seed, (quantity, rate) in enumerate(itertools.product(QUANTITIES, rates)):
        year = Year(source, 4, seed)
        getattr(year, quantity)(1)
        getattr(year, rate)(1)
        assert_exact(compared(year, tmp_path), year.planted)


@ANY_SOURCE
def test_nothing_is_invented(source: Source, tmp_path: Path) -> None:
    year = Year(source, 31)
    report = compared(year, tmp_path)
    assert named(report) == {}
    assert report.verdict == "reconciled"
    assert report.billed_usd == generator.total(year.used)


@ANY_SOURCE
def test_a_discount_is_named_beside_an_unknown_remainder(
    source: Source, tmp_path: Path
) -> None:
    year = Year(source, 8)
    year.uncaptured(2)
    year.discount()
    year.fee(3)
    assert_exact(compared(year, tmp_path), year.planted)
    unknown = year.unknown(5)
    report = compared(year, tmp_path)
    assert abs(report.unexplained_usd - unknown) < Decimal("2e-10")
    assert report.verdict == "unexplained"


@ANY_SOURCE
def test_prices_after_a_discount_may_be_rounded(source: Source, tmp_path: Path) -> None:
    year = Year(source, 8)
    before = generator.total(year.used)
    for n, each in enumerate(year.used):
        rounded = round(each.rate * Decimal("0.8765432"), 6)
        year.used[n] = dataclasses.replace(each, rate=rounded, listed=each.rate)
    report = compared(year, tmp_path)
    assert {each.cause for each in report.residuals} <= {"discount", "rounding"}
    off = report.by_cause()["discount"] - (generator.total(year.used) - before)
    assert abs(off) < Decimal("2e-10")


@ANY_SOURCE
def test_an_unknown_remainder_is_unexplained(source: Source, tmp_path: Path) -> None:
    year = Year(source, 8)
    year.uncaptured(2)
    unknown = year.unknown(5)
    report = compared(year, tmp_path)
    assert report.unexplained_usd == unknown
    assert report.verdict == "unexplained"
    [odd] = [each for each in report.residuals if each.cause == "unexplained"]
    assert odd.day == (START + 5 * generator.DAY).date()
    assert odd.candidates == ()
    assert "uncaptured" in {each.cause for each in report.residuals}


def in_euros(year: Year, *, listed: bool, own: bool = False) -> t.Any:
    """Azure's export in another currency: 0.8 of it for a dollar."""
    drop = [] if own else ["costInUsd"]
    drop += [] if listed else ["PayGCostInBillingCurrency"]

    def write(*args: t.Any) -> generator.Files:
        [(name, text)] = generator.azure(*args)
        rows = []
        for row in csv.DictReader(io.StringIO(text)):
            for column in ("CostInBillingCurrency", "PayGCostInBillingCurrency"):
                euros = Decimal(row[column] or 0) * Decimal("0.8")
                row[column] = generator.plain(euros)
            usd = Decimal(row["costInUsd"])
            row["costInUsd"] = generator.plain(usd * Decimal("1.000000000003"))
            row["BillingCurrencyCode"] = "EUR"
            rows.append({k: v for k, v in row.items() if k not in drop})
        return [(name, generator.as_csv(rows))]

    year.source = dataclasses.replace(year.source, write=write)
    return year


@pytest.mark.parametrize(
    ("rate", "listed", "cause", "candidates"),
    [
        ("1.25", True, None, ()),
        ("1.3", True, "currency", ()),
        ("1.3", False, "currency", ()),
        ("1.2", True, "currency", ()),
        ("1.2", False, "unexplained", ("discount", "currency")),
    ],
)
def test_another_rate_of_exchange_is_named(
    rate: str,
    listed: bool,
    cause: str | None,
    candidates: tuple[str, ...],
    tmp_path: Path,
) -> None:
    year = in_euros(Year(generator.AZURE, 6), listed=listed)
    year.uncaptured(2)
    report = compared(year, tmp_path, rate=Decimal(rate))
    found = named(report)
    [uncaptured] = [usd for (_, name), usd in found.items() if name == "uncaptured"]
    assert abs(uncaptured - sum(year.planted.values())) < Decimal("2e-10")
    off = generator.total(year.used) * (Decimal(rate) * Decimal("0.8") - 1)
    rest = {
        name: usd for name, usd in report.by_cause().items() if name != "uncaptured"
    }
    assert abs(sum(rest.values()) - off) < Decimal("1e-8")
    assert {name for name in rest if abs(rest[name]) > Decimal("1e-8")} == (
        {cause} if cause else set()
    )
    assert {r.candidates for r in report.residuals if r.cause == cause} <= {candidates}


def test_what_a_bill_converts_may_be_rounded(tmp_path: Path) -> None:
    year = in_euros(Year(generator.AZURE, 6), listed=False, own=True)
    report = compared(year, tmp_path)
    found = {each.cause for each in report.residuals}
    assert {"currency"} <= found <= {"currency", "rounding"}
    assert Decimal("1e-11") < report.difference_usd < Decimal("1e-9")


@pytest.mark.parametrize("source", [generator.ANTHROPIC, generator.GOOGLE])
def test_what_came_after_the_watermark_is_lag(source: Source, tmp_path: Path) -> None:
    year = Year(source, 6)
    late = year.call(4, 0, hour=22)
    year.calls.append(late)
    watermark = START + 4 * generator.DAY + 21.5 * generator.HOUR

    def write(*args: t.Any) -> generator.Files:
        moment = f"{watermark:%Y-%m-%dT%H:%M:%SZ}"
        files = source.write(*args)
        return [(name, _refreshed(text, moment)) for name, text in files]

    year.source = dataclasses.replace(source, write=write)
    report = compared(year, tmp_path)
    # The following day cannot be compared at all.
    assert [each.verdict for each in report.days][5:] == ["not_comparable"]
    assert {r.cause for r in report.residuals if r.day == late.started_at.date()} == {
        "lag"
    }
    lag = sum((r.amount_usd for r in report.residuals), Decimal(0))
    assert abs(lag + generator.total(year.rows(late))) < Decimal("2e-10")


def _refreshed(text: str, moment: str) -> str:
    if '"sku"' in text:
        rows = [
            json.loads(line) | {"export_time": moment} for line in text.splitlines()
        ]
        return "\n".join(map(json.dumps, rows))
    return json.dumps(json.loads(text) | {"data_refreshed_at": moment})


@pytest.mark.parametrize(
    "source", [s for s in WITH_QUANTITIES if s.regions], ids=lambda s: str(s.name)
)
def test_a_part_of_a_line_in_another_region_is_named(
    source: Source, tmp_path: Path
) -> None:
    year = Year(source, 4)
    call = year.call(2, 0)
    rows = year.rows(call)
    elsewhere = [
        dataclasses.replace(r, rate=r.rate * Decimal("1.1"), region=source.regions[0])
        for r in rows
    ]
    year.calls.append(call)
    year.used += elsewhere
    year.plant(2, "region", generator.total(elsewhere) - generator.total(rows))
    assert_exact(compared(year, tmp_path), year.planted)


@pytest.mark.parametrize("source", generator.EVERY, ids=lambda s: str(s.name))
def test_a_bill_that_is_not_ours_is_never_explained(
    source: Source, tmp_path: Path
) -> None:
    good = {"reconciled", "explained"}
    empty, half, other = Year(source, 6), Year(source, 6), Year(source, 6, seed=9)
    empty.calls = []
    half.calls = half.calls[: len(half.calls) // 2]
    other.calls = Year(source, 6, seed=2).calls
    later = Year(source, 6)
    later.calls = [
        dataclasses.replace(call, started_at=at, event_id=mint_event_id(at))
        for call in later.calls
        for at in [call.started_at + 31 * generator.DAY]
    ]
    for year in (empty, half, other, later):
        assert compared(year, tmp_path).verdict not in good


@ANY_SOURCE
def test_two_causes_that_fit_are_candidates(source: Source, tmp_path: Path) -> None:
    year = Year(source, 6)
    year.day_edge(2)
    silent = year.call(3, 0)
    year.calls.append(dataclasses.replace(silent, usage=None, cost=None))
    report = compared(year, tmp_path)
    odd = [each for each in report.residuals if each.cause == "unexplained"]
    assert {each.candidates for each in odd} == {("no_usage", "day_edge")}
    edge = year.planted[(START + 3 * generator.DAY).date(), "day_edge"]
    assert abs(report.unexplained_usd - edge) < Decimal("2e-10")
    assert report.verdict == "unexplained"


def _held_calls(calls: Sequence[Call]) -> list[HeldCall]:
    found = []
    for call in calls:
        row = row_of(call)
        total = None if call.usage_source == "estimated" else row["cost_total"]
        ceiling = None if total is None else row["cost_ceiling"]
        found.append(
            HeldCall(
                call.event_id,
                call.response_id,
                call.started_at.date(),
                call.model,
                from_pico(total or 0),
                status_of(SimpleNamespace(**row)),
                None if ceiling is None else from_pico(ceiling - (total or 0)),
            )
        )
    return found


@pytest.mark.parametrize(
    "cause", [*QUANTITIES, "unpriced", "estimated", "incomplete", None]
)
def test_a_bill_by_generation_is_named_call_by_call(
    cause: str | None, tmp_path: Path
) -> None:
    year = Year(generator.GENERATIONS, 8)
    if cause is not None:
        getattr(year, cause)(2)
    ledger = dataclasses.replace(held(year), calls=lambda: _held_calls(year.calls))
    [report] = reconcile(bill(year, tmp_path), ledger)
    assert_exact(report, year.planted)
    assert {each.evidence for each in report.residuals} <= {"call"}
    lacking = [call for call in year.calls if call.cost is None]
    assert report.costs.keys() >= {call.event_id for call in lacking}
