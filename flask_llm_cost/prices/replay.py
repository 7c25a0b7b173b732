"""Does the cost that stands on a call follow from what stands beside it?"""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from ..call import Call
from ..call import Cost
from ..call import OTHER_SIDES
from ..money import digits
from ..money import divide
from ..money import from_pico
from .again import again
from .book import PriceBook
from .explain import HOW_LAYERS
from .explain import missing_of
from .meters import IS_TOKENS
from .meters import UNITS
from .price import make_rate


@dataclass(frozen=True, slots=True)
class Replay:
    """A call's frozen cost, worked out again from its parts. ``str()`` is the whole text."""

    call: Call
    amounts: Mapping[str, Decimal]
    """What each part comes to: its quantity at its rate."""
    missing: tuple[str, ...]
    """Meters that were used and had no rate."""
    now: Cost | None
    """What the same call would cost by the book in force now, at its own time."""
    why_not_now: str | None
    """Why that cannot be worked out."""

    @property
    def same(self) -> bool:
        """Do the parts come to the amounts, and these to the total, to the pico-dollar?"""
        cost = self.call.cost
        return (
            cost is not None
            and all(self.amounts[m] == p.amount_usd for m, p in cost.parts.items())
            and sum(self.amounts.values()) == cost.total_usd
        )

    @property
    def ok(self) -> bool:
        """Is there a cost of all that was used, and does it follow?"""
        cost = self.call.cost
        return cost is not None and cost.complete and self.same

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        call = self.call
        yield f"Call {call.event_id} of {call.started_at:%Y-%m-%d %H:%M:%S} UTC"
        yield f"{call.provider}/{call.model}, {call.operation}, {call.outcome}"
        if call.cost is None:
            known = call.usage is not None
            why = "no price was known" if known else "its usage is not known"
            yield f"Cost: unknown; {why}."
        else:
            yield from self._cost_lines(call.cost)
        if self.missing:
            yield f"No rate for: {', '.join(self.missing)}"
        yield from self._now_lines()

    def _cost_lines(self, cost: Cost) -> Iterator[str]:
        floor = "" if cost.complete else " or more"
        key = "" if cost.price_key is None else f", key {cost.price_key}"
        yield f"Cost: ${digits(cost.total_usd)}{floor}, by {HOW_LAYERS[cost.source]}{key}"
        since = cost.valid_from
        yield (
            f"Valid from: {'no date' if since is None else f'{since:%Y-%m-%d}'};"
            f" mode: {cost.mode or 'standard'}; tier: {cost.tier or 'base'}"
        )
        for meter, part in cost.parts.items():
            said = digits(part.amount_usd)
            line = (
                f"  {meter}: {digits(part.quantity)} at {digits(part.rate)} = ${said}"
            )
            amount = self.amounts[meter]
            if amount != part.amount_usd:
                line += f", but that comes to ${digits(amount)}"
            yield line
        flags = sorted(cost.flags)
        if flags:
            yield f"Flags: {', '.join(flags)}"
        total = digits(sum(self.amounts.values(), Decimal(0)))
        yield (
            f"Replayed: ${total}, the same to the pico-dollar."
            if self.same
            else f"Replayed: ${total}, which is not what stands on the call."
        )

    def _now_lines(self) -> Iterator[str]:
        cost = self.call.cost
        if self.why_not_now is not None:
            yield f"By the prices of now: cannot be worked out, {self.why_not_now}."
        elif self.now is None:
            yield "By the prices of now: unknown."
        elif cost is not None and self.now.total_usd == cost.total_usd:
            yield "By the prices of now: the same."
        elif cost is None or cost.source != "provider":
            yield f"By the prices of now: ${digits(self.now.total_usd)}."


def replay(book: PriceBook, call: Call) -> Replay:
    """Work a call's cost out again: from its own parts, and by the book of now."""
    cost, now, why = call.cost, None, None
    try:
        now = again(book, call).cost
    except ValueError as error:
        why = str(error)
    parts = {} if cost is None else cost.parts
    missing: tuple[str, ...] = ()
    if call.usage is not None and (cost is None or not cost.complete):
        missing = missing_of(call.usage, cost)
    return Replay(
        call=call,
        amounts={meter: _amount(meter, part) for meter, part in parts.items()},
        missing=missing,
        now=now,
        why_not_now=why,
    )


def _amount(name: str, part: t.Any) -> Decimal:
    meter = name.partition("@")[0]
    tokens = meter in IS_TOKENS or (
        meter.startswith(OTHER_SIDES) and meter not in UNITS
    )
    # Any meter of tokens has the same scale.
    rate = make_rate("input" if tokens else "request", part.rate)
    top, bottom = part.quantity.as_integer_ratio()
    return from_pico(divide(top * rate.top, bottom * rate.bottom))
