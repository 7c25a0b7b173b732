"""What to do about the differences that were found."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from decimal import Decimal

from ..contract import METERS
from ..money import context
from ..money import digits
from ..money import quotient
from .cell import Cell

_FEW: t.Final = context(6)


def suggestions(cells: Iterable[Cell], provider: str) -> Iterator[str]:
    """Suggest entries of a price file that would have given the billed amounts."""
    ratios: set[Decimal] = set()
    rates: dict[tuple[str, str], Decimal] = {}
    for cell in cells:
        causes = {each.cause for each in cell.residuals}
        ours, theirs = cell.ledger_rate, cell.bill_rate
        if not ours or not theirs:
            continue
        if "discount" in causes:
            ratios.add(_FEW.plus(quotient(theirs, ours)))
        if "price" in causes:
            known = METERS.get(cell.place.meter)
            scale = 10**6 if known is None or known.unit == "token" else 1
            rates[cell.place.model, cell.place.meter] = _FEW.plus(theirs * scale)
    if len(ratios) == 1:
        factor = digits(ratios.pop())
        yield f'A discount: "{provider}/*": {{"multiplier": "{factor}"}} in the price file.'
    for (model, meter), rate in sorted(rates.items()):
        yield (
            f'Another price: "{provider}/{model}": {{"{meter}": "{digits(rate)}"}} in the'
            " price file."
        )
