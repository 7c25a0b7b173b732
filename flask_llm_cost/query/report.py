"""The text report: the numbers that ``flask llm-cost report`` prints."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from . import totals as sums
from .filters import CallFilter
from .listing import CallRow
from .listing import top_calls
from .sources import pruned_before
from .totals import Group
from .totals import Totals


@dataclass(frozen=True, slots=True)
class Report:
    """A period in a nutshell. Each breakdown begins with the dearest."""

    where: CallFilter
    totals: Totals
    providers: tuple[Group, ...]
    """By ``(provider,)``."""
    models: tuple[Group, ...]
    """By ``(provider, model)``."""
    tags: Mapping[str, tuple[Group, ...]]
    """By ``(value,)`` for each key asked for; ``"(untagged)"`` is the rest."""
    dearest: tuple[CallRow, ...]
    """The most expensive calls of known cost."""
    pruned_before: dt.datetime | None
    """Calls before this were pruned: ``dearest`` lacks them."""
    tags_pruned_before: Mapping[str, dt.datetime | None]
    """The same of each of ``tags``."""


def report(
    connection: sa.Connection,
    where: CallFilter,
    *,
    tags: Iterable[str] = (),
    dearest: int = 5,
) -> Report:
    """Ask all that the report prints.

    :param tags: The tag keys to break down by, such as ``Settings.rollup_tags``.
    :param dearest: How many of the dearest calls to list.
    """
    tags = tuple(tags)
    return Report(
        where=where,
        totals=sums.totals(connection, where),
        providers=sums.breakdown(connection, where, "provider"),
        models=sums.breakdown(connection, where, "provider", "model"),
        tags={key: sums.tag_breakdown(connection, where, key) for key in tags},
        dearest=tuple(
            row
            for row in top_calls(connection, where, sort="expensive", limit=dearest)
            if row.cost_pico is not None
        ),
        pruned_before=pruned_before(connection, where, ("event_id",)),
        tags_pruned_before={
            key: pruned_before(connection, where, (f"tag:{key}",)) for key in tags
        },
    )
