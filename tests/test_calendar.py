from __future__ import annotations

import datetime as dt
import typing as t
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_llm_cost.calendar import day_start
from flask_llm_cost.calendar import edges
from flask_llm_cost.calendar import first_day
from flask_llm_cost.calendar import from_ms
from flask_llm_cost.calendar import hours_touched
from flask_llm_cost.calendar import rollup_start
from flask_llm_cost.calendar import SPANS
from flask_llm_cost.calendar import utc_hour

HOUR = dt.timedelta(hours=1)

zones = st.sampled_from(
    [
        "UTC",
        "America/New_York",
        "Europe/Berlin",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",  # half an hour of summer time
        "America/St_Johns",  # changed its clocks at 00:01
        "Pacific/Apia",  # skipped a day
        "America/Sao_Paulo",  # skipped midnights
        "Africa/Casablanca",
    ]
).map(zoneinfo.ZoneInfo)


@given(
    st.sampled_from(SPANS),
    st.dates(dt.date(2000, 1, 1), dt.date(2036, 1, 1)),
    st.integers(0, 100),
    zones,
)
@settings(deadline=None)
def test_edges_rise_and_enclose_the_days(
    span: t.Any, first: dt.date, length: int, zone: dt.tzinfo
) -> None:
    last = first + dt.timedelta(days=length)
    found = edges(span, first, last, zone)
    assert found == sorted(found)
    assert found[0] == day_start(first_day(span, first), zone)
    assert found[-1] >= day_start(last + dt.timedelta(days=1), zone)


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-08", 23), ("2026-11-01", 25), ("2026-04-20", 24)]
)
def test_a_day_has_the_hours_that_its_clocks_show(day: str, hours: int) -> None:
    date = dt.date.fromisoformat(day)
    found = edges("hour", date, date, zoneinfo.ZoneInfo("America/New_York"))
    assert len(found) == hours + 1
    assert found[-1] - found[0] == hours * HOUR


def test_half_an_hour_of_summer_time_is_a_short_hour() -> None:
    date = dt.date(2026, 4, 5)
    found = edges("hour", date, date, zoneinfo.ZoneInfo("Australia/Lord_Howe"))
    assert found[-1] - found[0] == 24.5 * HOUR
    assert found[-1] - found[-2] == HOUR / 2


@pytest.mark.parametrize(
    ("span", "week_start", "first"),
    [
        ("day", "monday", "2026-11-22"),
        ("week", "monday", "2026-11-16"),
        ("week", "sunday", "2026-11-22"),
        ("week", "saturday", "2026-11-21"),
        ("month", "monday", "2026-11-01"),
        ("year", "monday", "2026-01-01"),
    ],
)
def test_a_period_begins_on_its_first_day(
    span: t.Any, week_start: str, first: str
) -> None:
    day = dt.date(2026, 11, 22)  # a Sunday
    assert str(first_day(span, day, week_start)) == first


def test_months_and_years_are_as_long_as_they_are() -> None:
    first, last = dt.date(2023, 12, 31), dt.date(2024, 3, 1)
    months = [str(e.date()) for e in edges("month", first, last, dt.UTC)]
    assert months == [
        "2023-12-01",
        "2024-01-01",
        "2024-02-01",
        "2024-03-01",
        "2024-04-01",
    ]
    years = [e.year for e in edges("year", first, last, dt.UTC)]
    assert years == [2023, 2024, 2025]


def test_no_days_have_no_edges() -> None:
    assert edges("day", dt.date(2026, 4, 2), dt.date(2026, 4, 1), dt.UTC) == []


@given(st.integers(1_200_000_000, 2_000_000_000), zones)
def test_local_hours_cover_a_utc_hour_without_gaps(
    second: int, zone: dt.tzinfo
) -> None:
    moment = from_ms(second * 1000)
    hour = utc_hour(moment)
    spans = hours_touched(hour, zone)
    (mine,) = [(a, b) for a, b in spans if a <= moment < b]
    assert mine[0] == rollup_start("hour", moment, zone)
    assert spans[0][0] <= hour
    assert spans[-1][1] >= hour + HOUR
    assert all(one[1] == two[0] for one, two in zip(spans, spans[1:], strict=False))
