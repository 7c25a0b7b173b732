"""The CSV download of a list of calls."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from flask import Response
from flask import stream_with_context

from ..query.export import csv_lines
from ..query.filters import CallFilter
from .current import host

_BATCH = 200
"""Lines per chunk."""


def calls_csv(where: CallFilter) -> Response:
    """Stream every matching call as a CSV file."""
    lines = csv_lines(host().ledger.reading, where)
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
