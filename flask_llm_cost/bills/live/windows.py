"""Spans of UTC days that one request may ask for."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterator

from ..values import DAY


class Window(t.NamedTuple):
    """Some UTC days."""

    start: dt.date
    end: dt.date
    """Exclusive."""

    def __str__(self) -> str:
        return f"{self.start} to {self.end - DAY}"

    def split(self, days: int) -> Iterator[Window]:
        """Iterate over windows of at most so many days."""
        start = self.start
        while start < self.end:
            end = min(start + days * DAY, self.end)
            yield Window(start, end)
            start = end

    def unix(self) -> tuple[int, int]:
        """Return start and end in seconds since 1970."""
        midnight = dt.time(tzinfo=dt.UTC)
        first, last = (
            int(dt.datetime.combine(day, midnight).timestamp()) for day in self
        )
        return first, last

    def iso(self) -> tuple[str, str]:
        """Return start and end as ISO 8601 in UTC."""
        return f"{self.start}T00:00:00Z", f"{self.end}T00:00:00Z"
