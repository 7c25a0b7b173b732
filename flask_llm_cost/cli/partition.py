"""``partition``: the calls of each month in a partition of their own."""

from __future__ import annotations

import typing as t

import click
from flask import current_app
from flask.cli import with_appcontext

if t.TYPE_CHECKING:
    from ..db.partitions import Step
    from ..query.host import Host


@click.command()
@click.option(
    "--ahead",
    metavar="N",
    type=click.IntRange(0, 120),
    default=3,
    show_default=True,
    help="How many months after this one have a partition then.",
)
@click.option("--dry-run", is_flag=True, help="Print the SQL, and do nothing.")
@with_appcontext
def partition(ahead: int, dry_run: bool) -> None:
    """Give the table of calls monthly partitions, and keep some ahead.

    With PostgreSQL, and MySQL or MariaDB. The first run sets them up, also where there are
    calls; each later one adds the months that are lacking, and may be run at any time: put
    it beside `prune`, once a day or month. It may break off, and be run again. On
    PostgreSQL readers and writers go on but for moments; on MariaDB the first run copies
    the table, and meanwhile new calls wait in the spool.

    \b
    flask llm-cost partition --dry-run
    flask llm-cost partition --ahead 6
    """
    host: Host = current_app.extensions["llm_cost"]
    plan = host.ledger.partition_plan(ahead=ahead)
    if dry_run:
        for step in plan:
            _show(step)
    if not plan:
        click.echo(f"{host.ledger.database_label} has its partitions already.")
    elif not dry_run:
        host.ledger.partition(ahead=ahead, told=_tell)
        names = len(host.ledger.partitions())
        click.echo(f"{host.ledger.database_label} has {names} partitions.")


def _tell(step: Step) -> None:
    click.echo(f"{step.title}.")


def _show(step: Step) -> None:
    click.echo(f"-- {step.title}.")
    for statement in step.statements:
        click.echo(f"{statement};")
