"""Compare totals, where a bill or the ledger has no quantities for a model or a day."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from .cell import tolerance
from .cells import Calls
from .report import exact
from .report import Residual
from .report import UNEXPLAINED

_ZERO: t.Final = Decimal(0)


@dataclass(frozen=True, slots=True)
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

    def residual(self) -> Residual | None:
        """Name the difference as a whole, if that can be done."""
        rest = self.rest
        if not rest:
            return None
        cause, candidates = self._cause()
        return Residual(
            cause,
            rest,
            self.day,
            model=self.model,
            evidence="total",
            candidates=candidates,
        )

    def _cause(self) -> tuple[str, tuple[str, ...]]:
        if abs(self.rest) <= self.tolerance:
            return "rounding", ()
        if not self.calls.calls and not self.cost:
            return "uncaptured", ()
        if self.billed is None:
            return "not_on_bill", ()
        over = exact.subtract(self.rest, self.estimated)
        if self.estimated and abs(over) <= self.tolerance:
            return "estimated", ()
        if self.listed is not None and self.rest < 0:
            if abs(exact.subtract(self.listed, self.cost)) <= self.tolerance:
                return "discount", ()
        return UNEXPLAINED, tuple(self._candidates())

    def _candidates(self) -> Iterable[str]:
        if self.rest > 0:
            if self.calls.silent:
                yield "no_usage"
            if self.calls.unpriced:
                yield "unpriced"
            if self.calls.estimated:
                yield "estimated"
            if self.calls.incomplete:
                yield "incomplete"
        elif self.billed is not None and self.cost == 2 * self.billed:
            yield "double_capture"
            yield "discount"
        yield "price"
