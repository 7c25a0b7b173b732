"""What each customer, user or feature cost in a month."""

from __future__ import annotations

import datetime as dt
import typing as t

from flask import request
from flask import Response

from ...calendar import day_start
from ...calendar import next_first_day
from ...query.filters import CallFilter
from ...query.statement import Statement
from ...query.statement import statement as ask
from ...query.statement_export import name_of
from ...query.statement_export import to_csv
from ..current import host
from ..current import now
from ..current import reading
from ..forms import BadQuery
from ..forms import FilterForm
from .page import Page
from .page import select
from .page import show

MAX_SECTIONS: t.Final = 100
_MONTHS: t.Final = 12
_FIRST_YEAR: t.Final = 1970
_LAST_YEAR: t.Final = 2261


def statements() -> str:
    """The statement of a month, by the values of a tag."""
    keys = host().settings.rollup_tags
    key = request.args.get("key", "") or next(iter(keys), "")
    month, value = _month(), request.args.get("value")
    shown = {"key": key, "month": f"{month:%Y-%m}", "value": value}
    path = {name: text for name, text in shown.items() if text}
    return show(
        "statements",
        selection=select(FilterForm, ".statements", **path),
        keys=keys,
        key=key,
        month=month,
        months=_months(),
        value=value,
        found=_ask(key, month, value) if key else None,
        name_of=name_of,
        most=MAX_SECTIONS,
    )


def statements_csv() -> Response:
    """The same as CSV."""
    key = request.args.get("key", "")
    found = _ask(key, _month(), request.args.get("value"))
    name = f"statement-{found.month:%Y-%m}.csv"
    return Response(
        "".join(to_csv(found)),
        mimetype="text/csv",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _ask(key: str, month: dt.date, value: str | None) -> Statement:
    settings = host().settings
    start, end = (day_start(d, dt.UTC) for d in (month, next_first_day("month", month)))
    with reading(CallFilter(start=start, end=end)) as connection:
        return ask(
            connection,
            settings.timezone,
            month,
            key,
            value=value,
            markup=settings.statement_markup,
        )


def _month() -> dt.date:
    """The month of the query string; the current one if there is none.

    :raises BadQuery: If it is not a month.
    """
    text = request.args.get("month", "")
    if not text:
        return now().date().replace(day=1)
    try:
        month = dt.date.fromisoformat(f"{text}-01")
    except ValueError:
        month = dt.date.min
    if not _FIRST_YEAR <= month.year <= _LAST_YEAR:
        message = f"{text[:40]!r} is not a valid month; use YYYY-MM."
        raise BadQuery([("month", message)])
    return month


def _months() -> list[dt.date]:
    """The last months, latest first."""
    found = [now().date().replace(day=1)]
    while len(found) < _MONTHS:
        found.append((found[-1] - dt.timedelta(days=1)).replace(day=1))
    return found


PAGES: t.Final = (
    Page("/statements", "statements", statements, "Statements"),
    Page("/statements.csv", "statements_csv", statements_csv),
)
