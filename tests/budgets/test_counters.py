"""The counters of budgets, on every database: amounts spent equal the cost of the calls."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest
import sqlalchemy as sa

from flask_llm_cost.budgets import Alert
from flask_llm_cost.budgets import Budget
from flask_llm_cost.budgets import read_budgets
from flask_llm_cost.budgets.definition import Reservation
from flask_llm_cost.budgets.policy import Policy
from flask_llm_cost.budgets.storage import Budgets
from flask_llm_cost.call import Call
from flask_llm_cost.call import Cost
from flask_llm_cost.call import Part
from flask_llm_cost.config import Settings
from flask_llm_cost.db.budget_tables import budget_reservations
from flask_llm_cost.db.budget_tables import budget_windows
from flask_llm_cost.db.budget_tables import budgets as budgets_table
from flask_llm_cost.ledger import Ledger
from tests.conftest import every_database
from tests.ledger.samples import make_call
from tests.ledger.samples import NOON


class Recorded(Policy):
    """A policy that collects all alerts, instead of notifying an app."""

    def __init__(self, budgets: t.Sequence[Budget], alerts: list[Alert]) -> None:
        super().__init__(budgets)
        self.alerts = alerts

    def notify(self, alert: Alert) -> None:
        self.alerts.append(alert)


MakeBudgeted: t.TypeAlias = Callable[..., Ledger]
BLOCK = {"name": "all", "limit_usd": 1, "period": "day", "behavior": "block"}


@pytest.fixture
def alerts() -> list[Alert]:
    return []


@pytest.fixture
def budgeted(
    database: str | None, tmp_path: t.Any, alerts: list[Alert]
) -> t.Iterator[MakeBudgeted]:
    """Creates ledgers of one database with some budgets."""
    ledgers: list[Ledger] = []

    def make(*entries: dict[str, t.Any]) -> Ledger:
        budgets = read_budgets(Settings.read({"LLM_COST_BUDGETS": list(entries)}))

        ledger = Ledger(
            Settings(database_uri=database),
            instance_path=str(tmp_path / "instance"),
            policy=Recorded(budgets, alerts),
        )
        ledgers.append(ledger)
        return ledger

    yield make
    for ledger in ledgers:
        ledger.close()


def kept(ledger: Ledger) -> Budgets:
    assert ledger.budgets is not None
    return ledger.budgets


def write(ledger: Ledger, *calls: Call) -> None:
    stored = ledger._store.write(calls)
    assert not stored.rejected


def costing(usd: str, number: int = 0, **changes: t.Any) -> Call:
    amount = Decimal(usd)
    cost = Cost(amount, {"input": Part(Decimal(1), amount, amount)}, "bundled")
    return make_call(number, cost=cost, **changes)


def windows(ledger: Ledger) -> dict[str, t.Any]:
    """The rows of windows, by name, tags and day."""
    with ledger.reading() as connection:
        rows = connection.execute(sa.select(budget_windows)).all()
    return {f"{row.name} {row.tags} {row.starts_at:%d}": row for row in rows}


def only(ledger: Ledger) -> t.Any:
    (row,) = windows(ledger).values()
    return row


def amounts(ledger: Ledger) -> tuple[Decimal, Decimal, Decimal]:
    row = only(ledger)
    counts = row.spent, row.reserved, row.lost + row.unsettled
    return tuple(Decimal(n).scaleb(-12) for n in counts)  # type: ignore[return-value]


def drift(ledger: Ledger) -> list[str]:
    with ledger.reading() as connection:
        return kept(ledger).verify(connection)[0]


def take(ledger: Ledger, call: Call, usd: str) -> bool:
    budgets = kept(ledger)
    wanted = [
        Reservation(window, int(Decimal(usd).scaleb(12)))
        for window in budgets.counters.windows_of(call)
    ]
    return budgets.reservations.reserve(call.event_id, wanted) is None


@every_database
def test_a_call_counts_in_each_of_its_windows_once(budgeted: MakeBudgeted) -> None:
    ledger = budgeted(
        {"name": "day", "limit_usd": 9, "period": "day"},
        {"name": "user", "limit_usd": 9, "period": "month", "tags": {"user": "*"}},
    )
    first, other = make_call(1), make_call(2)
    write(ledger, first, other)
    write(ledger, first)
    found = {key: row.spent for key, row in windows(ledger).items()}
    assert found == {
        "day {} 01": 5_000_000_003,
        'user {"user": "1"} 01': 2_500_000_001,
        'user {"user": "2"} 01': 2_500_000_002,
    }
    assert drift(ledger) == []


@every_database
def test_a_new_budget_counts_the_calls_of_the_ledger(
    budgeted: MakeBudgeted,
) -> None:
    write(budgeted(), make_call(1), make_call(2))
    ledger = budgeted({"name": "month", "limit_usd": 9})
    write(ledger, make_call(3))
    assert only(ledger).spent == 7_500_000_006
    assert drift(ledger) == []


@every_database
def test_a_wrong_counter_is_found_and_repaired(budgeted: MakeBudgeted) -> None:
    ledger = budgeted({"name": "month", "limit_usd": 9})
    write(ledger, make_call(1))
    with ledger._engines.writing().begin() as connection:
        connection.execute(sa.update(budget_windows).values(spent=7))
    assert "spent is $0.000000000007, expected $0.0025" in drift(ledger)[0]
    with ledger._engines.writing().begin() as connection:
        kept(ledger).counters.audit.repair(connection)
    assert drift(ledger) == []


@every_database
def test_a_reservation_is_replaced_by_the_cost_of_the_call(
    budgeted: MakeBudgeted,
) -> None:
    ledger = budgeted(BLOCK)
    call = costing("0.2")
    assert take(ledger, call, "0.6")
    assert amounts(ledger) == (0, Decimal("0.6"), 0)
    assert not take(ledger, costing("0.2", 1), "0.5")
    write(ledger, call)
    assert amounts(ledger) == (Decimal("0.2"), 0, 0)
    write(ledger, call)
    assert amounts(ledger) == (Decimal("0.2"), 0, 0)
    assert take(ledger, costing("0.2", 1), "0.8")
    assert drift(ledger) == []


@every_database
def test_reservations_are_made_in_all_windows_or_in_none(
    budgeted: MakeBudgeted,
) -> None:
    ledger = budgeted(BLOCK, BLOCK | {"name": "tight", "limit_usd": "0.1"})
    assert not take(ledger, make_call(), "0.2")
    assert {row.reserved for row in windows(ledger).values()} == {0}
    with ledger.reading() as connection:
        assert connection.execute(sa.select(budget_reservations)).first() is None


@every_database
def test_no_call_is_allowed_once_the_limit_is_reached(budgeted: MakeBudgeted) -> None:
    ledger = budgeted(BLOCK)
    write(ledger, costing("1"))
    assert not take(ledger, make_call(1), "0")


def lapse(ledger: Ledger) -> int:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    return kept(ledger).reservations.expire(later)


@every_database
def test_a_lost_reservation_counts_until_the_call_arrives(
    budgeted: MakeBudgeted,
) -> None:
    ledger = budgeted(BLOCK)
    call = costing("0.2")
    take(ledger, call, "0.6")
    assert lapse(ledger) == 1
    assert amounts(ledger) == (0, 0, Decimal("0.6"))
    assert not take(ledger, costing("0.2", 1), "0.5")
    write(ledger, call)
    assert amounts(ledger) == (Decimal("0.2"), 0, 0)
    assert drift(ledger) == []


@every_database
def test_a_lost_reservation_can_be_released(budgeted: MakeBudgeted) -> None:
    ledger = budgeted(BLOCK)
    take(ledger, costing("0.2"), "0.6")
    lapse(ledger)
    assert kept(ledger).reservations.release(["lost"], name="all") == 1
    assert amounts(ledger) == (0, 0, 0)
    assert drift(ledger) == []


def test_a_lease_is_renewed_while_the_call_is_in_progress(
    budgeted: MakeBudgeted,
) -> None:
    ledger = budgeted(BLOCK)
    take(ledger, make_call(), "0.6")
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
    with ledger._engines.writing().begin() as connection:
        connection.execute(sa.update(budget_reservations).values(expires_at=soon))
    kept(ledger).reservations.renew()
    assert kept(ledger).reservations.expire(soon + dt.timedelta(seconds=60)) == 0


@every_database
def test_new_windows_of_a_batch_are_created_together(budgeted: MakeBudgeted) -> None:
    ledger = budgeted({"name": "user", "limit_usd": 9, "tags": {"user": "*"}})
    write(ledger, costing("0.1", tags={"user": "0"}))
    counters = kept(ledger).counters
    engine = ledger._engines.writing()
    # As if it had been added long ago: no window has earlier calls.
    with engine.begin() as connection:
        long_ago = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        connection.execute(sa.update(budgets_table).values(since=long_ago))
    counters.forget()
    calls = [costing("0.1", n, tags={"user": str(n)}) for n in range(1, 41)]
    commits: list[object] = []

    @sa.event.listens_for(engine, "commit")
    def committed(connection: object) -> None:
        commits.append(connection)

    write(ledger, *calls[:30])
    assert len(commits) < 10
    # A row that another process creates meanwhile does not affect the others.
    found = [window for call in calls[20:] for window in counters.windows_of(call)]
    counters.rows._create(engine, sorted(found, key=lambda window: window.id), {})
    write(ledger, *calls[30:])
    assert [row.spent for row in windows(ledger).values()] == [10**11] * 41
    assert drift(ledger) == []


@every_database
def test_erasing_a_user_keeps_what_the_user_spent(budgeted: MakeBudgeted) -> None:
    ledger = budgeted({"name": "user", "limit_usd": 9, "tags": {"user": "*"}})
    write(ledger, costing("0.3", 1, tags={"user": "ann"}))
    ledger.erase_tag("user", "ann")
    with ledger.reading() as connection:
        # It is unverifiable, and not a difference.
        assert kept(ledger).verify(connection) == ([], 1)
    kept(ledger).repair()
    row = only(ledger)
    assert (row.tags, row.spent) == ('{"user":"(erased)"}', 3 * 10**11)


@every_database
def test_an_unpriced_call_counts_at_its_estimate(budgeted: MakeBudgeted) -> None:
    ledger = budgeted(BLOCK | {"unpriced": "estimate", "estimate": "0.3"})
    reserved, other = (make_call(n, cost=None) for n in (1, 2))
    take(ledger, reserved, "0.3")
    write(ledger, reserved, other)
    assert amounts(ledger) == (0, 0, Decimal("0.6"))
    assert drift(ledger) == []


@every_database
def test_pruning_does_not_lower_the_amount_spent(budgeted: MakeBudgeted) -> None:
    ledger = budgeted({"name": "month", "limit_usd": 9})
    write(ledger, make_call(1), make_call(2))
    ledger.prune(NOON + dt.timedelta(hours=1))
    assert only(ledger).spent == 5_000_000_003
    assert drift(ledger) == []


@every_database
def test_pruning_keeps_what_estimated_calls_cost(budgeted: MakeBudgeted) -> None:
    ledger = budgeted({"name": "month", "limit_usd": 9})
    write(ledger, make_call(1), make_call(2, usage_source="estimated"))
    spent = only(ledger).spent
    ledger.prune(NOON + dt.timedelta(hours=1))
    assert drift(ledger) == []
    kept(ledger).repair()
    assert only(ledger).spent == spent


@every_database
def test_clearing_clears_budgets(budgeted: MakeBudgeted) -> None:
    ledger = budgeted({"name": "total", "limit_usd": "0.001", "period": "total"})
    write(ledger, make_call(1))
    ledger.clear("all")
    assert only(ledger).spent == 0
    write(ledger, make_call(2))
    assert only(ledger).spent == 2_500_000_002
    assert drift(ledger) == []


@every_database
def test_repricing_changes_the_amount_spent(budgeted: MakeBudgeted) -> None:
    from flask_llm_cost.ledger.reprice import Scope

    ledger = budgeted(
        {"name": "user", "limit_usd": 9, "tags": {"user": "*"}},
        {"name": "all", "limit_usd": 9, "unpriced": "estimate", "estimate": 1},
    )
    write(ledger, make_call(1), make_call(2, cost=None))
    day = dt.timedelta(days=1)
    ledger.repricing.reprice(
        Scope(NOON - day, NOON + day, priced=True),
        lambda call: (costing("0.5").cost, frozenset()),
        now=NOON + day,
    )
    assert [row.spent for row in windows(ledger).values() if row.name == "all"] == [
        10**12
    ]
    assert {row.lost + row.unsettled for row in windows(ledger).values()} == {0}
    assert drift(ledger) == []


@every_database
def test_alerts_of_a_batch_name_the_call_that_reached_the_threshold(
    budgeted: MakeBudgeted, alerts: list[Alert]
) -> None:
    ledger = budgeted({"name": "day", "limit_usd": 1, "period": "day"})
    calls = [costing("0.3", n) for n in range(5)]
    write(ledger, *calls)
    ledger._notify()
    assert [(alert.threshold, alert.call) for alert in alerts] == [
        (Decimal("0.5"), calls[1]),
        (Decimal("0.8"), calls[2]),
        (Decimal(1), calls[3]),
    ]
    write(ledger, costing("0.3", 9))
    other = budgeted({"name": "day", "limit_usd": 1, "period": "day"})
    write(other, costing("0.3", 10))
    other._notify()
    assert len(alerts) == 3


@every_database
def test_an_amount_beyond_bigint_loses_no_call(budgeted: MakeBudgeted) -> None:
    ledger = budgeted({"name": "day", "limit_usd": 1, "period": "day"})
    write(ledger, costing("9000000", 1), costing("9000000", 2))
    assert only(ledger).spent == 2**63 - 1
    assert drift(ledger) == []  # no SUM may overflow either


@every_database
def test_a_renamed_served_model_counts_where_it_was_reserved(
    budgeted: MakeBudgeted,
) -> None:
    ledger = budgeted(BLOCK | {"models": ["gpt-4o"]})
    call = costing("0.2", request_model="gpt-4o", model="gpt-4o-2024-08-06")
    write(ledger, call, replace(costing("0.1", 5), model="gpt-5"))
    assert only(ledger).spent == 2 * 10**11
    assert drift(ledger) == []


@every_database
def test_a_duplicate_call_leaves_nothing_reserved(
    budgeted: MakeBudgeted,
) -> None:
    ledger = budgeted(BLOCK)
    call = costing("0.2")
    assert take(ledger, call, "0.2")
    assert take(ledger, call, "0.2")
    assert amounts(ledger) == (0, Decimal("0.2"), 0)
    write(ledger, call)
    assert take(ledger, call, "0.2")
    write(ledger, call)
    assert amounts(ledger) == (Decimal("0.2"), 0, 0)
    assert drift(ledger) == []
