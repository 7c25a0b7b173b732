"""What can go wrong, in one tree.

.. code-block:: text

    LlmCostError
    ├── ConfigError        a wrong LLM_COST_* setting (also a ValueError)
    ├── BudgetExceeded     a budget is spent: it stopped a call, or the call spent it
    ├── UnknownPrice       LLM_COST_ON_UNKNOWN_PRICE is "raise"
    ├── StorageError       the ledger cannot be read or written
    │   └── SetupRequired  its tables are missing or of an older version
    ├── PriceFileError     a price file is unreadable or malformed
    ├── PriceSyncError     a price source failed or was refused
    └── FilterError        a query parameter has no meaning (also a ValueError)
"""

from __future__ import annotations

import datetime as dt
import math
import typing as t
from collections.abc import Mapping
from decimal import Decimal

if t.TYPE_CHECKING:
    from .call import Call


class LlmCostError(Exception):
    """Every error of this package."""


class ConfigError(LlmCostError, ValueError):
    """A setting is wrong. The message names the key, the value and the way out."""


class BudgetExceeded(LlmCostError):
    """A budget is spent.

    :param budget: The budget's name.
    :param period: ``"day"``, ``"week"``, ``"month"``, ... or ``"call"``.
    :param limit_usd: The limit in USD.
    :param spent_usd: What was spent in this period, in USD.
    :param resets_at: When the period ends (aware UTC), ``None`` for a per-call budget.
    :param call: The call that crossed the limit, ``None`` if none was sent.
    :param tags: Whose budget it is, where each value of a tag has one.
    :param held_usd: What calls under way may still cost.
    :param lost_usd: What counts for calls of which no one knows what they cost.
    :param estimate_usd: What the call that was refused may have cost.
    """

    def __init__(
        self,
        budget: str,
        *,
        period: str,
        limit_usd: Decimal,
        spent_usd: Decimal,
        resets_at: dt.datetime | None = None,
        call: Call | None = None,
        tags: Mapping[str, str] | None = None,
        held_usd: Decimal = Decimal(0),
        lost_usd: Decimal = Decimal(0),
        estimate_usd: Decimal | None = None,
    ) -> None:
        more = "".join(
            f", ${amount.normalize():f} {what}"
            for amount, what in (
                (held_usd, "held for calls under way"),
                (lost_usd, "lost"),
                (estimate_usd or Decimal(0), "asked for"),
            )
            if amount
        )
        whose = "".join(f" of {key} {value!r}" for key, value in (tags or {}).items())
        spent = spent_usd >= limit_usd
        super().__init__(
            f"The {period} budget {budget!r}{whose}"
            f" {'is spent' if spent else 'has no room for the call'}:"
            f" ${spent_usd.normalize():f} of ${limit_usd.normalize():f}"
            f"{'' if spent else ' spent'}{more}."
        )
        self.budget = budget
        self.period = period
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd
        self.resets_at = resets_at
        self.call = call
        self.tags: Mapping[str, str] = dict(tags or {})
        self.held_usd = held_usd
        self.lost_usd = lost_usd
        self.estimate_usd = estimate_usd

    def retry_after(self, now: dt.datetime | None = None) -> int | None:
        """Seconds until the period ends, for a ``Retry-After`` header.

        ``None`` if it never does.
        """
        if self.resets_at is None:
            return None
        left = self.resets_at - (now or dt.datetime.now(dt.UTC))
        return max(1, math.ceil(left.total_seconds()))


class UnknownPrice(LlmCostError):
    """No price is known for a model.

    :param provider: The provider's name.
    :param model: The model that was asked for.
    """

    def __init__(self, provider: str, model: str) -> None:
        super().__init__(
            f"No price is known for {provider}/{model}. Add it to LLM_COST_PRICES_FILE or"
            " LLM_COST_PRICE_OVERRIDES, or alias it in LLM_COST_MODEL_ALIASES."
        )
        self.provider = provider
        self.model = model


class StorageError(LlmCostError):
    """The ledger cannot be read or written. The message says what to do."""


class SetupRequired(StorageError):
    """The ledger's tables are missing or of another version: run the migrations."""


class PriceFileError(LlmCostError):
    """A price file is unreadable or malformed. The message names file and key."""


class PriceSyncError(LlmCostError):
    """A price source failed, or what it sent was refused."""


class FilterError(LlmCostError, ValueError):
    """A query parameter has no meaning.

    :param parameter: The parameter's name.
    :param message: What is wrong with its value, and what would be right.
    """

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(f"{parameter}: {message}")
        self.parameter = parameter
        self.message = message
