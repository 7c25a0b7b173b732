"""Unsettled amounts: what calls count that were cut, brought no usage or have no price."""

from __future__ import annotations

import datetime as dt
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_llm_cost.bound import Bound
from flask_llm_cost.budgets.definition import Budget
from flask_llm_cost.budgets.unsettled import unsettled
from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.db.budget_tables import budget_windows
from flask_llm_cost.db.tables import calls
from flask_llm_cost.ledger import Ledger
from flask_llm_cost.ledger.reprice import Scope
from tests.conftest import every_database
from tests.conftest import MakeApp
from tests.ledger.samples import make_call
from tests.ledger.samples import NOON

from .test_counters import alerts as alerts
from .test_counters import budgeted as budgeted
from .test_counters import costing
from .test_counters import drift
from .test_counters import kept
from .test_counters import MakeBudgeted
from .test_counters import only
from .test_counters import take
from .test_counters import write
from .test_enforcement import spend

DAY = {"name": "all", "limit_usd": 1, "period": "day"}
BLOCK = DAY | {"behavior": "block"}
PICO = 10**12


def cut(
    number: int = 0,
    *,
    known: str = "0.1",
    estimate: str | None = "0.2",
    ceiling: str | None = "0.5",
    **changes: t.Any,
) -> Call:
    """A call that was cut."""
    usd = Decimal(known)
    cost = Cost(
        usd,
        {"input": Part(Decimal(1), usd, usd)},
        "bundled",
        complete=False,
        flags=frozenset({"cut"}),
        estimate_usd=None if estimate is None else Decimal(estimate),
        ceiling_usd=None if ceiling is None else Decimal(ceiling),
    )
    return make_call(number, cost=cost, flags=frozenset({"cut"}), **changes)


def counted(ledger: Ledger) -> tuple[Decimal, ...]:
    """Spent, reserved, lost and unsettled of the only window, in USD."""
    row = only(ledger)
    counts = row.spent, row.reserved, row.lost, row.unsettled
    return tuple(Decimal(count) / PICO for count in counts)


def usd(*amounts: str) -> tuple[Decimal, ...]:
    return tuple(Decimal(amount) for amount in amounts)


def test_a_call_is_unsettled_if_its_final_usage_never_came() -> None:
    assert cut().unsettled
    assert not make_call().unsettled
    assert not make_call(cost=None).unsettled
    plain = Cost(Decimal(0), {}, "bundled", complete=False)
    assert make_call(cost=plain, bound=Bound()).unsettled
    assert make_call(cost=plain, flags=frozenset({"no_usage"})).unsettled
    # A stand-in rate is another doubt: its usage is known.
    assert not make_call(cost=plain, flags=frozenset({"borrowed_price"})).unsettled


@pytest.mark.parametrize(
    ("policy", "estimate", "ceiling", "reservation", "expected"),
    [
        ("estimate", "0.2", "0.5", "9", "0.15"),  # 1.25 * 0.2 - 0.1
        ("estimate", "0.2", "0.22", "9", "0.12"),  # never above the ceiling
        ("estimate", None, "0.5", "9", "0.4"),  # lost before it was read
        ("ceiling", "0.2", "0.5", "9", "0.4"),
        ("estimate", "0.2", None, "0.7", "0.6"),  # the reservation
        ("ceiling", "0.2", None, "0.7", "0.6"),
        ("estimate", "0.2", None, None, "0.15"),
        ("ceiling", "0.2", None, None, "0.15"),
        ("estimate", "0.2", None, "0.05", "0"),  # never negative
        ("estimate", "0.01", "0.5", None, "0.025"),
        ("estimate", None, None, None, "0.025"),
        ("ceiling", None, "0.3", None, "0.2"),
    ],
)
def test_a_cut_call_counts_beyond_what_is_known(
    policy: str,
    estimate: str | None,
    ceiling: str | None,
    reservation: str | None,
    expected: str,
) -> None:
    budget = Budget(
        name="x", limit_usd=Decimal(1), tags={}, thresholds=(Decimal(1),), cut=policy
    )
    found = unsettled(budget, cut(estimate=estimate, ceiling=ceiling))
    assert found is not None
    held = None if reservation is None else int(Decimal(reservation) * PICO)
    assert found.amount(held) == Decimal(expected) * PICO


