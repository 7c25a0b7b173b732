"""``llm_cost.calls``: chainable queries of the ledger."""

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

from ..calendar import DAY
from ..calendar import day_start
from ..calendar import edges
from ..calendar import first_day
from ..calendar import from_ms
from ..calendar import local_day
from ..calendar import next_first_day
from ..calendar import Span
from ..calendar import utc_ms
from ..config import Settings
from ..db import tables
from ..errors import FilterError
from ..tags import as_text
from . import aggregate
from . import listing
from . import sessions
from . import sources
from .filters import CallFilter
from .filters import MAX_DAYS
from .listing import CallRow
from .listing import Reader
from .sessions import Session
from .totals import Totals

_MS: t.Final = dt.timedelta(milliseconds=1)

_PERIODS: t.Final = ("hour", "day", "month")

_Answer = t.TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class CallQuery:
    """A query of calls. Each method narrows or answers it.

    A query is immutable: methods that narrow it return a new one. Days, weeks and months
    are those of ``LLM_COST_TIMEZONE``. Costs are what is known; :meth:`totals` counts the
    calls whose cost is unknown.

    .. code-block:: python

        llm_cost.calls.this_month().by_tag("feature", "chat").cost_by("model")
    """

    reading: Reader = field(repr=False)
    settings: Settings = field(repr=False)
    now: Callable[[], dt.datetime] = field(repr=False)
    filter: CallFilter = CallFilter()
    """The conditions so far."""

    def __post_init__(self) -> None:
        where = replace(self.filter, zone=self.settings.timezone)
        object.__setattr__(self, "filter", where)

    # When

    def between(
        self, start: dt.date | dt.datetime, end: dt.date | dt.datetime
    ) -> CallQuery:
        """Select calls sent from ``start`` to ``end``, both included.

        :param start: A date (from its start) or an aware datetime.
        :param end: A date (to its end) or an aware datetime.
        :raises FilterError: For a datetime without a time zone, or if ``start`` is later.
        """
        if isinstance(start, dt.datetime):
            first = _aware(start)
        else:
            first = day_start(start, self._zone)
        if isinstance(end, dt.datetime):
            last = from_ms(utc_ms(_aware(end))) + _MS
        else:
            last = day_start(end + DAY, self._zone)
        if first >= last:
            raise FilterError("between", f"{start} is after {end}; swap them.")
        return replace(self, filter=self.filter.between(first, last))

    def today(self) -> CallQuery:
        """Select calls of the current day."""
        return self.current("day")

    def this_week(self) -> CallQuery:
        """Select calls of the current week, which starts on ``LLM_COST_WEEK_START``."""
        return self.current("week")

    def this_month(self) -> CallQuery:
        """Select calls of the current calendar month."""
        return self.current("month")

    def current(self, span: Span) -> CallQuery:
        """Select calls of the current calendar day, week, month or year."""
        first = first_day(span, self._today(), self.settings.week_start)
        return self.between(first, next_first_day(span, first) - DAY)

    def last(self, days: int = 30) -> CallQuery:
        """Select calls of the last days, today included.

        :raises FilterError: If ``days`` is not 1 to 3660.
        """
        _whole("days", days, MAX_DAYS)
        today = self._today()
        return self.between(today - (days - 1) * DAY, today)

    @contextmanager
    def pinned(self) -> Iterator[CallQuery]:
        """Answer in one transaction, so that all answers agree."""
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
        scope: str | None = None,
    ) -> CallQuery:
        """Select calls with exactly these values.

        :param scope: A scope, or a part of one, such as ``project=proj_1``.
        :raises FilterError: For a ``usage_source`` or ``outcome`` that does not exist.
        """
        return self._narrowed(
            provider=provider,
            model=model,
            stream=stream,
            usage_source=usage_source,
            outcome=outcome,
            trace_id=trace_id,
            scope=scope,
        )

    def by_tag(self, key: str, value: t.Any) -> CallQuery:
        """Select calls that have this tag with exactly this value.

        :raises FilterError: If ``key`` is not a valid tag key.
        """
        return self._narrowed(tags=((key, as_text(value)),))

    def by_tags(self, **tags: t.Any) -> CallQuery:
        """Select calls that have all of these tags."""
        return self._narrowed(
            tags=tuple((key, as_text(value)) for key, value in tags.items())
        )

    def priced(self) -> CallQuery:
        """Select calls whose cost is known."""
        return self._narrowed(priced=True)

    def unpriced(self) -> CallQuery:
        """Select calls that may have cost something, and whose cost is unknown.

        An attempt with an HTTP error or no response, and without usage, is neither
        priced nor unpriced.
        """
        return self._narrowed(unpriced=True)

    def incomplete(self) -> CallQuery:
        """Select calls whose cost is known in part, which is its minimum."""
        return self._narrowed(incomplete=True)

    def untagged(self) -> CallQuery:
        """Select calls without any tag."""
        return self._narrowed(untagged=True)

    def with_latency(self) -> CallQuery:
        """Select calls whose latency is known."""
        return self._narrowed(with_latency=True)

    def missing_usage(self) -> CallQuery:
        """Select calls whose usage is unknown."""
        return self._narrowed(missing_usage=True)

    def missing_response_id(self) -> CallQuery:
        """Select calls without the provider's response id."""
        return self._narrowed(missing_response_id=True)

    # Answers

    def count(self) -> int:
        """Return the number of calls, as :meth:`totals` does: pruned ones are included if
        rollups can answer. :meth:`rows` lists only those that were not pruned."""
        return self.totals().calls

    def pruned_before(self, *by: str) -> dt.datetime | None:
        """Return the time before which an answer excludes pruned calls, or ``None``.

        :param by: The kind of answer. By default :meth:`totals` and its parts; otherwise
            a name as for :meth:`group_by`, ``"tag:KEY"`` for the values of a tag,
            ``"session"`` for sessions, or ``"event_id"`` for :meth:`rows` and
            :meth:`select`.
        """
        return self._ask(sources.pruned_before, by)

    def totals(self) -> Totals:
        """Return all totals: calls, money, tokens, and what is unknown."""
        return self._ask(aggregate.totals)

    def total_cost(self) -> Decimal:
        """Return the exact sum of the known costs in USD."""
        return self.totals().spend_usd

    def total_tokens(self) -> int:
        """Return the number of input and output tokens."""
        return self.totals().total_tokens

    def average_latency_ms(self) -> float | None:
        """Return the mean of the known latencies; ``None`` if there are none."""
        return self.totals().average_latency_ms

    def cost_by(self, name: str) -> dict[str, Decimal]:
        """Return the known cost in USD by ``"model"``, ..., highest cost first.

        Names without any known cost are omitted: the values sum to :meth:`total_cost`,
        and no unpriced model looks free.

        :param name: One of :data:`.aggregate.BREAKDOWNS`.
        :raises FilterError: For another name.
        """
        return _costs(self.group_by(name))

    def cost_by_tag(self, key: str) -> dict[str, Decimal]:
        """Return the known cost in USD by a tag's value; other calls are ``"(untagged)"``.

        :raises FilterError: If ``key`` is not a valid tag key.
        """
        return _costs(self.group_by_tag(key))

    def group_by(self, name: str) -> dict[str, Totals]:
        """Return the totals by ``"model"``, ``"provider"``, ..., highest cost first.

        :param name: One of :data:`.aggregate.BREAKDOWNS`.
        :raises FilterError: For another name.
        """
        rows = self._ask(aggregate.breakdown, name)
        return {row.key[0]: row.totals for row in rows}

    def group_by_tag(self, key: str) -> dict[str, Totals]:
        """Return the totals by a tag's value; other calls are ``"(untagged)"``.

        :raises FilterError: If ``key`` is not a valid tag key.
        """
        rows = self._ask(aggregate.tag_breakdown, key)
        return {row.key[0]: row.totals for row in rows}

    def group_by_period(self, period: str) -> dict[str, Totals]:
        """Return the totals of every hour, day or month, oldest first, including empty ones.

        The series covers the selected range; an open range is that of the calls.

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
        """Return the known cost in USD of every day, oldest first, including empty ones.

        :param days: The number of days up to today. By default, those of the selected
            range, or the last 30.
        :return: By ``2026-11-22``.
        :raises FilterError: If ``days`` is not 1 to 3660.
        """
        query = self
        if days is not None or self.filter.start is None:
            query = self.last(days=30 if days is None else days)
        found = query.group_by_period("day")
        return {day: part.spend_usd for day, part in found.items()}

    def latency_by(self, name: str) -> dict[str, float]:
        """Return the mean of the known latencies in ms by ``"model"``, ``"provider"``, ...

        :raises FilterError: For a name that is not one of :data:`.aggregate.BREAKDOWNS`.
        """
        means = {
            key: part.average_latency_ms for key, part in self.group_by(name).items()
        }
        known = [(key, mean) for key, mean in means.items() if mean is not None]
        return dict(sorted(known, key=lambda pair: -pair[1]))

    def sessions(self, limit: int = 50) -> tuple[Session, ...]:
        """Return what each session cost, highest cost first.

        A session is a value of the tag ``LLM_COST_SESSION_TAG``, and its name is returned
        by ``LLM_COST_SESSION_NAMES``.

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
        """Return the calls themselves, latest first.

        :param after: The ``event_id`` of the last row of the previous page.
        :raises FilterError: If ``limit`` is not 1 to 10000, or ``after`` not an event id.
        """
        _whole("limit", limit, 10_000)
        return self._ask(listing.latest, limit, after)

    def select(self) -> sa.Select[t.Any]:
        """Return a SELECT of the stored columns of these calls, for anything else.

        Execute it on a connection of ``reading()``, or on one of your own.
        """
        chosen: t.Any = sa.select(tables.calls).where(*self.filter.clauses())
        return t.cast("sa.Select[t.Any]", chosen)

    @property
    def _zone(self) -> dt.tzinfo:
        return self.settings.timezone

    def _today(self) -> dt.date:
        return local_day(self.now(), self._zone)

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
    starts = edges(span, *bounds, where.zone)
    found = aggregate.series(connection, where, starts)
    return {
        _label(span, start.astimezone(where.zone)): part
        for start, part in zip(starts, found, strict=False)
    }


def _bounds(
    connection: sa.Connection, where: CallFilter
) -> tuple[dt.date, dt.date] | None:
    """Return the first and the last day of a series."""
    first, last = where.first_day, where.last_day
    if first is None or last is None:
        found = [
            local_day(moment, where.zone)
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
    # A text: the two hours of one local time in autumn would be equal as keys.
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
        raise FilterError(name, f"{value!r} is not a whole number from 1 to {most}.")


def _costs(found: dict[str, Totals]) -> dict[str, Decimal]:
    return {key: part.spend_usd for key, part in found.items() if part.priced}
