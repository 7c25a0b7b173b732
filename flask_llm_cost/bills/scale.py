"""Reject a bill with amounts in cents instead of dollars, or the reverse."""

from __future__ import annotations

import datetime as dt
import statistics
import typing as t
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal

from ..money import multiply
from ..money import own_context
from ..money import quotient
from .document import Document
from .line import Line
from .rates import at_list_price
from .rates import list_price
from .statement import Statement

_WRONG: t.Final = {Decimal(100): "cents", Decimal("0.01"): "hundreds of dollars"}
_TOLERANCE: t.Final = Decimal("0.01")


@own_context
def refuse_wrong_scale(document: Document, statement: Statement) -> None:
    """Compare amounts to what their quantities cost at list price.

    :raises BillError: If the median is 100 times as much, or a hundredth.
    """
    ratios = list(_ratios(statement))
    if not ratios:
        return
    median = statistics.median(ratios)
    for factor, unit in _WRONG.items():
        if abs(median / factor - 1) <= _TOLERANCE:
            raise document.place.error(
                f"its amounts are {factor} times the list price of its quantities, so"
                f" they seem to be in {unit}. Check that nothing converted them, and that"
                " --source is right."
            )


def _ratios(statement: Statement) -> Iterator[Decimal]:
    for line in statement.lines:
        billed, price = line.billed_usd, list_price(line)
        if billed is not None and billed > 0 and price and line.quantity:
            yield quotient(billed, multiply(price, line.quantity))
    yield from _ratios_of_totals(statement)


def _ratios_of_totals(statement: Statement) -> Iterator[Decimal]:
    """Compare what names no meter, by day and model."""
    billed: dict[tuple[dt.date, str | None], Decimal] = defaultdict(Decimal)
    for line in statement.lines:
        if line.kind == "usage" and line.meter is None and line.billed_usd is not None:
            billed[line.start.date(), line.model] += line.billed_usd
    used: dict[tuple[dt.date, str | None], list[Line]] = defaultdict(list)
    for each in statement.usage:
        for model in (each.model, None):
            used[each.start.date(), model].append(each)
    for key, amount in billed.items():
        cost = at_list_price(used.get(key, ()))
        if cost and amount > 0:
            yield quotient(amount, cost)
