"""Calls as CSV, for people: the one form that the page and the command share."""

from __future__ import annotations

import json
import typing as t
import unicodedata
from collections.abc import Iterable
from collections.abc import Iterator
from decimal import Decimal

from .listing import CallRow

COLUMNS: t.Final = (
    "started_at",
    "event_id",
    "provider",
    "model",
    "operation",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "other_tokens",
    "reasoning_tokens",
    "total_tokens",
    "cost_usd",
    "cost_source",
    "latency_ms",
    "stream",
    "usage_source",
    "outcome",
    "response_id",
    "trace_id",
    "flags",
    "tags",
)

_DANGEROUS: t.Final = frozenset("=+-@\t\r")
# Letters by category, yet nothing is seen of them.
_FILLERS: t.Final = frozenset("\u115f\u1160\u3164\uffa0")


def csv_lines(rows: Iterable[CallRow]) -> Iterator[str]:
    """The head and a line for each call, each with its newline."""
    yield csv_line(COLUMNS)
    for row in rows:
        yield csv_line(cells(row))


def csv_line(values: Iterable[t.Any]) -> str:
    """One line, its cells safe and quoted where they must be."""
    return ",".join(_quoted(_cell(value)) for value in values) + "\n"


def cells(row: CallRow) -> tuple[t.Any, ...]:
    """A call's values in the order of :data:`COLUMNS`; ``None`` is an empty cell."""
    return (
        row.started_at.strftime("%Y-%m-%dT%H:%M:%S.")
        + f"{row.started_at.microsecond // 1000:03d}Z",
        row.event_id,
        row.provider,
        row.model,
        row.operation,
        row.input_tokens,
        row.cache_read_tokens,
        row.cache_write_tokens,
        row.cache_write_1h_tokens,
        row.output_tokens,
        row.other_tokens,
        row.reasoning_tokens,
        row.total_tokens,
        row.cost_usd,
        row.cost_source,
        row.latency_ms,
        "yes" if row.stream else "no",
        row.usage_source,
        row.outcome,
        row.response_id,
        row.trace_id,
        " ".join(row.flags),
        json.dumps(dict(row.tags), ensure_ascii=False, separators=(",", ":")),
    )


def safe(text: str) -> str:
    """The text as a spreadsheet takes it for text, never for a formula.

    A leading ``'`` goes before what begins, or visibly begins, with a character that
    starts one, also in a compatible form such as the full-width equals sign.
    """
    plain = unicodedata.normalize("NFKC", text)
    visible = next((c for c in plain if not _unseen(c)), "")
    if plain[:1] in _DANGEROUS or visible in _DANGEROUS:
        return "'" + text
    return text


def _unseen(char: str) -> bool:
    # Separators, controls and formats, marks without a base.
    return unicodedata.category(char)[0] in "ZCM" or char in _FILLERS


def _cell(value: t.Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        # Every digit, but no exponent and no trailing zeros.
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, int):
        return str(value)
    return safe(str(value))


def _quoted(cell: str) -> str:
    # The csv module leaves a lone CR bare, and readers take that for a new line.
    if any(char in cell for char in ',"\r\n'):
        return '"' + cell.replace('"', '""') + '"'
    return cell
