"""What each customer, user or feature cost in a month, by model and meter.

The statement of a closed month uses the totals from when it was closed, so it never
changes. Later corrections are separate lines.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from collections import defaultdict
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import day_start
from ..calendar import next_first_day
from ..errors import FilterError
from ..money import add
from ..money import context
from ..money import from_pico
from ..money import multiply
from ..money import total
from ..rollups.meters import CALLS
from . import corrections
from .charges import charges
from .charges import unit_of
from .corrections import Part
from .corrections import rest_of
from .filters import tag_key
from .tag_charges import tag_charges

Status: t.TypeAlias = t.Literal[
    "priced", "incomplete", "unsettled", "estimated", "unpriced", "failed"
]
Markup: t.TypeAlias = Mapping[str, Sequence[tuple[dt.date, Decimal]]]

STATUSES: t.Final[Mapping[str, Status]] = {
    "complete": "priced",
    "incomplete": "incomplete",
    "unsettled": "unsettled",
    "estimated": "estimated",
    "unpriced": "unpriced",
    "no_usage": "unpriced",
    "failed": "failed",
}
"""How calls are named whose cost is known to be what it is."""

CHARGED: t.Final = ("priced", "incomplete", "unsettled")
"""The statuses that the total includes."""

_ONE: t.Final = Decimal(1)
_ZERO: t.Final = Decimal(0)
_exact: t.Final = context(250)


class LineKey(t.NamedTuple):
    """What charges that are one line have in common."""

    value: str
    """The tag's value; ``""`` for calls without the tag."""
    corrected_on: str
    """The day (UTC) of a correction, ``pending`` if it is not recorded yet; ``""`` for what is
    not a correction."""
    status: Status
    provider: str
    model: str
    meter: str
    """``""`` counts calls."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a statement."""

    key: LineKey
    quantity: Decimal
    calls: int
    """Calls that used the meter. A correction may be negative."""
    cost_usd: Decimal | None
    """The known cost; ``None`` if the meter has no price."""
    charged_usd: Decimal | None
    """The cost times the factor of its day."""

    @property
    def unit(self) -> str:
        """What the quantity counts."""
        return unit_of(self.key.meter)


@dataclass(frozen=True, slots=True)
class Section:
    """The lines of one value, or corrections of one."""

    value: str
    corrected_on: str
    lines: Sequence[Line]
    calls: Mapping[Status, int]

    @property
    def cost_usd(self) -> Decimal:
        """What is known; estimates are not included."""
        return total(line.cost_usd or _ZERO for line in self._charged)

    @property
    def is_known(self) -> bool:
        """Whether the cost of a call is known, or no call could have one."""
        return any(self._charged) or not self.calls.get("unpriced")

    @property
    def charged_usd(self) -> Decimal:
        """The same with the markup."""
        return total(line.charged_usd or _ZERO for line in self._charged)

    @property
    def _charged(self) -> Iterator[Line]:
        return (line for line in self.lines if line.key.status in CHARGED)


@dataclass(frozen=True, slots=True)
class Statement:
    """The statement of a month (UTC)."""

    month: dt.date
    tag: str
    closed_at: dt.datetime | None
    sections: Sequence[Section]
    """Highest cost first; the untagged rest is last."""
    corrections: Sequence[Section]
    """Of a closed month, by day."""
    marked_up: bool

    @property
    def cost_usd(self) -> Decimal:
        """The sum of the sections, without corrections."""
        return total(section.cost_usd for section in self.sections)

    @property
    def corrected_usd(self) -> Decimal:
        """The same with corrections: what the ledger knows now."""
        more = total(section.cost_usd for section in self.corrections)
        return add(self.cost_usd, more)

    @property
    def charged_usd(self) -> Decimal:
        """All sections with the markup, without corrections."""
        return total(section.charged_usd for section in self.sections)


