"""How much: the one place where calls are added up, for every page, report and command."""

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
"""How calls without a tag of that key, or with an empty one, are named in a breakdown."""

NONE: t.Final = "(none)"
"""How a breakdown names calls of which a column is unknown or empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a set of calls adds up to. Two of disjoint sets can be added.

    Money is what is known: read it together with ``unpriced`` and ``incomplete``. What
    calls cost whose usage was estimated stands apart, in ``estimated_usd`` alone.
    """

    calls: int = 0
    """HTTP attempts, failed ones included."""
    priced: int = 0
    """Calls whose cost is known, incomplete ones included, estimated ones not."""
    unpriced: int = 0
    """Calls that may have cost something, nobody knows how much."""
    unpriced_with_usage: int = 0
    """Of those, the ones whose usage is known, at least."""
    unpriced_tokens: int = 0
    """What they used."""
    incomplete: int = 0
    """Priced calls of which one part has no price: their cost is a floor."""
    failed: int = 0
    """Attempts that were refused or never answered, and brought no usage."""
    estimated: int = 0
    """Calls that have a cost, of usage that was estimated."""
    estimated_tokens: int = 0
    """What they are thought to have used."""
    estimated_pico: int = 0
    spend_pico: int = 0
    cost_input_pico: int = 0
    cost_cache_read_pico: int = 0
    cost_cache_write_pico: int = 0
    cost_output_pico: int = 0
    cost_units_pico: int = 0
    """What is not a token, and totals that a provider reported."""
    input_tokens: int = 0
    """Every input bucket: fresh, cached, written to a cache, of any modality."""
    output_tokens: int = 0
    """Every output bucket, reasoning included."""
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    """For five minutes and for an hour."""
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
        """What calls of estimated usage cost; no part of the other sums of money."""
        return from_pico(self.estimated_pico)

    @property
    def cost_usd(self) -> Decimal | None:
        """The same, or ``None`` if calls may have cost something and none is priced."""
        known = self.priced or not (self.unpriced or self.estimated)
        return self.spend_usd if known else None

    @property
    def all_failed(self) -> bool:
        """Whether no attempt used anything, so that there is no cost to speak of."""
        return 0 < self.calls == self.failed

    @property
    def average_usd(self) -> Decimal | None:
        """The mean cost of a priced call."""
        return self.spend_usd / self.priced if self.priced else None

    @property
    def possible_usd(self) -> Decimal | None:
        """What the unpriced calls would cost, were they as dear as the priced ones.

        By their tokens where those are known, else by the call; an estimate, part of no
        other number. ``None`` if there is nothing to go by.
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
        """The part of the input that was read from a cache, 0 to 1."""
        if not self.input_tokens:
            return None
        return Decimal(self.cache_read_tokens) / self.input_tokens

    @property
    def prompt_tokens(self) -> int:
        """Input as some APIs report it: with cache reads, without cache writes."""
        return self.input_tokens - self.cache_write_tokens

    @property
    def usd_per_million(self) -> Decimal | None:
        """What a million tokens of the priced calls cost on average."""
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
    """What the calls have in common, such as ``("openai", "gpt-4o")``."""
    totals: Totals
    share: Decimal | None
    """The part of the whole's known spend, 0 to 1; ``None`` if that is 0."""


def change(current: Decimal, previous: Decimal) -> Decimal | None:
    """By how many percent it rose (fell: below 0); ``None`` after nothing."""
    return (current - previous) / previous * 100 if previous else None


def sum_up(parts: Iterable[Totals]) -> Totals:
    """The totals of disjoint sets together."""
    return sum(parts, Totals())


def totals(connection: sa.Connection, where: CallFilter) -> Totals:
    """Everything that fits, added up."""
    [found] = _ask(connection, where, ()).get((), [Totals()])
    return found


def breakdown(
    connection: sa.Connection, where: CallFilter, *by: str
) -> tuple[Group, ...]:
    """The totals by what calls have in common, the dearest first.

    :param by: Names of :data:`BREAKDOWNS`.
    :raises FilterError: For another name.
    """
    found = _ask(connection, where, by)
    return groups((key, part) for key, (part,) in found.items())


def tag_breakdown(
    connection: sa.Connection, where: CallFilter, key: str
) -> tuple[Group, ...]:
    """The totals by the value of a tag, the rest as ``"(untagged)"``.

    :raises FilterError: If ``key`` can be no tag's.
    """
    found = _ask_tag(connection, where, key)
    return groups((value, part) for value, (part,) in found.items())


