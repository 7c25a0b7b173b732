"""One function per page: read the form, ask a question or two, render."""

from __future__ import annotations

import typing as t

from flask import request

from ...prices import STALE_AFTER
from .. import assets
from .. import charts
from .. import format
from .. import labels
from .. import present
from ..current import host
from . import bills
from . import budgets
from . import calls
from . import metrics
from . import models
from . import overview
from . import prices
from . import quality
from . import savings
from . import sessions
from . import statements
from . import tags
from .page import Page


def context() -> dict[str, t.Any]:
    """The names that every template can use."""
    return {
        "asset": assets.url,
        "charts": charts,
        "clock": format.Clock(host().settings.timezone),
        "fmt": format,
        "labels": labels,
        "present": present,
        "stale_days": STALE_AFTER.days,
        "pages": [page for page in PAGES if page.label is not None],
        "section": _section((request.endpoint or "").rpartition(".")[2]),
    }


def _section(endpoint: str) -> str:
    """The page of the navigation that an endpoint belongs to."""
    page = next((page for page in PAGES if page.endpoint == endpoint), None)
    return endpoint if page is None or page.section is None else page.section


PAGES: t.Final[tuple[Page, ...]] = (
    *overview.PAGES,
    *models.PAGES,
    *calls.PAGES,
    *tags.PAGES,
    *sessions.PAGES,
    *budgets.PAGES,
    *bills.PAGES,
    *statements.PAGES,
    *savings.PAGES,
    *prices.PAGES,
    *quality.PAGES,
    *metrics.PAGES,
)
"""Every page, in the order of the navigation: a new one is a view, a template and a line
in the ``PAGES`` of its module."""
