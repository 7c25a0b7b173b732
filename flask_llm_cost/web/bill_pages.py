"""What ``/bills`` shows: each month of each bill, and whether the ledger matches it."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from ..bills import CAUSES
from ..bills import StoredBill
from ..bills import StoredBills
from ..query.export import csv_line
from .current import host

VERDICTS: t.Final[Mapping[str, tuple[str, str]]] = {
    "reconciled": ("Reconciled", "ok"),
    "explained": ("Explained", "ok"),
    "unexplained": ("Unexplained", "bad"),
    "not_comparable": ("Not comparable", "warn"),
    "nothing": ("Nothing", ""),
}
"""Labels and tones."""

COLUMNS: t.Final = (
    *("month", "source", "scope", "from", "to", "verdict", "coverage"),
    *("billed_usd", "ledger_usd", "difference_usd", "unexplained_usd", "residuals"),
    "replaced",
)


@dataclass(frozen=True, slots=True)
class BillRow:
    """A report of one bill."""

    bill: StoredBill
    report: Mapping[str, t.Any]

    @property
    def month(self) -> str:
        """The UTC month that the bill begins in."""
        return f"{self.bill.start:%Y-%m}"

    def usd(self, name: str) -> Decimal:
        """Return an amount of the report."""
        return Decimal(self.report[f"{name}_usd"])

    @property
    def verdict(self) -> tuple[str, str]:
        """The label and the tone of the verdict."""
        return VERDICTS[self.report["verdict"]]

    @property
    def coverage(self) -> Decimal | None:
        """The share of what is billed per call that the ledger has."""
        found = self.report["coverage"]
        return None if found is None else Decimal(found)

    @property
    def causes(self) -> list[tuple[str, str, Decimal]]:
        """The causes with what they mean, and their sums."""
        sums: dict[str, Decimal] = {}
        for each in self.report["residuals"]:
            usd = Decimal(each["amount_usd"])
            sums[each["cause"]] = sums.get(each["cause"], Decimal(0)) + usd
        return [
            (cause, CAUSES[cause], sums[cause]) for cause in CAUSES if cause in sums
        ]


def bill_rows() -> list[BillRow]:
    """List the reports of the bills that are kept, latest month first."""
    found = [
        BillRow(bill, report)
        for bill in StoredBills(host().ledger.bills).all()
        for report in bill.results
    ]
    return sorted(
        found, key=lambda row: (row.bill.start, row.bill.source), reverse=True
    )


def csv_rows() -> Iterator[str]:
    """Yield the same as lines of CSV."""
    yield csv_line(COLUMNS)
    for row in bill_rows():
        report = row.report
        yield csv_line(
            (
                *(row.month, report["source"], report["scope"]),
                *(report["from"], report["to"], report["verdict"], row.coverage),
                *(row.usd(name) for name in ("billed", "ledger", "difference")),
                row.usd("unexplained"),
                " ".join(f"{cause}={usd:f}" for cause, _, usd in row.causes),
                row.bill.replaced,
            )
        )