def series(
    connection: sa.Connection, where: CallFilter, edges: Sequence[dt.datetime]
) -> tuple[Totals, ...]:
    """The totals of each period between two edges (ascending), zeros where nothing was.

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
    """The same for each group of a :func:`breakdown`."""
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
    """The same for each value of a tag, as in :func:`tag_breakdown`.

    :param values: Only of these.
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
    """The one question: every sum of a page is asked for here, or by its tag below."""
    columns = [_column(name) for name in by]
    periods = _Periods(edges)
    read_from = sources(connection, where, by, edges)
    found: _Found = {}
    clauses = read_from.call_clauses()
    if clauses:
        time = sa.type_coerce(calls.c.started_at, sa.BigInteger)
        select = sa.select(periods.column(time), *columns, *MEASURES).where(*clauses)
        rows = connection.execute(select.group_by("bucket", *columns))
        periods.add(found, rows, len(by), NONE)
    clauses = read_from.rolled_clauses(rollups)
    if clauses:
        columns = [rollups.c[name] for name in by]
        time = sa.type_coerce(rollups.c.start, sa.BigInteger)
        select = sa.select(periods.column(time), *columns, *_rolled(rollups)).where(
            *clauses
        )
        rows = connection.execute(select.group_by("bucket", *columns))
        periods.add(found, rows, len(by), NONE)
    return found


def _ask_tag(
    connection: sa.Connection,
    where: CallFilter,
    key: str,
    edges: Sequence[dt.datetime] = (),
    values: Sequence[str] | None = None,
) -> _Found:
    value, source = tag_column(key)
    periods = _Periods(edges)
    read_from = tag_sources(connection, where, key, edges)
    found: _Found = {}
    clauses = read_from.call_clauses()
    if clauses:
        time = sa.type_coerce(calls.c.started_at, sa.BigInteger)
        select = sa.select(periods.column(time), value, *MEASURES).select_from(source)
        clauses += _among(value, values)
        rows = connection.execute(select.where(*clauses).group_by("bucket", value))
        periods.add(found, rows, 1, UNTAGGED)
    clauses = read_from.rolled_clauses(tag_rollups)
    if clauses:
        value = tag_rollups.c.value
        time = sa.type_coerce(tag_rollups.c.start, sa.BigInteger)
        select = sa.select(periods.column(time), value, *_rolled(tag_rollups))
        clauses += _among(value, values)
        rows = connection.execute(select.where(*clauses).group_by("bucket", value))
        periods.add(found, rows, 1, UNTAGGED)
    return found


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


class _Periods:
    """The periods between edges; without edges, one of all times."""

    def __init__(self, edges: Sequence[dt.datetime]) -> None:
        self._marks = [utc_ms(edge) for edge in edges] or [0, 0]
        # The widest bucket that no edge cuts: days, or hours where a clock changes.
        first = self._marks[0]
        self._step = math.gcd(*(mark - first for mark in self._marks)) if edges else 0

    def column(self, time: sa.ColumnElement[t.Any]) -> sa.ColumnElement[t.Any]:
        if not self._step:
            return sa.literal_column("0").label("bucket")
        return quotient(time - self._marks[0], self._step).label("bucket")

    def add(
        self, found: _Found, rows: Iterable[sa.Row[t.Any]], width: int, nothing: str
    ) -> None:
        marks, step = self._marks, self._step
        for row in rows:
            key = tuple(value or nothing for value in row[1 : 1 + width])
            parts = found.setdefault(key, [_ZERO] * (len(marks) - 1))
            period = bisect_right(marks, marks[0] + int(row[0]) * step) - 1
            period, more = (period if step else 0), totals_of(row)
            # Mostly the first; adding costs more than reading a row.
            parts[period] = more if parts[period] is _ZERO else parts[period] + more


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
"""What totals can be broken down by, beside tags and time."""


def _column(name: str) -> sa.ColumnElement[t.Any]:
    try:
        return BREAKDOWNS[name]
    except KeyError:
        raise FilterError(
            "by", f"{name[:40]!r} is not one of {', '.join(BREAKDOWNS)}."
        ) from None


def tag_column(key: str) -> tuple[sa.ColumnElement[t.Any], sa.FromClause]:
    """The value of a tag (NULL without one), and what to select it from.

    :raises FilterError: If ``key`` can be no tag's.
    """
    if key == TRACE_KEY:
        return calls.c.trace_id, calls
    carried = sa.and_(
        tag_values.c.tag_set_id == calls.c.tag_set_id,
        same(tag_values.c.key, tag_key(key)),
    )
    return tag_values.c.value, calls.outerjoin(tag_values, carried)


def groups(found: Iterable[tuple[tuple[str, ...], Totals]]) -> tuple[Group, ...]:
    """The rows of a breakdown, the dearest first; rows of the same key are added up."""
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
"""The columns of a question that adds up calls; :func:`totals_of` reads them."""


def _rolled(table: sa.Table) -> list[sa.ColumnElement[t.Any]]:
    """The same of what is added up already."""
    return [
        *(sa.func.sum(table.c[name]).label(name) for name in COUNTS),
        *(half for name in AMOUNTS for half in _split_sum(name, table.c[name])),
    ]


def totals_of(row: sa.Row[t.Any]) -> Totals:
    """What a row that selects :data:`MEASURES` adds up to."""
    # A sum is a Decimal on PostgreSQL and MariaDB, and NULL over nothing.
    values = row._mapping
    found = {name: int(values[name] or 0) for name in COUNTS}
    for name, column in _MONEY.items():
        whole, rest = values[f"{column}_q"] or 0, values[f"{column}_r"] or 0
        found[name] = int(whole) * 1_000_000 + int(rest)
    return Totals(**found)
