"""The report: what ``flask llm-cost report`` prints."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import replace
from decimal import Decimal

import sqlalchemy as sa

from .. import money
from ..calendar import edges
from ..calendar import iso
from ..calendar import local_day
from ..calendar import Span
from . import aggregate
from .comparison import compare
from .comparison import Comparison
from .filters import CallFilter
from .listing import CallRow
from .listing import top_calls
from .sources import pruned_before
from .totals import Group
from .totals import Totals

GRAINS: t.Final[tuple[Span, ...]] = ("hour", "day", "week", "month")

MEASURES: t.Final = (
    ("calls", "failed", "priced", "unpriced", "incomplete", "unbounded", "estimated")
    + ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    + ("reasoning_tokens", "total_tokens", "cost_usd", "ceiling_usd")
    + ("estimated_usd",)
)
"""The measures of :class:`.Totals` in JSON and CSV."""


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The totals by one dimension, highest cost first; periods are in order."""

    by: str
    """``provider``, ``model``, ``scope``, ``session``, ``tag:KEY``, or one of
    :data:`GRAINS`."""
    groups: tuple[Group, ...]
    pruned_before: dt.datetime | None
    """Calls before this were pruned, and are missing."""

    def rows(self) -> list[dict[str, t.Any]]:
        """Return the rows for JSON. Amounts are text."""
        return [
            {"key": name(group)} | measures(group.totals, group.share)
            for group in self.groups
        ]


@dataclass(frozen=True, slots=True)
class Report:
    """Totals and breakdowns of a range of days."""

    where: CallFilter
    totals: Totals
    breakdowns: tuple[Breakdown, ...]
    most_expensive: tuple[CallRow, ...] = ()
    """The most expensive calls of known cost."""
    pruned_before: dt.datetime | None = None
    """Calls before this were pruned: ``most_expensive`` lacks them."""
    previous: Comparison | None = None
    """The days before, as many."""

    @money.own_context
    def to_json(self) -> dict[str, t.Any]:
        """Return it for JSON. Amounts are text, so that they stay exact."""
        average = self.totals.average_usd
        return {
            **self._range(self.pruned_before),
            "totals": measures(self.totals)
            | {
                "average_cost_usd": None if average is None else f"{average:.12f}",
                "average_latency_ms": self.totals.average_latency_ms,
            },
            "by": {each.by: each.rows() for each in self.breakdowns},
            "most_expensive": [
                {
                    "event_id": row.event_id,
                    "started_at": row.started_at.isoformat(timespec="milliseconds"),
                    "provider": row.provider,
                    "model": row.model,
                    "total_tokens": row.total_tokens,
                    "cost_usd": _text(row.cost_usd),
                    "ceiling_usd": _text(row.ceiling_usd),
                    "complete": row.cost_complete,
                }
                for row in self.most_expensive
            ],
        }

    def single_to_json(self) -> dict[str, t.Any]:
        """Return the totals and the one breakdown for JSON."""
        [only] = self.breakdowns
        return {
            **self._range(only.pruned_before),
            "by": only.by,
            "totals": measures(self.totals),
            "rows": only.rows(),
        }

    def _range(self, pruned: dt.datetime | None) -> dict[str, t.Any]:
        first, last = self.where.day_range
        return {
            "from": str(first),
            "to": str(last),
            "timezone": str(self.where.zone),
            "pruned_before": iso(pruned),
            "previous": None
            if self.previous is None
            else self._previous(self.previous),
        }

    def _previous(self, before: Comparison) -> dict[str, t.Any]:
        return {
            "from": before.start.astimezone(self.where.zone).isoformat(),
            "to": before.end.astimezone(self.where.zone).isoformat(),
            "complete": before.full,
            **measures(before.totals),
        }


