"""``ledger``: keeping the ledger itself in order."""

from __future__ import annotations

import typing as t

import click
from flask import current_app
from flask.cli import with_appcontext

from .text import count

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
