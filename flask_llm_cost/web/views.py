"""One function per page: read the form, ask a question or two, render."""

from __future__ import annotations

import datetime as dt
import logging
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from dataclasses import replace

import sqlalchemy as sa
from flask import current_app
from flask import render_template
from flask import request
from flask import Response
from flask import stream_with_context
from werkzeug.exceptions import NotFound

from ..budgets.standing import Standing
from ..budgets.standing import standings
from ..calendar import day_start
from ..calendar import edges
from ..call import event_time
from ..errors import StorageError
from ..query.choices import choices
from ..query.detail import call_detail
from ..query.export import csv_lines
from ..query.filters import CallFilter
from ..query.filters import DEFAULT_DAYS
from ..query.heat import heat as ask_heat
from ..query.host import Host
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
from ..query.totals import breakdown
from ..query.totals import series
from ..query.totals import Totals
from . import assets
from . import charts
from . import format
from . import gauge
from . import present
from . import pricelist
from .forms import CALL_SORTS
from .forms import CallsForm
from .forms import MODEL_SORTS
from .forms import ModelsForm
from .forms import PER_PAGE
from .forms import SearchForm
from .forms import Slice
from .forms import SliceForm

_logger = logging.getLogger("flask_llm_cost.web")

DAYS_BY_HOUR: t.Final = 2
MOST_OPTIONS: t.Final = 100
MOST_SESSIONS: t.Final = 100
MOST_WINDOWS: t.Final = 50
MOST_SHOWN: t.Final = 4
STALE_AFTER_DAYS: t.Final = 30
MOST_VALUES: t.Final = 100
MOST_PRICES: t.Final = 200
MOST_SORTED: t.Final = 20_000
"""Calls that the overview looks through; more are for the page of calls."""

F = t.TypeVar("F", bound=SliceForm)

View: t.TypeAlias = Callable[..., t.Any]


@dataclass(frozen=True, slots=True)
class Page:
    """An address of the dashboard."""

    rule: str
    endpoint: str
    view: View
    label: str | None = None
    """How the navigation calls it, if it is there."""
    section: str | None = None
    """The endpoint of the page that it belongs to, if it is not there itself."""


def host() -> Host:
    """The state of the app that is asked."""
    return t.cast(Host, current_app.extensions["llm_cost"])


def today() -> dt.date:
    """The current day in the zone of the reports."""
    return host().clock().astimezone(host().settings.timezone).date()


def context() -> dict[str, t.Any]:
    """What every template may use."""
    settings = host().settings
    return {
        "asset": assets.url,
        "charts": charts,
        "clock": format.Clock(settings.timezone),
        "fmt": format,
        "present": present,
        "pages": [page for page in PAGES if page.label is not None],
        "section": _section((request.endpoint or "").rpartition(".")[2]),
    }


def _section(endpoint: str) -> str:
    """The page of the navigation that an address belongs to."""
    page = next((page for page in PAGES if page.endpoint == endpoint), None)
    return endpoint if page is None or page.section is None else page.section


def _slice(form: type[F], endpoint: str, **path: str) -> Slice[F]:
    """What the address asks for.

    :raises BadQuery: Naming every parameter that has no meaning.
    """
    now = today()
    found = form.read(request.args, host().settings.timezone, now)
    return Slice(found, endpoint, now, **path)


def overview() -> str:
    """What was spent, on what, and how that compares."""
    slice_ = _slice(SliceForm, ".overview")
    where = slice_.where
    with _reading(_looked_at(where)) as connection:
        answer = ask_overview(
            connection,
            where,
            models=8,
            tags=host().settings.rollup_tags,
            now=host().clock(),
        )
        by_hour = slice_.days <= DAYS_BY_HOUR
        points = (
            present.hours(slice_, *_hourly(connection, where))
            if by_hour
            else present.days(slice_, answer.days)
        )
        return _page(
            "overview",
            slice=slice_,
            answer=answer,
            chart=charts.bar_chart(list(points)),
            by_hour=by_hour,
            gauge=gauge,
            budgets=_fullest(connection),
            heat=ask_heat(connection, _last_month(where)),
            # No sum tells them: all calls of the range are looked through.
            dearest=top_calls(connection, where, sort="expensive", limit=5)
            if answer.totals.calls <= MOST_SORTED
            else [],
            latest=top_calls(connection, where, sort="recent", limit=5),
            newest=None if answer.totals.calls else _newest(connection),
            pruned=pruned_before(connection, _compared(where)),
            pruned_calls=pruned_before(connection, where, ["event_id"]),
        )


def _reading(where: CallFilter) -> AbstractContextManager[sa.Connection]:
    """The ledger, of which only a range is asked for, and the latest call."""
    return host().ledger.reading(since=where.start, until=where.end)


