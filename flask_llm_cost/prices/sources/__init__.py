"""What do others say that models cost? One file per source: its JSON to book entries."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from decimal import Context
from decimal import Decimal

ODD: t.Final = (ValueError, KeyError, TypeError, AttributeError, IndexError) + (
    ArithmeticError,
)
"""What reading an entry of another shape than ever seen may raise."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a source says, in the names of a price file."""

    models: dict[str, list[dict[str, t.Any]]] = field(default_factory=dict)
    """``provider/model`` to its prices, the earliest first; rates are ``Decimal``."""
    also: dict[str, str] = field(default_factory=dict)
    """Other names of models, to the names above."""
    unread: dict[str, int] = field(default_factory=dict)
    """Price-bearing fields that the grammar does not hold, and how often they occur."""
    read: int = 0
    """Price-bearing values that it does hold."""
    refused: dict[str, str] = field(default_factory=dict)
    """Models whose prices are not usable, and why."""

    zeros: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Rates that are 0 there, where 0 is no price but one that nobody has filled in."""

    def skip(self, name: str) -> None:
        """Note a value that has no place here."""
        self.unread[name] = self.unread.get(name, 0) + 1


def amount(value: object) -> Decimal | None:
    """A price as a decimal, exactly as the source's JSON writes it; ``None`` if it is none.

    The JSON is to be read with ``parse_float=Decimal``. A bare ``float`` is refused
    like any other thing that is no exact number.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, Decimal)):
        number = Decimal(value)
    elif isinstance(value, str):
        try:
            number = Decimal(value)
        except ArithmeticError:
            return None
    else:
        return None
    # Beyond this nothing is a price, and arithmetic no longer holds it.
    return number if number.is_finite() and abs(number.adjusted()) < 40 else None


def tidy(number: Decimal) -> Decimal:
    """A price without what a float left behind (0.8900000000000001) or an exponent."""
    number = _NOISE_FREE.plus(number).normalize()
    return number.quantize(Decimal(1)) if number == number.to_integral() else number


_NOISE_FREE: t.Final = Context(prec=12)


def never_a_price(given: object) -> bool:
    """Is it something that stands where a price should, and cannot be one?

    ``None`` and nothing at all are merely missing.
    """
    if given is None or isinstance(given, (Mapping, list)):
        return False
    number = amount(given)
    return number is None or number < 0
