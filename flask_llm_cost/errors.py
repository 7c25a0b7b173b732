"""What can go wrong, in one tree.

.. code-block:: text

    LlmCostError
    ├── ConfigError        a wrong LLM_COST_* setting (also a ValueError)
    ├── BudgetExceeded     a budget stopped a call before it was sent (not raised yet)
    ├── UnknownPrice       LLM_COST_ON_UNKNOWN_PRICE is "raise"
    ├── StorageError       the ledger cannot be read or written
    │   └── SetupRequired  its tables are missing or of an older version
    ├── PriceFileError     a price file is unreadable or malformed
    ├── PriceSyncError     a price source failed or was refused
    └── FilterError        a query parameter has no meaning (also a ValueError)
"""

from __future__ import annotations

import datetime as dt
import typing as t
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
    ) -> None:
        super().__init__(
            f"The {period} budget {budget!r} is spent: ${spent_usd} of ${limit_usd}."
        )
        self.budget = budget
        self.period = period
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd
        self.resets_at = resets_at
        self.call = call


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
