"""Whatever the group, the period and the filter: the parts sum to the total."""

from __future__ import annotations

import datetime as dt
import typing as t
import zoneinfo
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_llm_cost.call import Call
from flask_llm_cost.errors import FilterError
from flask_llm_cost.query.aggregate import NONE
from flask_llm_cost.query.aggregate import totals
from flask_llm_cost.query.aggregate import UNTAGGED
from flask_llm_cost.query.comparison import compare
from flask_llm_cost.query.explore import explore
from flask_llm_cost.query.explore import GRAINS
from flask_llm_cost.query.filters import CallFilter

from .samples import cost_of
from .samples import ledgers
from .samples import make_call
from .samples import NOON
from .samples import Store

NEW_YORK = zoneinfo.ZoneInfo("America/New_York")


def days(from_: str, to: str, zone: dt.tzinfo = dt.UTC) -> CallFilter:
    return CallFilter.days(from_, to, zone, NOON.date())


def _key(call: Call, group: str) -> tuple[str, ...]:
    if group == "provider":
        return (call.provider,)
    if group == "model":
        return call.provider, call.model
    if group == "scope":
        return (call.scope or NONE,)
    return (call.tags.get(group.removeprefix("tag:")) or UNTAGGED,)


def _estimated(call: Call) -> bool:
    reported = call.cost is not None and call.cost.source in ("provider", "bill")
    return call.usage_source == "estimated" and not reported


@given(
    ledgers,
    st.sampled_from(["provider", "model", "meter", "scope", "tag:feature"]),
    st.sampled_from(GRAINS),
    st.sampled_from([{}, {"provider": "openai"}, {"stream": True}, {"unpriced": True}]),
    st.integers(1, 3),
)
@settings(max_examples=10, deadline=None)
def test_parts_sum_to_the_total(
    store: Store, calls: list[Call], group: str, grain: t.Any, more: t.Any, most: int
) -> None:
    store.fill(*calls)
    where = days("2026-10-31", "2026-11-03", NEW_YORK).narrowed(**more)
    with store.reading() as connection:
        found = explore(connection, where, group=group, grain=grain, most=most)
        whole = totals(connection, where)
    assert found.totals == whole
    lines = [*found.lines, *([found.other] if found.other else [])]
    for n, period in enumerate(found.periods):
        assert sum(line.pico[n] for line in lines) == period.spend_pico
    assert len(found.lines) <= (5 if group == "meter" else most)
    if group == "meter" or more:
        return
    spent: Counter[tuple[str, ...]] = Counter()
    for call in calls:
        inside = (
            where.start and where.end and where.start <= call.started_at < where.end
        )
        if inside and call.cost is not None and not _estimated(call):
            spent[_key(call, group)] += int(call.cost.total_usd.scaleb(12))
    for line in found.lines:
        assert line.spend_pico == spent[line.key]
    rest = sorted(spent.values(), reverse=True)[len(found.lines) :]
    assert (found.other.spend_pico if found.other else 0) == sum(rest)


def test_periods_are_those_of_the_calendar(sqlite: Store) -> None:
    sqlite.fill(make_call())
    where = days("2026-04-15", "2026-05-05")
    with sqlite.reading() as connection:
        weeks = explore(connection, where, grain="week")
        months = explore(connection, where, grain="month")
        sundays = explore(connection, where, grain="week", week_start="sunday")
    assert [f"{at:%d %b}" for at in weeks.edges] == [
        *("15 Apr", "20 Apr", "27 Apr", "04 May", "06 May")
    ]
    assert [f"{at:%d %b}" for at in months.edges] == ["15 Apr", "01 May", "06 May"]
    assert f"{sundays.edges[1]:%a %d %b}" == "Sun 19 Apr"


def test_an_hour_of_four_years_is_too_fine(sqlite: Store) -> None:
    where = days("2022-01-01", "2026-04-20")
    with sqlite.reading() as connection, pytest.raises(FilterError, match="longer"):
        explore(connection, where, grain="hour")


