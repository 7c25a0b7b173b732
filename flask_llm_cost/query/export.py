"""Calls as CSV, for people: as the page and the command write it.

A file may have millions of rows. Each is formatted directly from the driver's values,
without objects in between, and values that rows share are formatted once.
"""

from __future__ import annotations

import functools
import json
import typing as t
import unicodedata
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import from_ms
from ..money import digits
from ..money import own_context
from .filters import CallFilter
from .listing import Reader
from .listing import SHOWN
from .listing import walk
from .report import MEASURES
from .totals import Totals

COLUMNS: t.Final = (
    ("started_at", "event_id", "provider", "model", "operation")
    + ("input_tokens", "cache_read_tokens", "cache_write_tokens")
    + ("cache_write_1h_tokens", "output_tokens", "other_tokens", "reasoning_tokens")
    + ("total_tokens", "cost_usd", "ceiling_usd", "complete", "cost_source")
    + ("latency_ms", "stream", "usage_source", "outcome", "response_id", "trace_id")
    + ("scope", "flags", "tags")
)

_DANGEROUS: t.Final = frozenset("=+-@\t\r")
# Letters by category, but invisible.
_FILLERS: t.Final = frozenset("\u115f\u1160\u3164\uffa0")


def csv_lines(
    reading: Reader, where: CallFilter, keys: Sequence[str] = ()
) -> Iterator[str]:
    """Yield the header and a line for each matching call, latest first, with newlines.

    Memory use stays flat, as in :func:`.walk`.

    :param keys: Tags that have their own column ``tag.KEY``, after all others.
    """
    yield csv_line((*COLUMNS, *(f"tag.{key}" for key in keys)))
    for rows in walk(reading, where, _SELECTED, _BATCH):
        yield from _lines(rows, tuple(keys))


def csv_line(values: Iterable[t.Any]) -> str:
    """Format one line; cells are made safe, and quoted if necessary."""
    return ",".join(_quoted(_cell(value)) for value in values) + "\n"


@own_context
def totals_csv(
    columns: Sequence[str], rows: Iterable[tuple[Sequence[t.Any], Totals]]
) -> str:
    """Format a table of totals: the given columns, and those of :data:`.report.MEASURES`."""
    lines = [csv_line((*columns, *MEASURES))]
    for cells, totals in rows:
        lines.append(csv_line((*cells, *(getattr(totals, name) for name in MEASURES))))
    return "".join(lines)


def safe(text: str) -> str:
    """Prefix text that a spreadsheet could read as a formula with ``'``.

    That is text whose first, or first visible, character starts a formula, also in a
    compatible form such as the full-width equals sign.
    """
    # No normalization changes an ASCII letter or digit at the start.
    if text[:1].isascii() and text[:1].isalnum():
        return text
    plain = unicodedata.normalize("NFKC", text)
    visible = next((c for c in plain if not _unseen(c)), "")
    if plain[:1] in _DANGEROUS or visible in _DANGEROUS:
        return "'" + text
    return text


def _unseen(char: str) -> bool:
    # Separators, control and format characters, combining marks.
    return unicodedata.category(char)[0] in "ZCM" or char in _FILLERS


def _cell(value: t.Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return digits(value)
    if isinstance(value, int):
        return str(value)
    return safe(str(value))


def _quoted(cell: str) -> str:
    # The csv module does not quote a lone CR, which readers take for a line break.
    if '"' in cell or "," in cell or "\n" in cell or "\r" in cell:
        return '"' + cell.replace('"', '""') + '"'
    return cell


_MINUTES: t.Final = [
    f"{hour:02d}:{minute:02d}:" for hour in range(24) for minute in range(60)
]
_SECONDS: t.Final = [f"{number:02d}." for number in range(60)]
_MILLIS: t.Final = [f"{number:03d}Z" for number in range(1000)]

_YES_NO: t.Final = {None: "", False: "no", True: "yes"}

_BATCH: t.Final = 2000  # about 4 MB


_SHOWN_AS: t.Final = {
    "cost_usd": "cost_pico",
    "ceiling_usd": "ceiling_pico",
    "complete": "cost_complete",
}
"""The fields of calls that some columns show."""


def _selected(name: str) -> sa.ColumnElement[t.Any]:
    column = SHOWN[_SHOWN_AS.get(name, name)]
    if name not in ("started_at", "event_id", "stream"):
        return column
    # The driver's value: making a datetime or a UUID for each row takes most of the time.
    return sa.type_coerce(column, sa.types.NullType()).label(name)


_SELECTED: t.Final = [_selected(name) for name in COLUMNS]


def _lines(rows: Iterable[Iterable[t.Any]], keys: tuple[str, ...]) -> Iterator[str]:
    # One loop and one text per row: a function call per cell would double the time.
    for (
        at,
        event_id,
        provider,
        model,
        operation,
        fresh,
        cache_read,
        cache_write,
        cache_write_1h,
        output,
        other,
        reasoning,
        total,
        cost,
        ceiling,
        complete,
        source,
        latency,
        stream,
        usage_source,
        outcome,
        response_id,
        trace_id,
        scope,
        flags,
        tags,
    ) in rows:
        known = "" if cost is None else _usd(cost)
        if ceiling == cost:  # as of most calls
            most = known
        else:
            most = "" if ceiling is None else _usd(ceiling)
        numbers = (
            f"{fresh},{cache_read},{cache_write},{cache_write_1h},{output},{other},"
            f"{reasoning},{total},{known},{most},"
        )
        yield (
            f"{_day(at // 86_400_000)}{_MINUTES[at // 60_000 % 1440]}"
            f"{_SECONDS[at // 1000 % 60]}{_MILLIS[at % 1000]},"
            f"{_uuid(event_id)},{_common(provider, model, operation)},"
            # Nothing else in them has letters.
            f"{numbers.replace('None', '')}"
            f"{_common(_YES_NO[complete], source)},{'' if latency is None else latency},"
            f"{_common(_YES_NO[stream], usage_source, outcome)},"
            f"{_text(response_id) if response_id else ''},"
            f"{_text(trace_id) if trace_id else ''},{_common(scope, flags)},"
            f"{_tags(tags, keys)}\n"
        )


@functools.lru_cache(maxsize=64)
def _day(day: int) -> str:
    return f"{from_ms(day * 86_400_000).date()}T"


def _uuid(value: t.Any) -> str:
    # SQLite returns only the digits, psycopg an object.
    text = str(value)
    if len(text) != 32:
        return text
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _usd(pico: int) -> str:
    """Format stored money as :func:`_cell` formats a ``Decimal``, without making one."""
    if pico < 0:
        return "-" + _usd(-pico)
    text = str(pico)
    if len(text) <= 12:
        return ("0." + text.zfill(12)).rstrip("0") if pico else "0"
    return f"{text[:-12]}.{text[-12:]}".rstrip("0").rstrip(".")


def _text(text: str) -> str:
    return _quoted(safe(text))


@functools.lru_cache(maxsize=1024)
def _common(*texts: str | None) -> str:
    # For columns with few distinct values.
    return ",".join(_text(text) if text else "" for text in texts)


def _tags(text: str | None, keys: tuple[str, ...]) -> str:
    # Stored as it is shown. It starts with a brace, so it is not a formula.
    whole = '"' + text.replace('"', '""') + '"' if text else "{}"
    return whole + _values(text, keys) if keys else whole


@functools.lru_cache(maxsize=1024)
def _values(text: str | None, keys: tuple[str, ...]) -> str:
    tags = json.loads(text) if text else {}
    return "".join(f",{_text(tags.get(key, ''))}" for key in keys)
