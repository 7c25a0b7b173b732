"""The calls, and each call."""

from __future__ import annotations

import datetime as dt
import typing as t
from operator import itemgetter

from flask import Response
from werkzeug.exceptions import NotFound

from ...event_id import event_time
from ...query.aggregate import totals
from ...query.choices import choices
from ...query.detail import call_detail
from ...query.filters import CallFilter
from ...query.filters import DEFAULT_DAYS
from ...query.listing import call_page
from ...query.listing import narrowed
from ...query.sources import pruned_before
from .. import export
from ..current import host
from ..current import reading
from ..current import today
from ..forms import CALL_SORTS
from ..forms import CallsForm
from ..forms import FilterForm
from ..forms import PER_PAGE
from .page import newest
from .page import Page
from .page import select
from .page import show

MAX_OPTIONS: t.Final = 100


def calls() -> str:
    """The selected calls, sorted and paged."""
    selection = select(CallsForm, ".calls")
    form = selection.form
    with reading(selection.where) as connection:
        page = call_page(
            connection,
            selection.where,
            sort=form.sort.value,
            per=int(form.per.data or host().settings.per_page),
            after=form.after.data or None,
            before=form.before.data or None,
        )
        return show(
            "calls",
            selection=selection,
            page=page,
            totals=totals(connection, page.where),
            sorts=CALL_SORTS,
            sizes=PER_PAGE,
            options=choices(
                connection, page.where, host().settings.rollup_tags, most=MAX_OPTIONS
            ),
            newest=None if page.total else newest(connection),
            pruned=pruned_before(connection, selection.where, ["event_id"]),
        )


def calls_csv() -> Response:
    """Every selected call as a CSV file."""
    selection = select(CallsForm, ".calls")
    return export.calls_csv(narrowed(selection.where, selection.form.sort.value))


def call(event_id: str) -> str:
    """Everything that is known about one call."""
    with reading(_moment(event_id)) as connection:
        detail = call_detail(connection, event_id)
    if detail is None:
        raise NotFound(
            "There is no call with this ID. It may have been pruned, or it may not be"
            " recorded yet, which takes about a second."
        )
    return show(
        "call",
        selection=select(FilterForm, ".call", event_id=event_id),
        detail=detail,
        call=detail.call,
        dates=_dates(detail.call.started_at),
    )


_PARTS: t.Final[export.Columns] = {
    name: itemgetter(n) for n, name in enumerate(("type", "quantity", "rate", "usd"))
}


def call_csv(event_id: str) -> Response:
    """The tokens and other units of one call, and what each cost, as a CSV file."""
    with reading(_moment(event_id)) as connection:
        detail = call_detail(connection, event_id)
    if detail is None:
        raise NotFound("There is no call with this ID.")
    usage, cost = detail.call.usage, detail.call.cost
    used = {part.name: part.amount for part in detail.token_mix}
    used |= {} if usage is None else usage.units
    parts = {} if cost is None else cost.parts
    names = dict.fromkeys([*used, *parts])
    rows: list[tuple[t.Any, ...]] = []
    for name in names:
        part = parts.get(name)
        if part is None:
            rows.append((name, used[name], None, None))
        else:
            rows.append((name, part.quantity, part.rate, part.amount_usd))
    return export.table_csv(f"call-{event_id}", _PARTS, rows)


def _moment(event_id: str) -> CallFilter:
    """The time of a call, if its ID is valid."""
    try:
        at = event_time(event_id)
        return CallFilter(start=at, end=at + dt.timedelta(milliseconds=1))
    except (ValueError, OverflowError):
        return CallFilter()


def _dates(at: dt.datetime) -> dict[str, str]:
    """The date parameters of links to similar calls, which must include this one."""
    day = at.astimezone(host().settings.timezone).date()
    return {} if (today() - day).days < DEFAULT_DAYS else {"to": day.isoformat()}


PAGES: t.Final = (
    Page("/calls", "calls", calls, "Calls"),
    Page("/calls.csv", "calls_csv", calls_csv),
    Page("/calls/<event_id>", "call", call, section="calls"),
    Page("/calls/<event_id>/parts.csv", "call_csv", call_csv),
)
