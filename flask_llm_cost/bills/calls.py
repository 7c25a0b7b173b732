"""Compare call by call, if a bill has a line for each answer."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal

from ..money import MAX_USD
from ..money import quotient
from ..rollups.meters import Status
from .cell import tolerance
from .line import Line
from .report import exact
from .report import Residual
from .report import UNEXPLAINED

_ZERO: t.Final = Decimal(0)
_UNKNOWN: t.Final[Mapping[Status, str]] = {
    "unpriced": "unpriced",
    "no_usage": "no_usage",
    "estimated": "estimated",
    "incomplete": "incomplete",
    "unsettled": "no_usage",
    "failed": "no_usage",
}
"""The cause, if the ledger does not have everything about a call."""


@dataclass(frozen=True, slots=True)
class HeldCall:
    """A call of the ledger."""

    event_id: str
    response_id: str | None
    day: dt.date
    model: str
    cost: Decimal
    """What counts in the ledger's totals: 0 if it is unknown or estimated."""
    status: Status
    most: Decimal | None = None
    """How much more than that it can have cost; ``None`` if that is unknown."""
    scope: str = ""

    def can_lack(self, usd: Decimal) -> bool:
        """Whether its cost in the ledger can be too low by this much."""
        if self.status not in _UNKNOWN or usd < 0:
            return False
        return self.most is None or usd <= self.most


@dataclass(slots=True)
class Matched:
    """The result."""

    residuals: list[Residual] = field(default_factory=list)
    matched: Decimal = _ZERO
    """Billed dollars of calls that the ledger has."""
    billed: Decimal = _ZERO
    costs: dict[str, Decimal] = field(default_factory=dict)
    """The true costs of calls that differ from the ledger, by event id: those that
    it can store."""


class _Billed(t.NamedTuple):
    day: dt.date
    model: str
    usd: Decimal


def compare_calls(
    lines: Iterable[tuple[Line, Decimal]], calls: Iterable[HeldCall]
) -> Matched:
    """Compare the lines of a bill that name answers to the calls of the same days.

    :param lines: Each with its amount in USD.
    """
    billed: dict[str, _Billed] = {}
    for line, usd in lines:
        response_id = line.response_id or ""
        known = billed.get(response_id)
        day, model = line.start.date(), line.model or ""
        total = usd if known is None else exact.add(known.usd, usd)
        billed[response_id] = _Billed(day, model, total)
    found = _Comparison(billed)
    for call in calls:
        found.add(call)
    return found.result()


class _Comparison:
    def __init__(self, billed: Mapping[str, _Billed]) -> None:
        self._left = dict(billed)
        self._all = billed
        self._sums: dict[tuple[str, dt.date, str], Decimal] = defaultdict(Decimal)
        self._rates: dict[str, list[tuple[HeldCall, _Billed]]] = defaultdict(list)
        self._done = Matched()

    def _name(self, cause: str, day: dt.date, model: str, usd: Decimal) -> None:
        key = cause, day, model
        self._sums[key] = exact.add(self._sums[key], usd)

    def add(self, call: HeldCall) -> None:
        """Compare a call of the ledger."""
        line = self._left.pop(call.response_id or "", None)
        if line is None:
            again = call.response_id in self._all
            cause = "double_capture" if again else "not_on_bill"
            self._name(cause, call.day, call.model, -call.cost)
            return
        self._done.matched = exact.add(self._done.matched, line.usd)
        if line.day != call.day:
            self._name("day_edge", line.day, call.model, line.usd)
            self._name("day_edge", call.day, call.model, -line.usd)
        rest = exact.subtract(line.usd, call.cost)
        if not rest:
            return
        if call.can_lack(rest):
            self._name(_UNKNOWN[call.status], call.day, call.model, rest)
        elif abs(rest) <= tolerance(line.usd, 4):
            self._name("rounding", call.day, call.model, rest)
            return
        else:
            self._rates[call.model].append((call, line))
        if 0 <= line.usd <= MAX_USD:
            self._done.costs[call.event_id] = line.usd

    def result(self) -> Matched:
        """Name what is left on both sides."""
        for line in self._left.values():
            self._name("uncaptured", line.day, line.model, line.usd)
        for pairs in self._rates.values():
            cause = "price" if _one_ratio(pairs) else UNEXPLAINED
            for call, line in pairs:
                rest = exact.subtract(line.usd, call.cost)
                self._name(cause, call.day, call.model, rest)
        self._done.residuals += [
            Residual(cause, usd, day, model=model or None, evidence="call")
            for (cause, day, model), usd in sorted(self._sums.items())
        ]
        for line in self._all.values():
            self._done.billed = exact.add(self._done.billed, line.usd)
        return self._done


def _one_ratio(pairs: Sequence[tuple[HeldCall, _Billed]]) -> bool:
    """Whether several calls were billed at one ratio to what the ledger says."""
    ratios = {
        quotient(line.usd, call.cost).quantize(Decimal("1e-6")) if call.cost else None
        for call, line in pairs
    }
    return len(pairs) > 1 and len(ratios) == 1 and None not in ratios
