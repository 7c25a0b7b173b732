"""Pages of a table: searched, sorted, and cut to what one page shows."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from ..query.totals import sum_up
from ..query.totals import Totals
from .forms import TableForm

PER_PAGE: t.Final = 50

Row = t.TypeVar("Row")
RowWithTotals = t.TypeVar("RowWithTotals", bound="HasTotals")


class HasTotals(t.Protocol):
    """A row of a table of costs."""

    @property
    def totals(self) -> Totals: ...


@dataclass(frozen=True, slots=True)
class TablePage(t.Generic[Row]):
    """The rows of one page, and where they are."""

    rows: Sequence[Row]
    matching: Sequence[Row]
    """All rows that the search finds, in order."""
    first: int
    """The number of the first row, from 1."""
    per: int

    @property
    def last(self) -> int:
        """The number of the last row."""
        return self.first + len(self.rows) - 1

    @property
    def total(self) -> int:
        """How many rows there are on all pages."""
        return len(self.matching)

    @property
    def previous(self) -> int | None:
        """The number of the previous page, if there is one."""
        return None if self.first == 1 else self.first // self.per

    @property
    def next(self) -> int | None:
        """The number of the next page, if there is one."""
        return self.last // self.per + 1 if self.last < self.total else None


SORTS: t.Final[Mapping[str, Callable[[t.Any], t.Any]]] = {
    "cost": lambda row: row.totals.cost_usd,
    "calls": lambda row: row.totals.calls,
    "avg_cost": lambda row: row.totals.average_usd,
    "latency": lambda row: row.totals.average_latency_ms,
}
"""What rows are sorted by, largest first."""


def page_of(
    form: TableForm, rows: Iterable[Row], name: Callable[[Row], str]
) -> TablePage[Row]:
    """Return the rows that the form asks for. Rows without a value come last.

    :param rows: In the order that they have unless they are sorted.
    :param name: What is searched, and what ``name`` sorts by.
    """
    words = (form.q.data or "").casefold().split()
    found = [row for row in rows if all(w in name(row).casefold() for w in words)]
    order = form.sort.value
    if order == "name":
        found.sort(key=lambda row: name(row).casefold())
    elif order in SORTS:
        value = SORTS[order]
        known = [row for row in found if value(row) is not None]
        known.sort(key=value, reverse=True)
        found = known + [row for row in found if value(row) is None]
    per = int(form.per.data or PER_PAGE)
    start = (form.number - 1) * per
    return TablePage(found[start : start + per], found, start + 1, per)


def others(page: TablePage[t.Any], rows: Sequence[HasTotals]) -> Totals | None:
    """Return the totals of what a page does not show; ``None`` if it shows all."""
    if len(page.rows) == len(rows):
        return None
    shown = {id(row) for row in page.rows}
    return sum_up(row.totals for row in rows if id(row) not in shown)
