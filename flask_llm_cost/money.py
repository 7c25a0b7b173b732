"""Money and other decimals: exact, bounded, and in a separate decimal context.

The ledger stores pico-USD (1e-12 USD) in BIGINT columns; apps and people see ``Decimal``
USD. The decimal context of the calling thread never affects a result.
"""

from __future__ import annotations

import functools
import json
import math
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from decimal import Context
from decimal import Decimal
from decimal import DivisionByZero
from decimal import Inexact
from decimal import InvalidOperation
from decimal import localcontext
from decimal import Overflow
from decimal import ROUND_CEILING
from decimal import ROUND_FLOOR
from decimal import ROUND_HALF_EVEN

MAX_PICO: t.Final = 2**63 - 1
"""The largest amount that a BIGINT column stores: about 9.2 million dollars."""
MAX_USD: t.Final = Decimal(MAX_PICO).scaleb(-12, Context(prec=19))

PICO_PER_USD: t.Final = 10**12
ONE_PICO: t.Final = Decimal("1e-12")

MAX_DIGITS: t.Final = 60
"""The most digits of a number from outside."""
MAX_EXPONENT: t.Final = 20
"""The largest power of ten of a number from outside: less than a BIGINT holds in
pico-USD. The smallest is -:data:`MAX_DIGITS`."""


def context(prec: int) -> Context:
    """Create a decimal context for calculations of ours.

    What is not stated here would come from ``decimal.DefaultContext``, which a host may
    have changed.
    """
    return Context(
        prec=prec,
        rounding=ROUND_HALF_EVEN,
        Emin=-999_999,
        Emax=999_999,
        capitals=1,
        clamp=0,
        flags=[],
        traps=[DivisionByZero, InvalidOperation, Overflow],
    )


WIDE: t.Final = context(MAX_DIGITS)
"""Rounds no amount of ours."""
_USUAL: t.Final = context(28)
"""Python's default: ratios and means have as many digits as apps are used to."""
_EXACT: t.Final = WIDE.copy()
_EXACT.traps[Inexact] = True

_P = t.ParamSpec("_P")
_R = t.TypeVar("_R")


def own_context(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run a function in a separate decimal context, whatever the caller's is.

    For functions that calculate with decimals or format them. They must not call the
    app's code, whose context stays its own, nor be generators.
    """

    @functools.wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with localcontext(_USUAL):
            return function(*args, **kwargs)

    return run


# Single operations, exact or to 28 digits.
add: t.Final = WIDE.add
multiply: t.Final = WIDE.multiply
quotient: t.Final = _USUAL.divide


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Sum amounts."""
    return functools.reduce(add, amounts, Decimal(0))


def share(part: Decimal | int, whole: Decimal | int) -> Decimal | None:
    """Return a part as a share of 1; ``None`` if the whole is 0."""
    return quotient(part, whole) if whole else None


def in_bounds(number: Decimal) -> bool:
    """Whether a number from outside is fit for exact integer arithmetic.

    That takes as long as a number has digits, or its exponent says: ``1e999990`` would
    stop the process for seconds.
    """
    if not number.is_finite():
        return False
    _, digits, exponent = number.as_tuple()
    return (
        len(digits) <= MAX_DIGITS
        and -MAX_DIGITS <= t.cast(int, exponent) <= MAX_EXPONENT
        and number.adjusted() <= MAX_EXPONENT
    )


def parse(text: str) -> Decimal | None:
    """Convert text to a number, exactly; ``None`` if it is not one or out of bounds."""
    if len(text) > 2 * MAX_DIGITS:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if in_bounds(number) else None


def parse_number(text: str) -> Decimal | str:
    """Parse a JSON number exactly. One out of bounds stays text and is rejected later."""
    number = parse(text)
    return text if number is None else number


def parse_int(digits: str) -> int | float:
    """Convert a whole number in JSON; one out of bounds becomes infinite, as a float does.

    Python refuses numbers of more than 4,300 digits, and with them the whole document. Where
    an app has lifted that limit, they would stop the process instead.
    """
    return int(digits) if len(digits) <= MAX_DIGITS else math.inf


def from_pico(pico: int) -> Decimal:
    """Convert pico-USD to USD."""
    return multiply(pico, ONE_PICO)


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
    return min(int(usd.scaleb(12, WIDE).to_integral_value(ROUND_FLOOR)), MAX_PICO)


def ceil_pico(usd: Decimal) -> int:
    """Convert USD to pico-USD, rounded up and at most :data:`MAX_PICO`."""
    return min(int(usd.scaleb(12, WIDE).to_integral_value(ROUND_CEILING)), MAX_PICO)


def divide(top: int, bottom: int) -> int:
    """Divide integers >= 0, rounding half to even."""
    quotient, rest = divmod(top, bottom)
    if rest * 2 > bottom or (rest * 2 == bottom and quotient & 1):
        return quotient + 1
    return quotient


@own_context
def digits(number: Decimal) -> str:
    """Format a number with every digit, without an exponent or trailing zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def dumps(
    value: object, indent: str = "", number: Callable[[Decimal], str] = digits
) -> str:
    """Write JSON in which a ``Decimal`` is a number with all its digits, a key per line.

    The json module could only write it as a float or a string.
    """
    inner = indent + "  "
    if isinstance(value, Decimal):
        return number(value)
    if isinstance(value, Mapping) and value:
        lines = [
            f"{_quoted(str(key))}: {dumps(each, inner, number)}"
            for key, each in value.items()
        ]
    elif isinstance(value, (list, tuple)) and value:
        lines = [dumps(each, inner, number) for each in value]
    else:
        return _quoted(value)
    start, end = "{}" if isinstance(value, Mapping) else "[]"
    body = ",\n".join(inner + line for line in lines)
    return f"{start}\n{body}\n{indent}{end}"


def _quoted(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    # A terminal obeys some characters that JSON does not need to escape.
    return text if text.isprintable() else json.dumps(value)
