"""Totals: the one place where calls are aggregated for pages, reports and commands."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import typing as t
from bisect import bisect_right
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import utc_ms
from ..db.tables import calls
from ..db.tables import rollups
from ..db.tables import tag_rollups
from ..db.tables import tag_values
from ..errors import FilterError
from ..money import from_pico
from ..rollups.measures import AMOUNTS
from ..rollups.measures import COUNTS
from ..tags import TRACE_KEY
from .filters import CallFilter
from .filters import tag_key
from .sources import sources
from .sources import tag_sources
from .sql import quotient
from .sql import same

UNTAGGED: t.Final = "(untagged)"
"""The key of calls without the tag, or with an empty one, in a breakdown."""

NONE: t.Final = "(none)"
"""The key of calls whose column is unknown or empty, in a breakdown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The totals of a set of calls. Those of disjoint sets can be added.

    Money is what is known: read it together with ``unpriced`` and ``incomplete``. The cost
    of calls with estimated usage is only in ``estimated_usd``.
    """

    calls: int = 0
    """HTTP attempts, including failed ones."""
    priced: int = 0
    """Calls whose cost is known, including incomplete and excluding estimated ones."""
    unpriced: int = 0
    """Calls that may have cost something, and whose cost is unknown."""
    unpriced_with_usage: int = 0
    """Unpriced calls whose usage is known."""
    unpriced_tokens: int = 0
    """Their tokens."""
    incomplete: int = 0
    """Priced calls with a part that has no price: their cost is a minimum."""
    failed: int = 0
    """Attempts that were refused or not answered, and used nothing."""
    estimated: int = 0
    """Calls with a cost of estimated usage."""
    estimated_tokens: int = 0
    """Their estimated tokens."""
    estimated_pico: int = 0
    spend_pico: int = 0
    cost_input_pico: int = 0
    cost_cache_read_pico: int = 0
    cost_cache_write_pico: int = 0
    cost_output_pico: int = 0
    cost_units_pico: int = 0
    """Tools and other units, and totals that a provider reported."""
    input_tokens: int = 0
    """Uncached input, cache reads and cache writes, of any modality."""
    output_tokens: int = 0
    """Output of any modality, including reasoning."""
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    """Of any lifetime."""
    reasoning_tokens: int = 0
    with_usage: int = 0
    """Calls whose usage is known."""
    with_latency: int = 0
    latency_sum_ms: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            **{name: getattr(self, name) + getattr(other, name) for name in _FIELDS}
        )

    @property
    def spend_usd(self) -> Decimal:
        """The sum of the known costs."""
        return from_pico(self.spend_pico)

    @property
    def estimated_usd(self) -> Decimal:
        """The cost of calls with estimated usage, which no other amount includes."""
        return from_pico(self.estimated_pico)

    @property
    def cost_usd(self) -> Decimal | None:
        """``spend_usd``; ``None`` if calls may have cost something and none is priced."""
        known = self.priced or not (self.unpriced or self.estimated)
        return self.spend_usd if known else None

    @property
    def all_failed(self) -> bool:
        """Whether every attempt failed and used nothing, so that there is no cost."""
        return 0 < self.calls == self.failed

    @property
    def average_usd(self) -> Decimal | None:
        """The mean cost of a priced call."""
        return self.spend_usd / self.priced if self.priced else None

    @property
    def possible_usd(self) -> Decimal | None:
        """What the unpriced calls would cost if they were priced like the rest.

        By their tokens where those are known, otherwise per call. No other amount includes
        this estimate. ``None`` if there is nothing to compare with.
        """
        if not self.unpriced:
            return Decimal(0)
        average = self.average_usd
        tokens = self.total_tokens - self.unpriced_tokens - self.estimated_tokens
        if average is None or (self.unpriced_tokens and not tokens):
            return None
        found = average * (self.unpriced - self.unpriced_with_usage)
        if self.unpriced_tokens:
            found += self.spend_usd / tokens * self.unpriced_tokens
        return found

    @property
    def average_latency_ms(self) -> float | None:
        """The mean latency of the calls that have one."""
        return self.latency_sum_ms / self.with_latency if self.with_latency else None

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def cache_hit_rate(self) -> Decimal | None:
        """The share of the input that was read from a cache, 0 to 1."""
        if not self.input_tokens:
            return None
        return Decimal(self.cache_read_tokens) / self.input_tokens

    @property
    def prompt_tokens(self) -> int:
        """Input as some APIs report it: with cache reads, without cache writes."""
        return self.input_tokens - self.cache_write_tokens

    @property
    def usd_per_million(self) -> Decimal | None:
        """The average cost of a million tokens of the priced calls."""
        tokens = self.total_tokens - self.estimated_tokens - self.unpriced_tokens
        if not tokens or not self.priced:
            return None
        return self.spend_usd / tokens * 1_000_000


_ZERO: t.Final = Totals()
_FIELDS: t.Final = tuple(f.name for f in dataclasses.fields(Totals))


@dataclass(frozen=True, slots=True)
class Group:
    """One row of a breakdown."""

    key: tuple[str, ...]
    """What the calls have in common, e.g. ``("openai", "gpt-4o")``."""
    totals: Totals
    share: Decimal | None
    """The share of the total known spend, 0 to 1; ``None`` if that is 0."""


def change(current: Decimal, previous: Decimal) -> Decimal | None:
    """Return the change in percent; ``None`` if the previous value is 0."""
    return (current - previous) / previous * 100 if previous else None


def sum_up(parts: Iterable[Totals]) -> Totals:
    """Add the totals of disjoint sets."""
    return sum(parts, Totals())


def totals(connection: sa.Connection, where: CallFilter) -> Totals:
    """Return the totals of all matching calls."""
    [found] = _ask(connection, where, ()).get((), [Totals()])
    return found


def breakdown(
    connection: sa.Connection, where: CallFilter, *by: str
) -> tuple[Group, ...]:
    """Return the totals by columns, highest cost first.

    :param by: Names of :data:`BREAKDOWNS`.
    :raises FilterError: For another name.
    """
    found = _ask(connection, where, by)
    return groups((key, part) for key, (part,) in found.items())


def tag_breakdown(
    connection: sa.Connection, where: CallFilter, key: str
) -> tuple[Group, ...]:
    """Return the totals by the value of a tag; other calls are ``"(untagged)"``.

    :raises FilterError: If ``key`` is not a valid tag key.
    """
    found = _ask_tag(connection, where, key)
    return groups((value, part) for value, (part,) in found.items())


def series(
    connection: sa.Connection, where: CallFilter, edges: Sequence[dt.datetime]
) -> tuple[Totals, ...]:
    """Return the totals of each period between two edges (ascending), including empty ones.

    Calls outside the edges are not counted.
    """
    found = series_by(connection, where, edges)
    return found.get((), (Totals(),) * (len(edges) - 1))


def series_by(
    connection: sa.Connection,
    where: CallFilter,
    edges: Sequence[dt.datetime],
    *by: str,
) -> dict[tuple[str, ...], tuple[Totals, ...]]:
    """Return the same for each group of a :func:`breakdown`."""
    if len(edges) < 2:
        return {}
    where = where.between(edges[0], edges[-1])
    found = _ask(connection, where, by, edges)
    return {key: tuple(parts) for key, parts in found.items()}


def tag_series(
    connection: sa.Connection,
    where: CallFilter,
    edges: Sequence[dt.datetime],
    key: str,
    values: Sequence[str] | None = None,
) -> dict[tuple[str, ...], tuple[Totals, ...]]:
    """Return the same for each value of a tag, as in :func:`tag_breakdown`.

    :param values: Only these values.
    """
    if len(edges) < 2:
        return {}
    where = where.between(edges[0], edges[-1])
    found = _ask_tag(connection, where, key, edges, values)
    return {value: tuple(parts) for value, parts in found.items()}


_Found: t.TypeAlias = dict[tuple[str, ...], list[Totals]]
"""By key, the totals of each period."""


def _ask(
    connection: sa.Connection,
    where: CallFilter,
    by: Sequence[str],
    edges: Sequence[dt.datetime] = (),
) -> _Found:
    columns = [_column(name) for name in by]
    read_from = sources(connection, where, by, edges)
    answer = _Answer(connection, edges, NONE)
    if clauses := read_from.call_clauses():
        answer.add(calls, columns, clauses)
    if clauses := read_from.rolled_clauses(rollups):
        answer.add(rollups, [rollups.c[name] for name in by], clauses)
    return answer.found


def _ask_tag(
    connection: sa.Connection,
    where: CallFilter,
    key: str,
    edges: Sequence[dt.datetime] = (),
    values: Sequence[str] | None = None,
) -> _Found:
    value, source = tag_column(key)
    read_from = tag_sources(connection, where, key, edges)
    answer = _Answer(connection, edges, UNTAGGED)
    if clauses := read_from.call_clauses():
        answer.add(source, [value], [*clauses, *_among(value, values)])
    if clauses := read_from.rolled_clauses(tag_rollups):
        value = tag_rollups.c.value
        answer.add(tag_rollups, [value], [*clauses, *_among(value, values)])
    return answer.found


def _among(
    column: sa.ColumnElement[t.Any], values: Sequence[str] | None
) -> list[sa.ColumnElement[bool]]:
    if values is None:
        return []
    named = [value for value in values if value != UNTAGGED]
    found: list[sa.ColumnElement[bool]] = [column.in_(named)]
    if UNTAGGED in values:
        found += [column.is_(None), column == "", column == UNTAGGED]
    return [sa.or_(*found)]


class _Answer:
    """Collects the totals of each period between edges; without edges, of all times.

    :param nothing: The name of an unknown or empty value.
    """

    def __init__(
        self, connection: sa.Connection, edges: Sequence[dt.datetime], nothing: str
    ) -> None:
        self.found: _Found = {}
        self._connection = connection
        self._nothing = nothing
        self._edges = [utc_ms(edge) for edge in edges] or [0, 0]
        # The widest bucket that no edge divides: days, or hours where a clock changes.
        first = self._edges[0]
        self._step = math.gcd(*(edge - first for edge in self._edges)) if edges else 0

    def add(
        self,
        source: sa.FromClause,
        by: Sequence[sa.ColumnElement[t.Any]],
        clauses: Sequence[sa.ColumnElement[bool]],
    ) -> None:
        """Add what is read from calls, or from a table of rollups."""
        if source in (rollups, tag_rollups):
            bucket, measures = self._bucket(source.c.start), _rolled(source)
        else:
            bucket, measures = self._bucket(calls.c.started_at), MEASURES
        rows = self._connection.execute(
            sa.select(bucket, *by, *measures)
            .select_from(source)
            .where(*clauses)
            .group_by("bucket", *by)
        )
        edges, width = self._edges, 1 + len(by)
        for row in rows:
            key = tuple(value or self._nothing for value in row[1:width])
            parts = self.found.setdefault(key, [_ZERO] * (len(edges) - 1))
            period = bisect_right(edges, edges[0] + int(row[0]) * self._step) - 1
            period, more = (period if self._step else 0), totals_of(row)
            # Usually the first; adding takes longer than reading a row.
            parts[period] = more if parts[period] is _ZERO else parts[period] + more

    def _bucket(self, time: sa.ColumnElement[t.Any]) -> sa.ColumnElement[t.Any]:
        if not self._step:
            return sa.literal_column("0").label("bucket")
        ms = sa.type_coerce(time, sa.BigInteger)
        return quotient(ms - self._edges[0], self._step).label("bucket")


BREAKDOWNS: t.Final[Mapping[str, sa.ColumnElement[t.Any]]] = {
    name: calls.c[name]
    for name in (
        "provider",
        "model",
        "request_model",
        "operation",
        "usage_source",
        "outcome",
        "service_tier",
        "cost_source",
        "trace_id",
    )
}
"""The columns that totals can be broken down by, beside tags and time."""


def _column(name: str) -> sa.ColumnElement[t.Any]:
    try:
        return BREAKDOWNS[name]
    except KeyError:
        raise FilterError(
            "by", f"{name[:40]!r} is not one of {', '.join(BREAKDOWNS)}."
        ) from None


def tag_column(key: str) -> tuple[sa.ColumnElement[t.Any], sa.FromClause]:
    """Return the value of a tag (NULL without one), and what to select it from.

    :raises FilterError: If ``key`` is not a valid tag key.
    """
    if key == TRACE_KEY:
        return calls.c.trace_id, calls
    carried = sa.and_(
        tag_values.c.tag_set_id == calls.c.tag_set_id,
        same(tag_values.c.key, tag_key(key)),
    )
    return tag_values.c.value, calls.outerjoin(tag_values, carried)


def groups(found: Iterable[tuple[tuple[str, ...], Totals]]) -> tuple[Group, ...]:
    """Return the rows of a breakdown, highest cost first; rows of one key are added."""
    merged: dict[tuple[str, ...], Totals] = {}
    for key, part in found:
        merged[key] = merged[key] + part if key in merged else part
    whole = sum(part.spend_pico for part in merged.values())
    ranked = sorted(
        merged.items(),
        key=lambda kv: (
            kv[1].cost_usd is None,
            -kv[1].spend_pico,
            -kv[1].estimated_pico,
            -kv[1].calls,
            kv[0],
        ),
    )
    return tuple(
        Group(key, part, Decimal(part.spend_pico) / whole if whole else None)
        for key, part in ranked
    )


def _split_sum(
    name: str, column: sa.ColumnElement[t.Any]
) -> list[sa.ColumnElement[t.Any]]:
    # One SUM of pico-USD would overflow SQLite's 64 bits at 9.2 million USD.
    million = sa.literal_column("1000000", sa.BigInteger)
    return [
        sa.func.sum(quotient(column, million)).label(f"{name}_q"),
        sa.func.sum(column % million).label(f"{name}_r"),
    ]


_MONEY: t.Final = {
    "spend_pico": "cost_total",
    "cost_input_pico": "cost_input",
    "cost_cache_read_pico": "cost_cache_read",
    "cost_cache_write_pico": "cost_cache_write",
    "cost_output_pico": "cost_output",
    "cost_units_pico": "cost_units",
    "estimated_pico": "cost_estimated",
}

MEASURES: t.Final[list[sa.ColumnElement[t.Any]]] = [
    *(column.label(name) for name, column in COUNTS.items()),
    *(half for name, amount in AMOUNTS.items() for half in _split_sum(name, amount)),
]
"""The columns of a query that aggregates calls; :func:`totals_of` reads them."""


def _rolled(table: sa.FromClause) -> list[sa.ColumnElement[t.Any]]:
    """The same columns of a table of rollups."""
    return [
        *(sa.func.sum(table.c[name]).label(name) for name in COUNTS),
        *(half for name in AMOUNTS for half in _split_sum(name, table.c[name])),
    ]


def totals_of(row: sa.Row[t.Any]) -> Totals:
    """Read the totals from a row that selects :data:`MEASURES`."""
    # A sum is a Decimal on PostgreSQL and MariaDB, and NULL over nothing.
    values = row._mapping
    found = {name: int(values[name] or 0) for name in COUNTS}
    for name, column in _MONEY.items():
        whole, rest = values[f"{column}_q"] or 0, values[f"{column}_r"] or 0
        found[name] = int(whole) * 1_000_000 + int(rest)
    return Totals(**found)
