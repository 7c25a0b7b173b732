"""What every FOCUS row has: an account, a service and costs."""

from __future__ import annotations

import typing as t
from decimal import Decimal

from ..scope import ids_of

Row: t.TypeAlias = dict[str, t.Any]
"""Values by column; what is null is left out."""

_SUB_ACCOUNTS: t.Final = ("project", "workspace", "account", "resource")
"""The ids of a scope that are part of an organization, in the order of preference."""


def account(provider: str, scope: str) -> Row:
    """Return the columns of an account without a bill."""
    ids = ids_of(scope)
    part = next((name for name in _SUB_ACCOUNTS if name in ids), None)
    return {
        "BilledCost": Decimal(0),
        "BillingAccountId": ids.get("organization", provider),
        "BillingAccountName": provider,
        "BillingAccountType": "Organization",
        "BillingCurrency": "USD",
        "HostProviderName": provider,
        "InvoiceIssuerName": provider,
        "PricingCurrency": "USD",
        "ProviderName": provider,
        "PublisherName": provider,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": f"{provider} API",
        "ServiceProviderName": provider,
        "ServiceSubcategory": "Generative AI",
        "SubAccountId": part and ids[part],
        "SubAccountName": part and ids[part],
        "SubAccountType": part and part.capitalize(),
        "x_Reconciled": "false",
    }


def costs(cost: Decimal, listed: Decimal, rate: Decimal | None) -> Row:
    """Return a cost; with a rate, it is a unit price times a quantity."""
    return {
        "ContractedCost": cost,
        "ContractedUnitPrice": rate,
        "EffectiveCost": cost,
        "ListCost": listed,
        "ListUnitPrice": rate,
        "PricingCurrencyContractedUnitPrice": rate,
        "PricingCurrencyEffectiveCost": cost,
        "PricingCurrencyListUnitPrice": rate,
    }
