"""One function per page: read the form, ask a question or two, render."""

from __future__ import annotations

import datetime as dt
import logging
import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

from flask import request
from flask import Response
from werkzeug.exceptions import NotFound

from ..budgets.standing import Standing
from ..calendar import day_start
from ..calendar import edges
from ..event_id import event_time
from ..prices import STALE_AFTER
from ..query.aggregate import breakdown
from ..query.aggregate import series
from ..query.choices import choices
from ..query.detail import call_detail
from ..query.filters import CallFilter
from ..query.filters import DEFAULT_DAYS
from ..query.heat import heat as ask_heat
from ..query.listing import call_page
from ..query.listing import CallRow
from ..query.listing import narrowed
from ..query.listing import top_calls
from ..query.models import models as ask_models
from ..query.overview import overview as ask_overview
from ..query.quality import quality as ask_quality
from ..query.sessions import sessions as ask_sessions
from ..query.sessions import UNKNOWN as NO_SESSION
from ..query.sources import pruned_before
from ..query.tags import tag_keys
from ..query.tags import tag_page
from ..query.totals import Totals
from ..storage import replica_lag
from . import assets
from . import charts
from . import export
from . import format
from . import gauge
from . import labels
from . import present
from . import pricelist
from .current import host
from .current import now
from .current import queued
from .current import reading
from .current import rejected
from .current import today
from .forms import CALL_SORTS
from .forms import CallsForm
from .forms import FilterForm
from .forms import MODEL_SORTS
from .forms import ModelsForm
from .forms import PER_PAGE
from .forms import SearchForm
from .rendering import render
from .selection import Selection

if t.TYPE_CHECKING:
    import sqlalchemy as sa

_logger = logging.getLogger("flask_llm_cost.web")

MAX_DAYS_BY_HOUR: t.Final = 2
"""The longest range whose chart has a bar per hour."""
MAX_OPTIONS: t.Final = 100
MAX_SESSIONS: t.Final = 100
MAX_WINDOWS: t.Final = 50
MAX_GAUGES: t.Final = 4
MAX_VALUES: t.Final = 100
MAX_PRICES: t.Final = 200
MAX_SORTED: t.Final = 20_000
"""Above this many calls, the overview does not look for the most expensive ones."""

F = t.TypeVar("F", bound=FilterForm)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the dashboard."""

    rule: str
    endpoint: str
    view: Callable[..., t.Any]
    label: str | None = None
    """The page's name in the navigation; ``None`` if it is not listed there."""
    section: str | None = None
    """The endpoint of the listed page that an unlisted one belongs to."""


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


def _select(form: type[F], endpoint: str, **path: str) -> Selection[F]:
    """The calls that the query string selects.

    :raises BadQuery: Naming every invalid parameter.
    """
    day = today()
    found = form.read(request.args, host().settings.timezone, day)
    return Selection(found, endpoint, day, **path)


def _render(name: str, **values: t.Any) -> str:
    settings = host().settings
    return render(
        name,
        queued=queued(),
        behind=replica_lag(host().ledger),
        stored=settings.enabled and settings.storage in ("database", "jsonl"),
        **values,
    )


def overview() -> str:
    """Spend, what it was spent on, and how it compares."""
    selection = _select(FilterForm, ".overview")
    where = selection.where
    with reading(_overview_range(where)) as connection:
        answer = ask_overview(
            connection,
            where,
            models=8,
            tags=host().settings.rollup_tags,
            now=now(),
        )
        by_hour = selection.days <= MAX_DAYS_BY_HOUR
        points = (
            present.hours(selection, *_hourly(connection, where))
            if by_hour
            else present.days(selection, answer.days)
        )
        return _render(
            "overview",
            selection=selection,
            answer=answer,
            chart=charts.bar_chart(list(points)),
            by_hour=by_hour,
            gauge=gauge,
            budgets=_fullest(connection),
            heat=ask_heat(connection, _last_month(where)),
            # No rollup has them: every call of the range is scanned.
            most_expensive=top_calls(connection, where, sort="expensive", limit=5)
            if answer.totals.calls <= MAX_SORTED
            else [],
            latest=top_calls(connection, where, sort="recent", limit=5),
            newest=None if answer.totals.calls else _newest(connection),
            pruned=pruned_before(connection, _with_previous(where)),
            pruned_calls=pruned_before(connection, where, ["event_id"]),
        )


def _overview_range(where: CallFilter) -> CallFilter:
    """Everything that the overview reads, including what the forecast needs."""
    start = t.cast(dt.datetime, where.start)
    previous = t.cast(dt.datetime, where.previous().start)
    # An anomaly is compared with a week; a forecast uses the month so far and four
    # weeks before it.
    first = min(previous, start - dt.timedelta(8), now() - dt.timedelta(61))
    return replace(where, start=first, end=None)


def _with_previous(where: CallFilter) -> CallFilter:
    """A range together with the previous one."""
    return replace(where, start=where.previous().start)


def _last_month(where: CallFilter) -> CallFilter:
    """The last 30 days of a range."""
    last = t.cast(dt.date, where.last_day)
    first = day_start(last - dt.timedelta(days=DEFAULT_DAYS - 1), where.zone)
    return replace(where, start=max(first, t.cast(dt.datetime, where.start)))


def _hourly(
    connection: sa.Connection, where: CallFilter
) -> tuple[list[dt.datetime], list[tuple[Totals, ...]]]:
    """The hours of a range, and the totals of each in this and the previous range."""
    hours, totals = [], []
    for part in (where, where.previous()):
        days = t.cast(dt.date, part.first_day), t.cast(dt.date, part.last_day)
        hours.append(edges("hour", *days, part.zone))
        totals.append(series(connection, part, hours[-1]))
    return hours[0], totals


