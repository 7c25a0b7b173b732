"""The report: what ``flask llm-cost report`` prints."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from .. import money
from ..calendar import iso
from ..calendar import local_day
from . import aggregate
from .filters import CallFilter
from .listing import CallRow
from .listing import top_calls
from .sources import pruned_before
from .totals import Group
from .totals import Totals

MEASURES: t.Final = (
    ("calls", "failed", "priced", "unpriced", "incomplete", "unbounded", "estimated")
    + ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    + ("reasoning_tokens", "total_tokens", "cost_usd", "ceiling_usd")
    + ("estimated_usd",)
)
"""The measures of :class:`.Totals` in JSON and CSV."""


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The totals by one dimension, highest cost first; days are in order."""

    by: str
    """``provider``, ``model``, ``day``, ``session`` or ``tag:KEY``."""
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
        }


def report(
    connection: sa.Connection,
    where: CallFilter,
    *,
    tags: Iterable[str] = (),
    limit: int = 5,
) -> Report:
    """Return the whole report.

    :param where: With both ends.
    :param tags: The tags to break down by, such as ``Settings.rollup_tags``.
    :param limit: How many of the most expensive calls to list.
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
    )


def single(
    connection: sa.Connection, where: CallFilter, by: str, *, session_tag: str
) -> Report:
    """Return the totals and one breakdown.

    :param where: With both ends.
    :param by: ``"provider"``, ``"model"``, ``"day"``, ``"session"`` or ``"tag:KEY"``.
    :param session_tag: The tag that identifies a session.
    :raises FilterError: If the key is not a valid tag key.
    """
    only = breakdown(connection, where, by, session_tag)
    return Report(where, aggregate.totals(connection, where), (only,))


def breakdown(
    connection: sa.Connection, where: CallFilter, by: str, session_tag: str = ""
) -> Breakdown:
    """Return one breakdown, as for :func:`single`."""
    columns = {"provider": ("provider",), "model": ("provider", "model"), "day": ()}
    if by == "day":
        groups = _days(connection, where)
    elif by in columns:
        groups = aggregate.breakdown(connection, where, *columns[by])
    else:
        key = session_tag if by == "session" else by.removeprefix("tag:")
        groups = aggregate.tag_breakdown(connection, where, key)
    asked = columns.get(by, (f"tag:{session_tag}" if by == "session" else by,))
    return Breakdown(by, groups, pruned_before(connection, where, asked))


def _days(connection: sa.Connection, where: CallFilter) -> tuple[Group, ...]:
    edges = where.edges("day")
    found = aggregate.series(connection, where, edges)
    whole = sum(day.spend_pico for day in found)
    return tuple(
        Group(
            (local_day(start, where.zone).isoformat(),),
            day,
            money.share(day.spend_pico, whole),
        )
        for start, day in zip(edges, found, strict=False)
    )


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
