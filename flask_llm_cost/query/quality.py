"""The data-quality page: what the ledger does not know, and why."""

from __future__ import annotations

import typing as t
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from ..call import SILENT_OUTCOMES
from ..completeness import incomplete
from ..db.sql import joined_sum
from ..db.sql import split_sum
from ..db.tables import calls
from ..money import from_pico
from ..money import share
from ..providers import usage_on_request
from ..rollups.measures import CEILING
from ..rollups.measures import COUNTS
from .aggregate import breakdown
from .filters import CallFilter
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
    """The calls whose cost is not complete for one reason."""

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
    """Why costs are not complete, most calls first. A call may have several reasons."""
    failed: tuple[Count, ...]
    """By ``(provider, HTTP status or outcome)``, most calls first."""
    outcomes: tuple[Count, ...]
    """By ``(outcome,)``: ``interrupted``, ``unfinished``, ..."""
    sources: tuple[Count, ...]
    """By ``(usage_source,)``: ``response``, ``estimated``, ..."""
    flags: tuple[Count, ...]
    """By ``(flag,)``."""
    duplicates: int
    """Calls in excess of responses, where several have the same provider and response id."""
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
    c = calls.c
    alike: list[t.Any] = [
        c.provider,
        c.model,
        c.operation,
        c.outcome,
        c.http_status,
        c.usage_source,
        c.stream,
        c.flags,
        c.cost_total.is_not(None),
        c.cost_complete,
        c.total_input_tokens.is_not(None),
    ]
    counts = (
        sa.func.count(),
        sa.func.count(c.tag_set_id),
        sa.func.count(c.latency_ms),
        sa.func.count(c.response_id),
        COUNTS["unbounded"],
    )
    amounts = {"pico": c.cost_total, "open_pico": CEILING - c.cost_total}
    halves = (half for name, each in amounts.items() for half in split_sum(name, each))
    rows = connection.execute(
        sa.select(*alike, *counts, *halves).where(*where.clauses()).group_by(*alike)
    )
    width = len(alike) + len(counts)
    return tuple(
        _Kind(*row[:width], *(joined_sum(row._mapping, name) for name in amounts))
        for row in rows
    )


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
    cost = calls.c.cost_total
    copied = (
        sa.select(
            sa.func.count().label("calls"),
            *split_sum("cost", cost),
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
            excess += joined_sum(row._mapping, "cost") - int(row.most)
    return copies, from_pico(excess)


def _ranked(counts: Iterable[tuple[tuple[str, ...], int]]) -> tuple[Count, ...]:
    """Add the counts of equal keys; most calls first."""
    found: Counter[tuple[str, ...]] = Counter()
    for key, count in counts:
        found[key] += count
    ranked = sorted(found.items(), key=lambda kv: (-kv[1], kv[0]))
    return tuple(Count(key, calls) for key, calls in ranked)
