"""``prune``: old calls go, their sums stay."""

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
        raise click.BadParameter(f"{value!r} is no age: write days, such as 90d.")
    return dt.timedelta(days=int(age[1]))


@click.command()
@click.option(
    "--older-than",
    metavar="AGE",
    required=True,
    callback=_age,
    help="In days, such as 90d.",
)
@click.option("--dry-run", is_flag=True, help="Say how many calls it would be.")
@click.option(
    "--months-only",
    is_flag=True,
    help="Only drop partitions; the rest stays until its month is old enough.",
)
@with_appcontext
def prune(older_than: dt.timedelta, dry_run: bool, months_only: bool) -> None:
    """Delete old calls, and keep their sums.

    What was spent by hour and day, provider and model stays known; single calls and
    their tags do not. It works in short steps, and may be interrupted and go on later.
    Where the table has partitions (see `partition`), whole months go with theirs.

    \b
    flask llm-cost prune --older-than 90d --dry-run
    """
    host: Host = current_app.extensions["llm_cost"]
    before = host.clock() - older_than
    length = host.ledger.prunable(before)
    if dry_run:
        click.echo(f"{count(length, 'call')} before {before:%Y-%m-%d %H:%M} UTC.")
        for part in host.ledger.prunable_months(before):
            click.echo(f"Partition {part.name} would be dropped.")
        return
    done = 0
    with progress(length, "Pruning") as step:

        def tell(gone: int) -> None:
            nonlocal done
            step(gone - done)
            done = gone

        gone = host.ledger.prune(before, months_only=months_only, progress=tell)
    click.echo(f"{count(gone, 'call')} before {before:%Y-%m-%d %H:%M} UTC deleted.")
