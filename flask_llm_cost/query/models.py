"""The models page: cost, usage and latency of each model."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from ..errors import FilterError
from .aggregate import breakdown
from .filters import CallFilter
from .latency import Percentiles
from .latency import percentiles
from .totals import sum_up
from .totals import Totals

Sort: t.TypeAlias = t.Literal["cost", "calls", "avg_cost", "latency"]

SORTS: t.Final[tuple[str, ...]] = t.get_args(Sort)


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model of one provider."""

    provider: str
    model: str
    totals: Totals
    share: Decimal | None
    """The share of the known spend, 0 to 1; ``None`` if that is 0."""
    latency: Percentiles | None
    """``None`` if no latency is known."""


@dataclass(frozen=True, slots=True)
class Models:
    """Every model that was called."""

    where: CallFilter
    sort: str
    rows: tuple[ModelRow, ...]
    totals: Totals


def models(
    connection: sa.Connection, where: CallFilter, *, sort: str = "cost"
) -> Models:
    """Return what the models page shows.

    :param sort: Descending, unknown values last, equal values by spend.
    :raises FilterError: If there is no such sort.
    """
    if sort not in SORTS:
        raise FilterError("sort", f"{sort[:40]!r} is not one of {', '.join(SORTS)}.")
    latencies = percentiles(connection, where, "provider", "model")
    rows = [
        ModelRow(
            provider=group.key[0],
            model=group.key[1],
            totals=group.totals,
            share=group.share,
            latency=latencies.get((group.key[0], group.key[1])),
        )
        for group in breakdown(connection, where, "provider", "model")
    ]
    value = _VALUES[sort]
    known = [row for row in rows if value(row) is not None]
    unknown = [row for row in rows if value(row) is None]
    known.sort(key=lambda row: value(row), reverse=True)
    return Models(
        where=where,
        sort=sort,
        rows=(*known, *unknown),
        totals=sum_up(row.totals for row in rows),
    )


_VALUES: t.Final[Mapping[str, Callable[[ModelRow], t.Any]]] = {
    "cost": lambda row: row.totals.cost_usd,
    "calls": lambda row: row.totals.calls,
    "avg_cost": lambda row: row.totals.average_usd,
    "latency": lambda row: row.totals.average_latency_ms,
}
