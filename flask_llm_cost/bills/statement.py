"""A bill that was read: its lines, and what the source says about them."""

from __future__ import annotations

import datetime as dt
import hashlib
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

from .document import Document
from .line import Line
from .values import DAY
from .values import days_between

_NEVER: t.Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Statement:
    """What one source billed one account in one period."""

    source: str
    account: str | None
    """The organization, billing account or team, if the bill names it."""
    start: dt.datetime
    """The start of the first day that the bill covers (aware UTC)."""
    end: dt.datetime
    """The end of the last day (aware UTC, exclusive); the start of an empty bill."""
    currency: str
    lines: tuple[Line, ...]
    """What was billed, earliest first. Lines of a cloud's bill are sums per UTC day."""
    digest: str
    """The SHA-256 of all files together, whatever their order, in hexadecimal digits."""
    usage: tuple[Line, ...] = ()
    """Quantities that the source reports apart from amounts (``billed_text`` is ``None``)
    and that could not be joined to :attr:`lines`."""
    covered: frozenset[dt.date] = frozenset()
    """The UTC days that the bill says something about, even if it is that nothing was
    billed."""
    watermark: dt.datetime | None = None
    """Until when the source's data is complete, if it reports it."""
    not_comparable: Mapping[dt.date, str] = field(default_factory=dict)
    """UTC days that cannot be compared, and why."""
    warnings: tuple[str, ...] = ()


def digest_of(documents: Iterable[Document]) -> str:
    """Return the digest of a statement's files together."""
    digests = sorted(document.digest for document in documents)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def make_statement(
    source: str,
    documents: Sequence[Document],
    lines: Sequence[Line],
    *,
    account: str | None = None,
    usage: Sequence[Line] = (),
    covered: frozenset[dt.date] = frozenset(),
    watermark: dt.datetime | None = None,
    not_comparable: Mapping[dt.date, str] | None = None,
    warnings: Sequence[str] = (),
) -> Statement:
    """Return the statement of lines that were read.

    :param covered: The days that the source names itself. A cloud's export covers all days
        from its first line to its last.
    :raises BillError: If its amounts have several currencies.
    """
    currency = _currency(documents[0], lines)
    if lines and not covered:
        ends = max(line.end for line in lines)
        covered = days_between(min(line.start for line in lines), ends)
    covered |= {day for document in documents for day in _asked(document)}
    start, end = _period(covered)
    return Statement(
        source=source,
        account=account,
        start=start,
        end=end,
        currency=currency,
        lines=tuple(lines),
        digest=digest_of(documents),
        usage=tuple(usage),
        covered=covered,
        watermark=watermark,
        not_comparable=not_comparable or {},
        warnings=tuple(warnings) if covered else (*warnings, _no_lines(documents)),
    )


def _no_lines(documents: Sequence[Document]) -> str:
    names = ", ".join(document.name for document in documents)
    return f"{names}: it has no lines. Check which days were requested or exported."


def _currency(document: Document, lines: Sequence[Line]) -> str:
    found = sorted({line.currency for line in lines})
    if len(found) > 1:
        raise document.place.error(
            f"its amounts are in {' and '.join(found)}. Export one file for each currency."
        )
    return found[0] if found else "USD"


def _asked(document: Document) -> frozenset[dt.date]:
    if document.days is None:
        return frozenset()
    midnight = dt.time(tzinfo=dt.UTC)
    start, end = (dt.datetime.combine(day, midnight) for day in document.days)
    return days_between(start, end)


def _period(days: frozenset[dt.date]) -> tuple[dt.datetime, dt.datetime]:
    if not days:
        return _NEVER, _NEVER
    midnight = dt.time(tzinfo=dt.UTC)
    return (
        dt.datetime.combine(min(days), midnight),
        dt.datetime.combine(max(days) + DAY, midnight),
    )
