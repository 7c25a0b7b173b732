"""The bills of providers."""

from __future__ import annotations

import typing as t

from flask import Response

from .. import bill_pages
from ..forms import FilterForm
from .page import Page
from .page import select
from .page import show


def bills() -> str:
    """What providers billed, and whether the ledger matches it."""
    return show(
        "bills", selection=select(FilterForm, ".bills"), rows=bill_pages.bill_rows()
    )


def bills_csv() -> Response:
    """The same as CSV."""
    return Response("".join(bill_pages.csv_rows()), mimetype="text/csv")


PAGES: t.Final = (
    Page("/bills", "bills", bills, "Bills"),
    Page("/bills.csv", "bills_csv", bills_csv),
)
