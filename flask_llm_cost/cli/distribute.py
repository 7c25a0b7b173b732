"""``distribute``: spread the calls over the nodes of PostgreSQL with Citus."""

from __future__ import annotations

import typing as t

import click
from flask import current_app
from flask.cli import with_appcontext

from ..storage import NO_DISTRIBUTION
from ..storage import required
from .steps import AHEAD
from .steps import carry_out

if t.TYPE_CHECKING:
    from ..query.host import Host


@click.command()
@AHEAD
@click.option(
    "--dry-run",
    "--sql",
    is_flag=True,
    help="Print the SQL and change nothing. Citus need not be installed.",
)
@with_appcontext
def distribute(ahead: int, dry_run: bool) -> None:
    """Distribute the calls over the nodes of Citus.

    Needs PostgreSQL with the extension citus. Partitions the table of calls by month
    first, since a distributed table cannot be partitioned later, and distributes it by
    event id. Tags are copied to each node; sums and budgets stay on the coordinator. New
    calls are queued in the spool meanwhile. It can be interrupted and run again.

    \b
    flask llm-cost distribute --dry-run
    """
    host: Host = current_app.extensions["llm_cost"]
    distribution = required(host.ledger.distribution, NO_DISTRIBUTION)
    applied = carry_out(distribution, ahead, dry_run=dry_run)
    if applied is None:
        click.echo(f"{host.ledger.label} is already distributed.")
    elif applied:
        click.echo(f"{host.ledger.label} is distributed.")
