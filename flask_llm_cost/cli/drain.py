"""``drain``: what waits in the spool goes into the ledger, now."""

from __future__ import annotations

import typing as t

import click
from flask import current_app
from flask.cli import with_appcontext

from .text import count

if t.TYPE_CHECKING:
    from ..query.host import Host


@click.command()
@with_appcontext
def drain() -> None:
    """Write the calls that wait in the spool to the ledger, now.

    The app does so by itself while it runs. This is for what a process left behind that
    was killed, and for the end of a deployment. Ends with 1 if calls are left waiting.
    """
    host: Host = current_app.extensions["llm_cost"]
    drained = host.ledger.drain()
    click.echo(f"{count(drained.new, 'call')} written to {host.ledger.database_label}.")
    if drained.duplicate:
        click.echo(f"{count(drained.duplicate, 'call')} had been written before.")
    if drained.set_aside:
        click.echo(
            f"{count(drained.set_aside, 'line')} could not be stored and were set aside"
            " beside the spool; nothing is lost."
        )
    left = host.ledger.waiting()
    if left:
        raise click.ClickException(f"{count(left, 'call')} still wait.")


def drain_first(host: Host) -> None:
    """Bring the ledger up to date before a command reads it, if that can be done now."""
    from ..errors import StorageError

    try:
        host.ledger.drain()
    except StorageError as error:
        # A database that cannot be read either is the command's own error. One that can,
        # such as a replica, still has an answer.
        with host.ledger.reading():
            pass
        click.echo(f"Not drained: {error}", err=True)
        return
    behind = host.ledger.behind()
    if behind:
        seconds = f"{behind.total_seconds():,.0f}"
        click.echo(f"The replica lacks the last {seconds} s of calls.", err=True)