def report(
    connection: sa.Connection,
    where: CallFilter,
    *,
    tags: Iterable[str] = (),
    limit: int = 5,
    now: dt.datetime | None = None,
) -> Report:
    """Return the whole report.

    :param where: With both ends.
    :param tags: The tags to break down by, such as ``Settings.rollup_tags``.
    :param limit: How many of the most expensive calls to list.
    :param now: The current time, to compare with the days before; without it, nothing is
        compared.
    """
    dimensions = ("provider", "model", *(f"tag:{key}" for key in tags))
    return Report(
        where=where,
        totals=aggregate.totals(connection, where),
        breakdowns=tuple(breakdown(connection, where, by) for by in dimensions),
        most_expensive=tuple(
            row
            for row in top_calls(connection, where, sort="expensive", limit=limit)
            if row.cost_pico is not None
        ),
        pruned_before=pruned_before(connection, where, ("event_id",)),
        previous=_days_before(connection, where, now),
    )


def _days_before(
    connection: sa.Connection, where: CallFilter, now: dt.datetime | None
) -> Comparison | None:
    if now is None or where.start is None or where.end is None:
        return None
    return compare(connection, where, (where.start, where.end), "previous", now)


def single(
    connection: sa.Connection,
    where: CallFilter,
    by: str,
    *,
    session_tag: str,
    week_start: str = "monday",
    now: dt.datetime | None = None,
) -> Report:
    """Return the totals and one breakdown.

    :param where: With both ends.
    :param by: ``"provider"``, ``"model"``, ``"scope"``, ``"session"``, ``"tag:KEY"``, or
        one of :data:`GRAINS`.
    :param session_tag: The tag that identifies a session.
    :param week_start: The day on which weeks start.
    :param now: As for :func:`report`.
    :raises FilterError: If the key is not a valid tag key.
    """
    if by in GRAINS:
        only = _periods(connection, where, by, week_start)
    elif by == "session":
        only = breakdown(connection, where, f"tag:{session_tag}")
        only = replace(only, by=by)
    else:
        only = breakdown(connection, where, by)
    return Report(
        where,
        aggregate.totals(connection, where),
        (only,),
        previous=_days_before(connection, where, now),
    )


_COLUMNS: t.Final[dict[str, tuple[str, ...]]] = {
    "provider": ("provider",),
    "model": ("provider", "model"),
    "scope": ("scope",),
}


def breakdown(connection: sa.Connection, where: CallFilter, by: str) -> Breakdown:
    """Return the totals by ``"provider"``, ``"model"``, ``"scope"`` or ``"tag:KEY"``."""
    columns = _COLUMNS.get(by)
    if columns is None:
        groups = aggregate.tag_breakdown(connection, where, by.removeprefix("tag:"))
    else:
        groups = aggregate.breakdown(connection, where, *columns)
    return Breakdown(by, groups, pruned_before(connection, where, columns or (by,)))


def _periods(
    connection: sa.Connection, where: CallFilter, grain: Span, week_start: str
) -> Breakdown:
    """Return the totals of each calendar period; the first and the last may be partial."""
    starts = edges(grain, *where.day_range, where.zone, week_start)
    found = aggregate.series(connection, where, starts)
    whole = sum(part.spend_pico for part in found)
    groups = tuple(
        Group(
            (period_name(start, grain, where.zone),),
            part,
            money.share(part.spend_pico, whole),
        )
        for start, part in zip(starts, found, strict=False)
    )
    return Breakdown(grain, groups, pruned_before(connection, where, ()))


def period_name(start: dt.datetime, grain: Span, zone: dt.tzinfo) -> str:
    """``2026-11-20``, of a month ``2026-11``, of an hour ``2026-11-20T13:00+00:00``."""
    if grain == "hour":
        return start.astimezone(zone).isoformat(timespec="minutes")
    day = local_day(start, zone).isoformat()
    return day[:7] if grain == "month" else day


def name(group: Group) -> str:
    """Return the key of a group as text."""
    return "/".join(group.key)


@money.own_context
def measures(totals: Totals, share: Decimal | None = None) -> dict[str, t.Any]:
    """Return totals for JSON. Amounts are text."""
    values = {name: getattr(totals, name) for name in MEASURES}
    for name in ("cost_usd", "ceiling_usd", "estimated_usd"):
        values[name] = _text(values[name])
    if share is not None:
        values["share"] = f"{share:.6f}"
    return values


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"
