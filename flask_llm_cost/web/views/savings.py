"""Where money could be saved."""

from __future__ import annotations

import typing as t
from operator import attrgetter
from operator import itemgetter

from flask import Response

from ...query.aggregate import totals
from ...query.savings import Caching
from ...query.savings import KINDS
from ...query.savings import Savings
from ...query.savings import savings as ask
from ...query.sources import pruned_before
from .. import export
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

_COLUMNS: t.Final[export.Columns] = {
    name: attrgetter(name)
    for name in ("kind", "subject", "calls", "spend_usd", "saving_usd", "arithmetic")
}


def _of_caching(value: t.Callable[[Caching], t.Any]) -> t.Callable[[t.Any], t.Any]:
    return lambda row: value(row[2])


_CACHING: t.Final[export.Columns] = {
    "by": itemgetter(0),
    "subject": itemgetter(1),
    "calls": _of_caching(lambda each: each.calls),
    "spend_usd": _of_caching(lambda each: each.spend_usd),
    "cache_read_tokens": _of_caching(lambda each: each.of("read")),
    "cache_write_tokens": _of_caching(lambda each: each.of("write")),
    "reads_saved_usd": _of_caching(lambda each: each.saved_usd("read")),
    "writes_paid_usd": _of_caching(lambda each: -each.saved_usd("write")),
    "net_usd": _of_caching(lambda each: each.saved_usd()),
    "arithmetic": _of_caching(lambda each: each.arithmetic),
}


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
    """The lines as CSV."""
    found = _ask(select(FilterForm, ".savings"))
    return export.table_csv("savings", _COLUMNS, found.lines)


def caching_csv() -> Response:
    """What caching saved as CSV, by model and by tag."""
    found = _ask(select(FilterForm, ".savings"))
    rows = [("model", *row) for row in found.caching]
    rows += [("tag", *row) for row in found.caching_by_tag]
    return export.table_csv("caching", _CACHING, rows)


def _ask(selection: Selection[FilterForm]) -> Savings:
    tags = host().settings.rollup_tags
    return ask(host().ledger.reading, selection.where, host().book, tags=tags)


PAGES: t.Final = (
    Page("/savings", "savings", savings, "Savings"),
    Page("/savings.csv", "savings_csv", savings_csv),
    Page("/savings/caching.csv", "caching_csv", caching_csv),
)
