"""How full is a budget? The widths of its gauge, in percent of its length."""

from __future__ import annotations

import typing as t
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from ..budgets import Budget
from ..budgets.standing import Standing
from . import charts
from . import format

_BEHAVIORS: t.Final = {
    "notify": ("notifies", ""),
    "raise": ("raises", "warn"),
    "block": ("blocks", "good"),
}
_UNPRICED: t.Final = {
    "ignore": "count nothing",
    "estimate": "count at their estimate",
    "block": "are refused",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A threshold on a gauge."""

    x: float
    title: str


@dataclass(frozen=True, slots=True)
class Gauge:
    """A budget's gauge: its length is the limit, or what is used if that is more."""

    pieces: tuple[charts.Segment, ...]
    marks: tuple[Mark, ...]
    title: str


def gauge(standing: Standing) -> Gauge | None:
    """The gauge of one window; ``None`` where the app names no limit."""
    limit = standing.limit_usd
    if limit is None:
        return None
    whole = max(limit, standing.used_usd)
    pieces = charts.mix(
        [
            ("spent", standing.spent_usd),
            ("held", standing.held_usd),
            ("lost", standing.lost_usd),
            ("left", whole - standing.used_usd),
        ]
    )
    marks = tuple(
        Mark(charts.share(limit * part, whole), f"{percent(part)} of the limit")
        for part in standing.budget.thresholds
    )
    said = format.percent(standing.share) if standing.share is not None else "all"
    used = tuple(piece for piece in pieces if piece.name != "left")
    return Gauge(used, marks, f"{said} of the limit is used")


def behavior(budget: Budget) -> tuple[str, str]:
    """What a budget does, and the tone of that."""
    word, tone = _BEHAVIORS[budget.behavior]
    return (f"{word}, with holds" if budget.holds else word), tone


def unpriced(budget: Budget) -> str:
    """What calls without a price do in a budget."""
    return _UNPRICED[budget.unpriced]


def scope(budget: Budget) -> str:
    """Which calls count in a budget, in words."""
    parts = [
        f"each {key}" if value == "*" else f"{key}:{value}"
        for key, value in budget.tags.items()
    ]
    parts += [", ".join(budget.models)] if budget.models else []
    return " · ".join(parts) or "all calls"


def passed(standing: Standing) -> str:
    """The thresholds that were passed, in words."""
    return ", ".join(percent(part) for part in standing.passed)


def outlook(standing: Standing) -> str:
    """The thresholds that were passed and where it is heading, in words."""
    parts = [f"passed {passed(standing)}"] if standing.passed else []
    if standing.projected_usd is not None:
        parts.append(f"heading for {format.estimate(standing.projected_usd)}")
    return " · ".join(parts)


def percent(part: Decimal) -> str:
    """A threshold as it was set: 0.5 is 50%."""
    return f"{(part * 100).normalize():f}%"


def by_budget(
    budgets: Sequence[Budget], found: Sequence[Standing]
) -> list[tuple[Budget, list[Standing]]]:
    """The windows of each budget; one that each value of a tag has may have none yet."""
    return [
        (budget, [each for each in found if each.budget.name == budget.name])
        for budget in budgets
    ]


def is_each(budget: Budget) -> bool:
    """Whether each value of a tag has such a budget."""
    return "*" in budget.tags.values()
