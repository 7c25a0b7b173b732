"""What a call may cost, before that is known."""

from __future__ import annotations

import datetime as dt
import logging
import typing as t
from collections.abc import Callable
from decimal import Decimal

from .. import checks
from ..attempt import Attempt
from ..bound import Bound
from ..bound import read_bound
from ..call import Call
from ..money import floor_pico
from .definition import Budget
from .definition import model_of

_log = logging.getLogger("flask_llm_cost")

_MAX_MODELS: t.Final = 1000
_WEIGHT: t.Final = Decimal("0.1")
"""The weight of the latest call in the moving average of a model."""

Ceiling: t.TypeAlias = Callable[[str, str, Bound, dt.datetime], Decimal | None]
"""Returns the most that a request to a provider's model can cost at a time, in USD;
``None`` if that is not known."""


class Estimates:
    """Estimates the cost of one app's calls.

    :param ceiling: Returns the most that a request can cost.
    :param may_log: Whether to log a problem again.
    """

    def __init__(self, ceiling: Ceiling, may_log: Callable[[], bool]) -> None:
        self._ceiling = ceiling
        self._may_log = may_log
        self._averages: dict[tuple[str, str], Decimal] = {}

    def of(self, budget: Budget, attempt: Attempt, at: dt.datetime) -> Decimal | None:
        """Return what a call may cost; ``None`` if no price is known."""
        estimate = budget.estimate
        if isinstance(estimate, Decimal):
            return estimate
        if callable(estimate):
            # The app's own code: its exceptions must not harm any call.
            try:
                return checks.money("estimate", estimate(attempt))
            except Exception:
                if self._may_log():
                    _log.exception(
                        "The estimate of the budget %r failed; using the upper bound.",
                        budget.name,
                    )
        model = attempt.request_model or ""
        if estimate == "average":
            average = self._averages.get((attempt.provider, model))
            if average is not None:
                return average
        bound = read_bound(attempt.body, attempt.operation)
        return self._ceiling(attempt.provider, model, bound, at)

    def certain(
        self, budget: Budget, attempt: Attempt, at: dt.datetime
    ) -> Decimal | None:
        """Return :meth:`of`, but ``None`` for a guess, which must not refuse a call."""
        bound = read_bound(attempt.body, attempt.operation)
        if budget.estimate == "bound" and bound.output_tokens is None:
            return None
        return self.of(budget, attempt, at)

    def learn(self, call: Call) -> None:
        """Update the moving average of a model."""
        if call.cost is None:
            return
        key = call.provider, model_of(call)
        last, cost = self._averages.get(key), call.cost.total_usd
        if last is None and len(self._averages) >= _MAX_MODELS:
            return
        self._averages[key] = cost if last is None else last + (cost - last) * _WEIGHT


def unpriced_estimate(budget: Budget, call: Call) -> int:
    """Return what an unpriced call counts until it is priced, in pico-USD."""
    estimate = budget.estimate
    if not callable(estimate):
        return floor_pico(Decimal(estimate))
    # The app's own code: whatever it raises or returns, the call is stored.
    try:
        return floor_pico(checks.money("estimate", estimate(call)))
    except Exception:
        _log.exception(
            "The estimate of the budget %r failed; the unpriced call %s is not counted.",
            budget.name,
            call.event_id,
        )
        return 0