def test_an_unknown_group_is_named(sqlite: Store) -> None:
    with sqlite.reading() as connection, pytest.raises(FilterError, match="'color'"):
        explore(connection, days("2026-04-20", "2026-04-20"), group="color")


@pytest.mark.parametrize(
    ("kind", "first", "last", "start", "end"),
    [
        ("previous", "2026-04-11", "2026-04-20", "2026-04-01", "2026-04-11"),
        ("last_month", "2026-04-11", "2026-04-20", "2026-03-11", "2026-03-21"),
        ("last_month", "2026-03-01", "2026-03-31", "2026-02-01", "2026-03-01"),
        ("last_month", "2026-01-05", "2026-01-31", "2025-12-05", "2026-01-01"),
        ("last_year", "2024-02-29", "2024-02-29", "2023-03-01", "2023-03-01"),
        ("last_year", "2026-04-01", "2026-04-30", "2025-04-01", "2025-05-01"),
    ],
)
def test_the_same_days_of_another_range(
    sqlite: Store, kind: t.Any, first: str, last: str, start: str, end: str
) -> None:
    sqlite.fill()
    where = days(first, last)
    with sqlite.reading() as connection:
        found = compare(connection, where, where.edges("day"), kind)
    assert (f"{found.start:%Y-%m-%d}", f"{found.end:%Y-%m-%d}") == (start, end)
    assert len(found.parts) == where.day_count


def test_half_a_day_is_compared_with_half_a_day(store: Store) -> None:
    store.fill(
        make_call("2026-04-19T11:59:59.999Z", cost=cost_of("1")),
        make_call("2026-04-19T12:00Z", cost=cost_of("2")),
        make_call("2026-04-20T09:00Z", cost=cost_of("3")),
        make_call("2026-04-18T09:00Z", cost=cost_of("5")),
    )
    where = days("2026-04-20", "2026-04-20")
    with store.reading() as connection:
        found = compare(connection, where, where.edges("hour"), "previous", NOON)
        week = days("2026-04-19", "2026-04-20")
        both = compare(connection, week, week.edges("day"), "previous", NOON)
    assert found.cut
    assert found.full
    assert found.totals.spend_usd == 1
    assert [part.spend_usd for part in both.parts] == [0, 5]


def test_a_ledger_that_began_later_is_not_a_full_period(sqlite: Store) -> None:
    sqlite.fill(make_call("2026-04-16T12:00Z"), make_call())
    where = days("2026-04-18", "2026-04-20")
    with sqlite.reading() as connection:
        found = explore(connection, where, versus="previous")
    assert found.before is not None
    assert not found.before.full
    assert found.spend_change is None
    assert found.before.totals.calls == 1


@pytest.mark.parametrize("group", ["scope", "model", "provider", "tag:feature"])
def test_other_has_the_calls_of_every_group_that_is_not_listed(
    store: Store, group: str
) -> None:
    store.fill(
        *(
            make_call(
                provider=name,
                model=name,
                scope=f"project={name}",
                tags={"feature": name},
                cost=cost_of(cost) if cost else None,
            )
            for name, cost in zip("abcd", ("4", "3", "2", None), strict=True)
        )
    )
    where = days(*[NOON.date().isoformat()] * 2)
    with store.reading() as connection:
        whole = totals(connection, where)
        found = explore(connection, where, group=group, most=2)
        free = explore(connection, where, group=group, most=3)
    assert found.other is not None
    assert found.other.totals is not None
    assert (found.other.totals.calls, found.other.totals.unpriced) == (2, 1)
    assert found.other.spend_pico == found.other.totals.spend_pico
    shown = sum(line.totals.calls for line in found.lines if line.totals is not None)
    assert shown + found.other.totals.calls == whole.calls
    # It costs nothing that is known, but it is a call.
    assert free.other is not None
    assert free.other.spend_pico == 0
