"""The hours and days of a zone, as calls are added up by."""

from __future__ import annotations

import datetime as dt
import typing as t

from .jsonl import END
from .jsonl import FIRST

HOUR: t.Final = dt.timedelta(hours=1)
_DAY: t.Final = dt.timedelta(days=1)
_EPOCH: t.Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def utc_hour(moment: dt.datetime) -> dt.datetime:
    """The hour of UTC that a moment is in: what marks hold."""
    return moment - (moment - _EPOCH) % HOUR


def hours_of(
    hour: dt.datetime, zone: dt.tzinfo
) -> list[tuple[dt.datetime, dt.datetime]]:
    """The hours of a zone's days that an hour of UTC touches, with their ends.

    They are counted from the day's beginning, so that whole ones make up the day also
    where its clock changes.
    """
    found = []
    day = (hour.astimezone(zone) - _DAY).date()
    while (start := _begin(day, zone)) < hour + HOUR:
        day += _DAY
        end = _begin(day, zone)
        if end > hour:
            first = max(start, start + (hour - start) // HOUR * HOUR)
            while first < min(end, hour + HOUR):
                found.append((first, min(first + HOUR, end)))
                first += HOUR
    return found


def day_of(moment: dt.datetime, zone: dt.tzinfo) -> tuple[dt.datetime, dt.datetime]:
    """When the day of a zone begins and ends that a moment is in."""
    day = moment.astimezone(zone).date()
    return _begin(day, zone), _begin(day + _DAY, zone)


def _begin(day: dt.date, zone: dt.tzinfo) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), tzinfo=zone).astimezone(dt.UTC)


def day_at(moment: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    """When the day of a zone begins that a moment is in."""
    if not FIRST <= moment < END:
        return utc_hour(moment)
    return day_of(moment, zone)[0]


def hour_at(moment: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    """When the hour of a zone's day begins that a moment is in."""
    if not FIRST <= moment < END:
        return utc_hour(moment)
    start = day_of(moment, zone)[0]
    return start + (moment - start) // HOUR * HOUR
