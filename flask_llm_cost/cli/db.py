"""``db``: the ledger's tables."""

from __future__ import annotations

import typing as t

import click
from flask import current_app
from flask.cli import with_appcontext

if t.TYPE_CHECKING:
    from ..query.host import Host


@click.group()
def db() -> None:
    """Make and upgrade the ledger's tables.

    The ledger's own SQLite file needs none of this. In a database of the app's, run
    `db upgrade` once after each new version of Flask-LLM-Cost: before that, calls wait in
    the spool. The app's own migrations know nothing of these tables.
    """


@db.command()
@with_appcontext
def upgrade() -> None:
    """Bring the ledger's tables to the version that this package needs.

    May be run again, and by several processes at once.
    """
    host: Host = current_app.extensions["llm_cost"]
    before = host.ledger.current()
    host.ledger.upgrade()
    after = host.ledger.current()
    where = host.ledger.database_label
    if before == after:
        click.echo(f"{where} is at version {after} already.")
    else:
        click.echo(f"{where}: from {before or 'nothing'} to version {after}.")


@db.command()
@with_appcontext
def current() -> None:
    """Show the version of the ledger's tables. Ends with 1 if it is not the newest."""
    host: Host = current_app.extensions["llm_cost"]
    found, newest = host.ledger.current(), host.ledger.head()
    click.echo(f"{host.ledger.database_label}: {found or 'no tables'}")
    if found != newest:
        raise click.ClickException(f"The newest is {newest}: run `db upgrade`.")
