"""Calls as CSV, for people: the one form that the page and the command share.

A file may have millions of rows: each is made straight from what the driver gives,
with no objects between, and what rows have in common is worked out once.
"""

from __future__ import annotations

import functools
import typing as t
import unicodedata
from collections.abc import Iterable
from collections.abc import Iterator
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import from_ms
from ..db.tables import calls
from ..db.tables import tag_sets
from ..money import digits
from .filters import CallFilter
from .listing import Reading
from .listing import walk

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


def csv_lines(reading: Reading, where: CallFilter) -> Iterator[str]:
    """The head and a line for each call that fits, the latest first, newlines included.

    They are read in batches, each in a transaction of its own: memory stays flat, and a
    slow reader holds no old snapshot open.
    """
    yield csv_line(COLUMNS)
    for rows in walk(reading, where, _SELECTED, _SOURCE, _BATCH):
        yield from _lines(rows)


def csv_line(values: Iterable[t.Any]) -> str:
    """One line, its cells safe and quoted where they must be."""
    return ",".join(_quoted(_cell(value)) for value in values) + "\n"


def safe(text: str) -> str:
    """The text as a spreadsheet takes it for text, never for a formula.

    A leading ``'`` goes before what begins, or visibly begins, with a character that
    starts one, also in a compatible form such as the full-width equals sign.
    """
    # Nothing that begins with such a letter or digit looks otherwise when it is composed.
    if text[:1].isascii() and text[:1].isalnum():
        return text
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
        return digits(value)
    if isinstance(value, int):
        return str(value)
    return safe(str(value))


def _quoted(cell: str) -> str:
    # The csv module leaves a lone CR bare, and readers take that for a new line.
    if '"' in cell or "," in cell or "\n" in cell or "\r" in cell:
        return '"' + cell.replace('"', '""') + '"'
    return cell


_MINUTES: t.Final = [
    f"{hour:02d}:{minute:02d}:" for hour in range(24) for minute in range(60)
]
_SECONDS: t.Final = [f"{number:02d}." for number in range(60)]
_MILLIS: t.Final = [f"{number:03d}Z" for number in range(1000)]

_BATCH: t.Final = 2000  # some 4 MB

_SOURCE: t.Final[sa.FromClause] = calls.outerjoin(
    tag_sets, tag_sets.c.id == calls.c.tag_set_id
)


def _plain(column: sa.ColumnElement[t.Any]) -> sa.ColumnElement[t.Any]:
    # As the driver gives it: a datetime or a UUID for each row would be most of the work.
    return sa.type_coerce(column, sa.types.NullType()).label(column.key)


_SELECTED: t.Final[list[sa.ColumnElement[t.Any]]] = [
    _plain(calls.c.started_at),
    _plain(calls.c.event_id),
    calls.c.provider,
    calls.c.model,
    calls.c.operation,
    calls.c.input_tokens + calls.c.input_audio_tokens + calls.c.input_image_tokens,
    calls.c.cache_read_tokens,
    calls.c.cache_write_tokens,
    calls.c.cache_write_1h_tokens,
    calls.c.output_tokens + calls.c.output_audio_tokens + calls.c.output_image_tokens,
    calls.c.other_tokens,
    calls.c.reasoning_tokens,
    calls.c.total_input_tokens + calls.c.total_output_tokens,
    calls.c.cost_total,
    calls.c.cost_source,
    calls.c.latency_ms,
    _plain(calls.c.stream),
    calls.c.usage_source,
    calls.c.outcome,
    calls.c.response_id,
    calls.c.trace_id,
    calls.c.flags,
    tag_sets.c.tags,
]
"""A column of the database for each of :data:`COLUMNS`."""


def _lines(rows: Iterable[Iterable[t.Any]]) -> Iterator[str]:
    # One loop and one text a row: a call of a function for each cell would be half of it.
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
        source,
        latency,
        stream,
        usage_source,
        outcome,
        response_id,
        trace_id,
        flags,
        tags,
    ) in rows:
        numbers = (
            f"{fresh},{cache_read},{cache_write},{cache_write_1h},{output},{other},"
            f"{reasoning},{total},{cost if cost is None else _usd(cost)},"
        )
        yield (
            f"{_day(at // 86_400_000)}{_MINUTES[at // 60_000 % 1440]}"
            f"{_SECONDS[at // 1000 % 60]}{_MILLIS[at % 1000]},"
            f"{_uuid(event_id)},{_common(provider, model, operation)},"
            # Nothing else in them has letters.
            f"{numbers.replace('None', '')}"
            f"{_common(source)},{'' if latency is None else latency},"
            f"{_common('yes' if stream else 'no', usage_source, outcome)},"
            f"{_text(response_id) if response_id else ''},"
            f"{_text(trace_id) if trace_id else ''},{_common(flags)},{_tags(tags)}\n"
        )


@functools.lru_cache(maxsize=64)
def _day(day: int) -> str:
    return f"{from_ms(day * 86_400_000).date()}T"


def _uuid(value: t.Any) -> str:
    # SQLite has the digits alone, psycopg an object.
    text = str(value)
    if len(text) != 32:
        return text
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _usd(pico: int) -> str:
    """Stored money with every digit, as :func:`_cell` writes a ``Decimal``."""
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
    # For columns in which the same few come again and again.
    return ",".join(_text(text) if text else "" for text in texts)


def _tags(text: str | None) -> str:
    # Stored in the form that is shown. It begins with a brace, so it is no formula.
    return '"' + text.replace('"', '""') + '"' if text else "{}"
