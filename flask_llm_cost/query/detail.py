"""One call: everything that the ledger knows about it."""

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
from ..call import COUNTS
from ..call import Usage
from ..completeness import INCOMPLETE
from ..completeness import incomplete
from ..completeness import NO_RATE
from ..db.rows import call_of
from ..db.tables import calls
from ..db.tables import revisions
from ..db.tables import tag_sets
from ..event_id import event_time
from ..money import from_pico
from ..money import own_context
from .filters import CallFilter
from .listing import CALLS_WITH_TAGS
from .listing import Reader
from .listing import walk


@dataclass(frozen=True, slots=True)
class MixPart:
    """One bar of a mix."""

    name: str
    """``input``, ``cache_read``, ``output``, ``output_audio``, ``web_search``, ..."""
    amount: Decimal
    """Tokens, or USD."""
    share: Decimal | None
    """The share of the total, 0 to 1; ``None`` if that is 0."""


@dataclass(frozen=True, slots=True)
class CallDetail:
    """One call, with the breakdown of its tokens and its cost."""

    call: Call
    token_mix: tuple[MixPart, ...]
    """By bucket, without empty ones, input first; empty if the usage is unknown."""
    cost_mix: tuple[MixPart, ...]
    """By meter, highest cost first; empty if the cost is unknown. ``call.cost.parts`` has
    the quantities and rates."""
    doubts: tuple[str, ...] = ()
    """Why the cost is incomplete, in words; empty if it is complete."""


def call_detail(connection: sa.Connection, event_id: str) -> CallDetail | None:
    """Return the call with this id; ``None`` if there is none.

    The id contains the time of the call, so this is a look-up by primary key.
    """
    query = sa.select(*_COLUMNS).select_from(CALLS_WITH_TAGS)
    row = connection.execute(query.where(_is(calls, event_id))).first()
    return None if row is None else _detail(_call(row))


def _is(table: sa.Table, event_id: str) -> sa.ColumnElement[bool]:
    try:
        moment = event_time(event_id)
    except (ValueError, OverflowError):
        return sa.false()
    return sa.and_(
        table.c.started_at == moment, table.c.event_id == str(UUID(event_id))
    )


@dataclass(frozen=True, slots=True)
class Revision:
    """A change of a call's cost by repricing."""

    at: dt.datetime
    run: str
    before: Decimal | None
    """USD; ``None`` if it was unknown."""
    after: Decimal | None


def revisions_of(connection: sa.Connection, event_id: str) -> tuple[Revision, ...]:
    """Return each change of a call's cost, oldest first."""
    query = sa.select(revisions).where(_is(revisions, event_id))
    return tuple(
        Revision(row.revised_at, row.run, _usd(row.cost_total), _usd(row.new_total))
        for row in connection.execute(query.order_by(revisions.c.number))
    )


def _usd(pico: int | None) -> Decimal | None:
    return None if pico is None else from_pico(pico)


def stream_calls(reading: Reader, where: CallFilter) -> Iterator[Call]:
    """Yield every matching call as a whole, latest first.

    Memory use stays flat, as in :func:`.walk`.
    """
    for rows in walk(reading, where, _COLUMNS):
        yield from map(_call, rows)


_COLUMNS: t.Final[list[sa.ColumnElement[t.Any]]] = [*calls.c, tag_sets.c.tags]

_BUCKETS: t.Final = [
    name.removesuffix("_tokens") for name in COUNTS if name != "reasoning_tokens"
]


def _call(row: sa.Row[t.Any]) -> Call:
    return call_of(row, json.loads(row.tags) if row.tags else {})


@own_context
def _detail(call: Call) -> CallDetail:
    tokens = [] if call.usage is None else _tokens(call.usage)
    costs: list[tuple[str, Decimal]] = []
    if call.cost is not None:
        costs = [(meter, part.amount_usd) for meter, part in call.cost.parts.items()]
        costs.sort(key=lambda part: (-part[1], part[0]))
    return CallDetail(call, _mix(tokens), _mix(costs), _doubts(call))


def _doubts(call: Call) -> tuple[str, ...]:
    cost = call.cost
    if cost is None or cost.complete:
        return ()
    flags = call.flags | cost.flags
    found = incomplete(flags, reported=cost.source == "provider")
    return tuple(INCOMPLETE[flag] for flag in sorted(found)) or (NO_RATE,)


def _tokens(usage: Usage) -> list[tuple[str, Decimal]]:
    counts = {name: getattr(usage, f"{name}_tokens") for name in _BUCKETS}
    counts.update(sorted(usage.other_tokens.items()))
    # Rarer buckets go with their side; the sort is stable.
    names = sorted((name for name in counts if counts[name]), key=_side)
    return [(name, Decimal(counts[name])) for name in names]


def _side(name: str) -> int:
    return ("input", "cache_read", "cache_write", "output").index(
        "_".join(name.split("_")[: 2 if name.startswith("cache_") else 1])
    )


@own_context
def _mix(parts: Iterable[tuple[str, Decimal]]) -> tuple[MixPart, ...]:
    parts = list(parts)
    whole = sum(amount for _, amount in parts)
    return tuple(
        MixPart(name, amount, amount / whole if whole else None)
        for name, amount in parts
    )
