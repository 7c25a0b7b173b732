"""The tag keys, and the values of each."""

from __future__ import annotations

import typing as t
from operator import attrgetter

from flask import Response

from ...query.export import totals_csv
from ...query.sources import pruned_before
from ...query.tags import tag_keys
from ...query.tags import TagValue
from ...query.tags import top_values
from ...query.tags import with_trend
from .. import export
from .. import table
from ..current import reading
from ..forms import FilterForm
from ..forms import TABLE_SORTS
from ..forms import TableForm
from .page import newest
from .page import Page
from .page import select
from .page import show
from .page import with_previous


def tags() -> str:
    """The tag keys in use."""
    selection = select(FilterForm, ".tags")
    with reading(selection.where) as connection:
        answer = tag_keys(connection, selection.where)
        return show(
            "tags",
            selection=selection,
            answer=answer,
            newest=None if answer.calls else newest(connection),
            pruned=pruned_before(connection, selection.where, ["tag"]),
        )


def tags_csv() -> Response:
    """The same as CSV."""
    selection = select(FilterForm, ".tags")
    with reading(selection.where) as connection:
        answer = tag_keys(connection, selection.where)
    columns = {
        name: attrgetter(name) for name in ("key", "values", "calls", "coverage")
    }
    return export.table_csv("tags", columns, answer.keys)


def tag(key: str) -> str:
    """The cost of each value of one tag."""
    selection = select(TableForm, ".tag", key=key)
    where, both = selection.where, with_previous(selection.where)
    with reading(both) as connection:
        answer = top_values(connection, where, key, limit=None)
        page = table.page_of(selection.form, answer.values, _name)
        return show(
            "tag",
            selection=selection,
            answer=answer,
            page=page,
            rows=with_trend(connection, where, key, page.rows),
            others=table.others(page, answer.values),
            sorts=TABLE_SORTS,
            newest=None if answer.totals.calls else newest(connection),
            pruned=pruned_before(connection, both, [f"tag:{key}"]),
        )


def tag_csv(key: str) -> Response:
    """The same as CSV, all pages of it."""
    selection = select(TableForm, ".tag", key=key)
    with reading(selection.where) as connection:
        answer = top_values(connection, selection.where, key, limit=None)
    rows = table.page_of(selection.form, answer.values, _name).matching
    lines = (((row.value,), row.totals) for row in rows)
    return export.csv_file(f"tag-{key}", totals_csv((f"tag.{key}",), lines))


def _name(row: TagValue) -> str:
    return row.value


PAGES: t.Final = (
    Page("/tags", "tags", tags, "Tags"),
    Page("/tags.csv", "tags_csv", tags_csv),
    Page("/tags/<key>", "tag", tag, section="tags"),
    # A key may end in ".csv".
    Page("/tags/<key>/values.csv", "tag_csv", tag_csv),
)
