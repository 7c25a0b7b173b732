"""Read values of a bill exactly, or say which one is wrong, where, and what to do."""

from __future__ import annotations

import datetime as dt
import re
import reprlib
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from ..errors import BillError
from ..money import digits
from ..money import in_bounds


class Digits(str):
    """A JSON number, as its literal text: never a float."""

    __slots__ = ()


_NUMBER: t.Final = re.compile(
    r"[+-]?(?:\d{1,60}\.?\d{0,60}|\.\d{1,60})(?:[eE][+-]?\d{1,2})?", re.ASCII
)
_USUAL: t.Final = re.compile(r"-?\d{1,18}(?:\.\d{1,30})?", re.ASCII).fullmatch
"""Numbers that are within bounds by their form: nearly all of a large file."""
_MAX_AMOUNT: t.Final = Decimal(10**12)
_1970: t.Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_EARLIEST: t.Final = dt.datetime(2015, 1, 1, tzinfo=dt.UTC)
_LATEST: t.Final = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)

DAY: t.Final = dt.timedelta(days=1)


def shown(value: object) -> str:
    """Return a value as errors show it: short, and without control characters."""
    return _SHOWN.repr(str(value) if isinstance(value, str) else value)


_SHOWN: t.Final = reprlib.Repr()
_SHOWN.maxstring = 60
_SHOWN.maxother = 60


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file something is."""

    file: str
    where: str | None = None

    def at(self, key: str | int) -> Place:
        """Return the place of a key or an index below this one."""
        if isinstance(key, int):
            return Place(self.file, f"{self.where or ''}[{key}]")
        return Place(self.file, key if self.where is None else f"{self.where}.{key}")

    def error(self, message: str) -> BillError:
        """Return an error about this place."""
        return BillError(self.file, self.where, message)

    def number(self, value: object, key: str) -> Decimal:
        """Read a number.

        :raises BillError: If it is missing, not a number or out of bounds.
        """
        number = parse(value)
        if number is None:
            raise self.not_a_number(value, key)
        return number

    def not_a_number(self, value: object, key: str) -> BillError:
        """Return the error for what should be a number."""
        return self.error(
            f"{key} is {_missing(value)}, which is not a number within bounds: at most 60"
            " digits and a decimal point, without thousands separators or a currency"
            " sign. Export the bill again; a spreadsheet may have changed it."
        )

    def amount(self, value: object, key: str) -> Decimal:
        """Read an amount of money.

        :raises BillError: If it is missing, not a number or absurd.
        """
        number = self.number(value, key)
        if abs(number) >= _MAX_AMOUNT:
            raise self.error(f"{key} is {shown(value)}, which is too large for a bill.")
        return number

    def quantity(self, value: object, key: str) -> Decimal | None:
        """Read a quantity, which may be missing but not negative.

        :raises BillError: If it is not a number or negative.
        """
        if value is None or value == "":
            return None
        number = self.number(value, key)
        if number < 0:
            raise self.error(f"{key} is {shown(value)}; a quantity is not negative.")
        return number

    def count(self, value: object, key: str) -> int | None:
        """Read a count, such as one of requests; it may be missing.

        :raises BillError: If it is not a whole number from 0 to 2**53.
        """
        number = self.quantity(value, key)
        if number is None:
            return None
        if number != int(number) or number > 2**53:
            raise self.error(f"{key} is {shown(value)}, which is not a count.")
        return int(number)

    def time(self, value: object, key: str) -> dt.datetime:
        """Read a time: ISO 8601, UTC if it has no zone.

        :raises BillError: If it is not one, or of another century.
        """
        try:
            moment = dt.datetime.fromisoformat(_iso(str(value)))
        except ValueError:
            raise self.error(
                f"{key} is {_missing(value)}, which is not an ISO 8601 time in UTC."
            ) from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=dt.UTC)
        return self._this_century(moment, value, key)

    def day(self, value: object, key: str) -> dt.datetime:
        """Read a UTC day, as the time at which it starts.

        :raises BillError: If it is not one, or a time within a day.
        """
        moment = self.time(value, key)
        if moment.time() != dt.time():
            raise self.error(f"{key} is {shown(value)}, which is not a day in UTC.")
        return moment

    def unix_time(self, value: object, key: str) -> dt.datetime:
        """Read a time in seconds since 1970.

        :raises BillError: If it is not one, or of another century.
        """
        number = self.number(value, key)
        if not 0 <= number < 2**33:
            raise self.error(f"{key} is {shown(value)}, not seconds since 1970.")
        return self._this_century(
            dt.datetime.fromtimestamp(int(number), dt.UTC), value, key
        )

    def bigquery_time(self, value: object, key: str) -> dt.datetime:
        """Read a time as BigQuery answers it: microseconds, or seconds with a point.

        :raises BillError: If it is not one, or of another century.
        """
        number = self.number(value, key)
        micros = number if number > 2**33 else number * 10**6
        if not 0 <= micros < 2**53:
            raise self.error(f"{key} is {shown(value)}, not microseconds since 1970.")
        moment = _1970 + dt.timedelta(microseconds=int(micros))
        return self._this_century(moment, value, key)

    def _this_century(
        self, moment: dt.datetime, value: object, key: str
    ) -> dt.datetime:
        if not _EARLIEST <= moment < _LATEST:
            raise self.error(f"{key} is {shown(value)}, not a time of this century.")
        return moment.astimezone(dt.UTC)

    def currency(self, value: object, key: str) -> str:
        """Read a currency.

        :raises BillError: If it is not three letters.
        """
        text = str(value).strip().upper()
        if not re.fullmatch("[A-Z]{3}", text):
            raise self.error(f"{key} is {_missing(value)}; write it as USD or EUR.")
        return text

    def mapping(self, value: object) -> Mapping[str, t.Any]:
        """Return an object as it is.

        :raises BillError: If it is something else.
        """
        if not isinstance(value, dict):
            raise self.error(f"it is {_missing(value)} instead of an object.")
        return value

    def list(self, value: object) -> list[t.Any]:
        """Return a list as it is.

        :raises BillError: If it is something else.
        """
        if not isinstance(value, list):
            raise self.error(f"it is {_missing(value)} instead of a list.")
        return value


def _missing(value: object) -> str:
    return "null" if value is None else "empty" if value == "" else shown(value)


def _iso(text: str) -> str:
    return text.strip().removesuffix(" UTC")


def parse(value: object) -> Decimal | None:
    """Parse a number exactly; ``None`` if it is not one or out of bounds."""
    if not isinstance(value, str):
        return None
    if _USUAL(value) is not None:
        return Decimal(value)
    if _NUMBER.fullmatch(value) is None:
        return None
    number = Decimal(value)
    return number if in_bounds(number) else None


def literal(number: Decimal) -> str:
    """Return every digit of an amount, without an exponent."""
    return digits(number)


def text(value: object) -> str | None:
    """Return a text that is not empty, else ``None``."""
    if not isinstance(value, str):
        return None
    clean = value
    if not value.isprintable():
        clean = "".join(letter for letter in value if letter.isprintable())
    return clean.strip()[:300] or None


def days_between(start: dt.datetime, end: dt.datetime) -> frozenset[dt.date]:
    """Return the UTC days from one time to another, exclusive."""
    first, last = start.date(), (end - dt.timedelta(microseconds=1)).date()
    return frozenset(first + number * DAY for number in range((last - first).days + 1))
