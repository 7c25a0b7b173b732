"""``ledger``: maintenance of the ledger itself."""

from __future__ import annotations

import typing as t

import click
from flask import current_app
from flask.cli import with_appcontext

from ..storage import NO_QUEUE
from ..storage import NO_ROLLUPS
from ..storage import required
from .drain import store_queued
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

    A line of the spool that cannot be stored is moved to a file of its own, so that it
    does not hold up the others. Run this after an upgrade, or after correcting such a
    file by hand. Exits with status 1 if a line is rejected again.
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
    """Compare the rollups by hour and day with the calls that they aggregate.

    Exits with status 1 if they differ; each line says where. Hours from which calls were
    pruned cannot be compared.
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
    """Change the ledger's days to those of LLM_COST_TIMEZONE, after that was changed.

    All rollups are built again, which takes a while in a large ledger. Once calls were
    pruned, it is refused: only their totals by the old days are left.
    """
    host: Host = current_app.extensions["llm_cost"]
    rollups = required(host.ledger.rollups, NO_ROLLUPS)
    store_queued(host)
    rollups.rezone()
    click.echo(f"The ledger's days are now those of {host.settings.timezone}.")
