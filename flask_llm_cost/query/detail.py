"""The page of one call: everything the ledger knows of it, and how it is made up."""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa

from ..call import Call
from ..call import Usage
from ..db.rows import call_of
from ..db.tables import calls
from ..db.tables import revisions
from ..db.tables import tag_sets
from ..event_id import event_time
from ..money import from_pico
from .filters import CallFilter
from .listing import Reading
from .listing import walk


@dataclass(frozen=True, slots=True)
class Slice:
    """One bar of a mix."""

    name: str
    """``input``, ``cache_read``, ``output``, ``output_audio``, ``web_search``, ..."""
    amount: Decimal
    """Tokens, or USD."""
    share: Decimal | None
    """The part of the whole, 0 to 1; ``None`` if that is 0."""


@dataclass(frozen=True, slots=True)
class CallDetail:
    """One call, and how its tokens and its cost are made up."""

    call: Call
    token_mix: tuple[Slice, ...]
    """By bucket, those above 0, the input first; empty if the usage is unknown."""
    cost_mix: tuple[Slice, ...]
    """By meter, the dearest first; empty if the cost is unknown. Quantity and rate of
    each are in ``call.cost.parts``."""


def call_detail(connection: sa.Connection, event_id: str) -> CallDetail | None:
    """Look a call up by its id; ``None`` if there is no such call.

    The id says when the call was made, so that this is a look-up by primary key.
    """
    try:
        moment = event_time(event_id)
    except (ValueError, OverflowError):
        return None
    row = connection.execute(
        sa.select(*_COLUMNS)
        .select_from(_SOURCE)
        .where(calls.c.started_at == moment, calls.c.event_id == str(UUID(event_id)))
    ).first()
    return None if row is None else _detail(_call(row))


@dataclass(frozen=True, slots=True)
class Revision:
    """One time that a call got another cost."""

    at: dt.datetime
    run: str
    before: Decimal | None
    """USD; ``None`` if it was unknown."""
    after: Decimal | None


def revisions_of(connection: sa.Connection, event_id: str) -> tuple[Revision, ...]:
    """Each time that a call was priced again, the first one first."""
    try:
        moment = event_time(event_id)
    except (ValueError, OverflowError):
        return ()
    query = (
        sa.select(revisions)
        .where(
            revisions.c.started_at == moment,
            revisions.c.event_id == str(UUID(event_id)),
        )
        .order_by(revisions.c.number)
    )
    return tuple(
        Revision(row.revised_at, row.run, _usd(row.cost_total), _usd(row.new_total))
        for row in connection.execute(query)
    )


def _usd(pico: int | None) -> Decimal | None:
    return None if pico is None else from_pico(pico)


def stream_calls(reading: Reading, where: CallFilter) -> Iterator[Call]:
    """Every call that fits with all that is known of it, the latest first.

    Memory stays flat, as in :func:`.walk`.
    """
    for rows in walk(reading, where, _COLUMNS, _SOURCE):
        yield from map(_call, rows)


_SOURCE: t.Final[sa.FromClause] = calls.outerjoin(
    tag_sets, tag_sets.c.id == calls.c.tag_set_id
)

_COLUMNS: t.Final[list[sa.ColumnElement[t.Any]]] = [*calls.c, tag_sets.c.tags]

_BUCKETS: t.Final = (
    "input",
    "input_audio",
    "input_image",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "output",
    "output_audio",
    "output_image",
)


def _call(row: sa.Row[t.Any]) -> Call:
    return call_of(row, json.loads(row.tags) if row.tags else {})


def _detail(call: Call) -> CallDetail:
    tokens = [] if call.usage is None else _tokens(call.usage)
    costs: list[tuple[str, Decimal]] = []
    if call.cost is not None:
        costs = [(meter, part.amount_usd) for meter, part in call.cost.parts.items()]
        costs.sort(key=lambda part: (-part[1], part[0]))
    return CallDetail(call, token_mix=_mix(tokens), cost_mix=_mix(costs))


def _tokens(usage: Usage) -> list[tuple[str, Decimal]]:
    counts = {name: getattr(usage, f"{name}_tokens") for name in _BUCKETS}
    counts.update(sorted(usage.other_tokens.items()))
    # A rarer bucket stands with its own side; sorting keeps the order otherwise.
    names = sorted((name for name in counts if counts[name]), key=_side)
    return [(name, Decimal(counts[name])) for name in names]


def _side(name: str) -> int:
    return ("input", "cache_read", "cache_write", "output").index(
        "_".join(name.split("_")[: 2 if name.startswith("cache_") else 1])
    )


def _mix(parts: Iterable[tuple[str, Decimal]]) -> tuple[Slice, ...]:
    parts = list(parts)
    whole = sum(amount for _, amount in parts)
    return tuple(
        Slice(name, amount, amount / whole if whole else None) for name, amount in parts
    )
