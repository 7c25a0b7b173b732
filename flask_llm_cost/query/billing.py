"""The answers of Clacky's BillingStore, with its keys, over any storage."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from decimal import ROUND_CEILING

from ..calendar import iso
from ..calendar import Span
from ..calendar import SPANS
from ..money import own_context
from .calls import CallQuery
from .sessions import Session
from .totals import Totals

PERIODS: t.Final = (*(span for span in SPANS if span != "hour"), "all")

_MICRO: t.Final = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Summary:
    """The current day, week, month or year to date, or all calls."""

    period: str
    start: dt.datetime | None
    """``None`` for all calls."""
    now: dt.datetime
    totals: Totals
    models: Mapping[str, Totals]
    """Highest cost first."""
    days: Mapping[str, Totals]
    """Days that have calls, oldest first."""
    pruned_before: dt.datetime | None
    """Calls before this were pruned, and are missing."""

    def to_json(self) -> dict[str, t.Any]:
        """Return it with BillingStore's keys. Costs are ``Decimal``."""
        return {
            "period": self.period,
            "from": None if self.start is None else self.start.isoformat(),
            "to": self.now.isoformat(timespec="seconds"),
            "total_cost": _micro(self.totals.cost_usd),
            **_tokens(self.totals),
            "by_model": {
                model: {
                    "cost": totals.cost_usd,
                    "prompt_tokens": totals.prompt_tokens,
                    "completion_tokens": totals.output_tokens,
                    "requests": totals.calls,
                }
                for model, totals in self.models.items()
            },
            "by_day": {day: totals.cost_usd for day, totals in self.days.items()},
            "record_count": self.totals.calls,
            **_gaps(self.totals),
            "pruned_before": iso(self.pruned_before),
        }


def summary(calls: CallQuery, period: str = "month") -> Summary:
    """Sum up the calls of the current period, by model and by day.

    :param calls: Which calls, such as ``llm_cost.calls.where(model=...)``.
    :param period: One of :data:`PERIODS`, in ``LLM_COST_TIMEZONE``.
    :raises ValueError: For another period.
    """
    with _current(calls, period).pinned() as asked:
        days = asked.group_by_period("day")
        return Summary(
            period=period,
            start=_local(asked, asked.filter.start),
            now=asked.now().astimezone(asked.filter.zone),
            totals=asked.totals(),
            models=asked.group_by("model"),
            days={day: totals for day, totals in days.items() if totals.calls},
            pruned_before=asked.pruned_before(),
        )


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """What each session of a period cost, highest cost first."""

    sessions: Sequence[Session]
    zone: dt.tzinfo
    pruned_before: dt.datetime | None
    """Calls before this were pruned, and are missing."""

    def to_json(self) -> list[dict[str, t.Any]]:
        """Return it with BillingStore's keys. Costs are ``Decimal``."""
        return [
            {
                "session_id": session.session_id,
                "session_name": session.name,
                "is_deleted": session.deleted,
                "total_cost": _micro(session.totals.cost_usd),
                **_tokens(session.totals),
                "requests": session.totals.calls,
                "first_request": self._time(session.first_at),
                "last_request": self._time(session.last_at),
                "models": list(session.models),
                **_gaps(session.totals),
                "pruned_before": iso(self.pruned_before),
            }
            for session in self.sessions
        ]

    def _time(self, moment: dt.datetime) -> str:
        return moment.astimezone(self.zone).isoformat(timespec="seconds")


def session_summary(
    calls: CallQuery, period: str = "month", limit: int = 50
) -> SessionSummary:
    """Sum up the sessions of the current period.

    :param calls: Which calls.
    :param period: One of :data:`PERIODS`, in ``LLM_COST_TIMEZONE``.
    :param limit: How many sessions at most.
    :raises ValueError: For another period.
    """
    with _current(calls, period).pinned() as asked:
        found, limit_at = asked.sessions(limit), asked.pruned_before("session")
        return SessionSummary(found, asked.filter.zone, limit_at)


@dataclass(frozen=True, slots=True)
class DailyBreakdown:
    """What each of the last days cost, oldest first."""

    days: Mapping[str, Totals]
    """Days without calls included."""
    pruned_before: dt.datetime | None
    """Calls before this were pruned, and are missing."""

    def to_json(self) -> list[dict[str, t.Any]]:
        """Return it with BillingStore's keys. Costs are ``Decimal``."""
        return [
            {
                "date": day,
                "cost": _micro(totals.cost_usd),
                "tokens": totals.prompt_tokens + totals.output_tokens,
                **{k: v for k, v in _tokens(totals).items() if k != "total_tokens"},
                "requests": totals.calls,
                **_gaps(totals),
            }
            for day, totals in self.days.items()
        ]


def daily_breakdown(calls: CallQuery, days: int = 30) -> DailyBreakdown:
    """Sum up each of the last days.

    :param calls: Which calls.
    :param days: How many days, today included.
    :raises FilterError: If that is not 1 to 3660.
    """
    with calls.last(days).pinned() as asked:
        return DailyBreakdown(asked.group_by_period("day"), asked.pruned_before())


def _current(calls: CallQuery, period: str) -> CallQuery:
    if period not in PERIODS:
        raise ValueError(f"period: {period!r} is not one of {', '.join(PERIODS)}")
    return calls if period == "all" else calls.current(t.cast(Span, period))


def _local(calls: CallQuery, moment: dt.datetime | None) -> dt.datetime | None:
    return None if moment is None else moment.astimezone(calls.filter.zone)


def _tokens(totals: Totals) -> dict[str, int]:
    return {
        "total_tokens": totals.prompt_tokens + totals.output_tokens,
        "prompt_tokens": totals.prompt_tokens,
        "completion_tokens": totals.output_tokens,
        "cache_read_tokens": totals.cache_read_tokens,
        "cache_write_tokens": totals.cache_write_tokens,
    }


def _gaps(totals: Totals) -> dict[str, t.Any]:
    """What the cost does not include, and the most it can be."""
    return {
        "unpriced": totals.unpriced,
        "incomplete": totals.incomplete,
        "unbounded": totals.unbounded,
        "estimated": totals.estimated,
        "estimated_cost": _micro(totals.estimated_usd),
        "ceiling": _micro(totals.ceiling_usd, ROUND_CEILING),
    }


@own_context
def _micro(amount: Decimal | None, rounding: str | None = None) -> Decimal | None:
    return None if amount is None else amount.quantize(_MICRO, rounding)
