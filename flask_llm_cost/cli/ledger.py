"""``ledger``: maintenance of the ledger itself."""

from __future__ import annotations

import datetime as dt
import typing as t

import click
from flask import current_app
from flask.cli import with_appcontext

from ..calendar import day_start
from ..calendar import iso
from ..calendar import next_first_day
from ..storage import NO_QUEUE
from ..storage import NO_ROLLUPS
from ..storage import required
from .drain import store_queued
from .focus import month as month_of
from .text import count
from .text import plain

if t.TYPE_CHECKING:
    from ..query.host import Host


@click.group()
def ledger() -> None:
    """Verify and repair the ledger itself."""


@ledger.command()
@with_appcontext
def requeue() -> None:
    """Queue rejected lines again.

    A spool line that cannot be stored is moved to a separate file, so that it does not
    hold up the others. Run this after an upgrade, or after correcting such a file by
    hand. Exits with status 1 if a line is rejected again.
    """
    host: Host = current_app.extensions["llm_cost"]
    queue = required(host.ledger.queue, NO_QUEUE)
    queued = queue.requeue()
    drained = queue.drain()
    click.echo(
        f"{count(queued, 'line')} queued again: {drained.new:,} written,"
        f" {drained.duplicate:,} written before, {drained.rejected:,} rejected again."
    )
    if drained.rejected:
        click.get_current_context().exit(1)


@ledger.command()
@with_appcontext
def verify() -> None:
    """Compare the rollups with the calls that they aggregate.

    Exits with status 1 if they differ; each line names one difference. Hours with
    pruned calls cannot be compared.
    """
    host: Host = current_app.extensions["llm_cost"]
    rollups = required(host.ledger.rollups, NO_ROLLUPS)
    store_queued(host)
    differences = rollups.verify()
    for line in differences:
        click.echo(plain(line))
    if differences:
        raise click.ClickException(f"{count(len(differences), 'difference')} found.")
    click.echo("The rollups match the calls.")


@ledger.command()
@with_appcontext
def rezone() -> None:
    """Rebuild the ledger's days after LLM_COST_TIMEZONE was changed.

    All rollups are rebuilt, which takes a while in a large ledger. This is not possible
    once calls were pruned, since only their totals by the old days are left.
    """
    host: Host = current_app.extensions["llm_cost"]
    rollups = required(host.ledger.rollups, NO_ROLLUPS)
    store_queued(host)
    rollups.rezone()
    click.echo(f"The ledger's days are now those of {host.settings.timezone}.")


@ledger.command()
@click.argument("month", metavar="YYYY-MM", callback=month_of)
@click.option("--empty", is_flag=True, help="Also close a month without any calls.")
@with_appcontext
def close(month: dt.date, empty: bool) -> None:
    """Close a UTC month: later changes are recorded as corrections.

    If a call of that month is repriced, settled, deleted or arrives late, the month's
    totals still change; the difference is recorded with its time, and is kept when
    calls are pruned. A month cannot be reopened.
    """
    host: Host = current_app.extensions["llm_cost"]
    rollups = required(host.ledger.rollups, NO_ROLLUPS)
    name, now = f"{month:%Y-%m}", host.clock()
    end = day_start(next_first_day("month", month), dt.UTC)
    if now < end:
        raise click.ClickException(f"{name} is not over before {iso(end)}.")
    store_queued(host)
    if not (empty or _calls_of(host, month, end)):
        raise click.ClickException(
            f"{name} has no calls, and a closed month cannot be reopened. To close it"
            " anyway, add --empty."
        )
    known = rollups.close(month, now)
    if known is None:
        click.echo(f"{name} is closed (UTC).")
    else:
        click.echo(f"{name} was already closed at {iso(known.at)}.")


def _calls_of(host: Host, month: dt.date, end: dt.datetime) -> int:
    from ..query.aggregate import totals
    from ..query.filters import CallFilter

    with host.ledger.reading() as connection:
        where = CallFilter(start=day_start(month, dt.UTC), end=end)
        return totals(connection, where).calls
