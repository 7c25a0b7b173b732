"""What the ledger does not know, and why: the data-quality page."""

from __future__ import annotations

import typing as t
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from ..ledger.measures import FAILED
from ..ledger.tables import calls
from .filters import CallFilter
from .sql import quotient
from .totals import breakdown
from .totals import Group
from .totals import sum_up
from .totals import Totals
from .totals import usd


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many of some calls have what they should have."""

    name: str
    """``cost``, ``usage``, ``tags``, ``latency``, ``response_id``, ``stream_usage``."""
    have: int
    of: int

    @property
    def missing(self) -> int:
        return self.of - self.have

    @property
    def share(self) -> Decimal | None:
        """0 to 1; ``None`` if there are no such calls."""
        return Decimal(self.have) / self.of if self.of else None


@dataclass(frozen=True, slots=True)
class Count:
    """How often something was, and what it names."""

    key: tuple[str, ...]
    calls: int


@dataclass(frozen=True, slots=True)
class Quality:
    """What the data-quality page shows. Failed attempts stand apart: they owe nothing."""

    where: CallFilter
    totals: Totals
    coverage: tuple[Coverage, ...]
    unpriced: tuple[Group, ...]
    """By ``(provider, model)``, the one with the most unpriced calls first."""
    without_usage: tuple[Count, ...]
    """By ``(provider, model, operation, outcome, "stream" or "")``, the most first."""
    failed: tuple[Count, ...]
    """By ``(provider, HTTP status or outcome)``, the most first."""
    outcomes: tuple[Count, ...]
    """By ``(outcome,)``: ``interrupted``, ``unfinished``, ..."""
    sources: tuple[Count, ...]
    """By ``(usage_source,)``: ``response``, ``estimated``, ..."""
    flags: tuple[Count, ...]
    """By ``(flag,)``."""
    duplicates: int
    """Calls more than responses, where several name one provider and response id."""
    duplicate_usd: Decimal
    """What those cost, if the dearest of each response is the true one."""


def quality(
    connection: sa.Connection, where: CallFilter, *, limit: int = 10
) -> Quality:
    """Ask all that the data-quality page shows.

    :param limit: How many rows of the breakdowns by model.
    """
    models = breakdown(connection, where, "provider", "model")
    unpriced = [group for group in models if group.totals.unpriced]
    unpriced.sort(key=lambda group: (-group.totals.unpriced, group.key))
    copies, excess = _duplicates(connection, where)
    marks = _counts(
        connection, where, calls.c.outcome, calls.c.usage_source, calls.c.flags
    )
    return Quality(
        where=where,
        totals=sum_up(group.totals for group in models),
        coverage=_coverage(connection, where),
        unpriced=tuple(unpriced[:limit]),
        without_usage=_without_usage(connection, where)[:limit],
        failed=_failed(connection, where),
        outcomes=_fold(marks, lambda key: [key[0]]),
        sources=_fold(marks, lambda key: [key[1]]),
        flags=_fold(marks, lambda key: key[2].split()),
        duplicates=copies,
        duplicate_usd=excess,
    )


# What a refused attempt lacks is no gap in the data.
_SERVED: t.Final = sa.not_(FAILED)
_USED: t.Final = calls.c.total_input_tokens.is_not(None)


def _coverage(connection: sa.Connection, where: CallFilter) -> tuple[Coverage, ...]:
    streams = calls.c.stream.is_(sa.true())
    asked: dict[str, tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]] = {
        "cost": (_SERVED, calls.c.cost_total.is_not(None)),
        "usage": (_SERVED, _USED),
        "stream_usage": (sa.and_(_SERVED, streams), _USED),
        "tags": (sa.true(), calls.c.tag_set_id.is_not(None)),
        "latency": (sa.true(), calls.c.latency_ms.is_not(None)),
        "response_id": (_SERVED, calls.c.response_id.is_not(None)),
    }
    columns = [
        _count(condition)
        for of, have in asked.values()
        for condition in (sa.and_(of, have), of)
    ]
    [row] = connection.execute(sa.select(*columns).where(*where.clauses()))
    return tuple(
        Coverage(name, int(row[2 * n]), int(row[2 * n + 1]))
        for n, name in enumerate(asked)
    )


def _without_usage(connection: sa.Connection, where: CallFilter) -> tuple[Count, ...]:
    found = _counts(
        connection,
        where,
        calls.c.provider,
        calls.c.model,
        calls.c.operation,
        calls.c.outcome,
        calls.c.stream,
        only=sa.and_(_SERVED, sa.not_(_USED)),
    )
    return tuple(
        Count((*row.key[:-1], "stream" if row.key[-1] == "True" else ""), row.calls)
        for row in found
    )


def _failed(connection: sa.Connection, where: CallFilter) -> tuple[Count, ...]:
    found: Counter[tuple[str, ...]] = Counter()
    columns = calls.c.provider, calls.c.outcome, calls.c.http_status
    for row in _counts(connection, where, *columns, only=FAILED):
        provider, outcome, status = row.key
        found[provider, status or outcome] += row.calls
    return _ranked(found)


def _fold(
    rows: Iterable[Count], names: Callable[[tuple[str, ...]], Iterable[str]]
) -> tuple[Count, ...]:
    found: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        for name in names(row.key):
            found[(name,)] += row.calls
    return _ranked(found)


def _duplicates(connection: sa.Connection, where: CallFilter) -> tuple[int, Decimal]:
    million = sa.literal_column("1000000", sa.BigInteger)
    cost = calls.c.cost_total
    copied = (
        sa.select(
            sa.func.count().label("calls"),
            sa.func.sum(quotient(cost, million)).label("whole"),
            sa.func.sum(cost % million).label("rest"),
            sa.func.max(cost).label("most"),
        )
        .where(*where.clauses(), calls.c.response_id.is_not(None))
        .group_by(calls.c.provider, calls.c.response_id)
        .having(sa.func.count() > 1)
    )
    copies = excess = 0
    for row in connection.execute(copied):
        copies += int(row.calls) - 1
        if row.most is not None:
            excess += int(row.whole) * 1_000_000 + int(row.rest) - int(row.most)
    return copies, usd(excess)


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[t.Any]:
    return sa.func.count(sa.case((condition, 1)))


def _counts(
    connection: sa.Connection,
    where: CallFilter,
    *columns: sa.ColumnElement[t.Any],
    only: sa.ColumnElement[bool] | None = None,
) -> tuple[Count, ...]:
    rows = connection.execute(
        sa.select(*columns, sa.func.count())
        .where(*where.clauses(), *([] if only is None else [only]))
        .group_by(*columns)
    )
    found: Counter[tuple[str, ...]] = Counter()
    for *key, count in rows:
        found[tuple("" if part is None else str(part) for part in key)] += int(count)
    return _ranked(found)


def _ranked(found: Counter[tuple[str, ...]]) -> tuple[Count, ...]:
    ranked = sorted(found.items(), key=lambda kv: (-kv[1], kv[0]))
    return tuple(Count(key, calls) for key, calls in ranked)
