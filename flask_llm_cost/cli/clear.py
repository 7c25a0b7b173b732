"""``clear``: delete calls together with their totals."""

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
    prompt="This permanently deletes calls and their totals. Continue?",
    help="Do not ask for confirmation.",
)
@with_appcontext
def clear(scope: t.Literal["today", "all"]) -> None:
    """Delete today's calls, or all calls, and their totals.

    To delete old calls and keep their totals, use `prune`.
    """
    host: Host = current_app.extensions["llm_cost"]
    deleted = host.ledger.clear(scope)
    click.echo(f"{count(deleted, 'call')} deleted from {host.ledger.label}.")
