"""Which calls a query is about: a time range, and conditions on the calls in it."""

from __future__ import annotations

import datetime as dt
import re
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace

import sqlalchemy as sa

from ..calendar import DAY
from ..calendar import day_start
from ..calendar import edges
from ..calendar import local_day
from ..calendar import Span
from ..call import KEY_PATTERN
from ..call import OUTCOMES
from ..call import USAGE_SOURCES
from ..db.sql import same
from ..db.sql import tagged
from ..db.sql import within
from ..db.tables import calls
from ..errors import FilterError
from ..rollups.measures import INCOMPLETE
from ..rollups.measures import UNPRICED

MAX_DAYS: t.Final = 3660
"""The longest range of days that a page or command accepts."""

DEFAULT_DAYS: t.Final = 30

MAX_TAGS: t.Final = 20
"""Tag conditions per query; each one is a subselect."""

MAX_TAG_LENGTH: t.Final = 1400

_DATE: t.Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MS: t.Final = dt.timedelta(milliseconds=1)
# Every zone has these days, and the days of the longest period before them.
_FIRST_YEAR: t.Final = 1970
_LAST_YEAR: t.Final = 9998


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFilter:
    """Conditions that a call must all meet. Each defaults to no condition."""

    start: dt.datetime | None = None
    """The start of the range (aware UTC)."""
    end: dt.datetime | None = None
    """The end of the range, exclusive."""
    zone: dt.tzinfo = dt.UTC
    """The time zone of days, weeks and months."""
    provider: str | None = None
    model: str | None = None
    stream: bool | None = None
    usage_source: str | None = None
    outcome: str | None = None
    trace_id: str | None = None
    scope: str | None = None
    """A scope, or a part of one, such as ``project=proj_1``."""
    tags: tuple[tuple[str, str], ...] = ()
    """Pairs of key and value, compared exactly. A call must have all of them."""
    priced: bool = False
    """Only calls that have a cost, including incomplete and estimated ones."""
    unpriced: bool = False
    """Only calls that may have cost something, and whose cost is unknown."""
    incomplete: bool = False
    """Only calls whose cost is known in part."""
    untagged: bool = False
    with_latency: bool = False
    missing_usage: bool = False
    missing_response_id: bool = False
    never: bool = False
    """No call matches: two of the conditions contradict each other."""

    def __post_init__(self) -> None:
        for bound in (self.start, self.end):
            if bound is not None:
                ceil_ms(bound)
        _one_of("usage_source", self.usage_source, USAGE_SOURCES)
        _one_of("outcome", self.outcome, OUTCOMES)
        for key, _ in self.tags:
            tag_key(key)

    @classmethod
    def days(
        cls, from_: str | None, to: str | None, zone: dt.tzinfo, today: dt.date
    ) -> t.Self:
        """Select a range of days in a zone, both included, as pages and commands take it.

        ``from_`` alone ends today, ``to`` alone covers the 30 days that end there, and
        neither means the last 30 days. Add other conditions with
        :func:`dataclasses.replace`.

        :param from_: ``YYYY-MM-DD``; ``None`` and an empty string mean not given.
        :param to: Likewise.
        :param today: The current day in ``zone``.
        :raises FilterError: Naming ``from`` or ``to``.
        """
        first = _date("from", from_)
        last = _date("to", to) or today
        if first is None:
            first = max(last - (DEFAULT_DAYS - 1) * DAY, dt.date(_FIRST_YEAR, 1, 1))
        if first > last:
            raise FilterError(
                "from", f"{first} is after {last}, the last day of the range."
            )
        if (last - first).days + 1 > MAX_DAYS:
            raise FilterError(
                "from", f"{first} to {last} is longer than {MAX_DAYS} days."
            )
        return cls(
            start=day_start(first, zone), end=day_start(last + DAY, zone), zone=zone
        )

    @property
    def first_day(self) -> dt.date | None:
        """The day of ``start`` in the zone."""
        return None if self.start is None else local_day(self.start, self.zone)

    @property
    def last_day(self) -> dt.date | None:
        """The day of the last moment before ``end`` in the zone."""
        return None if self.end is None else local_day(self.end - _MS, self.zone)

    @property
    def day_range(self) -> tuple[dt.date, dt.date]:
        """The first and the last day.

        :raises ValueError: If the range is open.
        """
        first, last = self.first_day, self.last_day
        if first is None or last is None:
            raise ValueError("This needs a range with both ends.")
        return first, last

    @property
    def day_count(self) -> int:
        """The number of days.

        :raises ValueError: If the range is open.
        """
        first, last = self.day_range
        return (last - first).days + 1

    def edges(self, span: Span) -> list[dt.datetime]:
        """Return the start of each day, hour or month of the range, and the end.

        :raises ValueError: If the range is open.
        """
        return edges(span, *self.day_range, self.zone)

    def previous(self) -> CallFilter:
        """Return the same filter for the period of as many days that ends before this one.

        :raises ValueError: If the range is open.
        """
        first, _ = self.day_range
        start = day_start(first - self.day_count * DAY, self.zone)
        return replace(self, start=start, end=self.start)

    def between(self, start: dt.datetime, end: dt.datetime) -> CallFilter:
        """Return the same filter for the part of its range that lies in this one."""
        if self.start is not None:
            start = max(start, self.start)
        if self.end is not None:
            end = min(end, self.end)
        return replace(self, start=start, end=end)

    def narrowed(self, **more: t.Any) -> CallFilter:
        """Return the same filter with more conditions; contradicting ones match no call.

        :param more: Fields of this class other than ``start``, ``end`` and ``zone``.
            ``tags`` are added.
        """
        fields: dict[str, t.Any] = {}
        for name, value in more.items():
            old = getattr(self, name)
            if name == "tags":
                fields[name] = (*old, *value)
            elif name in CONDITIONS:
                fields[name] = old or value
            elif value is not None:
                if old is not None and old != value:
                    return replace(self, never=True)
                fields[name] = value
        return replace(self, **fields)

    def clauses(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions, to be joined by AND in a select of the calls table."""
        found: list[sa.ColumnElement[bool]] = [sa.false()] if self.never else []
        if self.start is not None:
            found.append(calls.c.started_at >= ceil_ms(self.start))
        if self.end is not None:
            found.append(calls.c.started_at < ceil_ms(self.end))
        for name in ("provider", "model", "usage_source", "outcome", "trace_id"):
            value = getattr(self, name)
            if value is not None:
                found.append(same(calls.c[name], value))
        if self.scope is not None:
            found.append(within(calls.c.scope, self.scope))
        if self.stream is not None:
            found.append(calls.c.stream == self.stream)
        found.extend(tagged(key, value) for key, value in self.tags)
        found.extend(c for name, c in CONDITIONS.items() if getattr(self, name))
        return found


CONDITIONS: t.Final[t.Mapping[str, sa.ColumnElement[bool]]] = {
    "priced": calls.c.cost_total.is_not(None),
    "unpriced": UNPRICED,
    "incomplete": INCOMPLETE,
    "untagged": calls.c.tag_set_id.is_(None),
    "with_latency": calls.c.latency_ms.is_not(None),
    "missing_usage": calls.c.total_input_tokens.is_(None),
    "missing_response_id": calls.c.response_id.is_(None),
}
"""The condition of each boolean field of :class:`CallFilter`."""


def ceil_ms(moment: dt.datetime) -> dt.datetime:
    """Round a bound up to a whole millisecond, since calls start on whole ones.

    :raises ValueError: If it has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone; give an aware datetime.")
    rest = moment.microsecond % 1000
    return moment + dt.timedelta(microseconds=1000 - rest) if rest else moment


def tag_key(text: str) -> str:
    """Return the text if it is a valid tag key.

    :raises FilterError: Naming ``tag``, if it is not.
    """
    if KEY_PATTERN.fullmatch(text):
        return text
    raise FilterError(
        "tag",
        f"{text[:40]!r} is not a valid tag key; use 1 to 200 letters, digits, _ . and -.",
    )


def tag_conditions(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Split ``key:value`` texts at the first colon. Blank texts are ignored.

    :raises FilterError: Naming ``tag``, if a text has no colon or an invalid key, or
        there are too many.
    """
    given = [text for text in texts if text.strip()]
    if len(given) > MAX_TAGS:
        raise FilterError(
            "tag", f"can be given at most {MAX_TAGS} times, not {len(given)}."
        )
    for text in given:
        key, colon, value = text.partition(":")
        key = key.strip()
        if not colon or not KEY_PATTERN.fullmatch(key):
            raise FilterError(
                "tag",
                f"{text[:40]!r} is not a valid tag; use key:value, e.g. feature:chat.",
            )
        if len(text) > MAX_TAG_LENGTH:
            raise FilterError(
                "tag", f"must be at most {MAX_TAG_LENGTH} characters long."
            )
        yield key, value.strip()


def _one_of(name: str, value: str | None, known: t.Sequence[str]) -> None:
    if value is not None and value not in known:
        raise FilterError(name, f"{value[:40]!r} is not one of {', '.join(known)}.")


def _date(name: str, text: str | None) -> dt.date | None:
    if text is None or not text:
        return None
    if _DATE.fullmatch(text):
        try:
            day = dt.date.fromisoformat(text)
        except ValueError:
            pass
        else:
            if _FIRST_YEAR <= day.year <= _LAST_YEAR:
                return day
    raise FilterError(
        name,
        f"{text[:40]!r} is not a valid date; use YYYY-MM-DD, e.g. 2026-11-22 (years"
        f" {_FIRST_YEAR} to {_LAST_YEAR}).",
    )
