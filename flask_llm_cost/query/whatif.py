"""What recent calls would have cost with other models."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from ..call import Call
from ..errors import UnknownPrice
from ..money import add
from ..prices.book import PriceBook
from ..prices.requote import pricing_mode_of
from .detail import stream_calls
from .filters import CallFilter
from .listing import Reader


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What the calls of a model cost, and would cost with another."""

    model: str
    other: str
    price_key: str
    """The other's key in the price book."""
    calls: int = 0
    before_usd: Decimal = Decimal(0)
    after_usd: Decimal = Decimal(0)
    incomplete: int = 0
    """Calls that used something the other has no rate for."""
    skipped: int = 0
    """Calls without a known cost or usage, which are excluded."""

    @property
    def difference_usd(self) -> Decimal:
        """How much more the other costs; negative if it costs less."""
        return add(self.after_usd, -self.before_usd)

    def plus(self, call: Call, book: PriceBook, now: dt.datetime) -> WhatIf:
        """Add a call."""
        if call.usage is None or call.cost is None:
            return dataclasses.replace(self, skipped=self.skipped + 1)
        provider, model = named(self.other)
        mode = pricing_mode_of(call)
        cost = book.quote(provider, model, call.usage, at=now, mode=mode).cost
        if cost is None:
            return dataclasses.replace(self, skipped=self.skipped + 1)
        return dataclasses.replace(
            self,
            calls=self.calls + 1,
            before_usd=add(self.before_usd, call.cost.total_usd),
            after_usd=add(self.after_usd, cost.total_usd),
            incomplete=self.incomplete + (not cost.complete),
        )


def named(text: str) -> tuple[str, str]:
    """Split ``provider/model``."""
    provider, _, model = text.partition("/")
    return provider, model


def whatif(
    reading: Reader,
    where: CallFilter,
    book: PriceBook,
    pairs: Sequence[tuple[str, str]],
    now: dt.datetime,
) -> tuple[WhatIf, ...]:
    """Price the calls of models at other models' current rates.

    :param pairs: Each ``provider/model``, and another.
    :raises UnknownPrice: If no price is known for the other model.
    """
    found = []
    for model, other in pairs:
        price = book.find(*named(other), now)
        if price is None:
            raise UnknownPrice(*named(other))
        each = WhatIf(model, other, price.key)
        provider, name = named(model)
        its = where.narrowed(provider=provider, model=name)
        for call in stream_calls(reading, its):
            each = each.plus(call, book, now)
        found.append(each)
    return tuple(found)
