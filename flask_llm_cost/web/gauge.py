"""What pages show of budgets: the gauge of a window, and labels."""

from __future__ import annotations

import typing as t
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

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


def by_budget(
    budgets: Sequence[Budget], found: Sequence[Standing]
) -> list[tuple[Budget, list[Standing]]]:
    """Return the windows of each budget; budgets for each tag value may have none yet."""
    return [
        (budget, [each for each in found if each.budget.name == budget.name])
        for budget in budgets
    ]
