"""What calls are added up to: the one definition, for sums that are kept and asked for."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

import sqlalchemy as sa

from ..call import SILENT_OUTCOMES
from ..db.tables import calls

_c: t.Final = calls.c

FAILED: t.Final[sa.ColumnElement[bool]] = sa.and_(
    _c.cost_total.is_(None),
    _c.total_input_tokens.is_(None),
    _c.outcome.in_(SILENT_OUTCOMES),
)
"""The attempt was refused or never answered, and brought no usage."""

UNPRICED: t.Final[sa.ColumnElement[bool]] = sa.and_(
    _c.cost_total.is_(None),
    sa.or_(_c.outcome.not_in(SILENT_OUTCOMES), _c.total_input_tokens.is_not(None)),
)
"""No cost is known, and there may be one. Every call is priced, estimated, unpriced
or failed."""

ESTIMATED: t.Final[sa.ColumnElement[bool]] = sa.and_(
    _c.cost_total.is_not(None), _c.usage_source == "estimated"
)
"""It has a cost, of usage that was estimated: totals show it apart."""

_told: t.Final = _c.usage_source != "estimated"


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[t.Any]:
    return sa.func.count(sa.case((condition, 1)))


COUNTS: t.Final[Mapping[str, sa.ColumnElement[t.Any]]] = {
    "calls": sa.func.count(),
    "priced": _count(sa.and_(_c.cost_total.is_not(None), _told)),
    "unpriced": _count(UNPRICED),
    "unpriced_with_usage": _count(
        sa.and_(UNPRICED, _c.total_input_tokens.is_not(None))
    ),
    "unpriced_tokens": sa.func.sum(
        sa.case((UNPRICED, _c.total_input_tokens + _c.total_output_tokens))
    ),
    "incomplete": _count(sa.and_(_c.cost_complete.is_(sa.false()), _told)),
    "failed": _count(FAILED),
    "estimated": _count(ESTIMATED),
    "estimated_tokens": sa.func.sum(
        sa.case((ESTIMATED, _c.total_input_tokens + _c.total_output_tokens))
    ),
    "with_usage": sa.func.count(_c.total_input_tokens),
    "input_tokens": sa.func.sum(_c.total_input_tokens),
    "output_tokens": sa.func.sum(_c.total_output_tokens),
    "cache_read_tokens": sa.func.sum(_c.cache_read_tokens),
    "cache_write_tokens": sa.func.sum(_c.cache_write_tokens + _c.cache_write_1h_tokens),
    "reasoning_tokens": sa.func.sum(_c.reasoning_tokens),
    "with_latency": sa.func.count(_c.latency_ms),
    "latency_sum_ms": sa.func.sum(_c.latency_ms),
}
"""How each sum that is no money is found from calls."""

AMOUNTS: t.Final[Mapping[str, sa.ColumnElement[t.Any]]] = {
    **{
        name: sa.case((_told, _c[name]))
        for name in (
            "cost_total",
            "cost_input",
            "cost_cache_read",
            "cost_cache_write",
            "cost_output",
            "cost_units",
        )
    },
    "cost_estimated": sa.case((ESTIMATED, _c.cost_total)),
}
"""The pico-USD of one call that each sum of money adds up."""

MEASURES: t.Final[Mapping[str, sa.ColumnElement[t.Any]]] = {
    **COUNTS,
    **{name: sa.func.sum(amount) for name, amount in AMOUNTS.items()},
}
"""How each of :data:`.tables.MEASURES` is found from the calls of an hour or a day. (Over
any number of calls money has to be added up in two parts: see ``query/totals.py``.)"""


def latency_bucket(ms: int) -> int:
    """The lower end of the bucket that a latency falls in: 32 for each doubling."""
    if ms < 64:
        return ms
    if ms >= 2**31:
        return 2**31
    return ms - ms % (1 << ms.bit_length() - 6)
