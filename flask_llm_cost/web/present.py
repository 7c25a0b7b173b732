"""Turn answers into what a template prints: points of charts, rows and summaries."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from ..calendar import day_start
from ..money import from_pico
from ..money import own_context
from ..money import share
from ..query.aggregate import NONE
from ..query.aggregate import UNTAGGED
from ..query.change import Change
from ..query.change import Share
from ..query.comparison import Comparison
from ..query.detail import MixPart
from ..query.explore import Explored
from ..query.explore import Line
from ..query.totals import Group
from ..query.totals import sum_up
from ..query.totals import Totals
from . import format
from .charts import Point
from .labels import meter
from .selection import Selection

COLORS: t.Final = ("s1", "s2", "s3", "s4", "s5", "s6")
OTHER: t.Final = "s-other"
METER_COLORS: t.Final = {
    "input": "t-input",
    "cache_read": "t-cache-read",
    "cache_write": "t-cache-write",
    "output": "t-output",
    "units": "t-units",
}


@dataclass(frozen=True, slots=True)
class Period:
    """A period of the chart, and its totals in this and in the other range."""

    label: str
    """``18 Nov``, ``13:00`` or ``Nov 2026``."""
    when: str
    """``Wed 18 Nov 2026``."""
    href: str
    totals: Totals
    previous: Totals | None
    start: dt.datetime
    end: dt.datetime


def periods(selection: Selection[t.Any], found: Explored) -> Iterator[Period]:
    """Name the periods of a range, and link to each."""
    zone = selection.where.zone
    for n, totals in enumerate(found.periods):
        start, end = (at.astimezone(zone) for at in found.edges[n : n + 2])
        first, last = start.date(), (end - dt.timedelta(milliseconds=1)).date()
        label, when = _named(found.grain, start, end, first, last)
        yield Period(
            label,
            when,
            selection.to(".calls", **_dates(first, last))
            if found.grain == "hour"
            else selection.here(**_dates(first, last), grain=None),
            totals,
            None if found.before is None else found.before.parts[n],
            found.edges[n],
            found.edges[n + 1],
        )


_COMPARED: t.Final = {
    "previous": ("in the previous", "Previous period"),
    "last_month": ("on the same days of last month", "Same days of last month"),
    "last_year": ("on the same days of last year", "Same days of last year"),
}


def compared(before: Comparison, selection: Selection[t.Any]) -> str:
    """``in the previous 30 days``, and up to when."""
    text, _ = _COMPARED[before.kind]
    if before.kind == "previous":
        days = selection.days
        text = (
            f"{text} {format.count(days, 'day')}" if days > 1 else "on the day before"
        )
    if before.cut:
        end = before.end.astimezone(selection.where.zone)
        text += f" up to {format.day(end.date())}, {end:%H:%M}"
    return text


def compared_with(before: Comparison) -> str:
    """``Previous period``."""
    return _COMPARED[before.kind][1]


def _dates(first: dt.date, last: dt.date) -> dict[str, str]:
    return {"from": first.isoformat(), "to": last.isoformat()}


def _named(
    grain: str, start: dt.datetime, end: dt.datetime, first: dt.date, last: dt.date
) -> tuple[str, str]:
    if grain == "hour":
        hours = f"{start:%H:%M}\N{EN DASH}{end:%H:%M}"
        return f"{start:%H:%M}", f"{format.full_day(first)}, {hours}"
    if grain == "month":
        return format.month(first), format.span(first, last)
    return format.day(first), format.span(first, last)


def points(
    selection: Selection[t.Any],
    found: Explored,
    *,
    now: dt.datetime,
    cumulative: bool = False,
    marked: Collection[dt.date] = (),
) -> Iterator[Point]:
    """Return the bars of a chart.

    :param now: Later periods have no bar.
    :param cumulative: Each is the sum of all up to it.
    :param marked: The days that are unusual.
    """
    lines = [(color, line.pico) for color, line in _colored(found)]
    sums, before, amounts = [0] * len(lines), 0, 0
    for n, period in enumerate(periods(selection, found)):
        parts = [pico[n] for _, pico in lines]
        amount = period.totals.spend_pico
        previous = None if period.previous is None else period.previous.spend_pico
        sums = [one + part for one, part in zip(sums, parts, strict=True)]
        amounts, before = amounts + amount, before + (previous or 0)
        if cumulative and period.start <= now:
            parts, amount = sums, amounts
        if cumulative:
            previous = None if previous is None else before
        summary = _summary(period.totals)
        yield Point(
            label=period.label,
            when=period.when,
            summary=f"{format.money(from_pico(amount))} up to here"
            if cumulative
            else summary,
            amount=from_pico(amount),
            previous=None if previous is None else from_pico(previous),
            href=period.href,
            parts=tuple(
                (color, from_pico(part))
                for (color, _), part in zip(lines, parts, strict=True)
            ),
            marked=any(
                period.start <= day_start(day, selection.where.zone) < period.end
                for day in marked
            ),
        )


def _colored(found: Explored) -> Iterator[tuple[str, Line]]:
    for n, line in enumerate(found.lines):
        meter_color = METER_COLORS.get(line.key[0]) if found.group == "meter" else None
        yield meter_color or COLORS[n % len(COLORS)], line
    if found.other is not None:
        yield OTHER, found.other


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group in the legend of a chart."""

    color: str
    label: str
    note: str
    href: str | None
    line: Line
    share: Decimal | None


