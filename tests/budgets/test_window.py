from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.budgets.window import PERIODS
from flask_llm_cost.budgets.window import window

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [
    ZoneInfo(name)
    for name in (
        "UTC",
        "Europe/Berlin",
        "America/Sao_Paulo",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "America/Havana",
    )
]
moments = st.integers(0, 4_000_000_000).map(
    lambda s: dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=s)
)
periods = st.sampled_from([p for p in PERIODS if p != "call"])
weeks = st.sampled_from(["monday", "sunday", "saturday"])


@given(moments, periods, st.sampled_from(ZONES), weeks)
def test_a_moment_is_in_its_window(moment, period, zone, week) -> None:  # type: ignore[no-untyped-def]
    start, end = window(period, moment, zone, week)
    assert start <= moment
    assert end is None or moment < end


@given(moments, periods, st.sampled_from(ZONES), weeks)
def test_windows_follow_each_other(moment, period, zone, week) -> None:  # type: ignore[no-untyped-def]
    found = window(period, moment, zone, week)
    if found.end is not None:
        assert window(period, found.end, zone, week).start == found.end
        last = found.end - dt.timedelta(milliseconds=1)
        assert window(period, last, zone, week) == found


@pytest.mark.parametrize(
    ("day", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 5, 1), 24)]
)
def test_days_may_have_23_or_25_hours(day: tuple[int, int, int], hours: int) -> None:
    found = window("day", dt.datetime(*day, 12, tzinfo=BERLIN), BERLIN)
    assert found.end is not None
    assert found.end - found.start == dt.timedelta(hours=hours)


def test_a_month_begins_at_midnight_of_its_zone() -> None:
    found = window("month", dt.datetime(2026, 2, 28, 23, 30, tzinfo=dt.UTC), BERLIN)
    assert found.start == dt.datetime(2026, 2, 28, 23, tzinfo=dt.UTC)
    assert found.end == dt.datetime(2026, 3, 31, 22, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("week", "day"), [("monday", 2), ("sunday", 1), ("saturday", 7)]
)
def test_a_week_begins_on_its_day(week: str, day: int) -> None:
    # 2026-03-07 is a Saturday, 2026-03-08 a Sunday.
    moment = dt.datetime(2026, 3, 7, 12, tzinfo=dt.UTC)
    assert window("week", moment, dt.UTC, week).start.day == day


def test_a_total_never_ends() -> None:
    assert window("total", dt.datetime(2026, 3, 1, tzinfo=dt.UTC), dt.UTC).end is None
