"""Spend over time and by group: the parts of each period sum to its total."""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import edges
from ..errors import FilterError
from ..money import from_pico
from .aggregate import series
from .aggregate import series_by
from .aggregate import tag_breakdown
from .aggregate import tag_series
from .comparison import compare
from .comparison import Comparison
from .comparison import Kind
from .filters import CallFilter
from .totals import change
from .totals import sum_up
from .totals import Totals

Grain: t.TypeAlias = t.Literal["hour", "day", "week", "month"]

GRAINS: t.Final[tuple[Grain, ...]] = t.get_args(Grain)

METERS: t.Final = ("input", "cache_read", "cache_write", "output", "units")
"""The token types that a total is the sum of."""

MAX_PERIODS: t.Final = 1_500
"""The most bars of a chart: an hour of two months, a day of four years."""


@dataclass(frozen=True, slots=True)
class Line:
    """One group: what it cost in each period."""

    key: tuple[str, ...]
    """``("openai", "gpt-4o")``; empty for all other groups together."""
    pico: tuple[int, ...]
    totals: Totals | None
    """Of the range; ``None`` for a token type, which is a part of calls."""

    @property
    def spend_pico(self) -> int:
        """The sum of all periods."""
        return sum(self.pico)

    @property
    def spend_usd(self) -> Decimal:
        """The spend of the group."""
        return from_pico(self.spend_pico)


@dataclass(frozen=True, slots=True)
class Explored:
    """The periods of a range, and the groups of each."""

    where: CallFilter
    group: str | None
    grain: str
    edges: tuple[dt.datetime, ...]
    """The start of each period, and the end of the last."""
    periods: tuple[Totals, ...]
    lines: tuple[Line, ...]
    """The most expensive groups, highest cost first."""
    other: Line | None
    """All other groups; ``None`` if there are none."""
    before: Comparison | None

    @property
    def totals(self) -> Totals:
        """Of the range."""
        return sum_up(self.periods)

    @property
    def spend_change(self) -> Decimal | None:
        """In percent of the other range; ``None`` if that cost nothing, or is not whole."""
        if self.before is None or not self.before.full:
            return None
        return change(self.totals.spend_usd, self.before.totals.spend_usd)

    @property
    def calls_change(self) -> Decimal | None:
        """In percent of the calls of the other range."""
        if self.before is None or not self.before.full:
            return None
        calls = self.totals.calls, self.before.totals.calls
        return change(Decimal(calls[0]), Decimal(calls[1]))


def explore(
    connection: sa.Connection,
    where: CallFilter,
    *,
    group: str | None = None,
    grain: Grain = "day",
    versus: Kind | None = None,
    now: dt.datetime | None = None,
    most: int = 6,
    week_start: str = "monday",
) -> Explored:
    """Return the spend in each period, in total and by group.

    :param where: With both ends.
    :param group: ``provider``, ``model``, ``meter`` (token type), ``scope`` or ``tag:KEY``.
    :param grain: Periods of the calendar; the first and the last may be cut by the range.
    :param versus: The range to compare with.
    :param now: The current time, unless the range is over.
    :param most: How many groups to list.
    :raises FilterError: If there is no such group, or if there are too many periods.
    """
    bounds = periods(where, grain, week_start)
    if len(bounds) > MAX_PERIODS + 1:
        raise FilterError(
            "grain", f"{grain!r} makes {len(bounds) - 1} periods; use a longer one."
        )
    whole = series(connection, where, bounds)
    lines = _lines(connection, where, bounds, group, whole, most)
    return Explored(
        where=where,
        group=group,
        grain=grain,
        edges=tuple(bounds),
        periods=whole,
        lines=tuple(lines),
        other=_other(whole, lines) if group is not None else None,
        before=None
        if versus is None
        else compare(connection, where, bounds, versus, now),
    )


def periods(where: CallFilter, grain: Grain, week_start: str) -> list[dt.datetime]:
    """Return the edges of the calendar's periods in a range, and its own ends.

    :raises ValueError: If the range is open.
    """
    found = edges(grain, *where.day_range, where.zone, week_start)
    start, end = t.cast(dt.datetime, where.start), t.cast(dt.datetime, where.end)
    return [start, *(edge for edge in found if start < edge < end), end]


def _lines(
    connection: sa.Connection,
    where: CallFilter,
    bounds: Sequence[dt.datetime],
    group: str | None,
    whole: Sequence[Totals],
    most: int,
) -> list[Line]:
    if group is None:
        return []
    if group == "meter":
        return _meters(whole)
    if group in ("provider", "model", "scope"):
        by = ("provider", "model") if group == "model" else (group,)
        return _top(series_by(connection, where, bounds, *by), most)
    if group.startswith("tag:"):
        key = group.removeprefix("tag:")
        # A tag may have thousands of values: only those that are shown are read by period.
        top = [
            row.key[0]
            for row in tag_breakdown(connection, where, key)[:most]
            if row.totals.spend_pico
        ]
        return _top(tag_series(connection, where, bounds, key, top), most)
    raise FilterError(
        "group",
        f"{group[:40]!r} is not a valid group; use provider, model, meter, scope or"
        " tag:KEY.",
    )


def _top(found: Mapping[tuple[str, ...], Sequence[Totals]], most: int) -> list[Line]:
    lines = [
        Line(key, tuple(part.spend_pico for part in parts), sum_up(parts))
        for key, parts in found.items()
    ]
    lines.sort(key=lambda line: (-line.spend_pico, line.key))
    return [line for line in lines[:most] if line.spend_pico]


def _meters(whole: Iterable[Totals]) -> list[Line]:
    whole = list(whole)
    lines = [
        Line((name,), tuple(getattr(each, f"cost_{name}_pico") for each in whole), None)
        for name in METERS
    ]
    return [line for line in lines if line.spend_pico]


def _other(whole: Sequence[Totals], lines: Sequence[Line]) -> Line | None:
    rest = tuple(
        total.spend_pico - sum(line.pico[n] for line in lines)
        for n, total in enumerate(whole)
    )
    shown = [line.totals for line in lines if line.totals is not None]
    if len(shown) < len(lines):  # token types are parts of calls
        return Line((), rest, None) if any(rest) else None
    others = _less(sum_up(whole), sum_up(shown))
    return Line((), rest, others) if others.calls else None


def _less(whole: Totals, part: Totals) -> Totals:
    """Return the totals of the calls that are not in a part of them."""
    names = [field.name for field in dataclasses.fields(Totals)]
    return Totals(**{n: getattr(whole, n) - getattr(part, n) for n in names})
