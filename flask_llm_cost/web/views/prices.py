"""The price book."""

from __future__ import annotations

import typing as t

from flask import request
from flask import Response

from ...calendar import iso
from ...query.aggregate import breakdown
from ...query.filters import CallFilter
from .. import export
from .. import pricelist
from ..current import host
from ..current import now
from ..current import reading
from ..current import today
from ..forms import FilterForm
from ..forms import SearchForm
from .page import Page
from .page import select
from .page import show

MAX_PRICES: t.Final = 200


def _rate(name: str) -> t.Callable[[pricelist.PriceRow], t.Any]:
    return lambda row: row.rates.get(name)


def prices() -> str:
    """The prices of the models in use, or search results."""
    book = host().book
    words = SearchForm.read(request.args).q.data or ""
    rows, total = _rows(words, MAX_PRICES)
    return show(
        "prices",
        selection=select(FilterForm, ".prices"),
        q=words,
        rows=rows,
        total=total,
        book=book,
        stale=book.stale(now()),
    )


_COLUMNS: t.Final[export.Columns] = {
    "model": lambda row: row.name,
    "price_key": lambda row: row.key,
    "source": lambda row: row.source,
    "matched_by": lambda row: row.matched_by,
    "factor": lambda row: row.factor,
    "valid_from": lambda row: row.since and iso(row.since),
    **{name: _rate(name) for name in pricelist.SHOWN},
    "others": lambda row: " ".join(f"{name}={rate:f}" for name, rate in row.others),
}


def prices_csv() -> Response:
    """The same as CSV: of the models in use, or of all that the search finds."""
    words = SearchForm.read(request.args).q.data or ""
    rows, _ = _rows(words, len(host().book.entries()))
    return export.table_csv("prices", _COLUMNS, rows)


def _rows(words: str, most: int) -> tuple[list[pricelist.PriceRow], int]:
    """Return the prices of the models in use, or those that a search finds."""
    book = host().book
    if words:
        return pricelist.search(book, words, now(), most)
    where = CallFilter.days(None, None, host().settings.timezone, today())
    with reading(where) as connection:
        names = [g.key for g in breakdown(connection, where, "provider", "model")]
    rows = list(pricelist.in_use(book, names, now()))
    return rows, len(rows)


PAGES: t.Final = (
    Page("/prices", "prices", prices, "Prices"),
    Page("/prices.csv", "prices_csv", prices_csv),
)
