"""Start and end of a budget's period in the calendar of a time zone. Pure."""

from __future__ import annotations

import datetime as dt
import typing as t

from ..calendar import FIRST
from ..calendar import period_of
from ..calendar import Span

Period: t.TypeAlias = t.Literal["call", "hour", "day", "week", "month", "total"]

PERIODS: t.Final[tuple[str, ...]] = t.get_args(Period)
"""In ascending order."""


class Window(t.NamedTuple):
    """One period of a budget, in aware UTC."""

    start: dt.datetime
    end: dt.datetime | None
    """Exclusive; ``None`` if it never ends."""


def window(
    period: str, moment: dt.datetime, zone: dt.tzinfo, week_start: str = "monday"
) -> Window:
    """Return the window of a budget that contains a time."""
    if period == "total":
        return Window(FIRST, None)
    # Budgets per call have no windows; the day serves as one.
    span = t.cast(Span, "day" if period == "call" else period)
    return Window(*period_of(span, moment, zone, week_start))
