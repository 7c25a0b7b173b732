"""One line of a bill on one day, while it is compared to the ledger."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal

from ..money import ONE_PICO
from ..money import WIDE
from .cells import Billed
from .cells import Held
from .cells import Place
from .cells import Variant
from .report import exact
from .report import Residual

_ZERO: t.Final = Decimal(0)


@dataclass(slots=True)
class Cell:
    """One variant of one line on one day, while it is compared."""

    day: dt.date
    place: Place
    variant: Variant
    held: Held
    billed: Billed
    quantity: Decimal = _ZERO
    """The ledger's quantity, and what was added to it."""
    cost: Decimal = _ZERO
    """The ledger's cost, and what was named."""
    matched: Decimal = _ZERO
    """Billed dollars that the ledger has calls for."""
    residuals: list[Residual] = field(default_factory=list)
    moved: bool = False
    """Whether a part of its quantity is billed as another variant."""

    def __post_init__(self) -> None:
        self.quantity, self.cost = self.held.quantity, self.held.cost

    @property
    def left(self) -> Decimal:
        """The billed quantity that the ledger does not have."""
        return exact.subtract(self.billed.quantity, self.quantity)

    @property
    def rest(self) -> Decimal:
        """What is not named yet."""
        return exact.subtract(self.billed.amount, self.cost)

    @property
    def bill_rate(self) -> Decimal | None:
        """USD per token or unit on the bill."""
        return _rate(self.billed.amount, self.billed.quantity)

    @property
    def ledger_rate(self) -> Decimal | None:
        """USD per token or unit in the ledger."""
        return _rate(self.held.cost, self.held.quantity)

    @property
    def rate(self) -> Decimal:
        """What a difference of quantities costs."""
        found = self.ledger_rate
        return (self.bill_rate or _ZERO) if found is None else found

    @property
    def tolerance(self) -> Decimal:
        """What rounding can amount to: of the calls' parts and of the bill's numbers."""
        return tolerance(self.billed.amount, self.held.parts)

    def name(
        self,
        cause: str,
        amount: Decimal,
        quantity: Decimal = _ZERO,
        *,
        candidates: Sequence[str] = (),
        scope: str | None = None,
    ) -> None:
        """Name a part of the difference, and add it to the ledger's side."""
        self.quantity = exact.add(self.quantity, quantity)
        self.cost = exact.add(self.cost, amount)
        if amount:
            self.residuals.append(
                Residual(
                    cause,
                    amount,
                    self.day,
                    scope=scope,
                    model=self.place.model,
                    meter=_meter(self.place, self.variant),
                    candidates=tuple(candidates),
                )
            )

    def name_quantity(self, cause: str, quantity: Decimal, **more: t.Any) -> None:
        """Name a quantity, at the ledger's rate; the remainder exactly."""
        if quantity == self.left and not self.billed.quantity:
            amount = self.rest
        elif quantity == self.left and not self.held.quantity:
            amount = self.rest
        else:
            amount = to_whole_pico(WIDE.multiply(quantity, self.rate))
        self.name(cause, amount, quantity, **more)


def tolerance(billed: Decimal, parts: int) -> Decimal:
    """Return what rounding can amount to: of the ledger's amounts, and of a bill's float."""
    small = abs(WIDE.multiply(billed, Decimal("1e-14")))
    return WIDE.add(small, WIDE.multiply(ONE_PICO, parts + 1))


def _meter(place: Place, variant: Variant) -> str | None:
    meter = f"{place.meter}_{variant.ttl}" if variant.ttl else place.meter
    return (f"{variant.mode}_{meter}" if variant.mode else meter) or None


def _rate(amount: Decimal, quantity: Decimal) -> Decimal | None:
    return WIDE.divide(amount, quantity) if quantity else None


def to_whole_pico(amount: Decimal) -> Decimal:
    return amount.quantize(ONE_PICO, context=WIDE)
