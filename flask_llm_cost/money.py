"""Money: exact conversion between decimal USD and integer pico-USD (1e-12 USD).

The ledger stores pico-USD in BIGINT columns; apps and people see ``Decimal`` USD. The
decimal context of the calling thread never affects a result.
"""

from __future__ import annotations

import typing as t
from decimal import Context
from decimal import Decimal
from decimal import Inexact
from decimal import InvalidOperation
from decimal import ROUND_CEILING
from decimal import ROUND_FLOOR

MAX_PICO: t.Final = 2**63 - 1
"""The largest amount that a BIGINT column stores: about 9.2 million dollars."""

PICO_PER_USD: t.Final = 10**12
ONE_PICO: t.Final = Decimal("1e-12")
# Wide enough that no amount of ours is rounded.
_WIDE: t.Final = Context(prec=60)
_multiply: t.Final = _WIDE.multiply
_EXACT: t.Final = Context(prec=60, traps=[Inexact, InvalidOperation])


def from_pico(pico: int) -> Decimal:
    """Convert pico-USD to USD."""
    return _multiply(pico, ONE_PICO)


def to_pico(usd: Decimal) -> int:
    """Convert USD to pico-USD, exactly.

    :raises ValueError: If the amount is finer than one pico-dollar or exceeds
        :data:`MAX_PICO`.
    """
    try:
        scaled = usd.scaleb(12, _EXACT)
        pico = int(scaled)
    except (Inexact, InvalidOperation, ValueError, OverflowError):
        raise ValueError(f"{usd} USD is not a whole number of pico-dollars") from None
    if pico != scaled:
        raise ValueError(f"{usd} USD is not a whole number of pico-dollars")
    if not -MAX_PICO <= pico <= MAX_PICO:
        raise ValueError(f"{usd} USD exceeds what the ledger can store for one call")
    return pico


def round_pico(usd: Decimal) -> int:
    """Convert USD to pico-USD, rounded half to even."""
    top, bottom = usd.as_integer_ratio()
    return divide(top * PICO_PER_USD, bottom)


def floor_pico(usd: Decimal) -> int:
    """Convert USD to pico-USD, rounded down and at most :data:`MAX_PICO`."""
    return min(int(usd.scaleb(12, _WIDE).to_integral_value(ROUND_FLOOR)), MAX_PICO)


def ceil_pico(usd: Decimal) -> int:
    """Convert USD to pico-USD, rounded up and at most :data:`MAX_PICO`."""
    return min(int(usd.scaleb(12, _WIDE).to_integral_value(ROUND_CEILING)), MAX_PICO)


def divide(top: int, bottom: int) -> int:
    """Divide integers >= 0, rounding half to even."""
    quotient, rest = divmod(top, bottom)
    if rest * 2 > bottom or (rest * 2 == bottom and quotient & 1):
        return quotient + 1
    return quotient


def digits(number: Decimal) -> str:
    """Format a number with every digit, without an exponent or trailing zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
