"""``db``: the ledger's tables."""

from __future__ import annotations

import contextlib
import typing as t
from collections.abc import Iterator

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


@db.command()
@click.argument("version")
@click.confirmation_option(
    prompt="What later versions store is lost by this. Go on?",
    help="Do not ask.",
)
@with_appcontext
def downgrade(version: str) -> None:
    """Bring the ledger's tables back to VERSION; `base` drops them and every call.

    Stop the app before: a running one expects its own version.
    """
    host: Host = current_app.extensions["llm_cost"]
    with _versions():
        host.ledger.downgrade(version)
    found = host.ledger.current() or "no tables"
    click.echo(f"{host.ledger.database_label}: {found}")


@db.command()
@with_appcontext
def check() -> None:
    """Compare the ledger's tables with what this package needs. Ends with 1 if they differ.

    They should not, unless someone changed them by hand.
    """
    host: Host = current_app.extensions["llm_cost"]
    changes = host.ledger.check()
    for change in changes:
        click.echo(change)
    if changes:
        raise click.ClickException(
            f"{host.ledger.database_label} differs: if `db upgrade` does not help, the"
            " lines above say what is to be changed by hand."
        )
    click.echo(f"{host.ledger.database_label} is as it should be.")


@db.command()
@click.argument("versions", default="head", required=False)
@click.option(
    "--dialect",
    metavar="NAME",
    help="sqlite, postgresql, mysql or mariadb; asked of the database if left out.",
)
@with_appcontext
def sql(versions: str, dialect: str | None) -> None:
    """Print the upgrade as SQL, for a database that only its keeper may change.

    VERSIONS says where to, or FROM:TO; without it everything from nothing on is printed.

    \b
    flask llm-cost db sql --dialect postgresql > upgrade.sql
    """
    host: Host = current_app.extensions["llm_cost"]
    with _versions():
        text = host.ledger.sql(versions, dialect=dialect)
    click.echo(text, nl=False)


@contextlib.contextmanager
def _versions() -> Iterator[None]:
    try:
        yield
    except ValueError as error:  # no such version, or no such dialect
        raise click.UsageError(str(error)) from None


def from_here(uri: str) -> str:
    """An SQLite file of a command line is meant from where that was typed.

    In an app's config it is meant from the instance folder.
    """
    from pathlib import Path

    import sqlalchemy as sa
    from sqlalchemy.exc import ArgumentError

    try:
        url = sa.make_url(uri)
    except ArgumentError:
        return uri  # the settings say better what is wrong with it
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return uri
    if url.database.startswith("file:"):
        return uri
    path = str(Path(url.database).absolute())
    return url.set(database=path).render_as_string(hide_password=False)
