from __future__ import annotations

import datetime as dt
import typing as t
import zoneinfo
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.forecast import project
from flask_llm_cost.query.forecast import Projection
from flask_llm_cost.query.forecast import projection
from flask_llm_cost.query.totals import change

from .samples import cost_of
from .samples import make_call
from .samples import Store
from .vectors import vectors

DAY = dt.timedelta(days=1)
SECOND = dt.timedelta(seconds=1)
APRIL_30 = dt.date(2026, 4, 30)

# "blend with the previous month until 24h/3 days elapsed": here there is no previous
# month, so that an unfinished first day counts as a whole one.
DAMPED = {"one-second-in": Decimal(31), "first-hour": Decimal("15.479167")}


def ask(store: Store, now: str, zone: dt.tzinfo = dt.UTC) -> Projection:
    with store.reading() as connection:
        moment = dt.datetime.fromisoformat(now)
        return projection(connection, CallFilter(zone=zone), moment)


@pytest.mark.parametrize("vector", vectors("projection.json", "budget_projection"))
def test_projection_vectors(sqlite: Store, vector: dict[str, t.Any]) -> None:
    now, expected = vector["now"], vector["expected"]
    spent = Decimal(repr(vector["spent"]))
    month_start = now[:8] + "01T00:00:00Z"
    sqlite.fill(make_call(month_start, cost=cost_of(spent)))
    found = ask(sqlite, now)
    projected = DAMPED.get(vector["id"], expected["projected_spent"])
    assert float(found.projected_usd) == pytest.approx(float(projected), rel=1e-6)
    assert found.spent_usd == spent
    label = f"{found.last_day:%b} {found.last_day.day}"
    assert label == expected["projection_end_label"]
    budget = Decimal(repr(vector["budget"]))
    if budget and vector["id"] not in DAMPED:
        percent = float(found.projected_usd / budget * 100)
        assert percent == pytest.approx(expected["projected_percent_used"])


@pytest.mark.parametrize("vector", vectors("projection.json", "delta_percent"))
def test_change_vectors(vector: dict[str, t.Any]) -> None:
    current, previous = (Decimal(repr(vector[k])) for k in ("current", "previous"))
    found = change(current, previous)
    assert found is not None
    assert float(found) == pytest.approx(vector["expected"])


@pytest.mark.parametrize("vector", vectors("projection.json", "timezone"))
def test_zone_vectors(store: Store, vector: dict[str, t.Any]) -> None:
    [row] = vector["rows"]
    store.fill(make_call(row["tracked_at"], cost=cost_of(repr(row["total_cost"]))))
    zone = zoneinfo.ZoneInfo(vector["zone"])
    now = dt.datetime.fromisoformat("2026-04-18T12:00:00Z")
    query = store.query(now, timezone=zone)
    day = dt.date.fromisoformat(vector["from"])
    assert query.between(day, day).count() == vector["expected"]["filtered"]
    # One reporting zone for filter, grouping and budgets, so they all see the $5.
    assert query.between(day, day).daily_costs() == {"2026-04-17": Decimal(5)}
    assert query.this_month().total_cost() == 5


def test_a_young_month_is_told_by_the_weeks_before(sqlite: Store) -> None:
    days = [f"2026-03-{day:02d}T12:00:00Z" for day in range(4, 32)]
    sqlite.fill(
        *(make_call(day, cost=cost_of("2")) for day in days),
        make_call("2026-04-01T00:00:00Z", cost=cost_of("1")),
    )
    found = ask(sqlite, "2026-04-01T00:00:01Z")
    assert found.damped
    assert 60 < found.projected_usd < 75
    assert found.low_usd is not None
    assert found.high_usd is not None
    assert found.low_usd <= found.projected_usd <= found.high_usd


def test_a_month_without_a_past_has_no_band(sqlite: Store) -> None:
    sqlite.fill(make_call("2026-04-01T00:00:00Z"))
    found = ask(sqlite, "2026-04-03T00:00:00Z")
    assert (found.low_usd, found.high_usd) == (None, None)


def test_an_empty_ledger_goes_nowhere(store: Store) -> None:
    store.fill()
    found = ask(store, "2026-04-16T00:00:00Z")
    assert (found.spent_usd, found.projected_usd) == (0, 0)


def test_the_range_asked_for_is_not_the_month(sqlite: Store) -> None:
    sqlite.fill(make_call("2026-04-01T12:00:00Z", cost=cost_of("6")))
    now = dt.datetime(2026, 4, 16, tzinfo=dt.UTC)
    with sqlite.reading() as connection:
        found = projection(connection, CallFilter(start=now, model="gpt-4o"), now)
        other = projection(connection, CallFilter(model="other"), now)
    assert found.projected_usd == 12
    assert other.projected_usd == 0


usds = st.integers(0, 10**6).map(lambda n: Decimal(n).scaleb(-3))


@given(
    usds,
    st.lists(usds, max_size=28),
    st.lists(usds, max_size=30),
    st.timedeltas(dt.timedelta(0), 30 * DAY),
)
def test_a_projection_is_at_least_what_is_spent(
    spent: Decimal, history: list[Decimal], days: list[Decimal], elapsed: dt.timedelta
) -> None:
    found = project(
        spent=spent,
        history=history,
        days=days,
        elapsed=elapsed,
        left=30 * DAY - elapsed,
        last_day=APRIL_30,
    )
    assert spent <= found.projected_usd
    if found.low_usd is not None and found.high_usd is not None:
        assert spent <= found.low_usd <= found.projected_usd <= found.high_usd
    # In its first second, a month is never projected to more than about its whole
    # at the pace of the days that are known.
    ceiling = spent * 31 + 31 * max([*history, Decimal(0)])
    assert found.projected_usd <= ceiling


@given(usds, st.lists(usds, min_size=28, max_size=28))
def test_nothing_jumps_when_the_past_stops_counting(
    spent: Decimal, history: list[Decimal]
) -> None:
    def at(elapsed: dt.timedelta) -> Decimal:
        return project(
            spent=spent,
            history=history,
            days=[],
            elapsed=elapsed,
            left=30 * DAY - elapsed,
            last_day=APRIL_30,
        ).projected_usd

    gap = abs(at(3 * DAY) - at(3 * DAY - SECOND))
    assert gap <= Decimal("0.001") * (spent + sum(history) + 1)
