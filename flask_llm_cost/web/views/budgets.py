"""The budgets."""

from __future__ import annotations

import typing as t
from collections.abc import Sequence

from flask import request

from ...budgets.standing import Standing
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
"""Of each budget, a search reads the most used windows up to this number."""


def budgets() -> str:
    """The state of every budget."""
    stored = host().ledger.budgets
    defined = () if stored is None else stored.definitions
    words = (SearchForm.read(request.args).q.data or "").casefold().split()
    found: Sequence[Standing] = ()
    if stored is not None:
        with host().ledger.reading() as connection:
            found = stored.standings(
                connection, now(), most=MAX_SEARCHED if words else MAX_WINDOWS
            )
    found = [each for each in found if _matches(each, words)]
    return show(
        "budgets",
        selection=select(FilterForm, ".budgets"),
        q=" ".join(words),
        gauge=gauge,
        groups=gauge.by_budget([b for b in defined if b.period != "call"], found),
        of_calls=[budget for budget in defined if budget.period == "call"],
        most=MAX_WINDOWS,
        now=now(),
    )


def _matches(standing: Standing, words: Sequence[str]) -> bool:
    """Whether a window is of the values that are searched, or of a budget of all."""
    if not standing.budget.per_value:
        return True
    values = " ".join(standing.tags.values()).casefold()
    return all(word in values for word in words)


PAGES: t.Final = (Page("/budgets", "budgets", budgets, "Budgets"),)
