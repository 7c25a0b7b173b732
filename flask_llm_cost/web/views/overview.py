"""Spend, what it was spent on, and how it compares; in all, or of one model."""

from __future__ import annotations

import datetime as dt
import typing as t
from dataclasses import dataclass
from dataclasses import replace
from decimal import Decimal

from flask import request
from flask import Response

from ...budgets.standing import Standing
from ...calendar import day_start
from ...calendar import iso
from ...money import from_pico
from ...query.comparison import Kind
from ...query.explore import explore
from ...query.explore import Grain
from ...query.filters import CallFilter
from ...query.filters import DEFAULT_DAYS
from ...query.heat import heat as ask_heat
from ...query.listing import top_calls
from ...query.overview import Overview
from ...query.overview import overview as ask_overview
from ...query.proved import proved_months
from ...query.sources import pruned_before
from .. import charts
from .. import export
from .. import gauge
from .. import present
from ..current import host
from ..current import now
from ..current import reading
from ..forms import BadQuery
from ..forms import ExploreForm
from ..forms import GROUPS
from ..selection import Selection
from .page import newest
from .page import Page
from .page import select
from .page import show
from .page import with_previous

if t.TYPE_CHECKING:
    import sqlalchemy as sa

GRAIN_OF_DAYS: t.Final[tuple[tuple[int, Grain], ...]] = (
    (2, "hour"),
    (92, "day"),
    (200, "week"),
)
"""The longest range that is shown by hour, by day and by week; others are by month."""
MAX_GAUGES: t.Final = 4
MAX_SORTED: t.Final = 20_000
"""Above this many, the overview does not look for the most expensive of filtered calls."""


@dataclass(frozen=True, slots=True)
class View:
    """How the overview divides and compares what is selected."""

    group: str | None
    grain: Grain
    versus: Kind | None
    cumulative: bool

    @classmethod
    def of(cls, selection: Selection[ExploreForm]) -> View:
        """Read the form."""
        form = selection.form
        group = form.group.data or None
        if group == "session":
            group = f"tag:{host().settings.session_tag}"
        fitting = (grain for days, grain in GRAIN_OF_DAYS if selection.days <= days)
        grain = form.grain.value or next(fitting, "month")
        versus = form.compare.value or "previous"
        return cls(
            group,
            t.cast(Grain, grain),
            None if versus == "none" else t.cast(Kind, versus),
            form.view.value == "cumulative",
        )


def overview() -> str:
    """Spend, what it was spent on, and how it compares."""
    return _show(select(ExploreForm, ".overview"), "Overview")


def model() -> str:
    """The same of one model."""
    missing = [name for name in ("provider", "model") if not request.args.get(name)]
    if missing:
        raise BadQuery([(name, "is required on this page.") for name in missing])
    selection = select(ExploreForm, ".model")
    return _show(selection, selection.where.model or "", crumb="Models")


def _show(selection: Selection[ExploreForm], title: str, crumb: str = "") -> str:
    where, view = selection.where, View.of(selection)
    with reading(_range_of(where, view)) as connection:
        answer = _ask(connection, where, view)
        budgets = _fullest(connection)
        limit = _limit(budgets, where) if view.cumulative else None
        points = present.points(
            selection,
            answer.explored,
            now=now(),
            cumulative=view.cumulative,
            marked={found.day for found in answer.anomalies},
        )
        return show(
            "overview",
            title=title,
            crumb=crumb,
            selection=selection,
            view=view,
            answer=answer,
            group_options=_group_options(view),
            chart=charts.bar_chart(list(points), limit),
            limit=limit,
            gauge=gauge,
            budgets=budgets[:MAX_GAUGES] if not selection.chips else (),
            proved=proved_months(host(), connection, where),
            heat=ask_heat(connection, _last_month(where)),
            # Those of each day are kept, but a filter scans every call of the range.
            most_expensive=top_calls(connection, where, sort="expensive", limit=5)
            if answer.totals.calls <= MAX_SORTED or not selection.chips
            else [],
            latest=top_calls(connection, where, sort="recent", limit=5),
            newest=None if answer.totals.calls else newest(connection),
            pruned=pruned_before(connection, with_previous(where)),
            pruned_calls=pruned_before(connection, where, ["event_id"]),
        )


def _ask(connection: sa.Connection, where: CallFilter, view: View) -> Overview:
    return ask_overview(
        connection,
        where,
        models=8,
        tags=host().settings.rollup_tags,
        now=now(),
        group=view.group,
        grain=view.grain,
        versus=view.versus,
        week_start=host().settings.week_start,
    )


