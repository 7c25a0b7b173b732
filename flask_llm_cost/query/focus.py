"""The ledger as FOCUS rows: the FinOps Open Cost and Usage Specification, 1.2 and 1.4.

A row is a UTC day, a meter of a model at one price, and the declared tags. Amounts are
exact: unit price times quantity is the cost, and the rounding of each call to 1e-12 USD
is a separate row. So ``EffectiveCost`` sums to the ledger's total.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import typing as t
from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from ..calendar import DAY
from ..calendar import day_start
from ..calendar import next_first_day
from ..call import REPORTED
from ..money import context
from ..money import digits
from ..money import from_pico
from ..money import quotient
from ..prices import PriceBook
from ..rollups.meters import CALLS
from ..rollups.meters import MeterKey
from ..rollups.meters import MeterSum
from ..scope import without_key
from .billed import Billed
from .charges import charges
from .charges import Day
from .charges import unit_of
from .corrections import closed_months
from .corrections import closed_parts
from .focus_bill import bill_rows
from .focus_row import account
from .focus_row import costs
from .focus_row import Row as Row

Spec: t.TypeAlias = t.Literal["1.2", "1.4"]

_COMMON: t.Final = (
    ("AvailabilityZone", "BilledCost", "BillingAccountId", "BillingAccountName")
    + ("BillingAccountType", "BillingCurrency", "BillingPeriodEnd")
    + ("BillingPeriodStart", "CapacityReservationId", "CapacityReservationStatus")
    + ("ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency")
    + ("ChargePeriodEnd", "ChargePeriodStart", "CommitmentDiscountCategory")
    + ("CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountQuantity")
    + ("CommitmentDiscountStatus", "CommitmentDiscountType", "CommitmentDiscountUnit")
    + ("ConsumedQuantity", "ConsumedUnit", "ContractedCost", "ContractedUnitPrice")
    + ("EffectiveCost", "InvoiceId", "InvoiceIssuerName", "ListCost", "ListUnitPrice")
    + ("PricingCategory", "PricingCurrency", "PricingCurrencyContractedUnitPrice")
    + ("PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice")
    + ("PricingQuantity", "PricingUnit", "RegionId", "RegionName", "ResourceId")
    + ("ResourceName", "ResourceType", "ServiceCategory", "ServiceName")
    + ("ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId")
    + ("SubAccountId", "SubAccountName", "SubAccountType", "Tags")
)
_OWN: t.Final = ("x_CostSource", "x_Mode", "x_Model", "x_Reconciled", "x_Tier")

COLUMNS: t.Final[Mapping[Spec, tuple[str, ...]]] = {
    "1.2": (*sorted((*_COMMON, "ProviderName", "PublisherName")), *_OWN),
    "1.4": (
        *sorted(
            (*_COMMON, "AllocatedMethodDetails", "AllocatedMethodId", "AllocatedTags")
            + ("AllocatedResourceId", "AllocatedResourceName", "ContractApplied")
            + ("CommitmentProgramEligibilityDetails", "HostProviderName")
            + ("InvoiceDetailId", "ServiceProviderName")
        ),
        *_OWN,
    ),
}
"""The columns of each version: those of the specification, and our own."""


_MILLION: t.Final = 1_000_000
_DYNAMIC: t.Final = frozenset(("batch", "flex"))
_KNOWN: t.Final = frozenset(("complete", "incomplete", "unsettled"))
_exact: t.Final = context(250)


class Notes:
    """What the rows of a month leave out, counted."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.untagged = False
        """Whether a closed month could not be split by tags."""

    def lines(self) -> Iterator[str]:
        """Return a sentence for each reason."""
        for status, text in (
            ("unpriced", "without a price"),
            ("no_usage", "that reported no usage"),
            ("estimated", "with estimated usage"),
        ):
            if self.calls[status]:
                yield f"{_counted(self.calls[status], text)} not in the file."
        incomplete = self.calls["incomplete"] + self.calls["unsettled"]
        if incomplete:
            yield f"{_counted(incomplete, '')} in the file with an incomplete cost."
        if self.untagged:
            yield "The rows have no tags: closed months do not keep combinations of tags."


def _counted(number: int, text: str) -> str:
    noun, verb = ("call", "is") if number == 1 else ("calls", "are")
    return " ".join(filter(None, (f"{number:,}", noun, text, verb)))


