"""What the ledger does not know."""

from __future__ import annotations

import typing as t

from ...query.quality import quality as ask_quality
from ...query.sources import pruned_before
from ...query.unlisted import unlisted
from ..current import host
from ..current import now
from ..current import reading
from ..current import rejected
from ..forms import FilterForm
from .page import newest
from .page import Page
from .page import select
from .page import show


def data_quality() -> str:
    """What the ledger does not know, why, and how to fix it."""
    selection = select(FilterForm, ".data_quality")
    book = host().book
    with reading(selection.where) as connection:
        answer = ask_quality(connection, selection.where)
        return show(
            "quality",
            selection=selection,
            answer=answer,
            unlisted=unlisted(connection, host().settings, now()),
            pruned=pruned_before(connection, selection.where, ["event_id"]),
            rejected=rejected(),
            book=book,
            stale=book.stale(now()),
            newest=None if answer.totals.calls else newest(connection),
        )


PAGES: t.Final = (Page("/data-quality", "data_quality", data_quality, "Data quality"),)
