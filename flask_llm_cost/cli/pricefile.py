"""``prices init``, ``sync`` and ``check``: the app's own price file, kept current."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import click
from flask import current_app
from flask.cli import with_appcontext

from .drain import drain_first
from .period import chosen
from .prices import prices as prices
from .reprice import reprice
from .text import count
from .text import dumps
from .text import plain

if t.TYPE_CHECKING:
    from ..query.host import Host

prices.add_command(reprice)

_file = click.option(
    "--file",
    metavar="PATH",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The price file; that of LLM_COST_PRICES_FILE if left out.",
)


@prices.command()
@_file
@with_appcontext
def init(file: Path | None) -> None:
    """Make an empty price file, to be filled by hand or by `prices sync --add`."""
    from ..prices.sync import write

    path = _path(file)
    if path.exists():
        raise click.ClickException(f"{path} is there already; it is left as it is.")
    note = "USD per 1M tokens. A new rate is a new entry with a later valid_from."
    write(path, {"metadata": {"note": note}, "models": {}})
    click.echo(f"{path} made. Name it in LLM_COST_PRICES_FILE.")


@prices.command()
@_file
@click.option("--preview", is_flag=True, help="Show the difference, and write nothing.")
@click.option(
    "--strict",
    is_flag=True,
    help="Write nothing, and end with 1, if a source failed or a price was refused.",
)
@click.option(
    "--accept",
    metavar="MODEL",
    multiple=True,
    help="Take a price of this model that moved more than threefold, or to 0.",
)
@click.option(
    "--add",
    metavar="GLOB",
    multiple=True,
    help="Models that are to be in the file, too, such as 'openai/gpt-4*'.",
)
@with_appcontext
def sync(
    file: Path | None,
    preview: bool,
    strict: bool,
    accept: tuple[str, ...],
    add: tuple[str, ...],
) -> None:
    """Bring the price file up to date. This asks the sources over the network.

    The sources are those of LLM_COST_PRICE_SOURCES. What was entered by hand stays, and no
    price is overwritten: a new one is a new entry with its date.

    \b
    flask llm-cost prices sync --preview
    flask llm-cost prices sync --add 'anthropic/claude-*'
    """
    from ..prices.sync import sync

    host: Host = current_app.extensions["llm_cost"]
    made = sync(
        _path(file),
        host.settings.price_sources,
        now=host.clock(),
        accept=accept,
        add=add,
        preview=preview,
        strict=strict,
        progress=_Asking(),
    )
    for line in made.lines:
        click.echo(plain(line))
    changed = len({change.model for change in made.changes}) + len(made.added)
    verb = "would change" if preview else "changed"
    click.echo(f"{count(changed, 'model')} {verb}.")


@prices.command()
@_file
@click.option("--offline", is_flag=True, help="Ask no source.")
@click.option(
    "--days",
    type=click.IntRange(1, 3660),
    default=30,
    show_default=True,
    help="Look for prices of models used in so many days.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
)
@with_appcontext
def check(file: Path | None, offline: bool, days: int, form: str) -> None:
    """Check that prices are current, and that every model in use has one. For CI.

    Without --offline this asks the sources over the network what `prices sync` would
    change. Ends with 1 if that is anything, if a model in use has no price, or if the
    prices are old.
    """
    from ..prices.check import check
    from ..prices.sync import sync

    host: Host = current_app.extensions["llm_cost"]
    plan = None
    if not offline and (file is not None or host.settings.prices_file is not None):
        plan = sync(
            _path(file),
            host.settings.price_sources,
            now=host.clock(),
            preview=True,
            progress=_Asking(),
        )
    found = check(
        host.book,
        plan=plan,
        document=None if plan is None else plan.document,
        used=_used(host, days),
        now=host.clock(),
    )
    if form == "json":
        click.echo(dumps(found.as_json()))
    else:
        for line in found.lines:
            click.echo(plain(line))
    click.get_current_context().exit(found.exit_code)


def _used(host: Host, days: int) -> list[tuple[str, str]]:
    from ..query.totals import breakdown

    drain_first(host)
    where = chosen(host, days, None, None)
    with host.ledger.reading() as connection:
        groups = breakdown(connection, where, "provider", "model")
    return [(group.key[0], group.key[1]) for group in groups if group.totals.with_usage]


def _path(file: Path | None) -> Path:
    """The file that was named, else the app's, which is meant from its root."""
    host: Host = current_app.extensions["llm_cost"]
    if file is not None:
        return file.absolute()
    if host.settings.prices_file is None:
        raise click.UsageError(
            "There is no price file: set LLM_COST_PRICES_FILE, or give --file PATH."
        )
    return Path(current_app.root_path, host.settings.prices_file)


class _Asking:
    """Says on a terminal who is being asked, since that may take a while."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, source: str, size: int) -> None:
        if source not in self._said and sys.stderr.isatty():
            self._said.add(source)
            click.echo(f"Reading {source} ...", err=True)
