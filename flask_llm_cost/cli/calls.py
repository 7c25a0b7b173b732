"""``calls``: single calls, out of the ledger and into it."""

from __future__ import annotations

import contextlib
import os
import sys
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

import click
from flask import current_app
from flask.cli import with_appcontext

from .drain import drain_first
from .imports import take_in
from .period import chosen
from .period import period_options
from .text import count
from .text import plain
from .text import progress
from .text import pruned

if t.TYPE_CHECKING:
    from ..query.filters import CallFilter
    from ..query.host import Host


_WAY_OUT: t.Final = {
    False: "one that is older may be counted in them already. With --raw-only such"
    " calls can be looked at again, and no total changes.",
    True: "these are not in them, so they cannot be among those calls.",
}


@click.group()
def calls() -> None:
    """Take single calls out of the ledger, and bring some in."""


@calls.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "jsonl"]),
    required=True,
    help="csv is for people, jsonl has everything.",
)
@period_options
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True),
    default="-",
    help="Where to write; standard output if left out. Made anew, readable by you alone.",
)
@with_appcontext
def export(
    form: str, days: int | None, from_: str | None, to: str | None, output: str
) -> None:
    """Write every call of some days, the latest first.

    The answer is streamed: any number of calls takes the same little memory.

    \b
    flask llm-cost calls export --format csv --days 7 --output calls.csv
    flask llm-cost calls export --format jsonl --days 90 | gzip > calls.gz
    """
    host: Host = current_app.extensions["llm_cost"]
    where = chosen(host, days, from_, to)
    drain_first(host)
    from ..query.listing import count as count_calls
    from ..query.sources import pruned_before

    # A missing table or database is an error before a file is made.
    with host.ledger.reading(since=where.start, until=where.end) as connection:
        length = count_calls(connection, where)
        limit = pruned_before(connection, where, ["event_id"])
    for remark in pruned(limit, where.zone):
        click.echo(remark, err=True)
    with _sink(output) as sink, progress(length, "Writing") as step:
        for line in lines(host, where, form):
            sink.write(line)
            step(1)


def lines(host: Host, where: CallFilter, form: str) -> Iterable[bytes]:
    """The calls as lines of CSV or JSON, each with its newline."""
    from .. import jsonl
    from ..query.detail import stream_calls
    from ..query.export import csv_lines

    if form == "jsonl":
        return map(jsonl.encode, stream_calls(host.ledger.reading, where))
    text = csv_lines(host.ledger.reading, where)
    return (line.encode("utf-8", "replace") for line in text)


@calls.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Compare, and write nothing.")
@click.option(
    "--raw-only",
    is_flag=True,
    help="Take calls that were pruned, too, to be looked at: no total changes.",
)
@with_appcontext
def import_(file: t.BinaryIO, dry_run: bool, raw_only: bool) -> None:
    """Bring the calls of FILE into the ledger, as `calls export --format jsonl` wrote them.

    The files of Clacky's BillingStore are understood, too. FILE may be `-` for standard
    input. A call that is there already stays as it is; one that is there with other values
    is named, and one from before what was pruned is refused, as it may be counted already.
    Ends with 1 if there are such, or lines that are no calls. Doing it twice does no harm.
    """
    host: Host = current_app.extensions["llm_cost"]
    drain_first(host)
    with progress(_size(file), "Reading") as step:
        done = take_in(host, _told(file, step), dry_run=dry_run, raw_only=raw_only)
    would = "would be new" if dry_run else "new"
    back = f", {done.back:,} {'to be ' if dry_run else ''}put back" if raw_only else ""
    refused = f", {len(done.refused):,} refused" if done.refused else ""
    click.echo(
        f"{count(done.new, 'call')} {would}, {done.same:,} the same,"
        f" {len(done.different):,} different, {count(len(done.bad), 'bad line')}"
        f"{back}{refused}."
    )
    _complain("The ledger has otherwise", done.different)
    _complain("Not read", done.bad)
    if done.refused:
        click.echo(
            f"Calls before {done.pruned_before:%Y-%m-%d %H:%M:%S} UTC were pruned, and"
            f" their sums are kept: {_WAY_OUT[raw_only]}",
            err=True,
        )
    _complain("Refused", done.refused)
    left = 0 if dry_run else host.ledger.waiting()
    if left:
        raise click.ClickException(f"{count(left, 'call')} still wait: see `doctor`.")
    if done.different or done.bad or done.refused:
        click.get_current_context().exit(1)


def _told(file: t.BinaryIO, step: Callable[[int], None]) -> Iterator[bytes]:
    for line in file:
        yield line
        step(len(line))


def _size(file: t.BinaryIO) -> int:
    try:
        return os.fstat(file.fileno()).st_size
    except OSError:  # a pipe's end may have no number
        return 0


def _complain(what: str, items: list[str]) -> None:
    for item in items[:20]:
        click.echo(f"{what}: {plain(item)}", err=True)
    if len(items) > 20:
        click.echo(f"... and {len(items) - 20:,} more.", err=True)


@contextlib.contextmanager
def _sink(path: str) -> Iterator[t.BinaryIO]:
    if path == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return

    def private(name: str, flags: int) -> int:
        return os.open(name, flags, 0o600)

    try:
        file = open(path, "wb", opener=private)
    except OSError as error:
        raise click.FileError(path, error.strerror) from None
    with file:
        yield file
