"""The geometry of charts, for inline SVG.

Horizontal values are percentages, so that a chart fills its column without scaling the
text; vertical values are pixels. Templates use presentation attributes and classes only,
which the strictest content security policy allows.
"""

from __future__ import annotations

import math
import typing as t
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from ..money import own_context

HEIGHT: t.Final = 232
TOP: t.Final = 34
BOTTOM: t.Final = 26
"""Space for the value under the pointer (top) and the dates (bottom)."""


@dataclass(frozen=True, slots=True)
class Point:
    """One period of a chart."""

    label: str
    """The axis label: ``18 Nov``."""
    when: str
    """The full date: ``Wed 18 Nov 2026``."""
    summary: str
    """``$4.21, 132 calls``."""
    amount: Decimal
    previous: Decimal | None = None
    """The amount in the previous period."""
    href: str | None = None
    parts: tuple[tuple[str, Decimal], ...] = ()
    """The name of each group's color, and its amount; without any, there is one part."""
    marked: bool = False
    """Whether something in it is unusual."""

    @property
    def title(self) -> str:
        """``Wed 18 Nov 2026: $4.21, 132 calls``."""
        return f"{self.when}: {self.summary}"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a bar."""

    name: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """The shape of one point."""

    point: Point
    left: float
    span: float
    """The whole slot, which reacts to the pointer."""
    x: float
    width: float
    y: float
    height: float
    previous_y: float | None
    pieces: tuple[Piece, ...]
    cut: bool
    """Whether the amount is larger than the scale."""

    @property
    def middle(self) -> float:
        """The center of the bar."""
        return round(self.x + self.width / 2, 4)


@dataclass(frozen=True, slots=True)
class Tick:
    """A grid line at a round amount."""

    y: float
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Label:
    """A label below the axis."""

    x: float
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class BarChart:
    """Amounts over time."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    labels: tuple[Label, ...]
    limit_y: float | None = None
    """The line of a limit."""
    height: int = HEIGHT
    top: int = TOP
    floor: int = HEIGHT - BOTTOM


CUT_FROM: t.Final = 4
"""How many times the other amounts a few may be before they are cut off."""


@own_context
def bar_chart(points: Sequence[Point], limit: Decimal | None = None) -> BarChart:
    """Lay out one bar per point, grid lines at round amounts, and a few labels.

    :param limit: An amount that a line marks.
    """
    largest = _largest(points)
    if limit is not None:
        largest = max(largest, limit)
    steps = _round_amounts(largest)
    scale = (HEIGHT - BOTTOM - TOP) / (steps[-1] if steps else Decimal(1))
    return BarChart(
        bars=tuple(_bars(points, scale)),
        ticks=tuple(Tick(_y(step, scale), step) for step in steps),
        labels=tuple(_labels(points)),
        limit_y=None if limit is None else _y(limit, scale),
    )


def _largest(points: Sequence[Point]) -> Decimal:
    """Return what the scale must show: all amounts but a few that are far larger."""
    amounts = sorted(max(p.amount, p.previous or Decimal(0)) for p in points)
    if not amounts:
        return Decimal(0)
    few = max(1, len(amounts) // 20)
    rest = amounts[-few - 1] if len(amounts) > 4 else Decimal(0)
    if rest > 0 and amounts[-1] > CUT_FROM * rest:
        return rest * Decimal("1.3")
    return amounts[-1]


def _y(amount: Decimal, scale: Decimal) -> float:
    return max(float(TOP), round(float(HEIGHT - BOTTOM - amount * scale), 2))


def _bars(points: Sequence[Point], scale: Decimal) -> Iterable[Bar]:
    span = 100 / max(1, len(points))
    # Otherwise a single day would fill the chart.
    width = min(span * 0.68, 8.0)
    room = float(HEIGHT - BOTTOM - TOP)
    for i, point in enumerate(points):
        height = float(max(Decimal(0), point.amount) * scale)
        cut = height > room + 0.01
        # Any spend is visible.
        height = min(room, max(height, 2.0)) if point.amount > 0 else 0.0
        yield Bar(
            point=point,
            left=round(i * span, 4),
            span=round(span, 4),
            x=round(i * span + (span - width) / 2, 4),
            width=round(width, 4),
            y=round(HEIGHT - BOTTOM - height, 2),
            height=round(height, 2),
            previous_y=None if point.previous is None else _y(point.previous, scale),
            pieces=tuple(_pieces(point, height)),
            cut=cut,
        )


def _pieces(point: Point, height: float) -> Iterable[Piece]:
    """Divide the height of a bar among the parts of its point, from the bottom up."""
    floor = float(HEIGHT - BOTTOM)
    for name, amount in point.parts:
        if amount > 0 and point.amount > 0:
            part = min(1.0, float(amount / point.amount)) * height
            floor -= part
            yield Piece(name, round(floor, 2), round(part, 2))


def _labels(points: Sequence[Point], count: int = 5) -> Iterable[Label]:
    if not points:
        return
    span = 100 / len(points)
    step = max(1, math.ceil((len(points) - 1) / (count - 1)))
    for i in range(0, len(points), step):
        # Below its bar, but inside the chart.
        x = i * span + span / 2
        anchor = "start" if x < 4 else "end" if x > 96 else "middle"
        x = 0 if anchor == "start" else 100 if anchor == "end" else x
        yield Label(round(x, 4), anchor, points[i].label)


def _round_amounts(largest: Decimal) -> list[Decimal]:
    """Up to four round amounts; the last is at or above the largest amount."""
    if largest <= 0:
        return []
    power = Decimal(1).scaleb(largest.adjusted() - 1)
    for factor in (1, 2, 5, 10, 20, 25, 50, 100):
        step = power * factor
        if step * 4 >= largest:
            break
    return [step * n for n in range(1, math.ceil(largest / step) + 1)]


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a stacked bar."""

    name: str
    x: float
    width: float
    share: Decimal


@own_context
def mix(parts: Iterable[tuple[str, Decimal | int]]) -> tuple[Segment, ...]:
    """Lay out the parts of a stacked bar. Every part above zero is visible."""
    known = [(name, Decimal(size)) for name, size in parts if size > 0]
    total = sum((size for _, size in known), Decimal(0))
    if not total:
        return ()
    widths = [max(Decimal("0.6"), size / total * 100) for _, size in known]
    fit = 100 / sum(widths, Decimal(0))
    segments = []
    x = Decimal(0)
    for (name, size), width in zip(known, widths, strict=True):
        segments.append(
            Segment(
                name, round(float(x), 3), round(float(width * fit), 3), size / total
            )
        )
        x += width * fit
    return tuple(segments)


@own_context
def share(part: Decimal | int | None, whole: Decimal | int | None) -> float:
    """The width of a part in percent, visible if it is above zero."""
    if not part or not whole or part < 0:
        return 0.0
    return round(min(100.0, max(0.5, float(Decimal(part) / Decimal(whole) * 100))), 3)


@own_context
def spark(amounts: Iterable[Decimal], count: int = 48) -> str:
    """The points of a sparkline of 96 by 24 pixels; empty if there is nothing to draw."""
    found = list(amounts)
    size = -(-len(found) // count) or 1
    sums = [sum(found[i : i + size], Decimal(0)) for i in range(0, len(found), size)]
    top = max(sums, default=Decimal(0))
    if len(sums) < 2 or not top:
        return ""
    step = 96 / (len(sums) - 1)
    return " ".join(
        f"{i * step:.1f},{23 - float(amount / top) * 22:.1f}"
        for i, amount in enumerate(sums)
    )
