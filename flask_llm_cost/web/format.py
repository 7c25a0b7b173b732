"""Numbers, money and times as text.

``$0.00`` always means zero, and an unknown value is never shown as a number.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from decimal import ROUND_CEILING
from decimal import ROUND_HALF_EVEN

from ..money import own_context

UNKNOWN: t.Final = "unknown"

MINUS: t.Final = "\N{MINUS SIGN}"
NARROW: t.Final = "\N{NARROW NO-BREAK SPACE}"

MONTHS: t.Final = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
DAYS: t.Final = "Mon Tue Wed Thu Fri Sat Sun".split()
"""Not from ``strftime``, which depends on the app's locale."""

_STEPS: t.Final = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


def money(amount: Decimal | None) -> str:
    """USD with significant digits: ``$1,204.50``, ``$0.42``, ``$0.000042``."""
    return UNKNOWN if amount is None else _dollars(amount, decimals(amount))


@own_context
def most(amount: Decimal) -> str:
    """A limit: like :func:`money`, rounded up."""
    step = Decimal(1).scaleb(-decimals(amount))
    return money(amount.quantize(step, ROUND_CEILING))


def at_most(amount: Decimal) -> str:
    """``at most $2.41``."""
    return f"at most {most(amount)}"


@own_context
def decimals(amount: Decimal) -> int:
    """Decimal places: two, or below $1 enough for three significant digits."""
    size = abs(amount)
    if not size or size >= 1:
        return 2
    digits = 2 - size.adjusted()
    shown = size.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN).normalize()
    return max(2, -t.cast(int, shown.as_tuple().exponent))


def column(amounts: Iterable[Decimal | None], *, most: int = 6) -> int:
    """Decimal places for a column of money, so that the decimal points align."""
    return min(most, max((decimals(a) for a in amounts if a is not None), default=2))


def total_column(amounts: Iterable[Decimal | None]) -> int:
    """Decimal places for a column of totals: those of the largest amount."""
    return decimals(max((a for a in amounts if a is not None), default=Decimal(0)))


@own_context
def aligned(amount: Decimal | None, places: int) -> str:
    """Like :func:`money` with a column's decimal places, or more to avoid showing zero."""
    if amount is None:
        return UNKNOWN
    shown = amount.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN)
    if amount and not shown:
        return money(amount)
    return _dollars(amount, places)


def exact(amount: Decimal | None) -> str:
    """USD with all digits."""
    if amount is None:
        return UNKNOWN
    return _dollars(amount, exact_places([amount]))


@own_context
def exact_places(amounts: Iterable[Decimal]) -> int:
    """The decimal places that show all digits of some amounts."""
    exponents = (t.cast(int, a.normalize().as_tuple().exponent) for a in amounts)
    return max(2, *(-exponent for exponent in exponents), 2)


@own_context
def _dollars(amount: Decimal, places: int) -> str:
    text = f"{abs(amount):,.{places}f}"
    return f"{MINUS if amount < 0 else ''}${text}"


@own_context
def estimate(amount: Decimal) -> str:
    """USD rounded like an estimate: two significant digits, cents, or whole dollars."""
    if not amount or abs(amount) >= 10:
        return _dollars(amount, 0)
    return _dollars(amount, max(2, 1 - amount.adjusted()))


def signed(amount: Decimal) -> str:
    """A difference: ``+$4.20``, ``−$0.31``."""
    return f"+{money(amount)}" if amount > 0 else money(amount)


@own_context
def times(ratio: Decimal) -> str:
    """``3.2 times``."""
    return f"{ratio:,.1f} times" if ratio < 10 else f"{ratio:,.0f} times"


def whole(count: int | None) -> str:
    """``1,234,567``."""
    return UNKNOWN if count is None else f"{count:,}"


@own_context
def short(count: int | None) -> str:
    """``1.23M``, where the exact count is shown elsewhere."""
    if count is None:
        return UNKNOWN
    for size, letter in _STEPS:
        # 999,950 is 1M, not 1000K.
        if count >= size - size // 2000:
            return f"{_three(Decimal(count) / size)}{letter}"
    return str(count)