def _looked_at(where: CallFilter) -> CallFilter:
    """All that the overview looks at, if also this month's spend is projected."""
    start = t.cast(dt.datetime, where.start)
    before = t.cast(dt.datetime, where.previous().start)
    # A rise is one over a week; a projection is made of a month and four weeks before it.
    first = min(before, start - dt.timedelta(8), host().clock() - dt.timedelta(61))
    return replace(where, start=first, end=None)


def _moment(event_id: str) -> CallFilter:
    """Where a call is, if that is the id of any."""
    try:
        at = event_time(event_id)
        return CallFilter(start=at, end=at + dt.timedelta(milliseconds=1))
    except (ValueError, OverflowError):
        return CallFilter()


def _compared(where: CallFilter) -> CallFilter:
    """A range together with the one before it."""
    return replace(where, start=where.previous().start)


def _last_month(where: CallFilter) -> CallFilter:
    last = t.cast(dt.date, where.last_day)
    first = day_start(last - (DEFAULT_DAYS - 1) * dt.timedelta(days=1), where.zone)
    start = max(first, t.cast(dt.datetime, where.start))
    return replace(where, start=start)


def _hourly(
    connection: sa.Connection, where: CallFilter
) -> tuple[list[dt.datetime], list[tuple[Totals, ...]]]:
    """The hours of a range, and what was spent in each, now and one range earlier."""
    marks, sums = [], []
    for part in (where, where.previous()):
        days = t.cast(dt.date, part.first_day), t.cast(dt.date, part.last_day)
        marks.append(edges("hour", *days, part.zone))
        sums.append(series(connection, part, marks[-1]))
    return marks[0], sums


def calls() -> str:
    """The calls of a slice, in an order of choice."""
    slice_ = _slice(CallsForm, ".calls")
    form = slice_.form
    with _reading(slice_.where) as connection:
        page = call_page(
            connection,
            slice_.where,
            sort=form.sort.word,
            per=int(form.per.data or host().settings.per_page),
            after=form.after.data or None,
            before=form.before.data or None,
        )
        return _page(
            "calls",
            slice=slice_,
            page=page,
            sorts=CALL_SORTS,
            sizes=PER_PAGE,
            options=choices(
                connection, page.where, host().settings.rollup_tags, most=MOST_OPTIONS
            ),
            newest=None if page.total else _newest(connection),
            pruned=pruned_before(connection, slice_.where, ["event_id"]),
        )


