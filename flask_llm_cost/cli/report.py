"""``report``: what was spent in some days, on what, and by whom."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator

import click
from flask import current_app
from flask.cli import with_appcontext

from ..money import own_context
from .drain import drain_first
from .period import chosen
from .period import period_options
from .text import at_most
from .text import count
from .text import fit
from .text import gaps
from .text import money
from .text import most
from .text import percent
from .text import pruned
from .text import short
from .text import spend

if t.TYPE_CHECKING:
    from ..query.filters import CallFilter
    from ..query.host import Host
    from ..query.report import Breakdown
    from ..query.report import Report
    from ..query.totals import Totals

_TITLES: t.Final = {
    "provider": "Providers",
    "model": "Models",
    "day": "Days",
    "session": "Sessions",
}


def _by(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is None or value in _TITLES:
        return value
    if value.startswith("tag:") and len(value) > len("tag:"):
        return value
    raise click.BadParameter(
        f"{value!r} is not one of model, provider, day, session and tag:KEY."
    )


@click.command()
@period_options
@click.option(
    "--by",
    callback=_by,
    metavar="[model|provider|day|session|tag:KEY]",
    help="Print only this breakdown, with all rows.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv"]),
    default="text",
    show_default=True,
    help="Amounts in json are text, so that they stay exact.",
)
@with_appcontext
def report(
    days: int | None, from_: str | None, to: str | None, by: str | None, form: str
) -> None:
    """Show what was spent: totals, providers, models, tags and most expensive calls.

    Without --by, there is a breakdown for each tag of LLM_COST_ROLLUP_TAGS, and the text
    shows the ten most expensive rows of each. Costs are what is known; every total says
    how many calls are unpriced or incomplete, and the most that they can be.

    \b
    flask llm-cost report --days 7
    flask llm-cost report --by tag:feature
    flask llm-cost report --from 2026-10-01 --to 2026-10-31 --by day --format csv
    """
    host: Host = current_app.extensions["llm_cost"]
    where = chosen(host, days, from_, to)
    drain_first(host)
    if by is None:
        click.echo(full(host, where, form), nl=False)
    else:
        click.echo(single(host, where, by, form), nl=False)


def full(host: Host, where: CallFilter, form: str = "text") -> str:
    """Return the whole report.

    :param form: ``"text"``, ``"json"`` or ``"csv"``.
    """
    from ..query import report as query

    with host.ledger.reading(since=where.start, until=where.end) as connection:
        found = query.report(connection, where, tags=host.settings.rollup_tags)
    if form == "json":
        return _dumps(found.to_json())
    if form == "csv":
        return _csv(found)
    tables = (line for each in found.breakdowns for line in _table(each, where, 10))
    return _text([*_head(found), *tables, *_most_expensive(found)])


def single(host: Host, where: CallFilter, by: str, form: str = "text") -> str:
    """Return one breakdown and its total.

    :param by: ``"model"``, ``"provider"``, ``"day"``, ``"session"`` or ``"tag:KEY"``.
    :raises FilterError: If the key is not a valid tag key.
    """
    from ..query import report as query

    tag = host.settings.session_tag
    with host.ledger.reading(since=where.start, until=where.end) as connection:
        found = query.single(connection, where, by, session_tag=tag)
    if form == "json":
        return _dumps(found.single_to_json())
    if form == "csv":
        return _csv(found)
    return _text([*_head(found), *_table(found.breakdowns[0], where)])


# Text -------------------------------------------------------------------------


def _text(lines: Iterable[str]) -> str:
    return "".join(line.rstrip() + "\n" for line in lines)


def _head(found: Report) -> Iterator[str]:
    where, totals = found.where, found.totals
    first, last = where.day_range
    yield f"LLM cost report: {count(where.day_count, 'day')}"
    yield f"{first} to {last}, {where.zone}"
    yield ""
    cost = f"Total cost   {spend(totals):>14}"
    if totals.open_pico:
        yield cost + at_most(totals)
        cost = " " * 10
    yield f"{cost}   {gaps(totals)}"
    yield f"Calls        {totals.calls:>14,}   {totals.failed:,} failed"
    hits = totals.cache_hit_rate
    cached = "" if hits is None else f" ({percent(hits, 0)} cache reads)"
    yield (
        f"Tokens       {totals.total_tokens:>14,}"
        f"   {totals.input_tokens:,} in{cached}, {totals.output_tokens:,} out"
    )
    yield f"Average cost {money(totals.average_usd):>14}   per priced call"
    latency = totals.average_latency_ms
    shown = "unknown" if latency is None else f"{latency:,.0f} ms"
    yield f"Avg latency  {shown:>14}"


def _table(
    found: Breakdown, where: CallFilter, limit: int | None = None
) -> Iterator[str]:
    from ..query.report import name

    title = _TITLES.get(found.by) or f"Tag {found.by.removeprefix('tag:')}"
    yield ""
    yield from pruned(found.pruned_before, where.zone)
    if not found.groups:
        yield f"{title}: none"
        return
    yield f"{title:<38}{'Calls':>9}{'Tokens':>12}{'Cost':>14}{'Share':>7}"
    shown = found.groups[:limit]
    for group in shown:
        totals, share = group.totals, group.share
        no_cost = totals.all_failed or totals.cost_usd is None
        part = "" if share is None or no_cost else percent(share, 1)
        yield (
            f"  {fit(name(group), 35)} {totals.calls:>9,}"
            f"{short(totals.total_tokens):>12}{spend(totals):>14}{part:>7}"
        )
        if totals.unpriced or totals.incomplete or totals.estimated:
            if totals.open_pico:
                yield f"    {most(totals.bounded_usd)}"
            yield f"    {gaps(totals)}"
    rest = len(found.groups) - len(shown)
    if rest:
        yield f"  and {rest:,} more: --by {found.by}"


def _most_expensive(found: Report) -> Iterator[str]:
    zone = found.where.zone
    yield ""
    yield from pruned(found.pruned_before, zone)
    if not found.most_expensive:
        yield "Most expensive calls: none"
        return
    yield f"{'Most expensive calls':<58}{'Cost':>22}"
    for row in found.most_expensive:
        name = fit(f"{row.provider}/{row.model}", 38)
        floor = "" if row.cost_complete else "at least "
        yield (
            f"  {row.started_at.astimezone(zone):%Y-%m-%d %H:%M}  {name}"
            f"{floor + money(row.cost_usd):>22}"
        )
        limit = row.ceiling_usd
        known = "" if row.cost_complete or limit is None else f", {most(limit)}"
        yield f"    {row.event_id}{known}"


# JSON and CSV -----------------------------------------------------------------


def _dumps(value: t.Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _csv(found: Report) -> str:
    # A table has no place for notes.
    limits = {each.pruned_before for each in found.breakdowns} - {None}
    for limit in limits:
        for line in pruned(limit, found.where.zone):
            click.echo(line, err=True)
    return "".join(_csv_lines(found))


def _csv_lines(found: Report) -> Iterator[str]:
    from ..query.export import csv_line
    from ..query.report import MEASURES
    from ..query.report import name

    @own_context
    def line(by: str, key: str, totals: Totals, share: t.Any) -> str:
        values = [getattr(totals, measure) for measure in MEASURES]
        return csv_line((by, key, *values, None if share is None else round(share, 6)))

    yield csv_line(("by", "key", *MEASURES, "share"))
    yield line("total", "", found.totals, None)
    for each in found.breakdowns:
        for group in each.groups:
            yield line(each.by, name(group), group.totals, group.share)
