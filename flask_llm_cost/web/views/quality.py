"""What the ledger does not know."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

from flask import Response

from ...query.quality import Quality
from ...query.quality import quality as ask_quality
from ...query.sources import pruned_before
from ...query.unlisted import Unlisted
from ...query.unlisted import unlisted
from .. import export
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


_COLUMNS: t.Final = (
    *("table", "name", "provider", "model", "operation", "outcome", "stream"),
    *("calls", "of", "tokens", "cost_usd", "at_most_usd"),
)


def data_quality_csv() -> Response:
    """Every table of the page in one CSV file; a column that a table lacks is empty."""
    selection = select(FilterForm, ".data_quality")
    with reading(selection.where) as connection:
        answer = ask_quality(connection, selection.where)
        hosts = unlisted(connection, host().settings, now())
    rows = [*_unlisted_rows(hosts), *_rows(answer)]
    columns: export.Columns = {name: _cell(name) for name in _COLUMNS}
    return export.table_csv("data-quality", columns, rows)


def _cell(name: str) -> t.Callable[[dict[str, t.Any]], t.Any]:
    return lambda row: row.get(name)


def _unlisted_rows(found: Unlisted) -> Iterator[dict[str, t.Any]]:
    for each in found.hosts:
        yield {"table": "unlisted_hosts", "name": each.host, "calls": each.calls}


def _rows(answer: Quality) -> Iterator[dict[str, t.Any]]:
    for row in answer.coverage:
        missing = {"name": row.name, "calls": row.missing, "of": row.of}
        yield {"table": "missing", **missing}
    names: tuple[str, ...] = ("provider", "model")
    for model in answer.gaps.unpriced:
        known = {"calls": model.calls, "tokens": model.tokens}
        yield {"table": "unpriced", **dict(zip(names, model.key, strict=True)), **known}
    for doubt in answer.doubts:
        usd = {"cost_usd": doubt.cost_usd, "at_most_usd": doubt.at_most_usd}
        name = doubt.flag or "unpriced_part"
        yield {"table": "incomplete", "name": name, "calls": doubt.calls, **usd}
    counted = {
        "without_usage": (answer.gaps.without_usage, (*names, *_COLUMNS[4:7])),
        "failed": (answer.failed, ("provider", "outcome")),
        "outcomes": (answer.outcomes, ("outcome",)),
        "usage_sources": (answer.sources, ("name",)),
        "warnings": (answer.flags, ("name",)),
    }
    for table, (rows, keys) in counted.items():
        for count in rows:
            key = dict(zip(keys, count.key, strict=True))
            yield {"table": table, **key, "calls": count.calls}


PAGES: t.Final = (
    Page("/data-quality", "data_quality", data_quality, "Data quality"),
    Page("/data-quality.csv", "data_quality_csv", data_quality_csv),
)
