"""What BillingStore told of its files, with its keys: of calls, one after the other.

Over a database the same is asked in SQL (:mod:`flask_llm_cost.cli.summary`); a test sees
that both say the same.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal

from ..call import Call

PERIODS: t.Final = ("day", "week", "month", "year", "all")
UNKNOWN: t.Final = "unknown"
"""The session of calls that belong to none."""
DELETED: t.Final = "_deleted_"
"""All sessions together that have no name."""

Names: t.TypeAlias = Callable[[Sequence[str]], Mapping[str, str]]

_DAY: t.Final = dt.timedelta(days=1)
_MICRO: t.Final = Decimal("0.000001")
_WEEKDAYS: t.Final = {"monday": 0, "sunday": 6, "saturday": 5}


@dataclass(slots=True)
class Tally:
    """What some calls add up to."""

    calls: int = 0
    priced: int = 0
    unpriced: int = 0
    incomplete: int = 0
    estimated: int = 0
    spend: Decimal = Decimal(0)
    estimated_cost: Decimal = Decimal(0)
    prompt: int = 0
    completion: int = 0
    cache_read: int = 0
    cache_write: int = 0
    first: dt.datetime | None = None
    last: dt.datetime | None = None
    models: set[str] = field(default_factory=set)

    def add(self, call: Call) -> None:
        """Add one call."""
        self.calls += 1
        self.models.add(call.model)
        self.first = min(self.first or call.started_at, call.started_at)
        self.last = max(self.last or call.started_at, call.started_at)
        self._add_cost(call)
        usage = call.usage
        if usage is not None:
            written = usage.cache_write_tokens + usage.cache_write_1h_tokens
            self.prompt += usage.total_input_tokens - written
            self.completion += usage.total_output_tokens
            self.cache_read += usage.cache_read_tokens
            self.cache_write += written

    def _add_cost(self, call: Call) -> None:
        if call.cost is None:
            self.unpriced += call.unpriced
        elif call.usage_source == "estimated":
            self.estimated += 1
            self.estimated_cost += call.cost.total_usd
        else:
            self.priced += 1
            self.incomplete += not call.cost.complete
            self.spend += call.cost.total_usd

    @property
    def cost(self) -> Decimal | None:
        """``None`` if calls may have cost something and no price is known."""
        known = self.priced or not (self.unpriced or self.estimated)
        return self.spend if known else None

    def tokens(self) -> dict[str, int]:
        """A prompt holds what was read from a cache, and not what was written to one."""
        return {
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "cache_read_tokens": self.cache_read,
            "cache_write_tokens": self.cache_write,
        }

    def unsure(self) -> dict[str, t.Any]:
        """What the cost lacks."""
        return {
            "unpriced": self.unpriced,
            "incomplete": self.incomplete,
            "estimated": self.estimated,
            "estimated_cost": _micro(self.estimated_cost),
        }


def first_day(period: str, today: dt.date, week_start: str) -> dt.date | None:
    """When the current day, week, month or year began; ``None`` for ``"all"``.

    :raises ValueError: For another period.
    """
    if period not in PERIODS:
        raise ValueError(f"period: {period!r} is not one of {', '.join(PERIODS)}")
    if period == "week":
        return today - (today.weekday() - _WEEKDAYS[week_start]) % 7 * _DAY
    if period == "month":
        return today.replace(day=1)
    if period == "year":
        return today.replace(month=1, day=1)
    return today if period == "day" else None


def summary(
    calls: Iterable[Call],
    *,
    period: str,
    start: dt.datetime | None,
    now: dt.datetime,
    zone: dt.tzinfo,
) -> dict[str, t.Any]:
    """The totals of a period, by model and by day too."""
    whole = Tally()
    models: dict[str, Tally] = {}
    days: dict[str, Tally] = {}
    for call in calls:
        day = call.started_at.astimezone(zone).date().isoformat()
        for tally in (
            whole,
            models.setdefault(call.model, Tally()),
            days.setdefault(day, Tally()),
        ):
            tally.add(call)
    return {
        "period": period,
        "from": None if start is None else start.astimezone(zone).isoformat(),
        "to": now.astimezone(zone).isoformat(timespec="seconds"),
        "total_cost": _micro(whole.cost),
        **whole.tokens(),
        "by_model": {
            model: {
                "cost": tally.cost,
                "prompt_tokens": tally.prompt,
                "completion_tokens": tally.completion,
                "requests": tally.calls,
            }
            for model, tally in sorted(models.items(), key=_dearest)
        },
        "by_day": {day: tally.cost for day, tally in sorted(days.items())},
        "record_count": whole.calls,
        **whole.unsure(),
    }


def session_summary(
    calls: Iterable[Call],
    *,
    tag: str,
    names: Names | None,
    limit: int,
    zone: dt.tzinfo,
) -> list[dict[str, t.Any]]:
    """What each session cost, the dearest first.

    :param names: Without it no session has a name, and none counts as deleted.
    """
    found: dict[str, list[Call]] = {}
    for call in calls:
        found.setdefault(call.tags.get(tag) or UNKNOWN, []).append(call)
    known: Mapping[str, str] = {}
    if names is not None:
        known = names([key for key in found if key != UNKNOWN])
    tallies: dict[str, Tally] = {}
    for key, its in found.items():
        gone = names is not None and key not in known and key != UNKNOWN
        tally = tallies.setdefault(DELETED if gone else key, Tally())
        for call in its:
            tally.add(call)
    ranked = sorted(tallies.items(), key=lambda kv: (-kv[1].spend, -kv[1].calls, kv[0]))
    return [_session(key, tally, known, zone) for key, tally in ranked[:limit]]


def _session(
    key: str, tally: Tally, known: Mapping[str, str], zone: dt.tzinfo
) -> dict[str, t.Any]:
    assert tally.first is not None
    assert tally.last is not None
    return {
        "session_id": key,
        "session_name": known.get(key),
        "is_deleted": key == DELETED,
        "total_cost": _micro(tally.cost),
        **tally.tokens(),
        "requests": tally.calls,
        "first_request": tally.first.astimezone(zone).isoformat(timespec="seconds"),
        "last_request": tally.last.astimezone(zone).isoformat(timespec="seconds"),
        "models": sorted(tally.models),
        **tally.unsure(),
    }


def daily_breakdown(
    calls: Iterable[Call], *, first: dt.date, last: dt.date, zone: dt.tzinfo
) -> list[dict[str, t.Any]]:
    """Every day from one to another, those without calls too."""
    count = (last - first).days + 1
    days = {first + n * _DAY: Tally() for n in range(count)}
    for call in calls:
        days[call.started_at.astimezone(zone).date()].add(call)
    return [_day(day, tally) for day, tally in days.items()]


def _day(day: dt.date, tally: Tally) -> dict[str, t.Any]:
    tokens = tally.tokens()
    return {
        "date": day.isoformat(),
        "cost": _micro(tally.cost),
        "tokens": tokens.pop("total_tokens"),
        **tokens,
        "requests": tally.calls,
        **tally.unsure(),
    }


def _dearest(item: tuple[str, Tally]) -> tuple[t.Any, ...]:
    key, tally = item
    return tally.cost is None, -tally.spend, -tally.estimated_cost, -tally.calls, key


def _micro(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else amount.quantize(_MICRO)
