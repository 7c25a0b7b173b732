"""``calls``: single calls, out of the ledger."""

from __future__ import annotations

import contextlib
import os
import sys
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator

import click
from flask import current_app
from flask.cli import with_appcontext

from .drain import drain_first
from .period import chosen
from .period import period_options
from .text import progress

if t.TYPE_CHECKING:
    from ..query.filters import CallFilter
    from ..query.host import Host


@click.group()
def calls() -> None:
    """Take single calls out of the ledger."""


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
    flask llm-cost calls export --format jsonl --from 2026-01-01 --to 2026-06-30 | gzip
    """
    host: Host = current_app.extensions["llm_cost"]
    where = chosen(host, days, from_, to)
    drain_first(host)
    from ..query.listing import count

    # A missing table or database is an error before a file is made.
    with host.ledger.reading() as connection:
        length = count(connection, where)
    with _sink(output) as sink, progress(length, "Writing") as step:
        for line in lines(host, where, form):
            sink.write(line)
            step(1)


def lines(host: Host, where: CallFilter, form: str) -> Iterable[bytes]:
    """The calls as lines of CSV or JSON, each with its newline."""
    from ..ledger import jsonl
    from ..query.detail import stream_calls
    from ..query.export import csv_lines
    from ..query.listing import stream_rows

    if form == "jsonl":
        return map(jsonl.encode, stream_calls(host.ledger.reading, where))
    rows = stream_rows(host.ledger.reading, where)
    return (line.encode("utf-8", "replace") for line in csv_lines(rows))


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
