"""``reconcile`` and ``bills``, over real days and made ones."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_llm_cost import bills
from flask_llm_cost.call import Call
from flask_llm_cost.db.tables import calls
from flask_llm_cost.money import digits
from flask_llm_cost.state import AppState
from tests.bills.months import a_call
from tests.bills.months import a_line
from tests.bills.months import DAY
from tests.bills.months import START
from tests.bills.months import statement
from tests.bills.test_planted import calls_of
from tests.bills.test_planted import SAMPLES
from tests.conftest import MakeApp

FILES: t.Final = [str(path) for path in sorted(SAMPLES.glob("openai_*.json"))]


COSTS: t.Final = Path(FILES[0]).read_text()


def run(app: Flask, *words: str, status: int = 0) -> str:
    result = app.test_cli_runner().invoke(args=["llm-cost", *words])
    assert result.exit_code == status, result.output
    return result.output


def store(app: Flask, calls: list[Call]) -> AppState:
    state: AppState = app.extensions["llm_cost"]
    for call in calls:
        state.ledger.append(call)
    assert state.ledger.flush(60)
    return state


def real_calls() -> list[Call]:
    [bill] = bills.read([bills.Document.of_path(path) for path in FILES])
    return calls_of(bill)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_real_days_tie_in_every_zone_and_after_pruning(
    make_app: MakeApp, zone: str
) -> None:
    app = make_app(LLM_COST_TIMEZONE=zone)
    state = store(app, real_calls())
    first = json.loads(run(app, "reconcile", *FILES, "--format", "json"))
    [report] = first["reports"]
    assert report["verdict"] == "reconciled"
    assert report["billed_usd"] == report["ledger_usd"] == "0.982742"
    run(app, "prune", "--older-than", "1d")
    assert state.ledger.prunable(state.clock()) == 0
    [pruned] = json.loads(run(app, "reconcile", *FILES, "--format", "json"))["reports"]
    assert pruned == report


def test_the_month_that_is_shown_to_finance_is_a_real_one(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_ROLLUP_TAGS=("tenant",))
    state = store(app, real_calls())
    state.clock = lambda: dt.datetime(2025, 11, 10, 9, tzinfo=dt.UTC)
    shown = (Path(__file__).parents[2] / "docs/finance.rst").read_text()
    said = run(app, "reconcile", *FILES).split("  2025-10-05")[0]
    said += run(app, "ledger", "close", "2025-10")
    said += run(app, "statement", "--tag", "tenant", "--month", "2025-10")
    for line in said.splitlines():
        assert line.rstrip() in shown


def test_files_are_compared_as_databases_are(make_app: MakeApp) -> None:
    app = make_app(LLM_COST_STORAGE="jsonl")
    store(app, real_calls())
    assert "RECONCILED" in run(app, "reconcile", *FILES)
    assert "reconciled" in run(app, "bills", "list")


def test_an_empty_ledger_is_not_good(app: Flask) -> None:
    output = run(app, "reconcile", *FILES, status=1)
    assert "UNEXPLAINED" in output
    assert "uncaptured" in output


def test_bills_are_listed_shown_and_forgotten(app: Flask) -> None:
    assert "No bills are stored" in run(app, "bills", "list")
    run(app, "reconcile", *FILES, status=1)
    run(app, "reconcile", *FILES, status=1)
    [line] = run(app, "bills", "list").splitlines()
    assert "2025-10-05 to 2025-10-12" in line
    assert "unexplained" in line
    key = line.split()[0]
    assert "0.569788 USD" in run(app, "bills", "show", key)
    kept = json.loads(run(app, "bills", "show", key, "--format", "json"))
    assert kept["reports"][0]["verdict"] == "unexplained"
    assert f"Deleted {key}." in run(app, "bills", "forget", key)
    assert "No bill has the key" in run(app, "bills", "show", key, status=2)


@pytest.mark.parametrize(
    ("body", "words", "message"),
    [
        ("<html>Log in</html>", (), "HTML"),
        ("{}", (), "cannot be recognized"),
        ("{}", ("--source", "acme"), "not a source"),
        ("{}", ("--rate", "0"), "above 0"),
        ("id,price\n1,2\n", ("--source", "openrouter"), "no column cost_total"),
        (COSTS, ("--rate", "1.08"), "these bills are in USD"),
    ],
)
def test_what_cannot_be_read_is_a_usage_error(
    app: Flask, tmp_path: Path, body: str, words: tuple[str, ...], message: str
) -> None:
    file = tmp_path / "bill.json"
    file.write_text(body)
    assert message in run(app, "reconcile", str(file), *words, status=2)
    assert "No bills are stored" in run(app, "bills", "list")


def test_single_calls_are_settled_and_can_be_undone(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = dataclasses.replace(a_call(START, "one", input=1000), response_id="r1")
    lost = dataclasses.replace(
        a_call(START, "one", input=1000), response_id="r2", usage=None, cost=None
    )
    state = store(app, [known, lost])
    lines = [
        a_line(START.date(), usd, model="one", response_id=name)
        for name, usd in (("r1", "0.0025"), ("r2", "0.07"))
    ]
    bill = statement(lines, 1)
    monkeypatch.setattr(bills, "read", lambda documents, source: [bill])
    output = run(app, "reconcile", "x.csv", "--settle")
    assert "+$0.07  no_usage" in output
    assert "EXPLAINED" in output
    again = run(app, "reconcile", "x.csv", "--format", "json")
    assert json.loads(again)["reports"][0]["difference_usd"] == "0"
    [settled] = [line for line in output.splitlines() if "To undo" in line]
    run(app, "prices", "reprice", "--undo", settled.split()[-1])
    [report] = bills.compare(state.ledger, bill)
    assert digits(report.difference_usd) == "0.07"
    assert report.costs == {lost.event_id: Decimal("0.07")}


def test_a_reconciled_day_settles_calls_that_were_cut(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = {"name": "all", "limit_usd": 9, "period": "total", "unpriced": "estimate"}
    app = make_app(LLM_COST_BUDGETS=[budget | {"estimate": 2}])
    whole, other = a_call(START, "one", input=1000), a_call(START, "one", output=1000)
    assert whole.cost is not None
    cost = dataclasses.replace(whole.cost, complete=False, ceiling_usd=Decimal(3))
    cut = dataclasses.replace(whole, cost=cost, flags=frozenset(["cut"]))
    lost = dataclasses.replace(other, usage=None, cost=None, outcome="failed")
    later = a_call(START + DAY, "one", input=1000)
    elsewhere = dataclasses.replace(later, cost=cost, flags=frozenset(["cut"]))
    state = store(app, [cut, lost, elsewhere])
    lines = [
        a_line(
            START.date(), "0.0025", model="one", meter="input", quantity=Decimal(1000)
        )
    ]
    bill = statement(lines, 2)
    monkeypatch.setattr(bills, "read", lambda documents, source: [bill])
    run(app, "reconcile", "x.csv", "--settle", status=1)
    with state.ledger.reading(fresh=True) as connection:
        rows = connection.execute(sa.select(calls)).all()
    found = {row.event_id: (row.cost_total, row.cost_complete) for row in rows}
    assert found[cut.event_id] == (2_500_000_000, True)
    assert found[lost.event_id] == (0, True)
    assert found[elsewhere.event_id] == (2_500_000_000, False)  # another day
    [after] = json.loads(run(app, "budgets", "show", "all", "--format", "json"))
    assert after["unsettled_usd"] == "2.9975"  # of the other day alone
    assert after["unsettled_calls"] == 1


@pytest.mark.parametrize("count", [1, 2])
def test_what_is_left_of_a_day_is_the_cost_of_its_only_call_without_usage(
    app: Flask, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    whole = a_call(START, "one", input=100_000)
    lost = [
        dataclasses.replace(
            a_call(START, "one"), usage=None, cost=None, outcome="failed"
        )
        for _ in range(count)
    ]
    state = store(app, [whole, *lost])
    tokens = Decimal(101_000)
    line = a_line(START.date(), "0.2525", model="one", meter="input", quantity=tokens)
    bill = statement([line], 1)
    monkeypatch.setattr(bills, "read", lambda documents, source: [bill])
    output = run(app, "reconcile", "x.csv", "--settle")
    assert "+$0.0025  no_usage" in output
    with state.ledger.reading(fresh=True) as connection:
        rows = connection.execute(sa.select(calls)).all()
    found = {row.event_id: row.cost_total for row in rows}
    # Of two, only the sum is known.
    assert found[lost[0].event_id] == (2_500_000_000 if count == 1 else None)
    assert ("does not settle any call" in output) == (count == 2)


@pytest.mark.parametrize(
    ("ceilings", "settled"),
    [
        (["0.001", "0.0015"], ["0.001", "0.0015"]),  # both at their ceilings
        (["0", "0.5"], ["0", "0.0025"]),  # the other one is known already
        (["0.002", "0.5"], None),
        (["0", "0.001"], None),  # no one can have cost that much
    ],
)
def test_several_open_calls_are_settled_if_one_answer_is_possible(
    app: Flask,
    monkeypatch: pytest.MonkeyPatch,
    ceilings: list[str],
    settled: list[str] | None,
) -> None:
    part = a_call(START, "one", input=1000)
    assert part.cost is not None
    floor = part.cost.total_usd
    cut = []
    for most in ceilings:
        cost = dataclasses.replace(
            part.cost, complete=False, ceiling_usd=floor + Decimal(most)
        )
        call = a_call(START + len(cut) * DAY / 9, "one", input=1000)
        cut.append(dataclasses.replace(call, cost=cost, flags=frozenset(["cut"])))
    state = store(app, [a_call(START, "one", input=1_000_000), *cut])
    tokens = Decimal(1_003_000)
    line = a_line(START.date(), "2.5075", model="one", meter="input", quantity=tokens)
    bill = statement([line], 1)
    monkeypatch.setattr(bills, "read", lambda documents, source: [bill])
    output = run(app, "reconcile", "x.csv", "--settle")
    assert ("does not settle any call" in output) == (settled is None)
    with state.ledger.reading(fresh=True) as connection:
        rows = connection.execute(sa.select(calls)).all()
    found = {row.event_id: row.cost_total for row in rows}
    more = ["0", "0"] if settled is None else settled
    assert [found[each.event_id] for each in cut] == [
        int((floor + Decimal(usd)) * 10**12) for usd in more
    ]


def test_a_call_that_is_recorded_days_later_is_compared_on_its_day(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = a_call(START + DAY - dt.timedelta(seconds=1), "one", input=1000)
    early = a_call(START + DAY, "one", input=2000)
    lines = [
        a_line(day, usd, model="one", meter="input", quantity=Decimal(tokens))
        for day, usd, tokens in (
            (late.started_at.date(), "0.0025", 1000),
            (early.started_at.date(), "0.005", 2000),
        )
    ]
    bill = statement(lines, 2)
    monkeypatch.setattr(bills, "read", lambda documents, source: [bill])
    store(app, [early])
    before = run(app, "reconcile", "x.csv", status=1)
    assert "+$0.0025  uncaptured" in before
    store(app, [late])
    [report] = json.loads(run(app, "reconcile", "x.csv", "--format", "json"))["reports"]
    assert report["verdict"] == "reconciled"
    assert [day["ledger_usd"] for day in report["days"]] == ["0.0025", "0.005"]


def test_a_bill_without_days_is_not_stored(app: Flask, tmp_path: Path) -> None:
    file = tmp_path / "bill.json"
    file.write_text("[]")
    output = run(app, "reconcile", str(file), "--source", "openai", status=1)
    assert "NOT COMPARABLE" in output
    assert "No bills are stored" in run(app, "bills", "list")
