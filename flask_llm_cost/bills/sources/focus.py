"""FOCUS 1.2 to 1.4: CSV of any cloud, Google's view in BigQuery, and Azure's manifests.

What a charge is for is read from the same names as in the cloud's own export.
"""

from __future__ import annotations

import datetime as dt
import re
import typing as t
from collections.abc import Mapping
from collections.abc import Sequence
from decimal import Decimal

from ...money import multiply
from ..document import Document
from ..line import Kind
from ..manifests import is_manifest
from ..manifests import newest
from ..skus import is_llm
from ..skus import Sku
from ..skus import unit_factor
from ..skus import Whose
from ..statement import make_statement
from ..statement import Statement
from ..sums import Amounts
from ..sums import is_refund
from ..sums import Key
from ..sums import Scope
from ..sums import scope_of
from ..sums import Sums
from ..tables import column_names
from ..tables import Row
from ..tables import rows_of
from ..tables import tags_of
from ..values import DAY
from ..values import Place
from ..values import text
from .aws import usage_sku
from .azure import meter_sku
from .google import sku_of

NAME: t.Final = "focus"
TRIED: t.Final = False

_KINDS: t.Final[Mapping[str, Kind]] = {
    "usage": "usage",
    "purchase": "commitment",
    "tax": "tax",
    "credit": "credit",
    "adjustment": "adjustment",
}
_CLOUDS: t.Final = (
    ("bedrock", re.compile(r"aws|amazon", re.IGNORECASE)),
    ("azure", re.compile(r"microsoft|azure", re.IGNORECASE)),
    ("vertex", re.compile(r"google|gcp", re.IGNORECASE)),
    ("openai", re.compile(r"openai", re.IGNORECASE)),
    ("anthropic", re.compile(r"anthropic", re.IGNORECASE)),
)
_NEEDED: t.Final = (
    "BilledCost",
    "BillingCurrency",
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "ChargeCategory",
    "ServiceName",
)
_PROVIDERS: t.Final = (
    "providername",
    "hostprovidername",
    "serviceprovidername",
    "invoiceissuername",
    "publishername",
)


def recognizes(document: Document) -> bool:
    """Whether it has FOCUS's columns, or is the manifest of such an export."""
    if document.is_json and is_manifest(document):
        return True
    return {"billedcost", "chargeperiodstart"} <= column_names(document)


def read(documents: Sequence[Document]) -> Statement:
    """Read the parts of one export. With manifests, newer runs replace older ones.

    :raises BillError: If a part is missing or a row cannot be read.
    """
    chosen = newest(documents)
    sums = Sums(NAME, documents[0].name)
    accounts: set[str] = set()
    exported: dt.datetime | None = None
    for document in chosen.parts:
        _refuse_other_columns(document)
        part, rows = Sums(NAME, document.name), 0
        for place, row in rows_of(document):
            rows += 1
            part.add(*_line(place, row))
            accounts.update(filter(None, [text(row.get("billingaccountid"))]))
            if row.get("x_exporttime"):
                at = place.time(row["x_exporttime"], "x_ExportTime")
                exported = at if exported is None else max(exported, at)
        chosen.refuse_other_count(document, rows)
        sums.include(part)
    return make_statement(
        NAME,
        documents,
        sums.lines(),
        account=", ".join(sorted(accounts)) or None,
        watermark=exported,
        warnings=[*chosen.warnings, *sums.warnings],
    )


def _refuse_other_columns(document: Document) -> None:
    if document.is_json:
        return
    names = column_names(document)
    missing = [each for each in _NEEDED if each.lower() not in names]
    if missing:
        raise document.place.error(
            f"it has no column {', '.join(missing)}. Export all columns of FOCUS."
        )


def _line(place: Place, row: Row) -> tuple[Key, Amounts]:
    start = place.time(row.get("chargeperiodstart"), "ChargePeriodStart")
    end = place.time(row.get("chargeperiodend"), "ChargePeriodEnd")
    span = _days(place, start, end)
    currency = place.currency(row.get("billingcurrency"), "BillingCurrency")
    usd, listed = row.get("x_billedcostinusd"), row.get("listcost")
    amounts = Amounts(
        billed=place.amount(row.get("billedcost"), "BilledCost"),
        listed=place.amount(listed, "ListCost") if listed else None,
        usd=place.amount(usd, "x_BilledCostInUsd") if usd else None,
    )
    service = " ".join(
        str(row.get(name) or "")
        for name in ("servicename", "servicesubcategory", "x_servicecode")
        + ("x_skumetercategory", "publishername")
    )
    description = _name(row)
    if not is_llm(service, description):
        ignored = text(row.get("servicename")) or text(description) or "other"
        return Key(*span, "ignored", ignored, currency), amounts
    provider, sku = _sku(row, description)
    kind = _KINDS.get(str(row.get("chargecategory") or "").lower(), "adjustment")
    if row.get("chargeclass"):
        kind = "adjustment"
    elif kind == "usage" and is_refund(amounts.billed, _counted(row)):
        kind = "credit"
    whose = Whose(provider, _scope(row), text(row.get("regionid")))
    name = text(description) or "unnamed charge"
    key = sku.key(span, kind, name, currency, whose)
    if key.kind == "usage" and sku.meter is not None:
        amounts = amounts._replace(quantity=_quantity(place, row))
    return key, amounts


def _days(
    place: Place, start: dt.datetime, end: dt.datetime
) -> tuple[dt.datetime, dt.datetime]:
    """Return the UTC day of a charge, or its days if it takes longer."""
    if end < start:
        raise place.error("ChargePeriodEnd is before ChargePeriodStart.")
    first = dt.datetime.combine(start.date(), dt.time(tzinfo=dt.UTC))
    last = dt.datetime.combine(end.date(), dt.time(tzinfo=dt.UTC))
    return first, max(first + DAY, last if last == end else last + DAY)


def _name(row: Row) -> str:
    for name in ("x_usagetype", "skumeter", "chargedescription", "skuid"):
        if row.get(name):
            return str(row[name])
    return ""


def _sku(row: Row, name: str) -> tuple[str | None, Sku]:
    unit = str(row.get("consumedunit") or row.get("pricingunit") or "")
    names = " ".join(str(row.get(each) or "") for each in _PROVIDERS)
    cloud = next((each for each, form in _CLOUDS if form.search(names)), None)
    description = str(row.get("chargedescription") or "")
    if cloud == "bedrock":
        return cloud, usage_sku(name, unit, description)
    if cloud == "azure":
        return cloud, meter_sku(name, unit)
    return cloud, sku_of(name)


def _quantity(place: Place, row: Row) -> Decimal | None:
    for kind in ("consumed", "pricing"):
        value, unit = row.get(f"{kind}quantity"), str(row.get(f"{kind}unit") or "")
        factor = unit_factor(unit) if "token" in unit.lower() else None
        if value not in (None, "") and factor is not None:
            return multiply(place.number(value, f"{kind}Quantity"), factor)
    return None


def _counted(row: Row) -> object:
    return row.get("consumedquantity") or row.get("pricingquantity")


def _scope(row: Row) -> Scope:
    return (
        *scope_of(
            account=text(row.get("subaccountid")),
            resource=text(row.get("resourcename")),
        ),
        *tags_of(row.get("tags")),
    )
