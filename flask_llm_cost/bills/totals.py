"""Compare totals, where a bill or the ledger has no quantities for a model or a day."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from collections.abc import Set
from dataclasses import dataclass
from decimal import Decimal

from ..money import context
from ..money import WIDE
from .cell import tolerance
from .cells import Calls
from .report import CAUSES
from .report import exact
from .report import Residual
from .report import UNEXPLAINED

_ZERO: t.Final = Decimal(0)
_SHORT: t.Final = context(6)


@dataclass(frozen=True, slots=True, eq=False)
class Total:
    """What both sides have of one model, or of all, on one day."""

    day: dt.date
    model: str | None
    billed: Decimal | None
    """``None``: the bill has no line for it."""
    cost: Decimal
    """What the ledger knows."""
    calls: Calls
    parts: int
    estimated: Decimal = _ZERO
    """The estimates, which the cost leaves out."""
    listed: Decimal | None = None
    """The bill's amount before discounts."""

    @property
    def matched(self) -> Decimal:
        """Billed dollars that the ledger has calls for."""
        billed = self.billed or _ZERO
        if abs(self.rest) <= self.tolerance:
            return billed
        return max(min(billed, exact.add(self.cost, self.estimated)), _ZERO)

    @property
    def rest(self) -> Decimal:
        """Billed beyond the ledger."""
        return exact.subtract(self.billed or _ZERO, self.cost)

    @property
    def tolerance(self) -> Decimal:
        """What rounding can amount to."""
        return tolerance(self.billed or _ZERO, self.parts)

    @property
    def ratio(self) -> Decimal | None:
        """What is billed for a dollar of the ledger, if both sides have any."""
        if not self.billed or not self.cost:
            return None
        return _SHORT.plus(WIDE.divide(self.billed, self.cost))

    def residual(self, hints: Hints) -> Residual | None:
        """Name the difference as a whole, if that can be done."""
        rest = self.rest
        if not rest:
            return None
        cause = self._cause()
        candidates = tuple(self._candidates(hints)) if cause == UNEXPLAINED else ()
        return Residual(
            cause,
            rest,
            self.day,
            model=self.model,
            evidence="total",
            candidates=candidates,
        )

    def _cause(self) -> str:
        if abs(self.rest) <= self.tolerance:
            return "rounding"
        if not self.calls.calls and not self.cost:
            return "uncaptured"
        if self.billed is None:
            return "not_on_bill"
        over = exact.subtract(self.rest, self.estimated)
        if self.estimated and abs(over) <= self.tolerance:
            return "estimated"
        if self.listed is not None and self.rest < 0:
            if abs(exact.subtract(self.listed, self.cost)) <= self.tolerance:
                return "discount"
        return UNEXPLAINED

    def _candidates(self, hints: Hints) -> Iterable[str]:
        """Return the causes that can be all of it. A price always can."""
        found = list(self._lacking() if self.rest > 0 else self._surplus(hints))
        if self in hints.edges:
            found.append("day_edge")
        if not found:
            # Nothing that is known of the calls says why.
            found.append("uncaptured" if self.rest > 0 else "not_on_bill")
        return sorted({*found, "price"}, key=list(CAUSES).index)

    def _lacking(self) -> Iterable[str]:
        calls = self.calls
        if calls.silent and (calls.most is None or self.rest <= calls.most):
            yield "no_usage"
        if calls.unpriced:
            yield "unpriced"
        if calls.estimated:
            yield "estimated"
        if calls.incomplete and (calls.open is None or self.rest <= calls.open):
            yield "incomplete"

    def _surplus(self, hints: Hints) -> Iterable[str]:
        if self.billed is not None and self.cost == 2 * self.billed:
            yield "double_capture"
            yield "discount"
        if hints.doubled(self):
            yield "double_capture"
        if self.ratio in hints.ratios:
            yield "discount"


@dataclass(frozen=True, slots=True)
class Hints:
    """What the totals of other days and models say about one of them."""

    ratios: Set[Decimal]
    """Below 1, of several totals."""
    edges: Set[Total]
    """Whose differences cancel out with the day before or after."""
    doubled: Callable[[Total], bool]
    """Whether the ledger has answers twice."""


def name_totals(
    totals: Sequence[Total], doubled: Callable[[Total], bool]
) -> Iterator[Residual]:
    """Name what totals differ by.

    :param doubled: Whether the ledger has answers of a total twice.
    """
    ratios = Counter(
        each.ratio for each in totals if each.ratio is not None and each.ratio < 1
    )
    several = {ratio for ratio, count in ratios.items() if ratio and count > 1}
    hints = Hints(several, set(_edges(totals)), doubled)
    for each in totals:
        residual = each.residual(hints)
        if residual is not None:
            yield residual


def _edges(totals: Sequence[Total]) -> Iterator[Total]:
    known = {(each.model, each.day): each for each in totals}
    for each in totals:
        after = known.get((each.model, each.day + dt.timedelta(days=1)))
        if after is None or not each.rest:
            continue
        both = exact.add(each.rest, after.rest)
        if abs(both) <= exact.add(each.tolerance, after.tolerance) < abs(each.rest):
            yield from (each, after)
