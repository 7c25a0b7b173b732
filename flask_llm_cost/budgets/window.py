"""When a budget's period begins and ends: by a zone's calendar, kept as UTC."""

from __future__ import annotations

import datetime as dt
import typing as t

from ..calendar import FIRST
from ..calendar import period_of
from ..calendar import Span

Period: t.TypeAlias = t.Literal["call", "hour", "day", "week", "month", "total"]

PERIODS: t.Final[tuple[str, ...]] = t.get_args(Period)
"""The shortest first."""


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
    """Return the window of a budget that contains a moment."""
    if period == "total":
        return Window(FIRST, None)
    # A budget for single calls has no window; any one serves.
    span = t.cast(Span, "day" if period == "call" else period)
    return Window(*period_of(span, moment, zone, week_start))