@dataclass(frozen=True, slots=True)
class Month:
    """What the rows of a month are made of, besides the ledger.

    :param first: The first day of the UTC month.
    """

    first: dt.date
    keys: Sequence[str] = ()
    """Tag keys that split the rows."""
    zone: dt.tzinfo = dt.UTC
    """The ledger's time zone."""
    book: PriceBook | None = None
    """The prices, for list prices under a negotiated multiplier."""
    billed: Sequence[Billed] = ()
    """What was billed. All other rows have a ``BilledCost`` of 0."""


def rows(
    connection: sa.Connection, month: Month, notes: Notes | None = None
) -> Iterator[Row]:
    """Yield the rows of a UTC month, by column; what is null is left out.

    :param notes: Counts the calls that are in no row.
    """
    notes = Notes() if notes is None else notes
    ends = month.first, next_first_day("month", month.first)
    start, following = (day_start(day, dt.UTC) for day in ends)
    common = {
        "BillingPeriodStart": _time(start),
        "BillingPeriodEnd": _time(following),
    }
    days = itertools.groupby(
        _days(connection, month, start, following, notes), lambda day: day.start
    )
    found: t.Iterator[tuple[dt.datetime, t.Iterable[Day]]] = iter(days)
    current = next(found, None)
    while start < following:
        charged: t.Iterable[Day] = ()
        if current is not None and current[0] == start:
            charged = current[1]
        period = {
            "ChargePeriodStart": _time(start),
            "ChargePeriodEnd": _time(start + DAY),
        }
        for row in _rows_of_day(start, charged, month, notes):
            yield common | period | row
        if current is not None and current[0] == start:
            current = next(found, None)
        start += DAY


def _days(
    connection: sa.Connection,
    month: Month,
    start: dt.datetime,
    end: dt.datetime,
    notes: Notes,
) -> Iterator[Day]:
    """Yield the charges of each day; of a closed month, with its corrections."""
    closed = closed_months(connection).get(month.first)
    if closed is None:
        yield from charges(connection, start, end, month.keys)
        return
    # Combinations of several tags are not kept of closed months.
    split = len(month.keys) == 1 and month.keys[0] in closed.keys
    notes.untagged = bool(month.keys) and not split
    key = month.keys[0] if split else ""
    found = closed_parts(connection, month.zone, month.first, key)
    for start_of_day, parts in itertools.groupby(found, lambda part: part.day):
        merged: dict[tuple[str, str], dict[MeterKey, MeterSum]] = {}
        for part in parts:
            sums = merged.setdefault((part.corrected_on, part.value), {})
            known = sums.get(part.meter)
            sums[part.meter] = part.sums if known is None else known.plus(part.sums)
        for (corrected_on, value), each in sorted(merged.items()):
            tags = ((key, value),) if value else ()
            yield Day(start_of_day, tags, each, corrected_on)


def _rows_of_day(
    start: dt.datetime, days: Iterable[Day], month: Month, notes: Notes
) -> Iterator[Row]:
    proven = {
        provider: each
        for each in month.billed
        if start.date() in each.days
        for provider in each.providers
    }
    effective: dict[str, Decimal] = {}
    for day in days:
        tags = {"Tags": json.dumps(dict(day.tags), ensure_ascii=False)}
        for row in _rows_of(day, month.book, notes):
            billed = proven.get(row["ProviderName"])
            if billed is not None:
                cost = row["EffectiveCost"]
                row |= {"BilledCost": cost, "x_Reconciled": "true"}
                known = effective.get(billed.bill, Decimal(0))
                effective[billed.bill] = _exact.add(known, cost)
            yield tags | row
    for each in month.billed:
        known = effective.get(each.bill, Decimal(0))
        for row in bill_rows(each, start.date(), known):
            yield {"Tags": "{}"} | row