@every_database
@pytest.mark.parametrize("entry", [DAY, BLOCK], ids=["notify", "block"])
def test_a_cut_call_is_unsettled_in_every_budget(
    budgeted: MakeBudgeted, entry: dict[str, t.Any]
) -> None:
    ledger = budgeted(entry)
    call = cut()
    if entry is BLOCK:
        take(ledger, call, "0.5")
    write(ledger, call, make_call(1))
    spent = Decimal("0.1") + Decimal("0.002500000001")
    assert counted(ledger) == (spent, 0, 0, Decimal("0.15"))
    assert drift(ledger) == []
    with ledger.reading() as connection:
        (standing,) = kept(ledger).standings(connection, NOON)
    assert standing.used_usd == spent + Decimal("0.15")
    assert (standing.unsettled_usd, standing.unsettled_calls) == (Decimal("0.15"), 1)


@every_database
def test_a_true_cost_replaces_what_is_unsettled_until_it_is_undone(
    budgeted: MakeBudgeted,
) -> None:
    ledger = budgeted(BLOCK)
    call, other = cut(ceiling=None), cut(1)
    take(ledger, call, "0.5")
    write(ledger, call, other)
    before = counted(ledger)
    assert before == usd("0.2", "0", "0", "0.55")
    now = NOON + dt.timedelta(days=1)
    done = ledger.repricing.settle({call.event_id: Decimal("0.3")}, now=now)
    assert (done.seen, done.changed) == (1, 1)
    assert counted(ledger) == usd("0.4", "0", "0", "0.15")
    assert drift(ledger) == []
    # A bill is final: prices do not change it.
    everything = Scope(NOON - dt.timedelta(days=1), now, priced=True)
    assert ledger.repricing.count(everything) == 1
    ledger.repricing.undo(done.run, now=now)
    # Its reservation is gone.
    assert counted(ledger) == usd("0.2", "0", "0", "0.3")
    assert drift(ledger) == []


@every_database
@pytest.mark.parametrize("complete", [True, False])
def test_repricing_a_cut_call_counts_it_anew(
    budgeted: MakeBudgeted, complete: bool
) -> None:
    ledger = budgeted(DAY)
    write(ledger, cut())
    day = dt.timedelta(days=1)
    better = (costing("0.3") if complete else cut(known="0.12", estimate="0.4")).cost
    ledger.repricing.reprice(
        Scope(NOON - day, NOON + day),
        lambda call: (better, frozenset()),
        now=NOON + day,
    )
    assert counted(ledger) == (
        usd("0.3", "0", "0", "0") if complete else usd("0.12", "0", "0", "0.38")
    )
    assert drift(ledger) == []


@every_database
def test_what_is_unsettled_can_be_released(budgeted: MakeBudgeted) -> None:
    ledger = budgeted(DAY)
    write(ledger, cut(), cut(1))
    assert kept(ledger).release(event_id=cut().event_id) == 0  # another call
    assert kept(ledger).release(name="all") == 2
    assert counted(ledger) == usd("0.2", "0", "0", "0")
    assert drift(ledger) == []


@every_database
def test_an_unpriced_call_is_unsettled_at_its_reservation(
    budgeted: MakeBudgeted,
) -> None:
    ledger = budgeted(BLOCK)
    call = make_call(cost=None)
    take(ledger, call, "0.6")
    write(ledger, call, make_call(1, cost=None))
    assert counted(ledger) == usd("0", "0", "0", "0.6")
    assert drift(ledger) == []


@every_database
def test_deleting_calls_deletes_what_is_unsettled(budgeted: MakeBudgeted) -> None:
    ledger = budgeted(DAY | {"period": "total"})
    old, new = cut(), cut(started_at=dt.datetime.now(dt.UTC).replace(microsecond=0))
    write(ledger, old, new)
    assert counted(ledger)[3] == Decimal("0.3")
    ledger.clear("today")
    assert counted(ledger) == usd("0.1", "0", "0", "0.15")
    assert drift(ledger) == []
    assert ledger.withdraw([old.event_id]) == 1
    assert counted(ledger) == usd("0", "0", "0", "0")
    write(ledger, cut(5))
    ledger.clear("all")
    assert counted(ledger) == usd("0", "0", "0", "0")
    assert drift(ledger) == []


