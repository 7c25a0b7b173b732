"""``ledger``: keeping the ledger itself in order."""

from __future__ import annotations

import typing as t

import click
from flask import current_app
from flask.cli import with_appcontext

from .text import count
from .text import plain

if t.TYPE_CHECKING:
    from ..query.host import Host


@click.group()
def ledger() -> None:
    """Keep the ledger itself in order."""


@ledger.command()
@with_appcontext
def requeue() -> None:
    """Give the lines that were set aside another chance.

    A line of the spool that cannot be stored is set aside, so that it holds up no other.
    After an upgrade, or when a file was put right by hand, this tries them again. Ends
    with 1 if one is set aside again.
    """
    host: Host = current_app.extensions["llm_cost"]
    tried = host.ledger.requeue()
    drained = host.ledger.drain()
    click.echo(
        f"{count(tried, 'line')} tried again: {drained.new:,} written,"
        f" {drained.duplicate:,} written before, {drained.set_aside:,} set aside again."
    )
    if drained.set_aside:
        click.get_current_context().exit(1)


@ledger.command()
@with_appcontext
def verify() -> None:
    """Compare the sums by hour and day with the calls they are of.

    Ends with 1 if they differ; each line says where. Hours of which calls were pruned have
    nothing to be compared with.
    """
    host: Host = current_app.extensions["llm_cost"]
    host.ledger.drain()
    differences = host.ledger.verify()
    for line in differences:
        click.echo(plain(line))
    if differences:
        raise click.ClickException(f"{count(len(differences), 'difference')} found.")
    click.echo("The sums are those of the calls.")


@ledger.command()
@with_appcontext
def rezone() -> None:
    """Make the ledger's days those of LLM_COST_TIMEZONE, after that was changed.

    All sums are added up anew, which takes a while in a large ledger. It is refused once
    calls were pruned: of those only the sums by the old days are left.
    """
    host: Host = current_app.extensions["llm_cost"]
    host.ledger.drain()
    host.ledger.rezone()
    click.echo(f"The ledger's days are those of {host.settings.timezone}.")