def calls() -> str:
    """The selected calls, sorted and paged."""
    selection = _select(CallsForm, ".calls")
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
        return _render(
            "calls",
            selection=selection,
            page=page,
            sorts=CALL_SORTS,
            sizes=PER_PAGE,
            options=choices(
                connection, page.where, host().settings.rollup_tags, most=MAX_OPTIONS
            ),
            newest=None if page.total else _newest(connection),
            pruned=pruned_before(connection, selection.where, ["event_id"]),
        )


def calls_csv() -> Response:
    """Every selected call as a CSV file."""
    selection = _select(CallsForm, ".calls")
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
    return _render(
        "call", detail=detail, call=detail.call, dates=_dates(detail.call.started_at)
    )


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


def models() -> str:
    """The cost, usage and latency of each model."""
    selection = _select(ModelsForm, ".models")
    with reading(selection.where) as connection:
        answer = ask_models(connection, selection.where, sort=selection.form.sort.value)
        return _render(
            "models",
            selection=selection,
            answer=answer,
            sorts=MODEL_SORTS,
            newest=None if answer.rows else _newest(connection),
            pruned=pruned_before(connection, selection.where, ["provider", "model"]),
        )


def tags() -> str:
    """The tag keys in use."""
    selection = _select(FilterForm, ".tags")
    with reading(selection.where) as connection:
        answer = tag_keys(connection, selection.where)
        return _render(
            "tags",
            selection=selection,
            answer=answer,
            newest=None if answer.calls else _newest(connection),
            pruned=pruned_before(connection, selection.where, ["tag"]),
        )


def tag(key: str) -> str:
    """The cost of each value of one tag."""
    selection = _select(FilterForm, ".tag", key=key)
    both = _with_previous(selection.where)
    with reading(both) as connection:
        answer = tag_page(connection, selection.where, key, limit=MAX_VALUES)
        return _render(
            "tag",
            selection=selection,
            answer=answer,
            newest=None if answer.totals.calls else _newest(connection),
            pruned=pruned_before(connection, both, [f"tag:{key}"]),
        )


def sessions() -> str:
    """The cost of each session."""
    selection = _select(FilterForm, ".sessions")
    settings = host().settings
    with reading(selection.where) as connection:
        found = ask_sessions(
            connection,
            selection.where,
            settings.session_tag,
            limit=MAX_SESSIONS,
            names=_session_names if settings.session_names is not None else None,
        )
        return _render(
            "sessions",
            selection=selection,
            sessions=found,
            key=settings.session_tag,
            unknown=NO_SESSION,
            limit=MAX_SESSIONS,
            newest=None if found else _newest(connection),
            pruned=pruned_before(connection, selection.where, ["tag"]),
        )


def _session_names(ids: Sequence[str]) -> Mapping[str, str]:
    names = host().settings.session_names
    try:
        return dict(names(ids)) if names is not None else {}
    except Exception:
        # The app's code: if it fails, the page shows session ids instead of names.
        _logger.exception("LLM_COST_SESSION_NAMES failed.")
        return {id_: id_ for id_ in ids}


def budgets() -> str:
    """The state of every budget."""
    stored = host().ledger.budgets
    defined = () if stored is None else stored.definitions
    found: Sequence[Standing] = ()
    if stored is not None:
        with host().ledger.reading() as connection:
            found = stored.standings(connection, now(), most=MAX_WINDOWS)
    return _render(
        "budgets",
        gauge=gauge,
        groups=gauge.by_budget([b for b in defined if b.period != "call"], found),
        of_calls=[budget for budget in defined if budget.period == "call"],
        most=MAX_WINDOWS,
        now=now(),
    )


def _fullest(connection: sa.Connection) -> list[Standing]:
    """The budgets that the overview shows: the most used window of each."""
    stored = host().ledger.budgets
    if stored is None:
        return []
    found = list(stored.standings(connection, now(), most=1))
    found.sort(key=lambda each: each.used_fraction or 0, reverse=True)
    return found[:MAX_GAUGES]


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
    return _render(
        "prices",
        q=words,
        rows=rows,
        total=total,
        book=book,
        stale=book.stale(now()),
    )


def data_quality() -> str:
    """What the ledger does not know, why, and how to fix it."""
    selection = _select(FilterForm, ".data_quality")
    book = host().book
    with reading(selection.where) as connection:
        answer = ask_quality(connection, selection.where)
        return _render(
            "quality",
            selection=selection,
            answer=answer,
            pruned=pruned_before(connection, selection.where, ["event_id"]),
            rejected=rejected(),
            book=book,
            stale=book.stale(now()),
            newest=None if answer.totals.calls else _newest(connection),
        )


def _newest(connection: sa.Connection) -> CallRow | None:
    return next(iter(top_calls(connection, CallFilter(), sort="recent", limit=1)), None)


PAGES: t.Final = (
    Page("/", "overview", overview, "Overview"),
    Page("/models", "models", models, "Models"),
    Page("/calls", "calls", calls, "Calls"),
    Page("/calls.csv", "calls_csv", calls_csv),
    Page("/calls/<event_id>", "call", call, section="calls"),
    Page("/tags", "tags", tags, "Tags"),
    Page("/tags/<key>", "tag", tag, section="tags"),
    Page("/sessions", "sessions", sessions, "Sessions"),
    Page("/budgets", "budgets", budgets, "Budgets"),
    Page("/prices", "prices", prices, "Prices"),
    Page("/data-quality", "data_quality", data_quality, "Data quality"),
)
"""Every page: a new one is a view, a template and a line here."""
