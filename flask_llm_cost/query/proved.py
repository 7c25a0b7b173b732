"""How much of a closed month's total is proved by bills."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from ..bills import StoredBill
from ..bills import StoredBills
from ..calendar import DAY
from ..calendar import day_start
from ..calendar import next_first_day
from ..db.tables import corrections
from ..money import context
from ..money import digits
from ..money import from_pico
from ..money import quotient
from ..rollups.closing import closed_months
from ..rollups.closing import TOTAL
from .filters import CallFilter
from .host import Host

_GOOD: t.Final = frozenset(("reconciled", "explained"))
_r: t.Final = corrections.c
_exact: t.Final = context(200)


@dataclass(frozen=True, slots=True)
class ProvedMonth:
    """A closed month, and what bills prove of it."""

    month: dt.date
    """Its first day, in UTC."""
    total_usd: Decimal
    """The known cost in the ledger, without estimates."""
    proved_usd: Decimal
    """Of days that are reconciled or explained."""

    @property
    def share(self) -> Decimal:
        """The proved part, from 0 to 1."""
        if not self.total_usd:
            return Decimal(0)
        return min(Decimal(1), quotient(self.proved_usd, self.total_usd))

    def to_json(self) -> dict[str, str]:
        """Return it for JSON. Amounts are exact text."""
        return {
            "month": f"{self.month:%Y-%m}",
            "total_usd": digits(self.total_usd),
            "proved_usd": digits(self.proved_usd),
            "share": f"{self.share:.6f}",
        }


def proved_months(
    host: Host, connection: sa.Connection, where: CallFilter
) -> list[ProvedMonth]:
    """Return the closed UTC months that a range of days contains, oldest first.

    Of some calls only, or in monthly files, bills say nothing: then there are none.
    """
    plain = CallFilter(start=where.start, end=where.end, zone=where.zone)
    if host.ledger.rollups is None or where != plain:
        return []
    months = [m for m in closed_months(connection) if _contains(where, m)]
    if not months:
        return []
    bills = StoredBills(host.ledger.bills).all()
    return [_proved(connection, month, bills) for month in sorted(months)]


def _contains(where: CallFilter, month: dt.date) -> bool:
    first, last = where.day_range
    return first <= month and next_first_day("month", month) <= last + DAY


def _proved(
    connection: sa.Connection, month: dt.date, bills: list[StoredBill]
) -> ProvedMonth:
    start, end = (
        day_start(day, dt.UTC) for day in (month, next_first_day("month", month))
    )
    query = sa.select(_r.cost).where(
        _r.tag == TOTAL, _r.day >= start, _r.day < end, _r.status != "estimated"
    )
    total = from_pico(sum(map(int, connection.scalars(query))))
    last = next_first_day("month", month) - DAY
    proved = Decimal(0)
    for amount in _days(bills, month, last).values():
        proved = _exact.add(proved, amount)
    return ProvedMonth(month, total, min(proved, total))


def _days(
    bills: list[StoredBill], first: dt.date, last: dt.date
) -> Mapping[tuple[t.Any, ...], Decimal]:
    """Return what each bill proves of each day; of several, the latest counts."""
    found: dict[tuple[t.Any, ...], Decimal] = {}
    for bill, report, day in _reported(bills):
        date = dt.date.fromisoformat(day["day"])
        if first <= date <= last and day["verdict"] != "not_comparable":
            key = bill.source, bill.account, report["scope"], date
            good = report["verdict"] in _GOOD and day["verdict"] in _GOOD
            usd = Decimal(day["ledger_usd"]) if good else Decimal(0)
            found.setdefault(key, usd)
    return found


def _reported(
    bills: list[StoredBill],
) -> Iterator[tuple[StoredBill, Mapping[str, t.Any], Mapping[str, t.Any]]]:
    for bill in bills:  # latest first
        for report in bill.results:
            for day in report["days"]:
                yield bill, report, day