def overview_csv() -> Response:
    """The periods of the chart and their groups as a CSV file."""
    selection = select(ExploreForm, ".overview")
    view = View.of(selection)
    with reading(_range_of(selection.where, view)) as connection:
        found = explore(
            connection,
            selection.where,
            group=view.group,
            grain=view.grain,
            versus=view.versus,
            now=now(),
            week_start=host().settings.week_start,
        )
    columns: dict[str, t.Callable[[t.Any], t.Any]] = {
        "start": lambda row: iso(row[1].start),
        "end": lambda row: iso(row[1].end),
        **{name: _of_period(value) for name, value in export.TOTALS.items()},
        "compared_usd": lambda row: row[1].previous and row[1].previous.cost_usd,
    }
    for row in present.group_rows(selection, found):
        label = f"{row.note} {row.label}".strip()
        columns[f"{label}_usd"] = _of_line(row.line.pico)
    rows = enumerate(present.periods(selection, found))
    return export.table_csv("spend", columns, rows)


_CHANGES: t.Final[export.Columns] = {
    "list": lambda row: row[0],
    "name": lambda row: "/".join(row[1].key) or "Other",
    "usd": lambda row: row[1].usd,
}


def change_csv() -> Response:
    """What changed: the contributions of each list, which sum to the difference."""
    selection = select(ExploreForm, ".overview")
    where, view = selection.where, View.of(selection)
    with reading(_range_of(where, view)) as connection:
        answer = _ask(connection, where, view)
    lists = present.changes(answer.change) if answer.change else ()
    rows = [(title, share) for title, shares in lists for share in shares]
    return export.table_csv("changes", _CHANGES, rows)


def _of_period(value: t.Callable[[t.Any], t.Any]) -> t.Callable[[t.Any], t.Any]:
    return lambda row: value(row[1])


def _of_line(pico: t.Sequence[int]) -> t.Callable[[t.Any], t.Any]:
    return lambda row: from_pico(pico[row[0]])


def _group_options(view: View) -> dict[str, str]:
    """What spend can be grouped by: names, and the tags that are aggregated."""
    session = f"tag:{host().settings.session_tag}"
    keys = [f"tag:{key}" for key in host().settings.rollup_tags]
    chosen = [view.group] if view.group and view.group.startswith("tag:") else []
    tags = dict.fromkeys(key for key in [*keys, *chosen] if key != session)
    return {**GROUPS, **{tag: tag.removeprefix("tag:") for tag in tags}}


def _range_of(where: CallFilter, view: View) -> CallFilter:
    """Everything that the overview reads, including what the forecast needs."""
    start = t.cast(dt.datetime, where.start)
    previous = t.cast(dt.datetime, where.previous().start)
    if view.versus == "last_year":
        previous = min(previous, start - dt.timedelta(367))
    # An anomaly is compared with a week; a forecast uses the month so far and four
    # weeks before it.
    first = min(previous, start - dt.timedelta(32), now() - dt.timedelta(61))
    return replace(where, start=first, end=None)


def _last_month(where: CallFilter) -> CallFilter:
    """The last 30 days of a range."""
    last = t.cast(dt.date, where.last_day)
    first = day_start(last - dt.timedelta(days=DEFAULT_DAYS - 1), where.zone)
    return replace(where, start=max(first, t.cast(dt.datetime, where.start)))


def _fullest(connection: sa.Connection) -> list[Standing]:
    """The budgets that the overview shows: the most used window of each."""
    stored = host().ledger.budgets
    if stored is None:
        return []
    found = list(stored.standings(connection, now(), most=1))
    found.sort(key=lambda each: each.used_fraction or 0, reverse=True)
    return found


def _limit(budgets: t.Sequence[Standing], where: CallFilter) -> Decimal | None:
    """The lowest limit of all calls in a window that the range lies in."""
    start, end = t.cast(dt.datetime, where.start), t.cast(dt.datetime, where.end)
    limits = [
        each.limit_usd
        for each in budgets
        if not each.budget.tags
        and not each.budget.models
        and each.limit_usd is not None
        and each.starts_at <= start
        and (each.ends_at is None or end <= each.ends_at)
    ]
    return min(limits, default=None)


PAGES: t.Final = (
    Page("/", "overview", overview, "Overview"),
    Page("/overview.csv", "overview_csv", overview_csv),
    Page("/overview/changes.csv", "change_csv", change_csv),
    Page("/models/page", "model", model, section="models"),
)
