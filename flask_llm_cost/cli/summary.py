"""``summary``, ``sessions`` and ``daily``: the answers of Clacky's BillingStore."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence

import click
from flask import current_app
from flask.cli import with_appcontext

from ..money import dumps
from .drain import drain_first
from .text import fit
from .text import gaps
from .text import head
from .text import joined
from .text import pruned
from .text import short
from .text import spend
from .text import wrapped

if t.TYPE_CHECKING:
    from ..query.calls import CallQuery
    from ..query.host import Host
    from ..query.sessions import Session
    from ..query.totals import Totals

PERIODS: t.Final = ("day", "week", "month", "year", "all")

_Command: t.TypeAlias = Callable[..., t.Any]


def _options(command: _Command) -> _Command:
    for option in (
        click.option(
            "--format",
            "form",
            type=click.Choice(["text", "json", "csv"]),
            default="text",
            show_default=True,
        ),
        click.option("--model", help="Only calls of this model."),
    ):
        command = option(command)
    return command


_period = click.option(
    "--period",
    type=click.Choice(PERIODS),
    default="month",
    show_default=True,
    help="Calendar period to date.",
)


@click.command()
@_period
@_options
@with_appcontext
def summary(period: str, model: str | None, form: str) -> None:
    """Show totals of the current day, week, month or year.

    \b
    flask llm-cost summary
    flask llm-cost summary --period week --model gpt-4o --format json
    """
    calls = _calls(model)
    from ..query import billing

    found = billing.summary(calls, period)
    if form == "json":
        click.echo(dumps(found.to_json()))
        return
    zone = calls.filter.zone
    _notes(found.pruned_before, zone, form)
    rows = [((name,), totals) for name, totals in found.models.items()]
    if form == "csv":
        _csv(("model",), rows, found.totals)
        return
    start = "the first call" if found.start is None else f"{found.start:%Y-%m-%d}"
    lines = [f"Since {start} ({zone})", "", *head(found.totals), ""]
    lines.append(f"{'Models':<42}{'Calls':>10}{'Tokens':>14}{'Cost':>14}")
    lines += [
        f"  {fit(name, 39)} {totals.calls:>10,}{short(totals.total_tokens):>14}"
        f"{spend(totals):>14}"
        for (name,), totals in rows
    ]
    click.echo(joined(lines), nl=False)


@click.command()
@_period
@_options
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="Maximum number of sessions.",
)
@with_appcontext
def sessions(period: str, model: str | None, form: str, limit: int) -> None:
    """Show what each session cost, highest cost first.

    A session is a value of the tag that LLM_COST_SESSION_TAG names. LLM_COST_SESSION_NAMES
    gives sessions names; those without one are combined into one row.
    """
    calls = _calls(model)
    from ..query import billing
    from ..query.totals import sum_up

    found = billing.session_summary(calls, period, limit)
    _notes(found.pruned_before, found.zone, form)
    if form == "json":
        click.echo(dumps(found.to_json()))
        return
    whole = sum_up(session.totals for session in found.sessions)
    if form == "csv":
        rows = [
            ((_session_name(each), each.session_id, each.last_at), each.totals)
            for each in found.sessions
        ]
        _csv(("session", "session_id", "last_at"), rows, whole)
        return
    if not found.sessions:
        click.echo("No calls in this period.")
        return
    click.echo(f"{'Sessions':<30}{'Last':<17}{'Calls':>9}{'Tokens':>11}{'Cost':>13}")
    for session in found.sessions:
        last = session.last_at.astimezone(found.zone)
        _session_line(_session_name(session), f"{last:%Y-%m-%d %H:%M}", session.totals)
    most = len(found.sessions) == limit
    _session_line(f"Total of these {limit:,}" if most else "Total", "", whole)
    for line in wrapped(gaps(whole), 2):
        click.echo(line)


def _session_name(session: Session) -> str:
    if session.deleted:
        return "(deleted sessions)"
    return session.name or session.session_id


def _session_line(name: str, last: str, totals: Totals) -> None:
    click.echo(
        f"{fit(name, 29)} {last:<16} {totals.calls:>9,}"
        f"{short(totals.total_tokens):>11}{spend(totals):>13}"
    )


@click.command()
@click.option(
    "--days",
    type=click.IntRange(1, 3660),
    default=30,
    show_default=True,
    help="Number of days, including today.",
)
@_options
@with_appcontext
def daily(days: int, model: str | None, form: str) -> None:
    """Show each of the last days, including those without calls."""
    calls = _calls(model)
    from ..query import billing
    from ..query.totals import sum_up

    found = billing.daily_breakdown(calls, days)
    _notes(found.pruned_before, calls.filter.zone, form)
    if form == "json":
        click.echo(dumps(found.to_json()))
        return
    whole = sum_up(found.days.values())
    if form == "csv":
        _csv(("day",), [((day,), totals) for day, totals in found.days.items()], whole)
        return
    most = max(totals.spend_pico for totals in found.days.values())
    click.echo(f"{'Day':<12}{'Calls':>9}{'Tokens':>14}{'Cost':>14}")
    for day, totals in found.days.items():
        bar = "#" * -(-28 * totals.spend_pico // most) if most else ""
        _day_line(day, totals, bar)
    _day_line("Total", whole, "")
    for line in wrapped(gaps(whole), 12):
        click.echo(line)


def _day_line(day: str, totals: Totals, rest: str) -> None:
    click.echo(
        f"{day:<12}{totals.calls:>9,}{short(totals.total_tokens):>14}"
        f"{spend(totals):>14}  {rest}".rstrip()
    )


def _notes(limit: dt.datetime | None, zone: dt.tzinfo, form: str) -> None:
    """Say what was pruned: beside a table or a document, on standard error."""
    for line in pruned(limit, zone):
        click.echo(line, err=form != "text")


def _csv(
    columns: Sequence[str],
    rows: Iterable[tuple[tuple[t.Any, ...], Totals]],
    whole: Totals,
) -> None:
    from ..query.export import totals_csv

    total = ("total", *("" for _ in columns[1:]))
    click.echo(totals_csv(columns, [*rows, (total, whole)]), nl=False)


def _calls(model: str | None) -> CallQuery:
    """The calls of the current app, those that were queued included."""
    host: Host = current_app.extensions["llm_cost"]
    drain_first(host)
    from ..query.calls import CallQuery

    calls = CallQuery(host.ledger.reading, host.settings, host.clock)
    return calls if model is None else calls.where(model=model)
