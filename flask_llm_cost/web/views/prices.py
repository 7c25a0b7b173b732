"""The price book."""

from __future__ import annotations

import typing as t

from flask import request

from ...query.aggregate import breakdown
from ...query.filters import CallFilter
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


def prices() -> str:
    """The prices of the models in use, or search results."""
    book = host().book
    words = SearchForm.read(request.args).q.data or ""
    if words:
        rows, total = pricelist.search(book, words, now(), MAX_PRICES)
    else:
        where = CallFilter.days(None, None, host().settings.timezone, today())
        with reading(where) as connection:
            names = [g.key for g in breakdown(connection, where, "provider", "model")]
        rows = list(pricelist.in_use(book, names, now()))
        total = len(rows)
    return show(
        "prices",
        selection=select(FilterForm, ".prices"),
        q=words,
        rows=rows,
        total=total,
        book=book,
        stale=book.stale(now()),
    )


PAGES: t.Final = (Page("/prices", "prices", prices, "Prices"),)