@own_context
def _three(value: Decimal) -> str:
    places = max(0, 2 - max(0, value.adjusted()))
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def duration(ms: float | None) -> str:
    """``840 ms``, ``1.24 s``, ``2 min 05 s``."""
    if ms is None:
        return UNKNOWN
    if round(ms) < 1000:
        return f"{round(ms)}{NARROW}ms"
    if round(ms / 1000) < 60:
        seconds = ms / 1000
        return f"{seconds:.{2 if seconds < 9.995 else 1}f}{NARROW}s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,}{NARROW}h{NARROW}{minutes:02d}{NARROW}min"
    return f"{minutes}{NARROW}min{NARROW}{seconds:02d}{NARROW}s"


@own_context
def percent(share: float | Decimal | None) -> str:
    """A share of 1: ``42.3%``, ``<0.1%``."""
    if share is None:
        return UNKNOWN
    value = Decimal(share) * 100
    if 0 < value < Decimal("0.05"):
        return "<0.1%"
    if Decimal("99.95") <= value < 100:
        return ">99.9%"
    return f"{value:.0f}%" if value in (0, 100) else f"{value:.1f}%"


@own_context
def delta(percent: Decimal) -> str:
    """A change in percent: ``+12.3%``."""
    if abs(percent) < Decimal("0.05"):
        return "0.0%"
    sign = "+" if percent > 0 else MINUS
    size = abs(percent)
    return f"{sign}{size:,.1f}%" if size < 1000 else f"{sign}{size:,.0f}%"


@own_context
def ticks(amounts: Iterable[Decimal]) -> list[str]:
    """The labels of an axis, in one format: ``$0.50``, ``$1.00`` or ``$250``, ``$1K``."""
    found = list(amounts)
    if any(amount % 1 for amount in found):
        places = exact_places(found)
        return [_dollars(amount, places) for amount in found]
    return [f"${short(int(amount))}" for amount in found]


def count(number: int, one: str, many: str | None = None) -> str:
    """``1 call``, ``1,204 calls``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


@own_context
def quantity(value: Decimal) -> str:
    """Tokens or units, without trailing zeros."""
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True, slots=True)
class Clock:
    """Formats times in the time zone of the reports."""

    zone: dt.tzinfo

    def moment(self, at: dt.datetime) -> str:
        """``2026-11-18 14:03:22``."""
        return f"{at.astimezone(self.zone):%Y-%m-%d %H:%M:%S}"

    def minute(self, at: dt.datetime) -> str:
        """``18 Nov 14:03``, where the year is clear from the context."""
        local = at.astimezone(self.zone)
        return f"{day(local)} {local:%H:%M}"

    def period(self, start: dt.datetime, end: dt.datetime) -> str:
        """A period of the calendar: an hour as ``18 Nov 14:00``, otherwise its days."""
        if end - start <= dt.timedelta(hours=2):
            return self.minute(start)
        last = end - dt.timedelta(microseconds=1)
        return span(self.date(start), self.date(last))

    def since(self, at: dt.datetime) -> str:
        """The first day of a price. Prices are dated by UTC days."""
        utc = at.astimezone(dt.UTC)
        return f"{utc:%Y-%m-%d}" if utc.time() == dt.time() else self.moment(at)

    def precise(self, at: dt.datetime) -> str:
        """``2026-11-18 14:03:22.120 CET``."""
        local = at.astimezone(self.zone)
        return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03d} {local:%Z}"

    def date(self, at: dt.datetime) -> dt.date:
        """The local date."""
        return at.astimezone(self.zone).date()

    @property
    def name(self) -> str:
        return str(self.zone)


def day(date: dt.date) -> str:
    """``18 Nov``."""
    return f"{date.day} {MONTHS[date.month - 1]}"


def month(day: dt.date) -> str:
    """``Nov 2026``."""
    return f"{MONTHS[day.month - 1]} {day.year}"


def full_day(date: dt.date) -> str:
    """``Wed 18 Nov 2026``."""
    return f"{DAYS[date.weekday()]} {day(date)} {date.year}"


def span(first: dt.date, last: dt.date) -> str:
    """``24 Oct – 22 Nov 2026``."""
    if first == last:
        return full_day(first)
    if first.year == last.year:
        return f"{day(first)} – {day(last)} {last.year}"
    return f"{day(first)} {first.year} – {day(last)} {last.year}"


def iso(at: dt.datetime) -> str:
    """UTC, for ``<time datetime=...>``."""
    return (
        at.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
