"""What may a call cost, before it is sent?"""

from __future__ import annotations

import datetime as dt
import logging
import typing as t
from collections.abc import Callable
from decimal import Decimal

from ..call import Attempt
from ..call import Call
from ..call import Usage
from ..config import check_money
from .bound import Bound
from .bound import bound
from .definition import Budget
from .definition import model_of

_log = logging.getLogger("flask_llm_cost")

_MOST_MODELS: t.Final = 1000
_WEIGHT: t.Final = Decimal("0.1")
"""Of the last call in the average of a model."""

Price: t.TypeAlias = Callable[
    [str, str, Usage, dt.datetime, str | None], Decimal | None
]
"""What a model's usage costs at a time, in a service tier; ``None`` if that is unknown."""


class Estimates:
    """Estimates the calls of one app.

    :param price: Says what an estimate of usage costs.
    :param speaks: Says whether the log is to tell of a trouble again.
    """

    def __init__(self, price: Price, speaks: Callable[[], bool]) -> None:
        self._price = price
        self._speaks = speaks
        self._averages: dict[tuple[str, str], Decimal] = {}

    def of(self, budget: Budget, attempt: Attempt, at: dt.datetime) -> Decimal | None:
        """What a call may cost; ``None`` if no price is known."""
        estimate = budget.estimate
        if isinstance(estimate, Decimal):
            return estimate
        if callable(estimate):
            # The app's own code: what it raises must harm no call.
            try:
                return check_money("estimate", estimate(attempt))
            except Exception:
                if self._speaks():
                    _log.exception(
                        "The estimate of the budget %r failed; the upper bound is used.",
                        budget.name,
                    )
        model = attempt.request_model or ""
        if estimate == "average":
            average = self._averages.get((attempt.provider, model))
            if average is not None:
                return average

        def price(usage: Usage, tier: str | None) -> Decimal | None:
            return self._price(attempt.provider, model, usage, at, tier)

        return _bound(attempt).cost(price)

    def certain(
        self, budget: Budget, attempt: Attempt, at: dt.datetime
    ) -> Decimal | None:
        """The same; ``None`` also for a mere guess, which refuses no call for itself."""
        if budget.estimate == "bound" and not _bound(attempt).certain:
            return None
        return self.of(budget, attempt, at)

    def learn(self, call: Call) -> None:
        """Move the average of a model by what a call cost."""
        if call.cost is None:
            return
        key = call.provider, model_of(call)
        last, cost = self._averages.get(key), call.cost.total_usd
        if last is None and len(self._averages) >= _MOST_MODELS:
            return
        self._averages[key] = cost if last is None else last + (cost - last) * _WEIGHT


def _bound(attempt: Attempt) -> Bound:
    return bound(attempt.body, attempt.operation)