def _rows_of(day: Day, book: PriceBook | None, notes: Notes) -> Iterator[Row]:
    merged: dict[MeterKey, MeterSum] = {}
    for key, sums in day.sums.items():
        if key.meter == CALLS:
            notes.calls[key.status] += sums.calls
        elif key.status in _KNOWN and (key.rate or sums.cost):
            scope = without_key(key.scope)
            one = key._replace(status="complete", price_key="", scope=scope)
            known = merged.get(one)
            merged[one] = sums if known is None else known.plus(sums)
    rounding: dict[tuple[str, str], Decimal] = {}
    for key, sums in sorted(merged.items()):
        if not any(sums):
            continue
        row, exact = _charge(key, sums, _factor(book, key, day.start))
        yield _corrected(row, day)
        off = _exact.subtract(from_pico(sums.cost), exact)
        owner = key.provider, key.scope
        rounding[owner] = _exact.add(rounding.get(owner, 0), off)
    for owner, amount in sorted(rounding.items()):
        if amount:
            yield _corrected(_rounding(*owner, amount), day)


def _corrected(row: Row, day: Day) -> Row:
    if not day.corrected_on:
        return row
    text = f"{row['ChargeDescription']} (correction, {day.corrected_on})"
    return row | {"ChargeClass": "Correction", "ChargeDescription": text}


def _factor(book: PriceBook | None, key: MeterKey, at: dt.datetime) -> Decimal | None:
    """The negotiated multiplier that a rate includes."""
    if book is None or not key.rate or key.source in REPORTED:
        return None
    found = book.find(key.provider, key.model, at)
    return None if found is None else found.factor


def _list_rate(rate: Decimal, factor: Decimal | None) -> Decimal:
    """The rate before a multiplier, unless it is not a decimal number."""
    if not factor:
        return rate
    listed = quotient(rate, factor)
    return listed if _exact.multiply(listed, factor) == rate else rate


def _charge(
    key: MeterKey, sums: MeterSum, factor: Decimal | None
) -> tuple[Row, Decimal]:
    """Return a row of usage, and its exact cost."""
    sku = f"{key.provider}/{key.model}/{key.meter}"
    row = account(key.provider, key.scope) | {
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{key.provider} {key.model}: {key.meter}",
        "ChargeFrequency": "Usage-Based",
        "PricingCategory": "Dynamic" if key.mode in _DYNAMIC else "Standard",
        "SkuId": sku,
        "SkuMeter": key.meter,
        "x_CostSource": key.source,
        "x_Mode": key.mode or "standard",
        "x_Model": key.model,
        "x_Tier": key.tier or None,
    }
    if not key.rate:
        return row | _reported(sums), from_pico(sums.cost)
    rate = Decimal(key.rate)
    quantity, unit = sums.quantity, unit_of(key.meter)
    tokens = unit == "Tokens"
    priced = _exact.divide(quantity, _MILLION) if tokens else quantity
    cost = _exact.multiply(priced, rate)
    price = "/".join(filter(None, (sku, key.mode or "standard", key.tier)))
    listed = _list_rate(rate, factor)
    priced_at = {
        **costs(cost, _exact.multiply(priced, listed), rate),
        "ListUnitPrice": listed,
        "PricingCurrencyListUnitPrice": listed,
    }
    return row | priced_at | {
        "ConsumedQuantity": quantity,
        "ConsumedUnit": unit,
        "PricingQuantity": priced,
        "PricingUnit": "1000000 Tokens" if tokens else unit,
        "SkuPriceId": f"{price}@{key.rate}",
        "SkuPriceDetails": json.dumps(
            {"x_Mode": key.mode or "standard", "x_Tier": key.tier or "standard"}
        ),
    }, cost


def _reported(sums: MeterSum) -> Row:
    """The cost that a provider reported: it has no unit price."""
    cost, listed = from_pico(sums.cost), from_pico(sums.listed)
    one = {"PricingQuantity": Decimal(1), "PricingUnit": "Reported costs"}
    return costs(cost, listed, None) | one


def _rounding(provider: str, scope: str, amount: Decimal) -> Row:
    return (
        account(provider, scope)
        | costs(amount, amount, None)
        | {
            "ChargeCategory": "Adjustment",
            "ChargeDescription": "Rounding of each call to 0.000000000001 USD",
            "ChargeFrequency": "Usage-Based",
        }
    )


def _time(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def csv_values(row: Row, spec: Spec) -> list[t.Any]:
    """Return the values of a row in the order of the columns."""
    values = (row.get(name) for name in COLUMNS[spec])
    return [_decimal(v) if isinstance(v, Decimal) else v for v in values]


def _decimal(number: Decimal) -> str:
    # Readers that infer types would take a column of whole numbers for integers.
    text = digits(number)
    return text if "." in text else f"{text}.0"
