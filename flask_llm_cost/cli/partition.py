"""``partition``: a partition for the calls of each month."""

from __future__ import annotations

import typing as t

import click
from flask import current_app
from flask.cli import with_appcontext

from ..storage import NO_PARTITIONS
from ..storage import required

if t.TYPE_CHECKING:
    from ..query.host import Host
    from ..storage import Step


@click.command()
@click.option(
    "--ahead",
    metavar="N",
    type=click.IntRange(0, 120),
    default=3,
    show_default=True,
    help="Number of future months to create partitions for.",
)
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
    plan = partitions.plan(ahead=ahead)
    if dry_run:
        for step in plan:
            show(step)
    if not plan:
        click.echo(f"{host.ledger.label} already has its partitions.")
    elif not dry_run:
        partitions.apply(
            ahead=ahead, progress=lambda step: click.echo(f"{step.title}.")
        )
        click.echo(f"{host.ledger.label} has {len(partitions.existing())} partitions.")


def show(step: Step) -> None:
    """Print a step as SQL."""
    click.echo(f"-- {step.title}.")
    for statement in step.statements:
        click.echo(f"{statement};")
