"""The models page: cost, usage and latency of each model."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from ..errors import FilterError
from .aggregate import breakdown
from .filters import CallFilter
from .latency import Percentiles
from .latency import percentiles
from .totals import groups
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


_SNAPSHOT: t.Final = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|\d{3}|latest)$")


def aliases(rows: Iterable[tuple[str, str, Totals]]) -> dict[tuple[str, str], str]:
    """Return the models that failed attempts meant, where only an alias is known of them.

    An attempt that fails has the name that was requested, such as ``gpt-4o``; others have
    that of the snapshot that answered, such as ``gpt-4o-2024-08-06``.

    :param rows: Provider, model and totals of each.
    """
    rows = list(rows)
    served: dict[tuple[str, str], tuple[int, str]] = {}
    for provider, model, totals in rows:
        alias = provider, _SNAPSHOT.sub("", model)
        if alias[1] != model and not totals.all_failed:
            served[alias] = max(served.get(alias, (0, "")), (totals.calls, model))
    return {
        (provider, model): served[provider, model][1]
        for provider, model, totals in rows
        if totals.all_failed and (provider, model) in served
    }


@dataclass(frozen=True, slots=True)
class Models:
    """Every model that was called."""

    where: CallFilter
    sort: str
    rows: tuple[ModelRow, ...]
    totals: Totals
    aliases: Mapping[tuple[str, str], str]
    """The provider and name of failed attempts, and the model that they are shown with."""


def models(
    connection: sa.Connection, where: CallFilter, *, sort: str = "cost"
) -> Models:
    """Return what the models page shows.

    :param sort: Descending, unknown values last, equal values by spend.
    :raises FilterError: If there is no such sort.
    """
    if sort not in SORTS:
        raise FilterError("sort", f"{sort[:40]!r} is not one of {', '.join(SORTS)}.")
    found = breakdown(connection, where, "provider", "model")
    meant = aliases((row.key[0], row.key[1], row.totals) for row in found)
    latencies = percentiles(connection, where, "provider", "model")
    rows = [
        ModelRow(
            provider=group.key[0],
            model=group.key[1],
            totals=group.totals,
            share=group.share,
            latency=latencies.get((group.key[0], group.key[1])),
        )
        for group in groups(
            ((provider, meant.get((provider, model), model)), row.totals)
            for row in found
            for provider, model in [row.key]
        )
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
        aliases=meant,
    )


_VALUES: t.Final[Mapping[str, Callable[[ModelRow], t.Any]]] = {
    "cost": lambda row: row.totals.cost_usd,
    "calls": lambda row: row.totals.calls,
    "avg_cost": lambda row: row.totals.average_usd,
    "latency": lambda row: row.totals.average_latency_ms,
}
