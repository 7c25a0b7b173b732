"""``drain``: store the calls that are queued in the spool."""

from __future__ import annotations

import typing as t

import click
from flask import current_app
from flask.cli import with_appcontext

from ..storage import NO_QUEUE
from ..storage import replica_lag
from ..storage import required
from .text import count

if t.TYPE_CHECKING:
    from ..query.host import Host


@click.command()
@with_appcontext
def drain() -> None:
    """Write the calls that are queued to the ledger.

    A running app does this by itself. Use this command for calls that a killed process
    left behind, and at the end of a deployment. Exits with status 1 if calls remain
    queued.
    """
    host: Host = current_app.extensions["llm_cost"]
    queue = required(host.ledger.queue, NO_QUEUE)
    drained = queue.drain()
    click.echo(f"{count(drained.new, 'call')} written to {host.ledger.label}.")
    if drained.duplicate:
        click.echo(f"{count(drained.duplicate, 'call')} had been written before.")
    if drained.rejected:
        click.echo(
            f"{count(drained.rejected, 'line')} could not be stored. Each was moved to a"
            " file of its own in the spool folder; see `doctor`."
        )
    unusable = queue.unusable()
    for problem in unusable:
        click.echo(f"Skipped {problem}", err=True)
    left = queue.count()
    if left:
        raise click.ClickException(f"{count(left, 'call')} still queued.")
    if unusable:
        entries = "1 entry" if len(unusable) == 1 else f"{len(unusable)} entries"
        raise click.ClickException(f"{entries} of the spool cannot be read.")


def store_queued(host: Host) -> None:
    """Store what is queued, so that nothing is missing from what a command does.

    :raises StorageError: If the database is unavailable.
    """
    queue = host.ledger.queue
    if queue is None:
        host.ledger.flush()
    else:
        queue.drain()


def drain_first(host: Host) -> None:
    """Store what is queued before a command reads, if that is possible now."""
    from ..errors import StorageError

    try:
        store_queued(host)
    except StorageError as error:
        # If the database cannot be read either, that is the command's error. If it can,
        # as a replica, there still is an answer.
        with host.ledger.reading():
            pass
        click.echo(f"Queued calls are not included: {error}", err=True)
        return
    lag = replica_lag(host.ledger)
    if lag:
        seconds = f"{lag.total_seconds():,.0f}"
        click.echo(f"The replica is missing the last {seconds} s of calls.", err=True)
