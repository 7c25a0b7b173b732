"""The models."""

from __future__ import annotations

import typing as t

from flask import Response

from ...query.export import totals_csv
from ...query.models import ModelRow
from ...query.models import models as ask_models
from ...query.sources import pruned_before
from .. import export
from .. import table
from ..current import reading
from ..forms import TABLE_SORTS
from ..forms import TableForm
from .page import newest
from .page import Page
from .page import select
from .page import show


def models() -> str:
    """The cost, usage and latency of each model."""
    selection = select(TableForm, ".models")
    with reading(selection.where) as connection:
        answer = ask_models(connection, selection.where)
        page = table.page_of(selection.form, answer.rows, _name)
        return show(
            "models",
            selection=selection,
            answer=answer,
            page=page,
            aliases={alias: model for (_, alias), model in answer.aliases.items()},
            others=table.others(page, answer.rows),
            sorts=TABLE_SORTS,
            newest=None if answer.rows else newest(connection),
            pruned=pruned_before(connection, selection.where, ["provider", "model"]),
        )


def models_csv() -> Response:
    """The same as CSV, all pages of it."""
    selection = select(TableForm, ".models")
    with reading(selection.where) as connection:
        answer = ask_models(connection, selection.where)
    rows = table.page_of(selection.form, answer.rows, _name).matching
    lines = (((row.provider, row.model), row.totals) for row in rows)
    return export.csv_file("models", totals_csv(("provider", "model"), lines))


def _name(row: ModelRow) -> str:
    return f"{row.model} {row.provider}"


PAGES: t.Final = (
    Page("/models", "models", models, "Models"),
    Page("/models.csv", "models_csv", models_csv),
)
