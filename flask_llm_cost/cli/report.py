"""``report``: spend of a range of days, by provider, model, tag and more."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import AbstractContextManager

import click
from flask import current_app
from flask.cli import with_appcontext

from ..money import own_context
from .drain import drain_first
from .gaps import without_cost
from .period import chosen
from .period import filter_options
from .period import period_options
from .text import count
from .text import fit
from .text import gaps
from .text import head
from .text import joined
from .text import money
from .text import most
from .text import percent
from .text import plain
from .text import pruned
from .text import short
from .text import spend
from .text import wrapped

if t.TYPE_CHECKING:
    import sqlalchemy as sa

    from ..query.comparison import Comparison
    from ..query.filters import CallFilter
    from ..query.host import Host
    from ..query.proved import ProvedMonth
    from ..query.quality import Gaps
    from ..query.report import Breakdown
    from ..query.report import Report
    from ..query.totals import Totals

_TITLES: t.Final = {
    "provider": "Providers",
    "model": "Models",
    "scope": "Scopes",
    "session": "Sessions",
    "hour": "Hours",
    "day": "Days",
    "week": "Weeks, by their first day",
    "month": "Months",
}


def _by(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is None or value in _TITLES:
        return value
    if value.startswith("tag:") and len(value) > len("tag:"):
        return value
    raise click.BadParameter(
        f"{value!r} is not one of model, provider, scope, session, hour, day, week, month and"
        " tag:KEY."
    )


@click.command()
@period_options
@filter_options
@click.option(
    "--by",
    callback=_by,
    metavar="[model|provider|scope|session|hour|day|week|month|tag:KEY]",
    help="Print only this breakdown, with all rows.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv"]),
    default="text",
    show_default=True,
    help="In JSON, amounts are strings, so that they stay exact.",
)
@with_appcontext
def report(
    days: int | None,
    from_: str | None,
    to: str | None,
    by: str | None,
    form: str,
    **conditions: t.Any,
) -> None:
    """Show spend by provider, model and tag.

    The most expensive calls are listed, too. Without --by, there is a breakdown for each
    tag in LLM_COST_ROLLUP_TAGS, and the text shows the ten most expensive rows of each.
    Costs are the known costs; every total shows how many calls are unpriced or
    incomplete, and the ceiling.

    \b
    flask llm-cost report --days 7
    flask llm-cost report --by tag:feature --model gpt-4o
    flask llm-cost report --from 2026-10-01 --to 2026-10-31 --by week --format csv
    """
    host: Host = current_app.extensions["llm_cost"]
    where = chosen(host, days, from_, to, **conditions)
    drain_first(host)
    if by is None:
        click.echo(full(host, where, form), nl=False)
    else:
        click.echo(single(host, where, by, form), nl=False)


def full(host: Host, where: CallFilter, form: str = "text") -> str:
    """Return the whole report.

    :param form: ``"text"``, ``"json"`` or ``"csv"``.
    """
    from ..query import quality
    from ..query import report as query
    from ..query.proved import proved_months

    missing = None
    with _reading(host, where) as connection:
        found = query.report(
            connection, where, tags=host.settings.rollup_tags, now=host.clock()
        )
        proved = proved_months(host, connection, where)
        if form == "text" and (found.totals.unpriced or found.totals.incomplete):
            missing = quality.gaps(connection, where)
    if form == "json":
        months = [month.to_json() for month in proved]
        return _dumps(found.to_json() | {"proved_by_bills": months})
    if form == "csv":
        return _csv(found)
    tables = (line for each in found.breakdowns for line in _table(each, where, 10))
    lines = [*_head(found), *map(_proved, proved), *tables, *_most_expensive(found)]
    return joined(lines if missing is None else [*lines, *_advice(missing)])


def single(host: Host, where: CallFilter, by: str, form: str = "text") -> str:
    """Return one breakdown and its total.

    :param by: As for :func:`.query.report.single`.
    :raises FilterError: If the key is not a valid tag key.
    """
    from ..query import report as query

    settings = host.settings
    with _reading(host, where) as connection:
        found = query.single(
            connection,
            where,
            by,
            session_tag=settings.session_tag,
            week_start=settings.week_start,
            now=host.clock(),
        )
    if form == "json":
        return _dumps(found.single_to_json())
    if form == "csv":
        return _csv(found)
    return joined([*_head(found), *_table(found.breakdowns[0], where)])


def _reading(host: Host, where: CallFilter) -> AbstractContextManager[sa.Connection]:
    """Read the selected days, and those before, which they are compared with."""
    return host.ledger.reading(since=where.previous().start, until=where.end)


# Text -------------------------------------------------------------------------


def _advice(missing: Gaps) -> Iterator[str]:
    """Why calls have no cost, and what to do about each reason."""
    for finding in without_cost(missing):
        yield ""
        yield from wrapped(plain(finding.message))


def _head(found: Report) -> Iterator[str]:
    where = found.where
    first, last = where.day_range
    yield f"LLM cost report: {count(where.day_count, 'day')}"
    yield f"{first} to {last}, {where.zone}"
    conditions = [
        f"{name}: {value}"
        for name, value in (
            ("provider", where.provider),
            ("model", where.model),
            *((f"tag {key}", value) for key, value in where.tags),
        )
        if value is not None
    ]
    if conditions:
        yield from wrapped(plain(f"Only {', '.join(conditions)}"))
    yield ""
    yield from head(found.totals)
    if found.previous is not None:
        yield from _change(found, found.previous)


def _change(found: Report, before: Comparison) -> Iterator[str]:
    from ..query.totals import change

    where, amount = found.where, before.totals.spend_usd
    days = count(where.day_count, "day")
    if before.cut:
        days += f" up to {before.end.astimezone(where.zone):%Y-%m-%d %H:%M}"
    ratio = change(found.totals.spend_usd, amount)
    moved = "" if ratio is None else f"{ratio:+,.1f}%"
    base = f"from {money(amount)}" if moved else "no spend"
    text = f"{base} in the previous {days}"
    if before.since is not None and not before.full:
        begin = before.since.astimezone(where.zone)
        text += f"; the ledger begins on {begin:%Y-%m-%d}"
    first, *rest = wrapped(text, 30)
    yield f"Change       {moved:>14}   {first.strip()}"
    yield from rest


def _proved(month: ProvedMonth) -> str:
    return (
        f"{month.month:%Y-%m} (UTC)    {percent(month.share, 1):>13}   proved by bills"
    )


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
            yield from wrapped(gaps(totals), 4)
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


@own_context
def _csv(found: Report) -> str:
    from ..query.export import totals_csv
    from ..query.report import name

    # A table has no place for notes.
    limits = {each.pruned_before for each in found.breakdowns} - {None}
    for limit in limits:
        for line in pruned(limit, found.where.zone):
            click.echo(line, err=True)
    rows: list[tuple[Sequence[str | None], Totals]] = [
        (("total", "", None), found.totals)
    ]
    for each in found.breakdowns:
        for group in each.groups:
            share = None if group.share is None else f"{group.share:.6f}"
            rows.append(((each.by, name(group), share), group.totals))
    return totals_csv(("by", "key", "share"), rows)
