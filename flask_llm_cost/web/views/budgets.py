"""The budgets."""

from __future__ import annotations

import typing as t
from collections.abc import Sequence

from flask import request
from flask import Response

from ...budgets.standing import Ended
from ...budgets.standing import Standing
from ...calendar import iso
from .. import export
from .. import gauge
from ..current import host
from ..current import now
from ..forms import FilterForm
from ..forms import SearchForm
from .page import Page
from .page import select
from .page import show

MAX_WINDOWS: t.Final = 50
MAX_SEARCHED: t.Final = 5_000
"""Of each budget, a search and the file read the windows up to this number."""
MAX_ENDED: t.Final = 12
"""How many past windows of each budget the page lists."""


def budgets() -> str:
    """The state of every budget."""
    stored = host().ledger.budgets
    defined = () if stored is None else stored.definitions
    words = _words()
    most = MAX_SEARCHED if words else MAX_WINDOWS
    found = _windows(words, "none", most)
    ended = _windows(words, "only", MAX_SEARCHED if words else MAX_ENDED)
    return show(
        "budgets",
        selection=select(FilterForm, ".budgets"),
        q=" ".join(words),
        gauge=gauge,
        groups=gauge.by_budget(
            [b for b in defined if b.period != "call"], found, ended, MAX_ENDED
        ),
        of_calls=[budget for budget in defined if budget.period == "call"],
        most=MAX_WINDOWS,
        now=now(),
    )


_COLUMNS: t.Final[export.Columns] = {
    "budget": lambda each: each.budget.name,
    "period": lambda each: each.budget.period,
    "behavior": lambda each: each.budget.behavior,
    "tags": lambda each: " ".join(f"{k}:{v}" for k, v in each.tags.items()),
    "starts_at": lambda each: iso(each.starts_at),
    "ends_at": lambda each: each.ends_at and iso(each.ends_at),
    "state": lambda each: gauge.state(each)[0],
    "limit_usd": lambda each: each.limit_usd,
    "used_usd": lambda each: each.used_usd,
    "spent_usd": lambda each: each.spent_usd,
    "reserved_usd": lambda each: each.reserved_usd,
    "unsettled_usd": lambda each: each.unsettled_usd,
    "unsettled_calls": lambda each: each.unsettled_calls,
    "lost_usd": lambda each: each.lost_usd,
    "thresholds_reached": lambda each: " ".join(map(gauge.percent, each.passed)),
    "forecast_usd": lambda each: each.forecast_usd,
}


def budgets_csv() -> Response:
    """The windows of every budget as a CSV file: the current ones, and those that ended."""
    words = _words()
    current, ended = (_windows(words, w, MAX_SEARCHED) for w in ("none", "only"))
    return export.table_csv("budgets", _COLUMNS, [*gauge.nearest(current), *ended])


def _words() -> Sequence[str]:
    return (SearchForm.read(request.args).q.data or "").casefold().split()


def _windows(words: Sequence[str], ended: Ended, most: int) -> Sequence[Standing]:
    stored = host().ledger.budgets
    if stored is None:
        return ()
    with host().ledger.reading() as connection:
        found = stored.standings(connection, now(), most=most, ended=ended)
    return [each for each in found if _matches(each, words)]


def _matches(standing: Standing, words: Sequence[str]) -> bool:
    """Whether a window is of the values that are searched, or of a budget of all."""
    if not standing.budget.per_value:
        return True
    values = " ".join(standing.tags.values()).casefold()
    return all(word in values for word in words)


PAGES: t.Final = (
    Page("/budgets", "budgets", budgets, "Budgets"),
    Page("/budgets.csv", "budgets_csv", budgets_csv),
)
