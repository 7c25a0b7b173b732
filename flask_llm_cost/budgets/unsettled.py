"""The unsettled amount of a call, which counts until its true cost is known."""

from __future__ import annotations

import logging
import typing as t
from decimal import Decimal

from .. import checks
from ..call import Call
from ..call import Cost
from ..interrupts import pass_on
from ..money import ceil_pico
from ..money import floor_pico
from ..money import MAX_PICO
from ..money import MAX_USD
from ..money import to_pico
from ..money import WIDE
from ..recurring import report
from .definition import Budget

_MARGIN: t.Final = Decimal("1.25")
"""What a cut call counts, as a multiple of its estimate."""


class Unsettled(t.NamedTuple):
    """What one call may cost in one budget, in pico-USD."""

    known: int
    """It counts as spent."""
    most: int
    """The total that is counted."""
    reserved: bool
    """Whether its reservation is counted instead, if it has one."""

    def amount(self, reservation: int | None) -> int:
        """Return what is counted beyond what is known."""
        most = self.most
        if self.reserved and reservation is not None:
            most = reservation
        return max(0, most - self.known)


def unsettled(budget: Budget, call: Call) -> Unsettled | None:
    """Return what a call counts in a budget; ``None`` if its cost is settled."""
    if call.unpriced and budget.unpriced == "estimate":
        estimate = _estimate(budget, call)
        return Unsettled(0, estimate or 0, reserved=estimate is None)
    if call.cost is not None and call.unsettled:
        return _of_cut(budget, call.cost)
    return None


def _of_cut(budget: Budget, cost: Cost) -> Unsettled:
    known = to_pico(cost.total_usd)
    # Beside a cost that the provider reported, the estimate can be lower.
    estimate = max(cost.estimate_usd or Decimal(0), cost.total_usd)
    likely = _pico(WIDE.multiply(_MARGIN, estimate))
    if cost.ceiling_usd is None:
        return Unsettled(known, likely, reserved=True)
    ceiling = _pico(cost.ceiling_usd)
    if budget.cut == "ceiling" or cost.estimate_usd is None:
        # An answer that was lost before it was read has no estimate.
        return Unsettled(known, ceiling, reserved=False)
    most = min(likely, ceiling)
    return Unsettled(known, most, reserved=False)


def _pico(usd: Decimal) -> int:
    return MAX_PICO if usd > MAX_USD else ceil_pico(usd)


def _estimate(budget: Budget, call: Call) -> int | None:
    """Return the budget's own estimate of an unpriced call, in pico-USD, if it has one."""
    estimate = budget.estimate
    if isinstance(estimate, str):
        return None
    if not callable(estimate):
        return floor_pico(estimate)
    # The app's own code: whatever it raises or returns, the call is stored.
    try:
        return floor_pico(checks.money("estimate", estimate(call)))
    except Exception as error:
        pass_on(error)
        report(
            "The estimate of the budget %r failed; an unpriced call counts what was"
            " reserved for it.",
            budget.name,
            level=logging.ERROR,
            error=error,
        )
        return None
