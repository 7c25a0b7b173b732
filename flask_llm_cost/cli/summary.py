"""``summary``, ``sessions`` and ``daily``: the answers of Clacky's BillingStore."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

import click
from flask import current_app
from flask.cli import with_appcontext

from ..money import dumps
from .drain import drain_first
from .text import at_most
from .text import fit
from .text import gaps
from .text import pruned
from .text import short
from .text import spend

if t.TYPE_CHECKING:
    from ..query.calls import CallQuery
    from ..query.host import Host

PERIODS: t.Final = ("day", "week", "month", "year", "all")

_Command: t.TypeAlias = Callable[..., t.Any]


def _options(command: _Command) -> _Command:
    for option in (
        click.option(
            "--format",
            "form",
            type=click.Choice(["text", "json"]),
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
    """Sum up the current day, week, month or year.

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
    zone, totals = calls.filter.zone, found.totals
    start = "the first call" if found.start is None else f"{found.start:%Y-%m-%d}"
    click.echo(f"Since {start} ({zone})")
    for line in pruned(found.pruned_before, zone):
        click.echo(line)
    click.echo()
    click.echo(f"Cost      {spend(totals)}{at_most(totals)}  {gaps(totals)}")
    click.echo(f"Calls     {totals.calls:,}")
    click.echo(
        f"Tokens    {totals.prompt_tokens + totals.output_tokens:,}:"
        f" {totals.prompt_tokens:,} in ({totals.cache_read_tokens:,} cache reads),"
        f" {totals.output_tokens:,} out, {totals.cache_write_tokens:,} cache writes"
    )
    click.echo()
    click.echo(f"{'Models':<42}{'Calls':>10}{'Tokens':>14}{'Cost':>14}")
    for name, totals in found.models.items():
        tokens = totals.prompt_tokens + totals.output_tokens
        click.echo(
            f"  {fit(name, 39)} {totals.calls:>10,}{short(tokens):>14}"
            f"{spend(totals):>14}"
        )


@click.command()
@_period
@_options
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="How many sessions at most.",
)
@with_appcontext
def sessions(period: str, model: str | None, form: str, limit: int) -> None:
    """Show what each session cost, highest cost first.

    A session is a value of the tag that LLM_COST_SESSION_TAG names. LLM_COST_SESSION_NAMES
    gives sessions names; those without one are combined into one row.
    """
    calls = _calls(model)
    from ..query import billing

    found = billing.session_summary(calls, period, limit)
    for line in pruned(found.pruned_before, found.zone):
        click.echo(line, err=form == "json")
    if form == "json":
        click.echo(dumps(found.to_json()))
        return
    if not found.sessions:
        click.echo("No calls in this period.")
        return
    click.echo(f"{'Sessions':<30}{'Last':<17}{'Calls':>9}{'Tokens':>11}{'Cost':>13}")
    for session in found.sessions:
        name = session.name or session.session_id
        if session.deleted:
            name = "(deleted sessions)"
        last = session.last_at.astimezone(found.zone)
        totals = session.totals
        tokens = totals.prompt_tokens + totals.output_tokens
        click.echo(
            f"{fit(name, 29)} {last:%Y-%m-%d %H:%M} {totals.calls:>9,}"
            f"{short(tokens):>11}{spend(totals):>13}"
        )


@click.command()
@click.option(
    "--days",
    type=click.IntRange(1, 3660),
    default=30,
    show_default=True,
    help="How many days, today included.",
)
@_options
@with_appcontext
def daily(days: int, model: str | None, form: str) -> None:
    """Show each of the last days, including those without calls."""
    calls = _calls(model)
    from ..query import billing

    found = billing.daily_breakdown(calls, days)
    for line in pruned(found.pruned_before, calls.filter.zone):
        click.echo(line, err=form == "json")
    if form == "json":
        click.echo(dumps(found.to_json()))
        return
    most = max(totals.spend_pico for totals in found.days.values())
    click.echo(f"{'Day':<12}{'Calls':>9}{'Tokens':>14}{'Cost':>14}")
    for day, totals in found.days.items():
        bar = "#" * -(-28 * totals.spend_pico // most) if most else ""
        click.echo(
            f"{day:<12}{totals.calls:>9,}{short(totals.total_tokens):>14}"
            f"{spend(totals):>14}  {bar}".rstrip()
        )


def _calls(model: str | None) -> CallQuery:
    """The calls of the current app, those that were queued included."""
    host: Host = current_app.extensions["llm_cost"]
    drain_first(host)
    from ..query.calls import CallQuery

    calls = CallQuery(host.ledger.reading, host.settings, host.clock)
    return calls if model is None else calls.where(model=model)
