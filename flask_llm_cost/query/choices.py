"""The values that filters offer."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import replace

import sqlalchemy as sa

from ..db.tables import calls
from ..db.tables import tag_values
from .aggregate import breakdown
from .filters import CallFilter
from .tags import top_values

MOST_CALLS: t.Final = 5_000
"""How many of the latest calls are read if rollups cannot answer."""


@dataclass(frozen=True, slots=True)
class Choices:
    """Values that occur in calls, each list as if its own filter were not set."""

    providers: tuple[str, ...]
    models: tuple[str, ...]
    tags: tuple[str, ...]
    """As ``key:value``, without those that are selected already."""


def choices(
    connection: sa.Connection, where: CallFilter, keys: Iterable[str], *, most: int
) -> Choices:
    """Return the values that can narrow a filter further.

    Providers and models come from rollups, highest cost first. With any other filter, they
    come from the latest :data:`MOST_CALLS` calls, most frequent first: reading all calls
    is not worth it.

    :param keys: The tags to offer values of.
    :param most: How many values of each.
    """
    around = replace(where, provider=None, model=None)
    span = CallFilter(start=where.start, end=where.end, zone=where.zone)
    sums = around == span
    pairs = _costliest(connection, span) if sums else _latest(connection, around)
    providers = (p for p, m in pairs if where.model in (None, m))
    models = [m for p, m in pairs if where.provider in (None, p)]
    if where == span:
        tags = _values(connection, span, keys, most)
    elif where.provider is not None and not models:
        tags = []  # no call matches, and that is known without reading any
    else:
        tags = _latest_values(connection, where, keys)
    asked = {f"{key}:{value}" for key, value in where.tags}
    return Choices(
        providers=_first(providers, most),
        models=_first(models, most),
        tags=_first((tag for tag in tags if tag not in asked), most),
    )


def _first(names: Iterable[str], most: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))[:most]


def _costliest(connection: sa.Connection, where: CallFilter) -> list[tuple[str, str]]:
    groups = breakdown(connection, where, "provider", "model")
    return [(group.key[0], group.key[1]) for group in groups]


def _latest(connection: sa.Connection, where: CallFilter) -> list[tuple[str, str]]:
    late = _late(where, calls.c.provider, calls.c.model)
    provider, model = late.c.provider, late.c.model
    rows = connection.execute(
        sa.select(provider, model)
        .group_by(provider, model)
        .order_by(sa.func.count().desc(), provider, model)
    )
    return [(row[0], row[1]) for row in rows]


def _values(
    connection: sa.Connection, where: CallFilter, keys: Iterable[str], most: int
) -> list[str]:
    return [
        f"{key}:{row.value}"
        for key in keys
        for row in top_values(connection, where, key, limit=most).values
        if not row.untagged
    ]


def _latest_values(
    connection: sa.Connection, where: CallFilter, keys: Iterable[str]
) -> list[str]:
    order = {key: number for number, key in enumerate(keys)}
    if not order:
        return []
    late = _late(where, calls.c.tag_set_id)
    key, value = tag_values.c.key, tag_values.c.value
    rows = connection.execute(
        sa.select(key, value)
        .join_from(late, tag_values, tag_values.c.tag_set_id == late.c.tag_set_id)
        .where(key.in_(order), value != "")
        .group_by(key, value)
        .order_by(sa.func.count().desc(), key, value)
    )
    found = [(str(row[0]), str(row[1])) for row in rows]
    found.sort(key=lambda pair: order[pair[0]])
    return [f"{key}:{value}" for key, value in found]


def _late(where: CallFilter, *columns: sa.ColumnElement[t.Any]) -> sa.Subquery:
    return (
        sa.select(*columns)
        .where(*where.clauses())
        .order_by(calls.c.started_at.desc(), calls.c.event_id.desc())
        .limit(MOST_CALLS)
        .subquery()
    )
