"""``llm_cost.calls``: questions to the ledger, put together step by step."""

from __future__ import annotations

import datetime as dt
import functools
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import nullcontext
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import day_start
from ..calendar import edges
from ..calendar import first_day
from ..calendar import from_ms
from ..calendar import next_first_day
from ..calendar import Span
from ..calendar import utc_ms
from ..config import Settings
from ..db import tables
from ..errors import FilterError
from ..tags import as_text
from . import listing
from . import sessions
from . import sources
from . import totals
from .filters import CallFilter
from .filters import MAX_DAYS
from .listing import CallRow
from .listing import Reading
from .sessions import Session
from .totals import Totals

_DAY: t.Final = dt.timedelta(days=1)
_MS: t.Final = dt.timedelta(milliseconds=1)

_PERIODS: t.Final = ("hour", "day", "month")

_Answer = t.TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class CallQuery:
    """A question about calls, which each method narrows or answers.

    It never changes: a method that narrows returns a new question, so that one can be
    kept and asked again. Days, weeks and months are those of ``LLM_COST_TIMEZONE``.
    Sums hold what is known; :meth:`totals` says of how many calls the cost is not.

    .. code-block:: python

        llm_cost.calls.this_month().by_tag("feature", "chat").cost_by("model")
    """

    reading: Reading = field(repr=False)
    settings: Settings = field(repr=False)
    now: Callable[[], dt.datetime] = field(repr=False)
    filter: CallFilter = CallFilter()
    """What is asked so far."""

    def __post_init__(self) -> None:
        where = replace(self.filter, zone=self.settings.timezone)
        object.__setattr__(self, "filter", where)

    # When

    def between(
        self, start: dt.date | dt.datetime, end: dt.date | dt.datetime
    ) -> CallQuery:
        """Calls sent from ``start`` to ``end``, both included.

        :param start: A date (from its beginning) or an aware datetime.
        :param end: A date (to its end) or an aware datetime.
        :raises FilterError: For a datetime without a zone, or if ``start`` is later.
        """
        if isinstance(start, dt.datetime):
            first = _aware(start)
        else:
            first = day_start(start, self._zone)
        if isinstance(end, dt.datetime):
            last = from_ms(utc_ms(_aware(end))) + _MS
        else:
            last = day_start(end + _DAY, self._zone)
        if first >= last:
            raise FilterError("between", f"{start} is after {end}; swap them.")
        return replace(self, filter=self.filter.between(first, last))

    def today(self) -> CallQuery:
        """Calls of the current day."""
        return self.current("day")

    def this_week(self) -> CallQuery:
        """Calls of the current week, which begins on ``LLM_COST_WEEK_START``."""
        return self.current("week")

    def this_month(self) -> CallQuery:
        """Calls of the current calendar month."""
        return self.current("month")

    def current(self, span: Span) -> CallQuery:
        """Calls of the current calendar day, week, month or year."""
        first = first_day(span, self._today(), self.settings.week_start)
        return self.between(first, next_first_day(span, first) - _DAY)

    def last(self, days: int = 30) -> CallQuery:
        """Calls of so many days, of which today is the last.

        :raises FilterError: If ``days`` is not 1 to 3660.
        """
        _whole("days", days, MAX_DAYS)
        today = self._today()
        return self.between(today - (days - 1) * _DAY, today)

    @contextmanager
    def pinned(self) -> Iterator[CallQuery]:
        """The same question in one transaction, so that all its answers agree."""
        where = self.filter
        with self.reading(since=where.start, until=where.end) as connection:
            yield replace(self, reading=lambda **_: nullcontext(connection))

    # Which

    def where(
        self,
        *,
        provider: str | None = None,
        model: str | None = None,
        stream: bool | None = None,
        usage_source: str | None = None,
        outcome: str | None = None,
        trace_id: str | None = None,
    ) -> CallQuery:
        """Calls with exactly these values; one left out may be anything.

        :raises FilterError: For a ``usage_source`` or ``outcome`` that does not exist.
        """
        return self._narrowed(
            provider=provider,
            model=model,
            stream=stream,
            usage_source=usage_source,
            outcome=outcome,
            trace_id=trace_id,
        )

    def by_tag(self, key: str, value: t.Any) -> CallQuery:
        """Calls that carry this tag with exactly this value.

        :raises FilterError: If ``key`` can be no tag's.
        """
        return self._narrowed(tags=((key, as_text(value)),))

    def by_tags(self, **tags: t.Any) -> CallQuery:
        """Calls that carry all of these tags; all calls if there are none."""
        return self._narrowed(
            tags=tuple((key, as_text(value)) for key, value in tags.items())
        )

    def priced(self) -> CallQuery:
        """Calls whose cost is known."""
        return self._narrowed(priced=True)

    def unpriced(self) -> CallQuery:
        """Calls that may have cost something, nobody knows how much.

        An attempt that was refused or never answered, and brought no usage, is neither
        priced nor unpriced.
        """
        return self._narrowed(unpriced=True)

    def untagged(self) -> CallQuery:
        """Calls without any tag."""
        return self._narrowed(untagged=True)

    def with_latency(self) -> CallQuery:
        """Calls whose latency is known."""
        return self._narrowed(with_latency=True)

    def missing_usage(self) -> CallQuery:
        """Calls of which nobody knows what they used."""
        return self._narrowed(missing_usage=True)

    def missing_response_id(self) -> CallQuery:
        """Calls without the provider's id of the response."""
        return self._narrowed(missing_response_id=True)

    # Answers

    def count(self) -> int:
        """How many, as :meth:`totals` has it: with those that were pruned, where their
        sums tell. :meth:`rows` lists those that are still there."""
        return self.totals().calls

    def pruned_before(self, *by: str) -> dt.datetime | None:
        """Until when an answer lacks calls that were pruned; ``None`` if it lacks none.

        :param by: What is asked for. Left out: :meth:`totals` and what comes of them;
            else a name as for :meth:`group_by`, ``"tag:KEY"`` for what the values of a
            tag cost, ``"session"`` for sessions, or ``"event_id"`` for :meth:`rows`
            and :meth:`select`.
        """
        return self._ask(sources.pruned_before, by)

    def totals(self) -> Totals:
        """Everything added up: calls, money, tokens, and what is not known."""
        return self._ask(totals.totals)

    def total_cost(self) -> Decimal:
        """The sum of the known costs in USD, exactly."""
        return self.totals().spend_usd

    def total_tokens(self) -> int:
        """Every input and output token."""
        return self.totals().total_tokens

    def average_latency_ms(self) -> float | None:
        """The mean of the known latencies; ``None`` if there are none."""
        return self.totals().average_latency_ms

    def cost_by(self, name: str) -> dict[str, Decimal]:
        """The known cost in USD by ``"model"``, ``"provider"``, ..., the dearest first.

        Where nothing is known of the cost, the name is left out: the values add up to
        :meth:`total_cost`, and no unpriced model looks free.

        :param name: One of :data:`.totals.BREAKDOWNS`.
        :raises FilterError: For another name.
        """
        return _costs(self.group_by(name))

    def cost_by_tag(self, key: str) -> dict[str, Decimal]:
        """The same by a tag's value; calls without it are ``"(untagged)"``.

        :raises FilterError: If ``key`` can be no tag's.
        """
        return _costs(self.group_by_tag(key))

    def group_by(self, name: str) -> dict[str, Totals]:
        """The totals by ``"model"``, ``"provider"``, ..., the dearest first.

        :param name: One of :data:`.totals.BREAKDOWNS`.
        :raises FilterError: For another name.
        """
        rows = self._ask(totals.breakdown, name)
        return {row.key[0]: row.totals for row in rows}

    def group_by_tag(self, key: str) -> dict[str, Totals]:
        """The totals by a tag's value; calls without it are ``"(untagged)"``.

        :raises FilterError: If ``key`` can be no tag's.
        """
        rows = self._ask(totals.tag_breakdown, key)
        return {row.key[0]: row.totals for row in rows}

    def group_by_period(self, period: str) -> dict[str, Totals]:
        """The totals of every hour, day or month, the oldest first, zeros included.

        The series covers the range asked for; an open end is that of the calls.

        :param period: ``"hour"``, ``"day"`` or ``"month"``.
        :return: By ``2026-11``, ``2026-11-22`` or ``2026-11-22T13:00+01:00``.
        :raises FilterError: For another period.
        """
        if period not in _PERIODS:
            raise FilterError(
                "period", f"{period!r} is not one of {', '.join(_PERIODS)}."
            )
        return self._ask(_by_period, t.cast(Span, period))

    def daily_costs(self, days: int | None = None) -> dict[str, Decimal]:
        """The known cost in USD of every day, the oldest first, zeros included.

        :param days: So many days up to today. Left out: the days of the range asked
            for, or the last 30.
        :return: By ``2026-11-22``.
        :raises FilterError: If ``days`` is not 1 to 3660.
        """
        query = self
        if days is not None or self.filter.start is None:
            query = self.last(days=30 if days is None else days)
        found = query.group_by_period("day")
        return {day: part.spend_usd for day, part in found.items()}

    def latency_by(self, name: str) -> dict[str, float]:
        """The mean of the known latencies in ms by ``"model"`` or ``"provider"``.

        :raises FilterError: For a name that is not one of :data:`.totals.BREAKDOWNS`.
        """
        means = {
            key: part.average_latency_ms for key, part in self.group_by(name).items()
        }
        known = [(key, mean) for key, mean in means.items() if mean is not None]
        return dict(sorted(known, key=lambda pair: -pair[1]))

    def sessions(self, limit: int = 50) -> tuple[Session, ...]:
        """What each session cost, the dearest first.

        A session is a value of the tag ``LLM_COST_SESSION_TAG``; its name comes from
        ``LLM_COST_SESSION_NAMES``.

        :raises FilterError: If ``limit`` is not 1 to 10000.
        """
        _whole("limit", limit, 10_000)
        ask = functools.partial(
            sessions.sessions,
            key=self.settings.session_tag,
            limit=limit,
            names=self.settings.session_names,
        )
        return self._ask(ask)

    def rows(self, limit: int = 50, after: str | None = None) -> list[CallRow]:
        """The calls themselves, the latest first.

        :param after: The ``event_id`` of the last row that was seen: go on after it.
        :raises FilterError: If ``limit`` is not 1 to 10000, or ``after`` is no event id.
        """
        _whole("limit", limit, 10_000)
        return self._ask(listing.latest, limit, after)

    def select(self) -> sa.Select[t.Any]:
        """A SELECT of the stored columns of these calls, for anything else.

        Run it on a connection of ``reading()``, or on one of your own.
        """
        chosen: t.Any = sa.select(tables.calls).where(*self.filter.clauses())
        return t.cast("sa.Select[t.Any]", chosen)

    @property
    def _zone(self) -> dt.tzinfo:
        return self.settings.timezone

    def _today(self) -> dt.date:
        return self.now().astimezone(self._zone).date()

    def _narrowed(self, **more: t.Any) -> CallQuery:
        return replace(self, filter=self.filter.narrowed(**more))

    def _ask(self, question: Callable[..., _Answer], *more: t.Any) -> _Answer:
        where = self.filter
        with self.reading(since=where.start, until=where.end) as connection:
            return question(connection, where, *more)


