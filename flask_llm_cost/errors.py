"""The exceptions of this package.

.. code-block:: text

    LlmCostError
    ├── ConfigError        an invalid LLM_COST_* setting (also a ValueError)
    ├── BudgetExceeded     a budget stopped a call, or a call used the budget up
    ├── UnknownPrice       a model has no price, and a setting does not allow that
    ├── StorageError       the ledger cannot be read or written
    │   └── SetupRequired  its tables are missing or of another version
    ├── PriceFileError     a price file cannot be read or is malformed
    ├── PriceSyncError     a price source failed or was rejected
    ├── BillError          a provider's bill cannot be read, or is incomplete
    └── FilterError        an invalid query parameter (also a ValueError)

They can be pickled and copied. Their ``args`` are JSON values that are enough to create
them again, which is all that Celery's JSON results keep of an exception.
"""

from __future__ import annotations

import datetime as dt
import math
import typing as t
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction

from .money import digits

if t.TYPE_CHECKING:
    from .call import Call


class LlmCostError(Exception):
    """Base class of all exceptions of this package."""


class ConfigError(LlmCostError, ValueError):
    """A setting is invalid. The message names the key, the value and how to fix it."""


class BudgetExceeded(LlmCostError):
    """A budget has no room for a call, or a call used it up.

    Its text has no amounts, so an app can show it to its users; :meth:`describe` has them.

    Amounts may also be given as decimal text, and the time in ISO format.

    :param budget: The budget's name.
    :param period: ``"day"``, ``"week"``, ``"month"``, ... or ``"call"``.
    :param limit_usd: The limit in USD.
    :param spent_usd: The amount spent in this period, in USD.
    :param resets_at: The end of the period (aware UTC); ``None`` if it never ends, and for
        a budget per call.
    :param call: The call that reached the limit; ``None`` if no call was sent, and in a
        Celery result that is stored as JSON.
    :param tags: The tag values the budget applies to, if each value has its own.
    :param reserved_usd: The amount reserved for calls in progress.
    :param lost_usd: The amount counted for calls that never ended.
    :param estimate_usd: The estimated cost of the call that was refused.
    :param unbounded: The call was refused because its cost is unbounded.
    :param unsettled_usd: The amount counted for calls that were cut or reported no usage.
    """

    def __init__(
        self,
        budget: str,
        period: str,
        limit_usd: Decimal | str,
        spent_usd: Decimal | str,
        resets_at: dt.datetime | str | None = None,
        call: Call | None = None,
        tags: Mapping[str, str] | None = None,
        reserved_usd: Decimal | str = "0",
        lost_usd: Decimal | str = "0",
        estimate_usd: Decimal | str | None = None,
        unbounded: bool = False,
        unsettled_usd: Decimal | str = "0",
    ) -> None:
        self.budget = budget
        self.period = period
        self.limit_usd = Decimal(limit_usd)
        self.spent_usd = Decimal(spent_usd)
        self.resets_at = (
            dt.datetime.fromisoformat(resets_at)
            if isinstance(resets_at, str)
            else resets_at
        )
        self.call = call
        self.tags = dict(tags or {})
        self.reserved_usd = Decimal(reserved_usd)
        self.lost_usd = Decimal(lost_usd)
        self.estimate_usd = None if estimate_usd is None else Decimal(estimate_usd)
        self.unbounded = unbounded
        self.unsettled_usd = Decimal(unsettled_usd)
        super().__init__(
            budget,
            period,
            str(self.limit_usd),
            str(self.spent_usd),
            None if self.resets_at is None else self.resets_at.isoformat(),
            None,
            self.tags,
            str(self.reserved_usd),
            str(self.lost_usd),
            None if self.estimate_usd is None else str(self.estimate_usd),
            unbounded,
            str(self.unsettled_usd),
        )

    def __str__(self) -> str:
        if self.unbounded:
            return (
                f"{self._name} refuses requests with an unbounded cost"
                " (unbounded='refuse'): set a limit on output tokens in the request, or"
                " max_output_tokens in the model's price."
            )
        # Without amounts: apps show this text to their users.
        return f"{self._happened}."

    def describe(self, event: str | None = None) -> str:
        """Return a sentence that says what happened to the budget, with its amounts.

        :param event: What happened, such as ``"has reached 80 %"``; the reason for this
            error if left out.
        """
        if event is None and self.unbounded:
            return str(self)
        amounts = f"${_plain(self.spent_usd)} of ${_plain(self.limit_usd)} spent"
        for amount, purpose in (
            (self.reserved_usd, "reserved for calls in progress"),
            (self.lost_usd, "lost"),
            (self.unsettled_usd, "unsettled"),
            (self.estimate_usd, "estimated for this call"),
        ):
            if amount:
                amounts += f", ${_plain(amount)} {purpose}"
        happened = self._happened if event is None else f"{self._name} {event}"
        return f"{happened}: {amounts}."

    @property
    def _happened(self) -> str:
        # Fractions do not depend on the app's decimal context.
        spent = Fraction(self.spent_usd) + Fraction(self.unsettled_usd)
        full = spent >= self.limit_usd
        return f"{self._name} {'is exceeded' if full else 'has no room for this call'}"

    @property
    def _name(self) -> str:
        return f"The {self.period} budget {self.budget!r}{self._scope}"

    @property
    def _scope(self) -> str:
        return "".join(f" of {key} {value!r}" for key, value in self.tags.items())

    def retry_after(self, now: dt.datetime | None = None) -> int | None:
        """Seconds until the period ends, for a ``Retry-After`` header.

        ``None`` if it never ends.
        """
        if self.resets_at is None:
            return None
        left = self.resets_at - (now or dt.datetime.now(dt.UTC))
        return max(1, math.ceil(left.total_seconds()))


class UnknownPrice(LlmCostError):
    """No price is known for a model.

    :param provider: The provider's name.
    :param model: The requested model.
    """

    def __init__(self, provider: str, model: str) -> None:
        super().__init__(provider, model)
        self.provider = provider
        self.model = model

    def __str__(self) -> str:
        return (
            f"No price is known for {self.provider}/{self.model}. Add it to"
            " LLM_COST_PRICES_FILE or LLM_COST_PRICE_OVERRIDES, or alias it in"
            " LLM_COST_MODEL_ALIASES."
        )


class StorageError(LlmCostError):
    """The ledger cannot be read or written. The message says what to do."""


class SetupRequired(StorageError):
    """The ledger's tables are missing or of another version: run the migrations."""


class PriceFileError(LlmCostError):
    """A price file cannot be read or is malformed. The message names file and key."""


class PriceSyncError(LlmCostError):
    """A price source failed, or its data was rejected."""


class BillError(LlmCostError):
    """A provider's bill cannot be read, or is incomplete. Nothing of it is stored.

    :param file: The file's name, or what was requested.
    :param place: Where in the file: a line, a row, a key; ``None`` if it is the whole.
    :param message: What is wrong, with the value, and what to do.
    """

    def __init__(self, file: str, place: str | None, message: str) -> None:
        super().__init__(file, place, message)
        self.file = file
        self.place = place
        self.message = message

    def __str__(self) -> str:
        where = self.file if self.place is None else f"{self.file}, {self.place}"
        return f"{where}: {self.message}"


class FilterError(LlmCostError, ValueError):
    """A query parameter is invalid.

    :param parameter: The parameter's name.
    :param message: What is wrong with its value, and what is valid.
    """

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(parameter, message)
        self.parameter = parameter
        self.message = message

    def __str__(self) -> str:
        return f"{self.parameter}: {self.message}"


def _plain(usd: Decimal) -> str:
    return digits(usd)
