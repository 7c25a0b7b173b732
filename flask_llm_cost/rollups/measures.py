"""The measures of rollups: how each is computed from calls.

Rollups and queries use the same definitions.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

import sqlalchemy as sa

from ..call import REPORTED
from ..call import SILENT_OUTCOMES
from ..db.sql import capped_sum
from ..db.sql import whole_sum
from ..db.tables import calls
from ..db.tables import COST_GROUPS

_c: t.Final = calls.c

FAILED: t.Final[sa.ColumnElement[bool]] = sa.and_(
    _c.cost_total.is_(None),
    _c.total_input_tokens.is_(None),
    _c.outcome.in_(SILENT_OUTCOMES),
)
"""The attempt was rejected or never answered, and has no usage."""

UNPRICED: t.Final[sa.ColumnElement[bool]] = sa.and_(
    _c.cost_total.is_(None),
    sa.or_(_c.outcome.not_in(SILENT_OUTCOMES), _c.total_input_tokens.is_not(None)),
)
"""The call may have cost something, but its cost is not known. Every call is either priced,
estimated, unpriced or failed."""

ESTIMATED: t.Final[sa.ColumnElement[bool]] = sa.and_(
    _c.usage_source == "estimated", _c.cost_source.not_in(REPORTED)
)
"""The cost is that of estimated usage, which totals show separately. A cost that the
provider or a bill states is not an estimate."""

_not_estimated: t.Final = sa.or_(
    _c.usage_source != "estimated", _c.cost_source.in_(REPORTED)
)

INCOMPLETE: t.Final[sa.ColumnElement[bool]] = sa.and_(
    _c.cost_complete.is_(sa.false()), _not_estimated
)
"""The cost is known in part."""

CEILING: t.Final[sa.ColumnElement[t.Any]] = sa.case(
    (_c.cost_complete, _c.cost_total), else_=_c.cost_ceiling
)
"""The most that a call can have cost in pico-USD; NULL if there is no known limit."""

_open: t.Final = CEILING - sa.case((_not_estimated, _c.cost_total), else_=0)
"""How much more than ``cost_total`` counts a call can have cost at most."""
_tokens: t.Final = _c.total_input_tokens + _c.total_output_tokens


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[t.Any]:
    return sa.func.count(sa.case((condition, 1)))


COUNTS: t.Final[Mapping[str, sa.ColumnElement[t.Any]]] = {
    "calls": sa.func.count(),
    "priced": _count(sa.and_(_c.cost_total.is_not(None), _not_estimated)),
    "unpriced": _count(UNPRICED),
    "unpriced_with_usage": _count(
        sa.and_(UNPRICED, _c.total_input_tokens.is_not(None))
    ),
    "unpriced_tokens": whole_sum(sa.case((UNPRICED, _tokens))),
    "incomplete": _count(INCOMPLETE),
    "unbounded": _count(sa.and_(_c.cost_total.is_not(None), CEILING.is_(None))),
    "failed": _count(FAILED),
    "estimated": _count(ESTIMATED),
    "estimated_tokens": whole_sum(sa.case((ESTIMATED, _tokens))),
    "with_usage": sa.func.count(_c.total_input_tokens),
    "input_tokens": whole_sum(_c.total_input_tokens),
    "output_tokens": whole_sum(_c.total_output_tokens),
    "cache_read_tokens": whole_sum(_c.cache_read_tokens),
    "cache_write_tokens": whole_sum(_c.cache_write_tokens + _c.cache_write_1h_tokens),
    "reasoning_tokens": whole_sum(_c.reasoning_tokens),
    "with_latency": sa.func.count(_c.latency_ms),
    "latency_sum_ms": whole_sum(_c.latency_ms),
}
"""The measures that are not money, as aggregates of calls."""

AMOUNTS: t.Final[Mapping[str, sa.ColumnElement[t.Any]]] = {
    **{
        name: sa.case((_not_estimated, _c[name]))
        for name in ("cost_total", *COST_GROUPS)
    },
    "cost_estimated": sa.case((ESTIMATED, _c.cost_total)),
    "cost_open": _open,
}
"""The measures of money: the pico-USD of one call that each sums."""

MEASURES: t.Final[Mapping[str, sa.ColumnElement[t.Any]]] = {
    **COUNTS,
    **{name: capped_sum(amount) for name, amount in AMOUNTS.items()},
}
"""All of :data:`.tables.MEASURES`, as aggregates of the calls of an hour or a day. (Over any
number of calls, money has to be summed in two parts: see ``db.sql.split_sum``.)"""


def latency_bucket(ms: int) -> int:
    """Return the lower bound of a latency's bucket: 32 buckets per doubling."""
    if ms < 64:
        return ms
    if ms >= 2**31:
        return 2**31
    return ms - ms % (1 << ms.bit_length() - 6)