def _by_period(
    connection: sa.Connection, where: CallFilter, span: Span
) -> dict[str, Totals]:
    bounds = _bounds(connection, where)
    if bounds is None:
        return {}
    marks = edges(span, *bounds, where.zone)
    return {
        _label(span, start.astimezone(where.zone)): part
        for start, part in zip(
            marks, totals.series(connection, where, marks), strict=False
        )
    }


def _bounds(
    connection: sa.Connection, where: CallFilter
) -> tuple[dt.date, dt.date] | None:
    """The days that a series covers."""
    first, last = where.first_day, where.last_day
    if first is None or last is None:
        found = [
            moment.astimezone(where.zone).date()
            for part in (
                listing.time_range(connection, where),
                sources.pruned_range(connection, where),
            )
            for moment in part or ()
        ]
        if not found:
            return None
        first = first or min(found)
        last = last or max(found)
    return first, last


def _label(span: Span, start: dt.datetime) -> str:
    # Text, and not the moment: two hours of one clock time in autumn are equal keys.
    if span == "hour":
        return start.isoformat(timespec="minutes")
    day = start.date().isoformat()
    return day[:7] if span == "month" else day


def _aware(moment: dt.datetime) -> dt.datetime:
    if moment.tzinfo is None:
        raise FilterError(
            "between", f"{moment} has no time zone; give an aware datetime or a date."
        )
    return moment.astimezone(dt.UTC)


def _whole(name: str, value: object, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
        raise FilterError(name, f"{value!r} is no whole number from 1 to {most}.")


def _costs(found: dict[str, Totals]) -> dict[str, Decimal]:
    return {key: part.spend_usd for key, part in found.items() if part.priced}
