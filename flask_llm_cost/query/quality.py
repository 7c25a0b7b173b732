"""The data-quality page: what the ledger does not know, and why."""

from __future__ import annotations

import typing as t
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import period_of
from ..call import SILENT_OUTCOMES
from ..completeness import incomplete
from ..db.day_tables import quality_days
from ..db.sql import joined_sum
from ..db.sql import split_sum
from ..db.statements import between
from ..db.tables import calls
from ..money import from_pico
from ..money import share
from ..providers import usage_on_request
from ..rollups import days
from .aggregate import breakdown
from .day_sources import day_sources
from .day_sources import DaySources
from .filters import CallFilter
from .sources import ROLLED_BY
from .totals import Group
from .totals import sum_up
from .totals import Totals


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many calls have a value that they should have."""

    name: str
    """``cost``, ``usage``, ``tags``, ``latency``, ``response_id``, ``stream_usage``."""
    have: int
    of: int

    @property
    def missing(self) -> int:
        return self.of - self.have

    @property
    def share(self) -> Decimal | None:
        """0 to 1; ``None`` if there are no calls."""
        return share(self.have, self.of)


@dataclass(frozen=True, slots=True)
class Count:
    """The number of calls with a key."""

    key: tuple[str, ...]
    calls: int


@dataclass(frozen=True, slots=True)
class Doubt:
    """The calls whose cost is incomplete for one reason."""

    flag: str
    """One of :data:`.INCOMPLETE`; ``""`` if a part of the usage has no price."""
    calls: int = 0
    pico: int = 0
    open_pico: int = 0
    unbounded: int = 0
    """Calls without a known limit of their cost."""

    @property
    def cost_usd(self) -> Decimal:
        """What is known."""
        return from_pico(self.pico)

    @property
    def at_most_usd(self) -> Decimal | None:
        """The most it can be, apart from ``unbounded``; ``None`` if that is all of it."""
        if self.unbounded == self.calls:
            return None
        return from_pico(self.pico + self.open_pico)


@dataclass(frozen=True, slots=True)
class Unpriced:
    """A model without a price, and the calls that reported usage of it."""

    key: tuple[str, ...]
    """``(provider, model)``."""
    calls: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Gaps:
    """Why calls have no cost: each reason has its own remedy."""

    unpriced: tuple[Unpriced, ...]
    """Models without a price, most calls first."""
    without_usage: tuple[Count, ...]
    """By ``(provider, model, operation, outcome, "stream" or "")``, most calls first."""

    @property
    def requestable(self) -> bool:
        """Whether ``stream_options.include_usage`` would have reported some usage."""
        for count in self.without_usage:
            provider, _, operation, outcome, stream = count.key
            if stream and outcome == "ok" and usage_on_request(provider, operation):
                return True
        return False


@dataclass(frozen=True, slots=True)
class Quality:
    """What the data-quality page shows. Failed attempts are listed separately."""

    where: CallFilter
    totals: Totals
    coverage: tuple[Coverage, ...]
    gaps: Gaps
    doubts: tuple[Doubt, ...]
    """Why costs are incomplete, most calls first. A call may have several reasons."""
    failed: tuple[Count, ...]
    """By ``(provider, HTTP status or outcome)``, most calls first."""
    outcomes: tuple[Count, ...]
    """By ``(outcome,)``: ``interrupted``, ``unfinished``, ..."""
    sources: tuple[Count, ...]
    """By ``(usage_source,)``: ``response``, ``estimated``, ..."""
    flags: tuple[Count, ...]
    """By ``(flag,)``."""
    duplicates: int
    """Calls in excess of responses, where several of a day have the same provider, model and
    response id."""
    duplicate_usd: Decimal
    """The cost of those, if the most expensive call of each response is the correct one."""


def quality(connection: sa.Connection, where: CallFilter) -> Quality:
    """Return what the data-quality page shows."""
    models = breakdown(connection, where, "provider", "model")
    copies, excess = _duplicates(connection, where)
    kinds = _kinds(connection, where)
    return Quality(
        where=where,
        totals=sum_up(group.totals for group in models),
        coverage=_coverage(kinds),
        gaps=_gaps(models, kinds),
        doubts=_doubts(kinds),
        failed=_ranked(
            ((kind.provider, kind.status or kind.outcome), kind.calls)
            for kind in kinds
            if not kind.served
        ),
        outcomes=_ranked(((kind.outcome,), kind.calls) for kind in kinds),
        sources=_ranked(((kind.usage_source,), kind.calls) for kind in kinds),
        flags=_ranked(
            ((flag,), kind.calls) for kind in kinds for flag in kind.flags.split()
        ),
        duplicates=copies,
        duplicate_usd=excess,
    )


def gaps(connection: sa.Connection, where: CallFilter) -> Gaps:
    """Return why calls have no cost."""
    models = breakdown(connection, where, "provider", "model")
    return _gaps(models, _kinds(connection, where))


def _gaps(models: Iterable[Group], kinds: Sequence[_Kind]) -> Gaps:
    silent: Counter[tuple[str, ...]] = Counter()
    lacking: set[tuple[str, ...]] = set()
    for kind in kinds:
        if kind.served and not kind.priced:
            if kind.used:
                lacking.add(kind.key[:2])
            else:
                silent[kind.key[:2]] += kind.calls
    found = [
        Unpriced(
            group.key,
            group.totals.unpriced - silent[group.key],
            group.totals.unpriced_tokens,
        )
        for group in models
        # Of pruned calls, only the tokens say that there was usage.
        if group.key in lacking or group.totals.unpriced_tokens
    ]
    found.sort(key=lambda model: (-model.calls, model.key))
    return Gaps(
        tuple(model for model in found if model.calls > 0),
        _ranked(
            (kind.key, kind.calls) for kind in kinds if kind.served and not kind.used
        ),
    )


class _Kind(t.NamedTuple):
    """Calls that are equal in all that the page distinguishes: one scan finds all kinds."""

    provider: str
    model: str
    operation: str
    outcome: str
    http_status: int | None
    usage_source: str
    stream: bool
    flags: str
    priced: bool
    complete: bool | None
    used: bool
    calls: int
    tagged: int
    timed: int
    identified: int
    unbounded: int
    pico: int
    open_pico: int

    @property
    def served(self) -> bool:
        """What a refused attempt lacks is no gap in the data. As ``measures.FAILED``."""
        return self.priced or self.used or self.outcome not in SILENT_OUTCOMES

    @property
    def status(self) -> str:
        return "" if self.http_status is None else str(self.http_status)

    @property
    def key(self) -> tuple[str, ...]:
        stream = "stream" if self.stream else ""
        return self.provider, self.model, self.operation, self.outcome, stream


def _kinds(connection: sa.Connection, where: CallFilter) -> tuple[_Kind, ...]:
    read_from = day_sources(connection, where, ROLLED_BY)
    found: list[_Kind] = []
    if clauses := read_from.call_clauses():
        alike = list(days.ALIKE.values())
        query = sa.select(*alike, *days.COUNTED.values(), *_halves(days.AMOUNTS))
        found += _kinds_of(connection, query.where(*clauses).group_by(*alike))
    if clauses := read_from.day_clauses(quality_days):
        q = quality_days.c
        alike = [q[name] for name in days.ALIKE]
        counts = [sa.func.sum(q[name]) for name in days.COUNTED]
        halves = _halves({name: q[name] for name in days.AMOUNTS})
        query = sa.select(*alike, *counts, *halves)
        found += _kinds_of(connection, query.where(*clauses).group_by(*alike))
    return tuple(found)


def _halves(
    amounts: Mapping[str, sa.ColumnElement[t.Any]],
) -> list[sa.ColumnElement[t.Any]]:
    return [half for name, each in amounts.items() for half in split_sum(name, each)]


def _kinds_of(connection: sa.Connection, query: t.Any) -> Iterator[_Kind]:
    width = len(days.ALIKE)
    for row in connection.execute(query):
        counts = row[width : width + len(days.COUNTED)]
        amounts = (joined_sum(row._mapping, name) for name in days.AMOUNTS)
        yield _Kind(*row[:width], *map(int, counts), *amounts)


def _doubts(kinds: Sequence[_Kind]) -> tuple[Doubt, ...]:
    found: dict[str, Doubt] = {}
    for kind in kinds:
        if kind.complete is False:
            for flag in incomplete(frozenset(kind.flags.split())) or ("",):
                so_far = found.get(flag, Doubt(flag))
                found[flag] = Doubt(
                    flag,
                    so_far.calls + kind.calls,
                    so_far.pico + kind.pico,
                    so_far.open_pico + kind.open_pico,
                    so_far.unbounded + kind.unbounded,
                )
    return tuple(sorted(found.values(), key=lambda doubt: (-doubt.calls, doubt.flag)))


def _coverage(kinds: Sequence[_Kind]) -> tuple[Coverage, ...]:
    served = [kind for kind in kinds if kind.served]
    streams = [kind for kind in served if kind.stream]
    asked: dict[str, tuple[Sequence[_Kind], Callable[[_Kind], int]]] = {
        "cost": (served, lambda kind: kind.calls * kind.priced),
        "usage": (served, lambda kind: kind.calls * kind.used),
        "stream_usage": (streams, lambda kind: kind.calls * kind.used),
        "tags": (kinds, lambda kind: kind.tagged),
        "latency": (kinds, lambda kind: kind.timed),
        "response_id": (served, lambda kind: kind.identified),
    }
    return tuple(
        Coverage(name, sum(map(have, of)), sum(kind.calls for kind in of))
        for name, (of, have) in asked.items()
    )


def _duplicates(connection: sa.Connection, where: CallFilter) -> tuple[int, Decimal]:
    read_from = day_sources(connection, where, ROLLED_BY)
    copies = excess = 0
    for clauses in _each_day(connection, read_from):
        for found in days.copies_by_model(connection, clauses).values():
            copies += found.calls
            excess += found.pico
    if clauses := read_from.day_clauses(quality_days):
        q = quality_days.c
        query = sa.select(sa.func.sum(q.copies), *split_sum("excess", q.excess_pico))
        row = connection.execute(query.where(*clauses)).one()
        copies += int(row[0] or 0)
        excess += joined_sum(row._mapping, "excess")
    return copies, from_pico(excess)


def _each_day(
    connection: sa.Connection, read_from: DaySources
) -> Iterator[list[sa.ColumnElement[bool]]]:
    """Return the conditions on the calls that are read, day by day."""
    clauses = read_from.call_clauses()
    if not clauses:
        return
    time, zone = calls.c.started_at, read_from.where.zone
    query = sa.select(sa.func.min(time), sa.func.max(time)).where(*clauses)
    at, last = connection.execute(query).one()
    while at is not None and at <= last:
        start, end = period_of("day", at, zone)
        yield [*clauses, *between(start, end)]
        after = sa.select(sa.func.min(time)).where(*clauses, time >= end)
        at = connection.scalar(after)


def _ranked(counts: Iterable[tuple[tuple[str, ...], int]]) -> tuple[Count, ...]:
    """Add the counts of equal keys; most calls first."""
    found: Counter[tuple[str, ...]] = Counter()
    for key, count in counts:
        found[key] += count
    ranked = sorted(found.items(), key=lambda kv: (-kv[1], kv[0]))
    return tuple(Count(key, calls) for key, calls in ranked)
