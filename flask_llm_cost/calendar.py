"""Hours, days, weeks, months and years of a time zone, as aware UTC datetimes.

Local days are never 24 hours by assumption: a day lasts from its first moment in the zone
to the first moment of the next day, whatever the zone's clocks do in between.
"""

from __future__ import annotations

import datetime as dt
import typing as t

Span: t.TypeAlias = t.Literal["hour", "day", "week", "month", "year"]

SPANS: t.Final[tuple[str, ...]] = t.get_args(Span)

WEEKDAYS: t.Final = {"monday": 0, "saturday": 5, "sunday": 6}
"""The days that a week may start on, with their numbers."""

FIRST: t.Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
END: t.Final = dt.datetime(2262, 1, 1, tzinfo=dt.UTC)
"""A call's time is at or after :data:`FIRST` and before this."""

HOUR: t.Final = dt.timedelta(hours=1)
DAY: t.Final = dt.timedelta(days=1)


def day_start(day: dt.date, zone: dt.tzinfo) -> dt.datetime:
    """Return the first moment of a local day, even where midnight is skipped."""
    return dt.datetime.combine(day, dt.time(), tzinfo=zone).astimezone(dt.UTC)


def local_day(moment: dt.datetime, zone: dt.tzinfo) -> dt.date:
    """Return the date of a moment in a zone."""
    return moment.astimezone(zone).date()


def first_day(span: Span, day: dt.date, week_start: str = "monday") -> dt.date:
    """Return the first day of the week, month or year that contains a day."""
    if span == "week":
        return day - (day.weekday() - WEEKDAYS[week_start]) % 7 * DAY
    if span == "month":
        return day.replace(day=1)
    if span == "year":
        return day.replace(month=1, day=1)
    return day


def next_first_day(span: Span, first: dt.date) -> dt.date:
    """Return the first day of the period after the one that starts on ``first``."""
    if span == "week":
        return first + 7 * DAY
    if span == "month":
        return (first.replace(day=28) + 4 * DAY).replace(day=1)
    if span == "year":
        return first.replace(year=first.year + 1)
    return first + DAY


def period_of(
    span: Span, moment: dt.datetime, zone: dt.tzinfo, week_start: str = "monday"
) -> tuple[dt.datetime, dt.datetime]:
    """Return the start and the end of the local period that contains a moment.

    Hours are counted from the start of the local day; the last one ends with the day.
    """
    if span == "hour":
        start, end = period_of("day", moment, zone)
        start += (moment - start) // HOUR * HOUR
        return start, min(start + HOUR, end)
    first = first_day(span, local_day(moment, zone), week_start)
    return day_start(first, zone), day_start(next_first_day(span, first), zone)


def edges(
    span: Span,
    first: dt.date,
    last: dt.date,
    zone: dt.tzinfo,
    week_start: str = "monday",
) -> list[dt.datetime]:
    """Return the starts of all periods from that of ``first`` to that of ``last``.

    One more element marks the end. Hours are those of :func:`period_of`.
    """
    day = first_day(span, first, week_start)
    starts = []
    while day <= last:
        start, day = day_start(day, zone), next_first_day(span, day)
        starts.append(start)
        if span == "hour":
            end = day_start(day, zone)
            while (start := start + HOUR) < end:
                starts.append(start)
    return [*starts, day_start(day, zone)] if starts else []


def utc_hour(moment: dt.datetime) -> dt.datetime:
    """Return the start of the UTC hour that contains a moment."""
    return moment - (moment - FIRST) % HOUR


def hours_touched(
    hour: dt.datetime, zone: dt.tzinfo
) -> list[tuple[dt.datetime, dt.datetime]]:
    """Return the local hours, with their ends, that a UTC hour overlaps."""
    found = []
    start, end = period_of("hour", hour, zone)
    while start < hour + HOUR:
        found.append((start, end))
        start, end = period_of("hour", end, zone)
    return found


def rollup_start(
    span: t.Literal["hour", "day"], moment: dt.datetime, zone: dt.tzinfo
) -> dt.datetime:
    """Return the start of the rollup that a call of that time belongs to.

    Times outside :data:`FIRST` to :data:`END`, which only foreign rows can have, are
    grouped by UTC hour: local days may not exist there.
    """
    if not FIRST <= moment < END:
        return utc_hour(moment)
    return period_of(span, moment, zone)[0]


def whole_ms(moment: dt.datetime) -> dt.datetime:
    """Return an aware moment in UTC, rounded down to a whole millisecond."""
    if moment.tzinfo is not dt.UTC:
        moment = moment.astimezone(dt.UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def utc_ms(moment: dt.datetime) -> int:
    """Return the whole milliseconds since 1970 of an aware moment, rounded down."""
    return (moment - FIRST) // _MS


def from_ms(ms: int) -> dt.datetime:
    """Return the moment that is ``ms`` milliseconds after the start of 1970."""
    return FIRST + dt.timedelta(milliseconds=ms)


_MS: t.Final = dt.timedelta(milliseconds=1)


def iso(moment: dt.datetime | None) -> str | None:
    """Format a moment in UTC, to the millisecond; ``None`` stays ``None``."""
    if moment is None:
        return None
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds")


def past_time(older_than: dt.timedelta | dt.datetime, now: dt.datetime) -> dt.datetime:
    """The time before which something is older than an age, or than a time (aware).

    :raises ValueError: If that time is not in the past.
    """
    before = now - older_than if isinstance(older_than, dt.timedelta) else older_than
    if before.tzinfo is None or before >= now:
        raise ValueError(
            "older_than must be an age above zero, or an aware time in the past, not"
            f" {older_than!r}"
        )
    return before
