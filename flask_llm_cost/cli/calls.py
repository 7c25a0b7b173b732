"""``calls``: export and import single calls."""

from __future__ import annotations

import os
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

import click
from flask import current_app
from flask.cli import with_appcontext

from ..storage import queued_calls
from .created import created
from .drain import drain_first
from .period import chosen
from .period import period_options
from .text import count
from .text import plain
from .text import progress
from .text import pruned

if t.TYPE_CHECKING:
    from ..query.filters import CallFilter
    from ..query.host import Host
    from ..query.imports import Imported


_REFUSED: t.Final = {
    False: "older calls may already be included. Use --raw-only to restore them"
    " without changing totals.",
    True: "these calls are not included, so they were not pruned from this ledger.",
}


@click.group()
def calls() -> None:
    """Export and import single calls."""


@calls.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "jsonl"]),
    required=True,
    help="csv is for people; jsonl is lossless.",
)
@period_options
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True),
    default="-",
    help="The file to create, readable by you only. Default: standard output.",
)
@with_appcontext
def export(
    form: str, days: int | None, from_: str | None, to: str | None, output: str
) -> None:
    """Export every call of some days, latest first.

    Calls are streamed: memory use does not grow with their number.

    \b
    flask llm-cost calls export --format csv --days 7 --output calls.csv
    flask llm-cost calls export --format jsonl --days 90 | gzip > calls.gz
    """
    host: Host = current_app.extensions["llm_cost"]
    where = chosen(host, days, from_, to)
    drain_first(host)
    from ..query.listing import count as count_calls
    from ..query.sources import pruned_before

    # Before a file is created: a database that cannot be read is an error.
    with host.ledger.reading(since=where.start, until=where.end) as connection:
        length = count_calls(connection, where)
        limit = pruned_before(connection, where, ["event_id"])
    for note in pruned(limit, where.zone):
        click.echo(note, err=True)
    with created(output) as sink, progress(length, "Writing") as step:
        for line in lines(host, where, form):
            sink.write(line)
            step(1)


def lines(host: Host, where: CallFilter, form: str) -> Iterable[bytes]:
    """Yield the calls as lines of CSV or JSON, each with its newline."""
    from .. import jsonl
    from ..query.detail import stream_calls
    from ..query.export import csv_lines

    if form == "jsonl":
        return map(jsonl.encode, stream_calls(host.ledger.reading, where))
    text = csv_lines(host.ledger.reading, where, host.settings.rollup_tags)
    return (line.encode("utf-8", "replace") for line in text)


@calls.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Compare and write nothing.")
@click.option(
    "--raw-only",
    is_flag=True,
    help="Also restore calls that were pruned, without changing totals.",
)
@with_appcontext
def import_(file: t.BinaryIO, dry_run: bool, raw_only: bool) -> None:
    """Import the calls of a JSONL file.

    FILE is one that `calls export --format jsonl` or Clacky's BillingStore wrote. FILE
    may be `-` for standard input. Calls that are already in the ledger are not changed;
    those with other values are listed. Calls from a pruned period are refused, since
    totals may already include them. Exits with status 1 if there are such calls, or lines
    that are not calls. Importing a file twice does no harm.
    """
    host: Host = current_app.extensions["llm_cost"]
    drain_first(host)
    from ..query.imports import import_calls

    with progress(_size(file), "Reading") as step:
        done = import_calls(
            host.ledger,
            _counted(file, step),
            session_tag=host.settings.session_tag,
            dry_run=dry_run,
            raw_only=raw_only,
        )
    click.echo(_outcome(done, dry_run=dry_run, raw_only=raw_only))
    _list("In the ledger with other values", done.different)
    _list("Not a call", done.invalid)
    if done.refused:
        click.echo(
            f"Calls before {done.pruned_before:%Y-%m-%d %H:%M:%S} UTC were pruned, and"
            f" their totals are kept: {_REFUSED[raw_only]}",
            err=True,
        )
    _list("Refused", done.refused)
    left = 0 if dry_run else queued_calls(host.ledger)
    if left:
        raise click.ClickException(f"{count(left, 'call')} still queued: see `doctor`.")
    if done.different or done.invalid or done.refused:
        click.get_current_context().exit(1)


def _outcome(done: Imported, *, dry_run: bool, raw_only: bool) -> str:
    would = "would be " if dry_run else ""
    parts = [
        f"{count(done.new, 'call')} {would}new",
        f"{done.same:,} the same",
        f"{len(done.different):,} different",
        count(len(done.invalid), "invalid line"),
    ]
    if raw_only:
        parts.append(f"{done.restored:,} {would}restored")
    if done.refused:
        parts.append(f"{len(done.refused):,} refused")
    return ", ".join(parts) + "."


def _counted(file: t.BinaryIO, step: Callable[[int], None]) -> Iterator[bytes]:
    for line in file:
        yield line
        step(len(line))


def _size(file: t.BinaryIO) -> int:
    try:
        return os.fstat(file.fileno()).st_size
    except OSError:  # a pipe's end may have no number
        return 0


def _list(what: str, items: list[str]) -> None:
    for item in items[:20]:
        click.echo(f"{what}: {plain(item)}", err=True)
    if len(items) > 20:
        click.echo(f"... and {len(items) - 20:,} more.", err=True)
