"""``prune``: delete old calls, and keep their totals."""

from __future__ import annotations

import datetime as dt
import re
import typing as t

import click
from flask import current_app
from flask.cli import with_appcontext

from .text import count
from .text import progress

if t.TYPE_CHECKING:
    from ..query.host import Host


def _age(ctx: click.Context, param: click.Parameter, value: str) -> dt.timedelta:
    age = re.fullmatch(r"([1-9][0-9]{0,4})d", value)
    if age is None:
        raise click.BadParameter(
            f"{value!r} is not a valid age; use a number of days, e.g. 90d."
        )
    return dt.timedelta(days=int(age[1]))


@click.command()
@click.option(
    "--older-than",
    metavar="AGE",
    required=True,
    callback=_age,
    help="A number of days, e.g. 90d.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show how many calls would be deleted and delete none.",
)
@click.option(
    "--months-only",
    is_flag=True,
    help="Only drop whole months that are stored separately (partitions, files).",
)
@with_appcontext
def prune(older_than: dt.timedelta, dry_run: bool, months_only: bool) -> None:
    """Delete old calls and keep their totals.

    Spend by hour, day, provider and model is kept; single calls and their tags are not.
    (Monthly files keep no totals.) Calls are deleted in short steps; the command can be
    interrupted and run again. If the table is partitioned (see `partition`), whole
    months are dropped with their partitions.

    \b
    flask llm-cost prune --older-than 90d --dry-run
    """
    host: Host = current_app.extensions["llm_cost"]
    before = host.clock() - older_than
    length = host.ledger.prunable(before)
    if dry_run:
        click.echo(f"{count(length, 'call')} before {before:%Y-%m-%d %H:%M} UTC.")
        partitions = host.ledger.partitions
        for part in [] if partitions is None else partitions.droppable(before):
            click.echo(f"Partition {part.name} would be dropped.")
        return
    done = 0
    with progress(length, "Pruning") as step:

        def advance(deleted: int) -> None:
            nonlocal done
            step(deleted - done)
            done = deleted

        deleted = host.ledger.prune(before, months_only=months_only, progress=advance)
    click.echo(f"{count(deleted, 'call')} before {before:%Y-%m-%d %H:%M} UTC deleted.")
