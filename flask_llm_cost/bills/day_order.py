"""Tell MM/DD/YYYY from DD/MM/YYYY: by what was said, or by the export's own period.

Azure writes MM/DD/YYYY. A spreadsheet of another country writes the same days the other way
round, and up to the 12th both can be read.
"""

from __future__ import annotations

import datetime as dt
import re
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from .document import Document
from .tables import Row
from .tables import rows_of
from .values import Place
from .values import shown

_SLASHES: t.Final = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")
_PERIODS: t.Final = (
    ("billingperiodstartdate", "billingperiodenddate"),
    ("billingperiodstart", "billingperiodend"),
    ("serviceperiodstartdate", "serviceperiodenddate"),
)
_IN_NAME: t.Final = re.compile(r"(20\d{6})-(20\d{6})")
"""Azure names the folder of an export by its period."""

Period: t.TypeAlias = tuple[dt.date, dt.date]


def orders_of(
    documents: Sequence[Document], columns: Sequence[str]
) -> tuple[Mapping[str, bool], Sequence[str]]:
    """Return which files have the day first, by name, and warnings.

    A file that does not show its order has that of the others.

    :param columns: Where a row has its day.
    :raises BillError: If neither the files nor ``document.day_first`` say it.
    """
    known: dict[str, bool] = {}
    open_: dict[str, _Days] = {}
    for document in documents:
        days = _Days(document)
        found = days.scan(columns) if document.day_first is None else None
        told = document.day_first if found is None else found
        if told is None and days.dates:
            open_[document.name] = days
        else:
            known[document.name] = bool(told)
    common = {known[name] for name in known if name in _slashed(documents, columns)}
    warnings = []
    for name, days in open_.items():
        if len(common) == 1:
            known[name] = next(iter(common))
        else:
            warnings.append(days.month_first())
            known[name] = False
    return known, warnings


def _slashed(documents: Sequence[Document], columns: Sequence[str]) -> set[str]:
    """Return the names of files whose days are written with slashes."""
    return {
        document.name
        for document in documents
        for _, row in [next(iter(rows_of(document)), (None, {}))]
        if any(_SLASHES.fullmatch(str(row.get(name) or "")) for name in columns)
    }


def iso_day(place: Place, value: str, key: str, *, day_first: bool) -> str:
    """Write a day with slashes as ISO 8601 has it; leave others as they are.

    :raises BillError: If it is not a day in that order.
    """
    match = _SLASHES.fullmatch(value)
    if match is None:
        return value
    month, day = (match[2], match[1]) if day_first else (match[1], match[2])
    if int(month) > 12:
        raise _wrong(place, value, key, day_first)
    return f"{match[3]}-{month:0>2}-{day:0>2}"


def _wrong(place: Place, value: str, key: str, day_first: bool) -> Exception:
    if day_first:
        return place.error(
            f"{key} is {shown(value)}, which is not DD/MM/YYYY. Leave out --dates, or"
            " check that all days are written alike."
        )
    return place.error(
        f"{key} is {shown(value)}; the export has MM/DD/YYYY or YYYY-MM-DD. A"
        " spreadsheet may have changed it; download the file again, or pass --dates"
        " DD/MM."
    )


class _Days:
    """The days of one file that can be read in both orders."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.dates: set[tuple[int, int, int]] = set()

    def scan(self, columns: Sequence[str]) -> bool | None:
        """Return whether the day comes first, as soon as a row says it."""
        named = _IN_NAME.search(self._document.name)
        given = [] if named is None else list(_period(*named.groups()))
        for _, row in rows_of(self._document):
            value = next((row[name] for name in columns if row.get(name)), None)
            match = _SLASHES.fullmatch(str(value or ""))
            if match is None:
                continue
            one, two, year = map(int, match.groups())
            found = _by_period(row, (year, one, two), given)
            if found is None and one <= 12 < two:
                found = False
            if found is not None:
                return found
            if one != two:
                self.dates.add((year, one, two))
        return None

    def month_first(self) -> str:
        """Return the warning that the days are read in Azure's own order.

        :raises BillError: If they make more sense with the day first.
        """
        dates, place = self.dates, self._document.place
        for year, one, two in dates:
            if one > 12:
                raise _wrong(place, f"{one:02}/{two:02}/{year}", "date", False)
        months = {(year, one) for year, one, _ in dates}
        others = {(year, two) for year, _, two in dates}
        year, one, two = min(dates)
        example = f"{one:02}/{two:02}/{year}"
        if len(months) > len(others):
            raise place.error(
                f"days such as {example} may be MM/DD/YYYY or DD/MM/YYYY, and no column"
                " of the billing period says which. Pass --dates MM/DD or --dates DD/MM."
            )
        return (
            f"{self._document.name}: days such as {example} are read as MM/DD/YYYY, as"
            " Azure writes them. If that is wrong, pass --dates DD/MM."
        )


def _by_period(
    row: Row, day: tuple[int, int, int], given: Sequence[Period]
) -> bool | None:
    """Return whether the day comes first, if only one order is in the row's period."""
    periods = [*given]
    for names in _PERIODS:
        start, end = (str(row.get(name) or "") for name in names)
        for value in (start, end):
            match = _SLASHES.fullmatch(value)
            if match is not None and (int(match[1]) > 12) != (int(match[2]) > 12):
                return int(match[1]) > 12
        periods.extend(_period(start, end))
    year, one, two = day
    for first, last in periods:
        fits = [
            day_first
            for day_first, month, number in ((False, one, two), (True, two, one))
            if (first.year, first.month, first.day) <= (year, month, number)
            and (year, month, number) <= (last.year, last.month, last.day)
        ]
        if len(fits) == 1:
            return fits[0]
    return None


def _period(start: str, end: str) -> Iterator[Period]:
    try:
        yield dt.date.fromisoformat(start[:10]), dt.date.fromisoformat(end[:10])
    except ValueError:
        return
