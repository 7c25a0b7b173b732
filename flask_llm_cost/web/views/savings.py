"""Where money could be saved."""

from __future__ import annotations

import typing as t

from flask import Response

from ...query.aggregate import totals
from ...query.export import csv_line
from ...query.savings import KINDS
from ...query.savings import Savings
from ...query.savings import savings as ask
from ...query.sources import pruned_before
from ..current import host
from ..current import reading
from ..forms import FilterForm
from ..selection import Selection
from .page import newest
from .page import Page
from .page import select
from .page import show

MAX_CALLS: t.Final = 20_000
"""Each call is read: above this many, the command has to be used."""

_COLUMNS: t.Final = ("kind", "subject", "calls", "spend_usd", "saving_usd") + (
    "arithmetic",
)


def savings() -> str:
    """Savings, and what caching saved."""
    selection = select(FilterForm, ".savings")
    with reading(selection.where) as connection:
        calls = totals(connection, selection.where).calls
        latest = None if calls else newest(connection)
        pruned = pruned_before(connection, selection.where, ["event_id"])
    return show(
        "savings",
        selection=selection,
        calls=calls,
        kinds=KINDS,
        answer=_ask(selection) if 0 < calls <= MAX_CALLS else None,
        newest=latest,
        pruned=pruned,
    )


def savings_csv() -> Response:
    """The same as CSV."""
    selection = select(FilterForm, ".savings")
    rows = [
        [getattr(line, name) for name in _COLUMNS] for line in _ask(selection).lines
    ]
    return Response("".join(map(csv_line, [_COLUMNS, *rows])), mimetype="text/csv")


def _ask(selection: Selection[FilterForm]) -> Savings:
    tags = host().settings.rollup_tags
    return ask(host().ledger.reading, selection.where, host().book, tags=tags)


PAGES: t.Final = (
    Page("/savings", "savings", savings, "Savings"),
    Page("/savings.csv", "savings_csv", savings_csv),
)
