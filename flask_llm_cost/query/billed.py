"""What providers billed for a month, if a bill proves or explains it."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from ..bills import StoredBill
from ..bills import StoredBills
from ..bills.reconcile import providers_of
from ..calendar import next_first_day
from ..money import add
from ..money import total

_GOOD: t.Final = ("reconciled", "explained", "nothing")


@dataclass(frozen=True, slots=True)
class Residual:
    """A part of what was billed that the ledger does not have; it may be negative."""

    cause: str
    """One of :data:`.CAUSES`."""
    name: str
    """What it is about: a model and a meter, or a line's own name."""
    amount_usd: Decimal


@dataclass(frozen=True, slots=True)
class Billed:
    """A month that a source's bill proves or explains."""

    source: str
    account: str
    """The provider's organization or billing account."""
    bill: str
    """The key of the bill."""
    providers: frozenset[str]
    """The providers whose calls it bills."""
    days: Mapping[dt.date, Decimal]
    """What was billed on each day."""
    residuals: Mapping[dt.date, Sequence[Residual]]

    @property
    def billed_usd(self) -> Decimal:
        """What was billed for the month."""
        return total(self.days.values())


def billed_month(bills: StoredBills, month: dt.date) -> list[Billed]:
    """Return what the stored bills say of a UTC month.

    A bill says it if it covers the whole month, and each day of it is reconciled or
    explained. Of several bills for the same providers, the latest counts.
    """
    found: list[Billed] = []
    for bill in bills.all():
        each = None if bill.replaced else _billed(bills, bill, month)
        if each is not None and all(
            each.providers.isdisjoint(known.providers) for known in found
        ):
            found.append(each)
    return found


def _billed(bills: StoredBills, bill: StoredBill, month: dt.date) -> Billed | None:
    reports = bill.results
    end = next_first_day("month", month)
    covered = bill.start <= month and end - dt.timedelta(days=1) <= bill.end
    if not reports or not covered:
        return None
    if any(report["verdict"] not in _GOOD for report in reports):
        return None
    days: dict[dt.date, Decimal] = {}
    for report in reports:
        for each in report["days"]:
            day = dt.date.fromisoformat(each["day"])
            if month <= day < end:
                if each["verdict"] not in _GOOD:
                    return None
                known = days.get(day, Decimal(0))
                days[day] = add(known, Decimal(each["billed_usd"]))
    statement = bills.read(bill.key)
    if statement is None or not any(days.values()):
        return None
    residuals: dict[dt.date, list[Residual]] = {}
    for day, residual in _residuals(reports):
        if day in days:
            residuals.setdefault(day, []).append(residual)
    return Billed(
        bill.source,
        bill.account or bill.source,
        bill.key,
        providers_of(statement),
        days,
        residuals,
    )


def _residuals(
    reports: Iterable[Mapping[str, t.Any]],
) -> Iterator[tuple[dt.date, Residual]]:
    for report in reports:
        for each in report["residuals"]:
            name = " ".join(filter(None, (each["model"], each["meter"])))
            yield (
                dt.date.fromisoformat(each["day"]),
                Residual(each["cause"], name, Decimal(each["amount_usd"])),
            )
