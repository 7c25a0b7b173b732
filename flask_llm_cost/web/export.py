"""The CSV download of a list of calls."""

from __future__ import annotations

import itertools
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from operator import attrgetter

from flask import Response
from flask import stream_with_context

from ..money import own_context
from ..query.export import csv_line
from ..query.export import csv_lines
from ..query.filters import CallFilter
from ..query.report import MEASURES
from .current import host

Columns: t.TypeAlias = Mapping[str, Callable[[t.Any], t.Any]]
"""Names, and how to get the value of each from a row."""

TOTALS: t.Final[Columns] = {name: attrgetter(f"totals.{name}") for name in MEASURES}
"""The columns of whatever has totals. An amount is empty if it is unknown."""


@own_context
def table_csv(name: str, columns: Columns, rows: Iterable[t.Any]) -> Response:
    """Return a table as a CSV file."""
    lines = [csv_line(columns)]
    lines += [csv_line(value(row) for value in columns.values()) for row in rows]
    return csv_file(name, "".join(lines))


def csv_file(name: str, text: str) -> Response:
    """Return a file to download."""
    return Response(
        text,
        mimetype="text/csv",
        headers={"Content-Disposition": f'attachment; filename="llm-{name}.csv"'},
    )


_BATCH = 200
"""Lines per chunk."""


def calls_csv(where: CallFilter) -> Response:
    """Stream every matching call as a CSV file."""
    lines = csv_lines(host().ledger.reading, where, host().settings.rollup_tags)
    # Read the first call before the response starts: an unavailable ledger is then an
    # error page, not a truncated file.
    head = list(itertools.islice(lines, 2))
    name = f"llm-calls-{where.first_day}-to-{where.last_day}.csv"
    return Response(
        stream_with_context(_chunks(itertools.chain(head, lines))),
        mimetype="text/csv",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _chunks(lines: Iterator[str]) -> Iterator[str]:
    while batch := list(itertools.islice(lines, _BATCH)):
        yield "".join(batch)
