"""``db``: the ledger's tables."""

from __future__ import annotations

import contextlib
import typing as t
from collections.abc import Iterator

import click
from flask import current_app
from flask.cli import with_appcontext

from ..storage import NO_TABLES
from ..storage import required
from .surroundings import migrations

if t.TYPE_CHECKING:
    from ..query.host import Host
    from ..storage import Schema


@click.group()
def db() -> None:
    """Create and upgrade the ledger's tables.

    The ledger's own SQLite file upgrades itself. In a database of the app, run
    `db upgrade` after each new version of Flask-LLM-Cost: until then, calls are queued in
    the spool. The app's own migrations do not touch these tables.
    """


def _schema() -> tuple[Schema, str]:
    """The tables of the current app's ledger, and where they are."""
    host: Host = current_app.extensions["llm_cost"]
    return required(host.ledger.schema, NO_TABLES), host.ledger.label


@db.command()
@with_appcontext
def upgrade() -> None:
    """Upgrade the tables to the version that this package needs.

    Safe to run again, and in several processes at once.
    """
    schema, label = _schema()
    before = schema.current()
    schema.upgrade()
    after = schema.current()
    if before == after:
        click.echo(f"{label} is already at version {after}.")
    else:
        click.echo(f"{label}: upgraded from {before or 'nothing'} to version {after}.")
    for found in migrations(current_app.extensions["llm_cost"]):
        click.echo(f"Warning: {found.message}", err=True)


@db.command()
@with_appcontext
def current() -> None:
    """Show the version of the ledger's tables.

    Exits with status 1 if it is not the newest.
    """
    schema, label = _schema()
    found = schema.current()
    click.echo(f"{label}: {found or 'no tables'}")
    if found != schema.head:
        raise click.ClickException(
            f"The newest version is {schema.head}: run `db upgrade`."
        )


@db.command()
@click.argument("version")
@click.confirmation_option(
    prompt="This deletes data that only later versions store. Continue?",
    help="Do not ask for confirmation.",
)
@with_appcontext
def downgrade(version: str) -> None:
    """Downgrade the tables to an earlier version.

    VERSION `base` drops them, and every call.

    Stop the app first: a running one expects its own version.
    """
    schema, label = _schema()
    with _versions():
        schema.downgrade(version)
    click.echo(f"{label}: {schema.current() or 'no tables'}")


@db.command()
@with_appcontext
def check() -> None:
    """Compare the ledger's tables with what this package needs.

    They differ only if something else changed them. Exits with status 1 if they differ.
    """
    schema, label = _schema()
    changes = schema.check()
    for change in changes:
        click.echo(change)
    if changes:
        raise click.ClickException(
            f"{label} differs. If `db upgrade` does not help, make the changes above by"
            " hand."
        )
    click.echo(f"{label} has the tables that this version needs.")
    if schema.undistributed():
        click.echo(
            "It has the extension citus, but no table is distributed. To distribute the"
            " calls, run `flask llm-cost distribute`."
        )


@db.command()
@click.argument("versions", default="head", required=False)
@click.option(
    "--dialect",
    metavar="NAME",
    help="sqlite, postgresql, mysql or mariadb. Default: that of the database.",
)
@with_appcontext
def sql(versions: str, dialect: str | None) -> None:
    """Print the upgrade as SQL, for an administrator to run.

    VERSIONS is the target version, or FROM:TO. By default, everything is printed.

    \b
    flask llm-cost db sql --dialect postgresql > upgrade.sql
    """
    schema, _ = _schema()
    with _versions():
        text = schema.sql(versions, dialect=dialect)
    click.echo(text, nl=False)


@contextlib.contextmanager
def _versions() -> Iterator[None]:
    try:
        yield
    except ValueError as error:  # no such version, or no such dialect
        raise click.UsageError(str(error)) from None


def from_here(uri: str) -> str:
    """Resolve a relative SQLite file of a command line against the current folder.

    In an app's config it is relative to the instance folder.
    """
    from pathlib import Path

    import sqlalchemy as sa
    from sqlalchemy.exc import ArgumentError

    try:
        url = sa.make_url(uri)
    except ArgumentError:
        return uri  # the settings explain better what is wrong with it
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return uri
    if url.database.startswith("file:"):
        return uri
    path = str(Path(url.database).absolute())
    return url.set(database=path).render_as_string(hide_password=False)
