"""``prices init``, ``sync`` and ``check``: keep the app's price file current."""

from __future__ import annotations

import dataclasses
import sys
import typing as t
from collections.abc import Mapping
from pathlib import Path

import click
from flask import current_app
from flask.cli import with_appcontext

from ..money import dumps
from .drain import drain_first
from .period import chosen
from .prices import prices as prices
from .reprice import reprice
from .starter import new_price_file
from .text import count
from .text import plain
from .text import text_or_json

if t.TYPE_CHECKING:
    from ..prices import PriceBook
    from ..prices.fetch import FetchResult
    from ..query.host import Host

prices.add_command(reprice)

_file = click.option(
    "--file",
    metavar="PATH",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The price file. Default: LLM_COST_PRICES_FILE.",
)


def _sources(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    found = {}
    for value in values:
        name, equals, where = value.partition("=")
        if not equals or not name or not where:
            raise click.BadParameter(
                f"{value!r} is not a valid source; use NAME=PATH or NAME=URL, e.g."
                " litellm=prices.json."
            )
        found[name] = where
    return found


_source = click.option(
    "--source",
    metavar="NAME=URL",
    multiple=True,
    callback=_sources,
    help="Use this source (URL or path) instead of LLM_COST_PRICE_SOURCES. Repeatable.",
)


@prices.command()
@click.argument("path", required=False, type=click.Path(dir_okay=False, path_type=Path))
@_file
@with_appcontext
def init(path: Path | None, file: Path | None) -> None:
    """Create a commented price file at PATH.

    Fill it by hand or with `prices sync --add`. A name ending in .yaml or .yml creates a
    YAML file, any other name JSON.
    """
    if path is not None and file is not None:
        raise click.UsageError("Give PATH or --file, not both.")
    target = _path(file if path is None else path)
    if target.exists():
        raise click.ClickException(f"{target} already exists; nothing was written.")
    try:
        target.write_text(new_price_file(target), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(
            f"{target} cannot be written: {error.strerror}."
        ) from None
    click.echo(f"{target} created. Set LLM_COST_PRICES_FILE to use it.")


@prices.command()
@_file
@_source
@click.option("--preview", is_flag=True, help="Show the changes and write nothing.")
@click.option(
    "--strict",
    is_flag=True,
    help="Write nothing and exit 1 if a source fails or a price is rejected or held back.",
)
@click.option(
    "--accept",
    metavar="MODEL",
    multiple=True,
    help="Accept a price of this model that changed more than threefold, or to 0. Repeatable.",
)
@click.option(
    "--add",
    metavar="GLOB",
    multiple=True,
    help="Add models to the file, e.g. 'openai/gpt-4*'. Repeatable.",
)
@with_appcontext
def sync(
    file: Path | None,
    source: dict[str, str],
    preview: bool,
    strict: bool,
    accept: tuple[str, ...],
    add: tuple[str, ...],
) -> None:
    """Update the price file from its sources, over the network.

    The sources are those of LLM_COST_PRICE_SOURCES. Manual entries stay, and no price is
    overwritten: a new price is a new entry with its date.

    \b
    flask llm-cost prices sync --preview
    flask llm-cost prices sync --add 'anthropic/claude-*'
    """
    from ..prices.sync import sync

    host: Host = current_app.extensions["llm_cost"]
    path = _path(file)
    with _FetchProgress() as progress:
        plan = sync(
            path,
            source or host.settings.price_sources,
            now=host.clock(),
            accept=accept,
            add=add,
            preview=preview,
            strict=strict,
            progress=progress,
        )
    for line in plan.lines:
        click.echo(plain(line))
    changed = len({change.model for change in plan.changes}) + len(plan.added)
    verb = "would change" if preview else "changed"
    click.echo(f"{count(changed, 'model')} {verb}.")


def _document(host: Host, file: Path | None) -> Mapping[str, t.Any] | None:
    """The price file, if there is to be one."""
    from ..prices.sync import read_document

    if file is None and host.settings.prices_file is None:
        return None
    path = _path(file)
    if not path.exists():
        raise click.ClickException(
            f"{path} does not exist; create it with `prices init`."
        )
    return read_document(path)


def _fetched(host: Host, source: dict[str, str]) -> list[FetchResult]:
    from ..prices.sync import fetch_all

    with _FetchProgress() as progress:
        return fetch_all(
            source or host.settings.price_sources, now=host.clock(), progress=progress
        )


@prices.command()
@_file
@_source
@click.option("--offline", is_flag=True, help="Do not fetch any source.")
@click.option(
    "--days",
    type=click.IntRange(1, 3660),
    default=30,
    show_default=True,
    help="Consider models used in the last N days.",
)
@click.option(
    "--all",
    "count_all",
    is_flag=True,
    help="Also fail on price changes of models neither in the file nor in use.",
)
@text_or_json
@with_appcontext
def check(
    file: Path | None,
    source: dict[str, str],
    offline: bool,
    days: int,
    count_all: bool,
    form: str,
) -> None:
    """Check that prices are current and every model in use has one. For CI.

    Fetches the sources over the network unless --offline is given. Exits with status 1 if
    the price of a model in the file or in use has changed, a source failed, a price was
    rejected or held back, a model in use has no price, or the prices are stale. Also shows
    what the changes would have cost on recent calls.
    """
    from ..prices.check import check
    from ..query.impact import price_impact

    host: Host = current_app.extensions["llm_cost"]
    document = _document(host, file)
    results = [] if offline else _fetched(host, source)
    book = _book(host, file)
    found = check(
        book,
        document=document,
        results=results,
        used=_used(host, days),
        now=host.clock(),
        problem=book.problem,
        count_all=count_all,
    )
    impact = price_impact(
        host.ledger.reading, chosen(host, days, None, None), book, found, host.clock()
    )
    found = dataclasses.replace(found, impact=impact)
    if form == "json":
        click.echo(dumps(found.as_json()))
    else:
        for line in found.lines:
            click.echo(plain(line))
    click.get_current_context().exit(found.exit_code)


def _book(host: Host, file: Path | None) -> PriceBook:
    """Return the price book as it would be with that file."""
    from ..prices import PriceBook

    if file is None or not file.exists():
        return host.book
    return PriceBook.layered(
        overrides=host.settings.price_overrides,
        file=file.absolute(),
        aliases=host.settings.model_aliases,
    )


def _used(host: Host, days: int) -> list[tuple[str, str]]:
    from ..query.used import models_in_use

    drain_first(host)
    where = chosen(host, days, None, None)
    with host.ledger.reading(since=where.start, until=where.end) as connection:
        return models_in_use(connection, where)


def _path(file: Path | None) -> Path:
    """Return the given file, else the app's, which is relative to the app's root."""
    host: Host = current_app.extensions["llm_cost"]
    if file is not None:
        return file.absolute()
    if host.settings.prices_file is None:
        raise click.UsageError(
            "No price file is configured; set LLM_COST_PRICES_FILE or use --file PATH."
        )
    return Path(current_app.root_path, host.settings.prices_file)


class _FetchProgress:
    """Shows on a terminal which source is being fetched, and how much has arrived."""

    def __init__(self) -> None:
        self._shown: str | None = None

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown is not None:
            click.echo("", err=True)

    def __call__(self, source: str, size: int) -> None:
        if not sys.stderr.isatty():
            return
        if self._shown not in (None, source):
            click.echo("", err=True)
        self._shown = source
        click.echo(f"\rReading {source}: {size / 1e6:.1f} MB ", err=True, nl=False)
