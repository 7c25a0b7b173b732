"""What a call may cost, before that is known."""

from __future__ import annotations

import datetime as dt
import logging
import typing as t
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

from .. import checks
from ..attempt import Attempt
from ..bound import Bound
from ..bound import read_bound
from ..call import Call
from ..errors import UnknownPrice
from ..interrupts import pass_on
from ..money import own_context
from ..recurring import report
from .definition import Budget
from .definition import model_of

if t.TYPE_CHECKING:
    from ..prices.ceiling import RequestCeiling


_MAX_MODELS: t.Final = 1000
_WEIGHT: t.Final = Decimal("0.1")
"""The weight of the latest call in the moving average of a model."""

Ceiling: t.TypeAlias = "Callable[[str, str, Bound, dt.datetime], RequestCeiling]"
"""Returns the most that a request to a provider's model can cost at a time."""


class Estimates:
    """Estimates the cost of one app's calls.

    :param ceiling: Returns the most that a request can cost.
    """

    def __init__(self, ceiling: Ceiling) -> None:
        self._ceiling = ceiling
        self._averages: dict[tuple[str, str], Decimal] = {}

    def of(self, budget: Budget, attempt: Attempt, at: dt.datetime) -> Decimal | None:
        """Return what a call may cost.

        :return: ``None`` if its request is unbounded, and the budget refuses such requests.
        :raises UnknownPrice: If no price is known, and the budget refuses that.
        """
        estimate = budget.estimate
        if isinstance(estimate, Decimal):
            return estimate
        if callable(estimate):
            # The app's own code: its exceptions must not harm any call.
            try:
                return checks.money("estimate", estimate(attempt))
            except Exception as error:
                pass_on(error)
                report(
                    "The estimate of the budget %r failed; using the upper bound.",
                    budget.name,
                    level=logging.ERROR,
                    error=error,
                )
        if estimate == "average":
            average = self._averages.get(
                (attempt.provider, attempt.request_model or "")
            )
            if average is not None:
                return average
        return self._bound(budget, attempt, at)

    def _bound(
        self, budget: Budget, attempt: Attempt, at: dt.datetime
    ) -> Decimal | None:
        ceiling = self._ceiling_of(attempt, at)
        refuses = not ceiling.bounded and budget.unbounded == "refuse"
        if not ceiling.priced and (refuses or budget.unpriced == "block"):
            raise UnknownPrice(attempt.provider, attempt.request_model or "unknown")
        if refuses:
            return None
        if ceiling.usd is not None:
            return ceiling.usd
        if budget.unpriced == "ignore":
            return Decimal(0)
        raise UnknownPrice(attempt.provider, attempt.request_model or "unknown")

    def _ceiling_of(self, attempt: Attempt, at: dt.datetime) -> RequestCeiling:
        bound = read_bound(attempt.body, attempt.operation)
        bound = replace(bound, conditions=bound.conditions | attempt.flags)
        model = attempt.request_model or ""
        return self._ceiling(attempt.provider, model, bound, at)

    def named(
        self, budget: Budget, attempt: Attempt, at: dt.datetime
    ) -> Decimal | None:
        """Return :meth:`of`, but ``None`` for what the request does not name itself.

        A guess must not refuse a call.
        """
        if budget.estimate != "bound":
            return self.of(budget, attempt, at)
        bound = read_bound(attempt.body, attempt.operation)
        if bound.output_tokens is None:
            return None
        ceiling = self._ceiling_of(attempt, at)
        return ceiling.usd if ceiling.bounded else None

    @own_context
    def learn(self, call: Call) -> None:
        """Update the moving average of a model."""
        if call.cost is None or call.unsettled:
            return
        key = call.provider, model_of(call)
        last, cost = self._averages.get(key), call.cost.total_usd
        if last is None and len(self._averages) >= _MAX_MODELS:
            return
        self._averages[key] = cost if last is None else last + (cost - last) * _WEIGHT
