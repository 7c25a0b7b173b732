"""``partition``: a partition for the calls of each month."""

from __future__ import annotations

import typing as t

import click
from flask import current_app
from flask.cli import with_appcontext

from ..storage import NO_PARTITIONS
from ..storage import required
from .steps import AHEAD
from .steps import carry_out

if t.TYPE_CHECKING:
    from ..query.host import Host


@click.command()
@AHEAD
@click.option("--dry-run", is_flag=True, help="Print the SQL and change nothing.")
@with_appcontext
def partition(ahead: int, dry_run: bool) -> None:
    """Partition the table of calls by month.

    For PostgreSQL, MySQL and MariaDB. Partitions for future months are added. The first
    run sets the partitions up, even if there are calls; each later one adds the missing
    months. Schedule it with `prune`, daily or monthly. It can be interrupted and run
    again. On PostgreSQL, readers and writers are blocked only briefly; on MariaDB, the
    first run copies the table, and new calls are queued in the spool meanwhile.

    \b
    flask llm-cost partition --dry-run
    flask llm-cost partition --ahead 6
    """
    host: Host = current_app.extensions["llm_cost"]
    partitions = required(host.ledger.partitions, NO_PARTITIONS)
    applied = carry_out(partitions, ahead, dry_run=dry_run)
    if applied is None:
        click.echo(f"{host.ledger.label} already has its partitions.")
    elif applied:
        click.echo(f"{host.ledger.label} has {len(partitions.existing())} partitions.")
