from __future__ import annotations

import datetime as dt
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import settings

from flask_llm_cost.call import Call
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.filters import CallFilter
from flask_llm_cost.query.overview import Overview
from flask_llm_cost.query.overview import overview
from flask_llm_cost.query.report import report
from flask_llm_cost.query.totals import sum_up

from .samples import cost_of
from .samples import ledgers
from .samples import make_call
from .samples import NOON
from .samples import Store

NEW_YORK = zoneinfo.ZoneInfo("America/New_York")


def days(from_: str, to: str, zone: dt.tzinfo = dt.UTC) -> CallFilter:
    return CallFilter.days(from_, to, zone, NOON.date())


def ask(store: Store, where: CallFilter, models: int = 10) -> Overview:
    with store.reading() as connection:
        return overview(connection, where, models=models)


def test_a_period_stands_beside_the_one_before(store: Store) -> None:
    store.fill(
        make_call("2026-04-20T12:00Z", cost=cost_of("3")),
        make_call("2026-04-19T12:00Z", cost=cost_of("1")),
        make_call("2026-04-18T12:00Z", cost=cost_of("2")),
        make_call("2026-04-16T12:00Z", cost=cost_of("9")),
    )
    found = ask(store, days("2026-04-19", "2026-04-20")).explored
    assert found.before is not None
    assert (found.totals.spend_usd, found.before.totals.spend_usd) == (4, 2)
    assert (found.spend_change, found.calls_change) == (100, 100)
    assert [part.spend_usd for part in found.periods] == [1, 3]
    assert [part.spend_usd for part in found.before.parts] == [0, 2]


def test_a_change_from_nothing_is_not_known(sqlite: Store) -> None:
    sqlite.fill(make_call())
    found = ask(sqlite, days("2026-04-19", "2026-04-20")).explored
    assert found.spend_change is None
    assert found.calls_change is None


def test_an_empty_ledger_has_an_overview(store: Store) -> None:
    store.fill()
    found = ask(store, days("2026-03-01", "2026-03-31"))
    assert found.totals.calls == 0
    assert len(found.explored.periods) == 31
    assert found.providers == found.models == ()


def test_the_top_models_are_counted(sqlite: Store) -> None:
    sqlite.fill(*(make_call(model=f"m{n}", cost=cost_of(str(n))) for n in range(5)))
    found = ask(sqlite, days("2026-04-20", "2026-04-20"), models=2)
    assert [group.key for group in found.models] == [("openai", "m4"), ("openai", "m3")]
    assert found.model_count == 5


def test_a_call_late_at_night_is_of_the_same_day_everywhere(store: Store) -> None:
    store.fill(
        make_call("2026-04-18T02:00:00Z", cost=cost_of("5"))
    )  # 22:00 on the 17th
    found = ask(store, days("2026-04-17", "2026-04-17", NEW_YORK))
    assert found.totals.spend_usd == 5
    assert [part.spend_usd for part in found.explored.periods] == [5]


def test_an_open_range_has_no_overview(sqlite: Store) -> None:
    with pytest.raises(ValueError, match="both ends"):
        ask(sqlite, CallFilter())


@given(ledgers)
@settings(max_examples=10, deadline=None)
def test_no_two_numbers_disagree(store: Store, found: list[Call]) -> None:
    store.fill(*found)
    where = days("2026-10-31", "2026-11-03", NEW_YORK)
    seen = ask(store, where, models=100)
    with store.reading() as connection:
        reported = report(connection, where, tags=["feature"])
        assert seen.totals == reported.totals == totals(connection, where)
    by = {each.by: each.groups for each in reported.breakdowns}
    assert set(by) == {"provider", "model", "tag:feature"}
    for groups in (seen.providers, seen.models, *by.values()):
        assert sum_up(group.totals for group in groups) == seen.totals
    assert seen.explored.totals == seen.totals


def test_a_report_lists_the_most_expensive_calls_of_known_cost(store: Store) -> None:
    store.fill(
        *(make_call(cost=cost_of(str(n))) for n in range(7)), make_call(cost=None)
    )
    with store.reading() as connection:
        found = report(connection, CallFilter())
        few = report(connection, CallFilter(unpriced=True))
    assert [row.cost_usd for row in found.most_expensive] == [6, 5, 4, 3, 2]
    assert few.most_expensive == ()