@every_database
def test_pruned_and_erased_calls_stay_unsettled_until_released(
    budgeted: MakeBudgeted,
) -> None:
    ledger = budgeted({"name": "user", "limit_usd": 9, "tags": {"user": "*"}})
    write(ledger, cut(tags={"user": "ann"}))
    ledger.erase_tag("user", "ann")
    ledger.prune(NOON + dt.timedelta(hours=1))
    kept(ledger).repair()
    assert counted(ledger)[3] == Decimal("0.15")
    assert kept(ledger).release(name="user") == 1
    assert counted(ledger)[3] == 0


@every_database
def test_a_new_budget_counts_what_is_unsettled_already(budgeted: MakeBudgeted) -> None:
    write(budgeted(), cut(), cut(1, request_model="o3", model="o3"), make_call(2))
    ledger = budgeted(DAY | {"models": ["gpt-4o*"]})
    write(ledger, make_call(3))
    assert counted(ledger)[3] == Decimal("0.15")
    assert drift(ledger) == []


@every_database
def test_a_true_cost_of_a_window_that_is_not_counted_yet(
    budgeted: MakeBudgeted,
) -> None:
    first = budgeted()
    write(first, cut())
    done = first.repricing.settle({first_id(first): Decimal("0.3")}, now=NOON)
    ledger = budgeted(DAY)
    ledger.repricing.undo(done.run, now=NOON + dt.timedelta(hours=1))
    with ledger.reading() as connection:
        assert connection.execute(sa.select(budget_windows)).all() == []
    write(ledger, make_call(1))
    assert counted(ledger)[3] == Decimal("0.15")
    assert drift(ledger) == []


def first_id(ledger: Ledger) -> str:
    with ledger.reading() as connection:
        return str(connection.scalars(sa.select(calls.c.event_id)).one())


@every_database
def test_thresholds_include_what_is_unsettled(
    budgeted: MakeBudgeted, alerts: list[t.Any]
) -> None:
    ledger = budgeted(DAY)
    write(ledger, cut(known="0.3", estimate="0.48"))
    ledger._notify()
    (alert,) = alerts
    assert (alert.threshold, alert.spent_usd) == (Decimal("0.5"), Decimal("0.3"))
    assert alert.unsettled_usd == Decimal("0.2")
    assert "$0.3 of $1 spent, $0.2 unsettled" in alert.text().replace("0.30", "0.3")
    write(ledger, cut(1, known="0.4", estimate="0.48"))
    ledger._notify()
    assert [each.exceeded for each in alerts] == [False, False, True]


def test_the_sum_of_what_is_unsettled_saturates(budgeted: MakeBudgeted) -> None:
    ledger = budgeted(DAY | {"cut": "ceiling"})
    write(ledger, *(cut(n, ceiling="9000000") for n in range(3)))
    assert only(ledger).unsettled == 2**63 - 1


def test_a_changed_limit_applies_at_once(make_app: MakeApp, tmp_path: Path) -> None:
    limits = {"ann": "5"}

    def limit(tags: t.Mapping[str, str]) -> str:
        return limits[tags["user"]]

    def shown(app: Flask) -> list[tuple[str, Decimal | None]]:
        ledger = app.extensions["llm_cost"].ledger
        with ledger.reading() as connection:
            found = ledger.budgets.standings(connection, dt.datetime.now(dt.UTC))
        return [(each.budget.name, each.limit_usd) for each in found]

    database = f"sqlite:///{tmp_path}/shared.db"
    entries = [
        {"name": "each", "limit_usd": limit, "tags": {"user": "*"}},
        {"name": "all", "limit_usd": 10},
    ]
    config = {"LLM_COST_DATABASE_URI": database, "LLM_COST_BUDGETS": entries}
    app = make_app(**config)
    app.extensions["llm_cost"].ledger.schema.upgrade()
    spend(app, "1", tags={"user": "ann"})
    assert shown(app) == [("each", 5), ("all", 10)]
    limits["ann"] = "0.5"
    entries[1] = entries[1] | {"limit_usd": 20}
    assert shown(make_app(**config)) == [("each", Decimal("0.5")), ("all", 20)]