def group_rows(selection: Selection[t.Any], found: Explored) -> list[GroupRow]:
    """Return the groups of a chart with their colors, and the rest as Other."""
    whole = found.totals.spend_pico
    return [
        GroupRow(
            color,
            *_group_name(found, line),
            _group_href(selection, found, line),
            line,
            share(line.spend_pico, whole),
        )
        for color, line in _colored(found)
    ]


def _group_name(found: Explored, line: Line) -> tuple[str, str]:
    if not line.key:
        return "Other", ""
    if found.group == "meter":
        return meter(line.key[0]), ""
    if found.group == "model":
        return line.key[1], line.key[0]
    return line.key[0], ""


def _group_href(selection: Selection[t.Any], found: Explored, line: Line) -> str | None:
    group, key = found.group or "", line.key
    if not key or group == "meter" or key[-1] in (NONE, UNTAGGED):
        return None
    if group == "provider":
        return selection.here(provider=key[0], group="model")
    if group == "scope":
        return selection.here(scope=key[0])
    if group == "model":
        return selection.to(".model", provider=key[0], model=key[1])
    return selection.tagged(".overview", group.removeprefix("tag:"), key[0])


_EFFECTS: t.Final = {
    "volume": ("Volume", "More or fewer tokens, at the previous average price."),
    "mix": ("Model mix", "A different share of cheaper and more expensive models."),
    "cache": ("Cache and token mix", "A different share of cached input and output."),
    "price": ("Price", "The same tokens of the same model at a different price."),
    "other": ("Tools and other", "Everything that is not billed per token."),
}


def changes(change: Change) -> list[tuple[str, tuple[Share, ...]]]:
    """Return the lists of contributions to a change, each with its title."""
    found = [
        ("By cause", change.effects),
        ("By model", change.models),
        ("By token type", change.meters),
        *((f"By {key}", shares) for key, shares in change.tags),
    ]
    return [(title, shares) for title, shares in found if shares]


def share_name(
    title: str, share: Share, selection: Selection[t.Any]
) -> tuple[str, str, str | None]:
    """Return the label of a contribution, what it means, and its page."""
    key = share.key
    if not key:
        return "Other", "", None
    if title == "By cause":
        return *_EFFECTS[key[0]], None
    if title == "By token type":
        return meter(key[0]), "", None
    if title == "By model":
        return key[1], key[0], selection.to(".model", provider=key[0], model=key[1])
    if key[0] == UNTAGGED:
        return key[0], "", None
    tag = title.removeprefix("By ")
    return key[0], "", selection.tagged(".overview", tag, key[0])


def top(found: Sequence[Group], most: int) -> tuple[Sequence[Group], Totals, int]:
    """Return the first groups, the totals of the others, and how many they are."""
    # One more row takes no more space than Other does.
    most = most + 1 if len(found) == most + 1 else most
    rest = found[most:]
    return found[:most], sum_up(group.totals for group in rest), len(rest)


def _summary(totals: Totals) -> str:
    return f"{spend(totals)}, {format.count(totals.calls, 'call')}"


def spend(totals: Totals) -> str:
    """The spend and what it excludes: ``$4.21, at most $4.40 +2 unpriced``."""
    limit = f", {format.at_most(totals.bounded_usd)}" if totals.open_pico else ""
    parts = [format.money(totals.cost_usd) + limit]
    if totals.unpriced:
        parts.append(f"+{totals.unpriced:,} unpriced")
    if totals.incomplete:
        parts.append(f"+{totals.incomplete:,} incomplete")
    if totals.open_pico and totals.unbounded:
        parts.append(f"+{totals.unbounded:,} without a known limit")
    if totals.estimated:
        parts.append(f"+{format.money(totals.estimated_usd)} estimated")
    return " ".join(parts)


@dataclass(frozen=True, slots=True)
class TypeCost:
    """The cost of one token type, and the number of tokens."""

    name: str
    label: str
    amount: Decimal
    tokens: int | None
    share: Decimal

    @property
    def pair(self) -> tuple[str, Decimal]:
        return self.name, self.amount


@own_context
def cost_by_token_type(totals: Totals) -> list[TypeCost]:
    """The spend on uncached input, cache reads and writes, output, and other units."""
    read, written = totals.cache_read_tokens, totals.cache_write_tokens
    uncached = totals.input_tokens - read - written
    found = (
        ("input", totals.cost_input_pico, uncached),
        ("cache_read", totals.cost_cache_read_pico, read),
        ("cache_write", totals.cost_cache_write_pico, written),
        ("output", totals.cost_output_pico, totals.output_tokens),
        ("units", totals.cost_units_pico, None),
    )
    whole = sum(pico for _, pico, _ in found)
    return [
        TypeCost(name, meter(name), from_pico(pico), tokens, Decimal(pico) / whole)
        for name, pico, tokens in found
        if pico > 0
    ]


def pairs(parts: Iterable[MixPart]) -> list[tuple[str, Decimal]]:
    """The parts of a mix as names and amounts."""
    return [(part.name, part.amount) for part in parts]
