"""``clear``: calls go, and their sums too."""

from __future__ import annotations

import typing as t

import click
from flask import current_app
from flask.cli import with_appcontext

from .text import count

if t.TYPE_CHECKING:
    from ..query.host import Host


@click.command()
@click.option(
    "--scope",
    type=click.Choice(["today", "all"]),
    required=True,
    help="Today's calls, or all of them.",
)
@click.confirmation_option(
    prompt="Calls and their sums are deleted for good. Go on?", help="Do not ask."
)
@with_appcontext
def clear(scope: t.Literal["today", "all"]) -> None:
    """Delete today's calls, or all, and everything that was added up of them.

    To delete old calls and keep their sums, use `prune`.
    """
    host: Host = current_app.extensions["llm_cost"]
    gone = host.ledger.clear(scope)
    click.echo(f"{count(gone, 'call')} deleted from {host.ledger.database_label}.")
