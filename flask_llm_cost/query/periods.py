"""When a day, a week or a month begins in a zone, whatever its clocks do."""

from __future__ import annotations

import datetime as dt
import typing as t

from .filters import day_start

Span: t.TypeAlias = t.Literal["hour", "day", "week", "month", "year"]

SPANS: t.Final[tuple[str, ...]] = t.get_args(Span)

WEEKDAYS: t.Final = {"monday": 0, "saturday": 5, "sunday": 6}
"""The numbers of the days that a week may begin on."""

_DAY: t.Final = dt.timedelta(days=1)
_HOUR: t.Final = dt.timedelta(hours=1)


def first_day(span: Span, day: dt.date, week_start: str = "monday") -> dt.date:
    """The first day of the week, month or year that a day is in."""
    if span == "week":
        return day - (day.weekday() - WEEKDAYS[week_start]) % 7 * _DAY
    if span == "month":
        return day.replace(day=1)
    if span == "year":
        return day.replace(month=1, day=1)
    return day


def next_first_day(span: Span, first: dt.date) -> dt.date:
    """The first day of the period after the one that begins on ``first``."""
    if span == "week":
        return first + 7 * _DAY
    if span == "month":
        return (first.replace(day=28) + 4 * _DAY).replace(day=1)
    if span == "year":
        return first.replace(year=first.year + 1)
    return first + _DAY


def edges(
    span: Span,
    first: dt.date,
    last: dt.date,
    zone: dt.tzinfo,
    week_start: str = "monday",
) -> list[dt.datetime]:
    """Where each period begins (aware UTC) from that of ``first`` to that of ``last``.

    One more marks the end. An hour begins on the hour of the zone's clock, and ends early
    where the day does.
    """
    day = first_day(span, first, week_start)
    starts = []
    while day <= last:
        start, day = day_start(day, zone), next_first_day(span, day)
        starts.append(start)
        if span == "hour":
            end = day_start(day, zone)
            while (start := start + _HOUR) < end:
                starts.append(start)
    return [*starts, day_start(day, zone)] if starts else []
