"""When a budget's period begins and ends: by a zone's calendar, kept as UTC."""

from __future__ import annotations

import datetime as dt
import typing as t

Period: t.TypeAlias = t.Literal["call", "hour", "day", "week", "month", "total"]

PERIODS: t.Final[tuple[str, ...]] = t.get_args(Period)
"""The shortest first."""

_WEEKDAYS: t.Final = {"monday": 0, "saturday": 5, "sunday": 6}
_DAY: t.Final = dt.timedelta(days=1)
_HOUR: t.Final = dt.timedelta(hours=1)
_EPOCH: t.Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Window(t.NamedTuple):
    """One period of a budget, in aware UTC; the end is not in it."""

    start: dt.datetime
    end: dt.datetime | None
    """``None``: it never ends."""

    def holds(self, moment: dt.datetime) -> bool:
        """Whether a moment is in it."""
        return self.start <= moment and (self.end is None or moment < self.end)


def window(
    period: str, moment: dt.datetime, zone: dt.tzinfo, week_start: str = "monday"
) -> Window:
    """The window that a moment is in, whatever the zone's clocks do in it.

    An hour is counted from the day's beginning, and ends early where the day does.
    """
    if period == "total":
        return Window(_EPOCH, None)
    day = moment.astimezone(zone).date()
    if period == "hour":
        begin, end = _begin(day, zone), _begin(day + _DAY, zone)
        start = begin + (moment - begin) // _HOUR * _HOUR
        return Window(start, min(start + _HOUR, end))
    if period == "week":
        first = day - (day.weekday() - _WEEKDAYS[week_start]) % 7 * _DAY
        return Window(_begin(first, zone), _begin(first + 7 * _DAY, zone))
    if period == "month":
        first = day.replace(day=1)
        after = (first.replace(day=28) + 4 * _DAY).replace(day=1)
        return Window(_begin(first, zone), _begin(after, zone))
    return Window(_begin(day, zone), _begin(day + _DAY, zone))


def _begin(day: dt.date, zone: dt.tzinfo) -> dt.datetime:
    # Where a clock skips midnight, this is the first moment of the day all the same.
    return dt.datetime.combine(day, dt.time(), tzinfo=zone).astimezone(dt.UTC)
