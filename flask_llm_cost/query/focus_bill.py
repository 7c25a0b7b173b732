"""The FOCUS rows of a day that come from bills instead of the ledger.

What a bill has beyond the ledger is never in ``EffectiveCost``, which is what the calls cost.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterator
from decimal import Decimal

from ..money import add
from ..money import total
from .billed import Billed
from .billed import Residual
from .focus_row import account
from .focus_row import costs
from .focus_row import Row

_CATEGORIES: t.Final = {
    "credit": "Credit",
    "tax": "Tax",
    "commitment": "Purchase",
    "tool_fee": "Usage",
    "session_fee": "Usage",
    "storage": "Usage",
}
"""Of causes that are lines of the bill; all others are adjustments."""

_ZERO: t.Final = Decimal(0)


def bill_rows(billed: Billed, day: dt.date, effective: Decimal) -> Iterator[Row]:
    """Yield what a bill has beyond the ledger on a day.

    :param effective: What the ledger's rows have as ``BilledCost``.
    """
    residuals = billed.residuals.get(day, ())
    for each in residuals:
        if each.amount_usd:
            yield _row(billed, each)
    known = add(effective, total(each.amount_usd for each in residuals))
    rest = add(billed.days.get(day, _ZERO), -known)
    if rest:
        text = "Calls that changed after the bill was compared"
        yield _row(billed, Residual("changed", "", rest), text)


def _row(billed: Billed, residual: Residual, text: str = "") -> Row:
    provider = min(billed.providers)
    category = _CATEGORIES.get(residual.cause, "Adjustment")
    name = text or " ".join(filter(None, (residual.cause, residual.name)))
    row = account(provider, "") | costs(_ZERO, _ZERO, None)
    row |= {
        "BilledCost": residual.amount_usd,
        "BillingAccountId": billed.account,
        "ChargeCategory": category,
        "ChargeDescription": f"{billed.source} bill {billed.bill}: {name}",
        "ChargeFrequency": "Usage-Based" if category == "Usage" else "One-Time",
        "x_CostSource": "bill",
        "x_Reconciled": "true",
    }
    if category not in ("Usage", "Purchase"):
        return row
    return row | {
        "PricingCategory": "Other",
        "PricingQuantity": Decimal(1),
        "PricingUnit": "Lines",
        "SkuId": f"{billed.source}/{residual.cause}",
        "SkuMeter": residual.cause,
    }
