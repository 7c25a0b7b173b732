"""What pages show of budgets: the gauge of a window, and labels."""

from __future__ import annotations

import typing as t
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from ..budgets import Budget
from ..budgets.standing import Standing
from ..money import digits
from ..money import own_context
from . import charts
from . import format

_BEHAVIORS: t.Final = {
    "notify": ("notifies", ""),
    "raise": ("raises", "warn"),
    "block": ("blocks", "good"),
}
_UNPRICED: t.Final = {
    "ignore": "are not counted",
    "estimate": "count at their estimate",
    "block": "are blocked",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A threshold on a gauge."""

    x: float
    title: str


@dataclass(frozen=True, slots=True)
class Gauge:
    """The gauge of a budget: its full length is the limit, or what is used if more."""

    pieces: tuple[charts.Segment, ...]
    marks: tuple[Mark, ...]
    title: str


@own_context
def gauge(standing: Standing) -> Gauge | None:
    """Return the gauge of one window; ``None`` if the app sets no limit."""
    if standing.limit is None:
        return None
    whole = max(standing.limit, standing.used)
    pieces = charts.mix(
        [
            ("spent", standing.spent),
            ("reserved", standing.reserved),
            ("unsettled", standing.unsettled),
            ("lost", standing.lost),
            ("left", whole - standing.used),
        ]
    )
    if not whole:  # nothing may be spent
        pieces = (charts.Segment("spent", 0.0, 100.0, Decimal(1)),)
    marks = tuple(
        Mark(
            charts.share(standing.limit * part, whole), f"{percent(part)} of the limit"
        )
        for part in standing.budget.thresholds
    )
    used = standing.used_fraction
    title = "100% used" if used is None else f"{format.percent(used)} used"
    return Gauge(tuple(p for p in pieces if p.name != "left"), marks, title)


def state(standing: Standing) -> tuple[str, str]:
    """Return the state of one window, and its tone."""
    if standing.limit is None:
        return "No limit", ""
    if standing.exceeded:
        return "Exceeded" if standing.spent_up else "Full", "bad"
    if standing.passed:
        return f"{standing.used * 100 // standing.limit}% used", "warn"
    return "On track", "good"


def behavior(budget: Budget) -> tuple[str, str]:
    """Return what a budget does, and the tone of that."""
    word, tone = _BEHAVIORS[budget.behavior]
    return (f"{word}, with reservations" if budget.reserves else word), tone


def unpriced(budget: Budget) -> str:
    """Return what happens to unpriced calls in a budget."""
    return _UNPRICED[budget.unpriced]


def scope(budget: Budget) -> str:
    """Return which calls count in a budget."""
    parts = [
        f"each {key}" if value == "*" else f"{key}:{value}"
        for key, value in budget.tags.items()
    ]
    parts += [", ".join(budget.models)] if budget.models else []
    return " · ".join(parts) or "all calls"


def passed(standing: Standing) -> str:
    """Return the thresholds that were reached."""
    return ", ".join(percent(part) for part in standing.passed)


def outlook(standing: Standing) -> str:
    """Return the thresholds that were reached, and the forecast."""
    parts = [f"reached {passed(standing)}"] if standing.passed else []
    if standing.forecast_usd is not None:
        parts.append(f"forecast {format.estimate(standing.forecast_usd)}")
    return " · ".join(parts)


@own_context
def percent(part: Decimal) -> str:
    """Return a threshold as it was set: 0.5 is 50%."""
    return f"{digits(part * 100)}%"


def nearest(found: Sequence[Standing]) -> list[Standing]:
    """Sort windows by the share of the limit that is used, the largest first."""
    return sorted(found, key=_used_share, reverse=True)


def _used_share(standing: Standing) -> Fraction:
    if standing.limit is None:
        return Fraction(-1)
    if not standing.limit:
        return Fraction(10**9)  # nothing may be spent
    return Fraction(standing.used, standing.limit)


class Group(t.NamedTuple):
    """A budget and its windows; a budget for each tag value may have none yet."""

    budget: Budget
    current: list[Standing]
    """Nearest to the limit first."""
    ended: list[Standing]
    """Latest first."""


def by_budget(
    budgets: Sequence[Budget],
    current: Sequence[Standing],
    ended: Sequence[Standing],
    most: int,
) -> list[Group]:
    """Return the windows of each budget; the budget nearest to its limit comes first.

    :param most: How many that have ended.
    """
    found = []
    for budget in budgets:
        now, past = (
            [each for each in some if each.budget.name == budget.name]
            for some in (current, ended)
        )
        found.append(Group(budget, nearest(now), past[:most]))
    unused = Fraction(-2)
    found.sort(
        key=lambda g: _used_share(g.current[0]) if g.current else unused, reverse=True
    )
    return found