def statement(
    connection: sa.Connection,
    zone: dt.tzinfo,
    month: dt.date,
    key: str,
    *,
    value: str | None = None,
    markup: Markup | None = None,
) -> Statement:
    """Make the statement of a UTC month.

    :param zone: The ledger's time zone.
    :param month: Its first day.
    :param key: A tag key.
    :param value: Only this value.
    :raises FilterError: If the key is not valid, or the month was closed without it.
    """
    tag_key(key)
    closed = corrections.closed_months(connection).get(month)
    if closed is not None and key not in closed.keys:
        raise FilterError(
            "tag",
            f"{month:%Y-%m} was closed without the tag {key!r}, which was not in"
            " LLM_COST_ROLLUP_TAGS then.",
        )
    adder = _Adder(markup or {})
    parts = corrections.closed_parts if closed is not None else _open
    for part in parts(connection, zone, month, key):
        if value is None or part.value == value:
            adder.add(part)
    sections = [*adder.sections()]
    return Statement(
        month,
        key,
        None if closed is None else closed.at,
        sorted(
            (each for each in sections if not each.corrected_on),
            key=lambda each: (not each.value, -each.cost_usd, each.value),
        ),
        sorted(
            (each for each in sections if each.corrected_on),
            key=lambda each: (each.corrected_on, each.value),
        ),
        bool(markup),
    )


def _open(
    connection: sa.Connection, zone: dt.tzinfo, month: dt.date, key: str
) -> Iterator[Part]:
    start, end = (day_start(d, dt.UTC) for d in (month, next_first_day("month", month)))
    tagged = {day.start: day for day in tag_charges(connection, zone, key, start, end)}
    for day in charges(connection, start, end):
        values = {} if day.start not in tagged else tagged[day.start].values
        for value, sums in values.items():
            for meter, each in sums.items():
                yield Part(day.start, value, "", meter, each)
        # Calls that were pruned before the tag was declared: their values are not known.
        for meter, each in rest_of(day.sums, values.values()):
            yield Part(day.start, "", "", meter, each)


class _Adder:
    def __init__(self, markup: Markup) -> None:
        self._markup = markup
        self._lines: dict[LineKey, Line] = {}
        self._calls: defaultdict[tuple[str, str], dict[Status, int]] = defaultdict(dict)

    def add(self, part: Part) -> None:
        meter, sums = part.meter, part.sums
        status = STATUSES[meter.status]
        if meter.meter == CALLS:
            calls = self._calls[part.value, part.corrected_on]
            calls[status] = calls.get(status, 0) + sums.calls
            if status not in ("unpriced", "failed"):
                return
        key = LineKey(
            part.value,
            part.corrected_on,
            status,
            meter.provider,
            meter.model,
            meter.meter,
        )
        known = self._lines.get(key)
        line = self._line(key, part)
        self._lines[key] = line if known is None else _plus(known, line)

    def _line(self, key: LineKey, part: Part) -> Line:
        cost = from_pico(part.sums.cost)
        if not part.meter.rate and not part.sums.cost:
            return Line(key, part.sums.quantity, part.sums.calls, None, None)
        factor = _factor(self._markup, key.value, part.day.date())
        charged = multiply(cost, factor)
        return Line(key, part.sums.quantity, part.sums.calls, cost, charged)

    def sections(self) -> Iterator[Section]:
        found: defaultdict[tuple[str, str], list[Line]] = defaultdict(list)
        for key, line in sorted(self._lines.items()):
            found[key.value, key.corrected_on].append(line)
        for each in {**found, **self._calls}:
            yield Section(*each, found.get(each, []), self._calls.get(each, {}))


def _plus(one: Line, two: Line) -> Line:
    return Line(
        one.key,
        _exact.add(one.quantity, two.quantity),
        one.calls + two.calls,
        _sum(one.cost_usd, two.cost_usd),
        _sum(one.charged_usd, two.charged_usd),
    )


def _sum(one: Decimal | None, two: Decimal | None) -> Decimal | None:
    if one is None or two is None:
        return one if two is None else two
    return add(one, two)


def _factor(markup: Markup, value: str, day: dt.date) -> Decimal:
    """The factor of a value on a day; 1 before the first."""
    known = [
        factor
        for first, factor in markup.get(value, markup.get("*", ()))
        if first <= day
    ]
    return known[-1] if known else _ONE