def calls_csv() -> Response:
    """Every call of a slice, for a spreadsheet."""
    slice_ = _slice(CallsForm, ".calls")
    where = narrowed(slice_.where, slice_.form.sort.word)
    lines = csv_lines(host().ledger.reading, where)
    # A ledger that cannot be read is a page that says so, not a file that breaks off.
    head = [next(lines), next(lines, "")]
    name = f"llm-calls-{where.first_day}-to-{where.last_day}.csv"
    return Response(
        stream_with_context(_chunks(head, lines)),
        mimetype="text/csv",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _chunks(head: t.Iterable[str], lines: t.Iterable[str]) -> Iterator[str]:
    yield "".join(head)
    batch: list[str] = []
    for line in lines:
        batch.append(line)
        if len(batch) == 200:
            yield "".join(batch)
            batch.clear()
    if batch:
        yield "".join(batch)


def call(event_id: str) -> str:
    """Everything that is known of one call."""
    with _reading(_moment(event_id)) as connection:
        detail = call_detail(connection, event_id)
    if detail is None:
        raise NotFound(
            "There is no call of this id in the ledger. It may have been pruned, or still"
            " wait to be written: that takes about a second."
        )
    return _page(
        "call", detail=detail, call=detail.call, days=_days(detail.call.started_at)
    )


def models() -> str:
    """What each model cost, how much it was used and how fast it was."""
    slice_ = _slice(ModelsForm, ".models")
    with _reading(slice_.where) as connection:
        answer = ask_models(connection, slice_.where, sort=slice_.form.sort.word)
        return _page(
            "models",
            slice=slice_,
            answer=answer,
            sorts=MODEL_SORTS,
            newest=None if answer.rows else _newest(connection),
            pruned=pruned_before(connection, slice_.where, ["provider", "model"]),
        )


def tags() -> str:
    """Which tags calls carry."""
    slice_ = _slice(SliceForm, ".tags")
    with _reading(slice_.where) as connection:
        answer = tag_keys(connection, slice_.where)
        return _page(
            "tags",
            slice=slice_,
            answer=answer,
            newest=None if answer.calls else _newest(connection),
            pruned=pruned_before(connection, slice_.where, ["tag"]),
        )


def tag(key: str) -> str:
    """What each value of one tag cost."""
    slice_ = _slice(SliceForm, ".tag", key=key)
    with _reading(_compared(slice_.where)) as connection:
        answer = tag_page(connection, slice_.where, key, limit=MOST_VALUES)
        return _page(
            "tag",
            pruned=pruned_before(connection, _compared(slice_.where), [f"tag:{key}"]),
            slice=slice_,
            answer=answer,
            newest=None if answer.totals.calls else _newest(connection),
        )


def sessions() -> str:
    """What each conversation of the app cost."""
    slice_ = _slice(SliceForm, ".sessions")
    settings = host().settings
    with _reading(slice_.where) as connection:
        found = ask_sessions(
            connection,
            slice_.where,
            settings.session_tag,
            limit=MOST_SESSIONS,
            names=_names if settings.session_names is not None else None,
        )
        return _page(
            "sessions",
            slice=slice_,
            sessions=found,
            key=settings.session_tag,
            unknown=NO_SESSION,
            limit=MOST_SESSIONS,
            newest=None if found else _newest(connection),
            pruned=pruned_before(connection, slice_.where, ["tag"]),
        )


def budgets() -> str:
    """How the budgets stand, whoever they are of."""
    kept, now = host().ledger.budgets, host().clock()
    defined = () if kept is None else kept.defined
    found: Sequence[Standing] = ()
    if kept is not None:
        with host().ledger.reading() as connection:
            found = standings(connection, defined, now, most=MOST_WINDOWS)
    return _page(
        "budgets",
        gauge=gauge,
        groups=gauge.by_budget([b for b in defined if b.period != "call"], found),
        of_calls=[budget for budget in defined if budget.period == "call"],
        most=MOST_WINDOWS,
        now=now,
    )


def _fullest(connection: sa.Connection) -> list[Standing]:
    """The budgets that the overview shows: the fullest of each."""
    kept = host().ledger.budgets
    if kept is None:
        return []
    found = standings(connection, kept.defined, host().clock(), most=1)
    return sorted(found, key=lambda each: each.share or 0, reverse=True)[:MOST_SHOWN]


def _names(ids: Sequence[str]) -> Mapping[str, str]:
    names = host().settings.session_names
    try:
        return dict(names(ids)) if names is not None else {}
    except Exception:
        # The app's code: its failure costs the names, not the page.
        _logger.exception("LLM_COST_SESSION_NAMES failed.")
        return {id_: id_ for id_ in ids}


def prices() -> str:
    """The prices of the models in use, or those that a search finds."""
    state, now = host(), host().clock()
    words = SearchForm.read(request.args).q.data or ""
    if words:
        rows, total = pricelist.search(state.book, words, now, MOST_PRICES)
    else:
        where = CallFilter.days(None, None, state.settings.timezone, today())
        with _reading(where) as connection:
            names = [g.key for g in breakdown(connection, where, "provider", "model")]
        rows = list(pricelist.in_use(state.book, names, now))
        total = len(rows)
    return _page(
        "prices",
        q=words,
        rows=rows,
        total=total,
        known=len(state.book.entries()),
        **_age(),
    )


def _age() -> dict[str, t.Any]:
    book = host().book
    return {
        "prices_at": book.updated_at,
        "prices_problem": book.problem,
        "stale": book.stale(host().clock()),
        "stale_days": STALE_AFTER_DAYS,
    }


def data_quality() -> str:
    """What the ledger does not know, why, and what to do about it."""
    slice_ = _slice(SliceForm, ".data_quality")
    with _reading(slice_.where) as connection:
        answer = ask_quality(connection, slice_.where)
        return _page(
            "quality",
            slice=slice_,
            answer=answer,
            pruned=pruned_before(connection, slice_.where, ["event_id"]),
            set_aside=_spool(lambda: len(host().ledger.set_aside())),
            newest=None if answer.totals.calls else _newest(connection),
            **_age(),
        )


def _days(at: dt.datetime) -> dict[str, str]:
    # Links to calls like this one must reach back to it.
    day = at.astimezone(host().settings.timezone).date()
    if (today() - day).days < DEFAULT_DAYS:
        return {}
    return {"to": day.isoformat()}


def _newest(connection: sa.Connection) -> CallRow | None:
    return next(iter(top_calls(connection, CallFilter(), sort="recent", limit=1)), None)


def waiting() -> int | None:
    """How many calls are not in the ledger yet; ``None`` if that cannot be seen."""
    return _spool(host().ledger.waiting)


def _spool(count: Callable[[], int]) -> int | None:
    try:
        return count()
    except (OSError, StorageError) as error:
        # It must not hide the numbers that there are.
        _logger.warning("The spool of the LLM cost ledger cannot be read: %s", error)
        return None


def _page(name: str, **values: t.Any) -> str:
    settings = host().settings
    return render_template(
        f"llm_cost/{name}.html",
        waiting=waiting(),
        behind=host().ledger.behind(),
        stored=settings.enabled and settings.storage in ("database", "jsonl"),
        **values,
    )


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
"""Every page there is: a new one is a view, a template and a line here."""
