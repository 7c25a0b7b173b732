"""Sum the lines of a bill that differ only in their amounts."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Set
from decimal import Decimal

from ..errors import BillError
from ..money import context
from .line import Kind
from .line import Line
from .values import literal
from .values import parse

MAX_LINES: t.Final = 150_000
"""The most lines of a statement, after summing: about 100 MB."""

add: t.Final = context(200).add
"""Exact for any number of amounts within bounds."""

Scope: t.TypeAlias = tuple[tuple[str, str], ...]


class Key(t.NamedTuple):
    """What a line is for."""

    start: dt.datetime
    end: dt.datetime
    kind: Kind
    name: str
    currency: str
    scope: Scope = ()
    provider: str | None = None
    model: str | None = None
    meter: str | None = None
    mode: str | None = None
    tier: str | None = None
    region: str | None = None
    cache_ttl: str | None = None
    response_id: str | None = None


class Amounts(t.NamedTuple):
    """What a line amounts to. ``None`` is unknown, and so is a sum with one of them."""

    billed: Decimal | None = None
    listed: Decimal | None = None
    usd: Decimal | None = None
    quantity: Decimal | None = None
    requests: int | None = None

    def plus(self, other: Amounts) -> Amounts:
        """Return the sum of two lines."""
        counts = self.requests, other.requests
        return Amounts(
            _plus(self.billed, other.billed),
            _plus(self.listed, other.listed),
            _plus(self.usd, other.usd),
            _plus(self.quantity, other.quantity),
            None if None in counts else sum(t.cast(tuple[int, int], counts)),
        )


def is_refund(billed: Decimal | None, quantity: object) -> bool:
    """Whether a line gives money back and takes no usage back: a credit.

    :param quantity: As the source has it, or as it was read.
    """
    if billed is None or billed >= 0:
        return False
    number = quantity if isinstance(quantity, Decimal) else parse(quantity)
    return not number


def _contradict(amounts: Amounts) -> bool:
    billed, quantity = amounts.billed, amounts.quantity
    if not billed or not quantity:
        return False
    return (billed < 0) != (quantity < 0)


def _plus(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if one is None or other is None else add(one, other)


class Sums:
    """Lines by what they are for.

    :param source: The source's name.
    :param file: As errors name what is read.
    """

    def __init__(self, source: str, file: str) -> None:
        self._source = source
        self._file = file
        self._sums: dict[Key, Amounts] = {}
        self._scopes: dict[Scope, dict[str, str]] = {}
        self.warnings: list[str] = []
        """What to check about the files that were included."""

    def add(self, key: Key, amounts: Amounts) -> None:
        """Add a line.

        :raises BillError: If there are too many that differ, or its amount and quantity
            have opposite signs.
        """
        if key.kind == "usage" and _contradict(amounts):
            raise BillError(
                self._file,
                f"{key.start:%Y-%m-%d}, {key.name}",
                f"the amount is {amounts.billed}, but the quantity is {amounts.quantity}:"
                " one of them is negative. Export the bill again; in a correction, both"
                " are negative, or the line has its own kind.",
            )
        known = self._sums.get(key)
        self._sums[key] = amounts if known is None else known.plus(amounts)
        if known is None and len(self._sums) > MAX_LINES:
            raise BillError(
                self._file,
                None,
                f"it has more than {MAX_LINES:,} different lines. Split it by month, or"
                " export it with fewer tag columns.",
            )

    def include(self, other: Sums) -> None:
        """Add the lines of another file of the same bill.

        :raises BillError: If most of them are here already: it is the same bill twice.
        """
        known, new = self._sums, other._sums
        days = {key.start for key in known}
        # Files of one period may overlap on a few days only.
        charged = [key for key, each in new.items() if each.billed]
        common = [key for key in charged if key.start in days]
        same = [key for key in common if known.get(key) == new[key]]
        if len(same) * 2 > len(common) and (len(common) > 1 or new[same[0]].quantity):
            raise BillError(
                other._file,
                None,
                f"{len(same)} of its {len(charged)} lines are also in {self._file}, to the"
                f" last digit ({_days(common)}). Name only the newest export of each"
                " period.",
            )
        self._warn_of_border(other, days)
        for key, each in new.items():
            self.add(key, each)

    def _warn_of_border(self, other: Sums, days: Set[dt.datetime]) -> None:
        """Warn of a line of one day that two periods have: an unfinished day, perhaps."""
        theirs = {key.start for key in other._sums}
        if not days or not theirs:
            return
        (_, last), (first, _) = sorted(
            (min(each), max(each)) for each in (days, theirs)
        )
        shared = {key.start for key in other._sums if key in self._sums}
        if first == last and shared and len(days) > 1 and len(theirs) > 1:
            self.warnings.append(
                f"{other._file}: its lines of {first:%Y-%m-%d} are added to those of the"
                " other files. If they are not parts of one export, that day counts"
                " twice: name an export that has all of it."
            )

    def lines(self) -> tuple[Line, ...]:
        """Return the lines, earliest first."""
        return tuple(
            self._line(key, amounts)
            for key, amounts in sorted(self._sums.items(), key=lambda item: item[0][0])
        )

    def _line(self, key: Key, amounts: Amounts) -> Line:
        # Lines of one scope share its mapping: a bill has many lines and few scopes.
        scope = self._scopes.setdefault(key.scope, dict(key.scope))
        return Line(
            source=self._source,
            start=key.start,
            end=key.end,
            kind=key.kind,
            name=key.name,
            currency=key.currency,
            billed_text=_text(amounts.billed),
            listed_text=_text(amounts.listed),
            usd_text=_text(amounts.usd),
            quantity=amounts.quantity,
            requests=amounts.requests,
            scope=scope,
            provider=key.provider,
            model=key.model,
            meter=key.meter,
            mode=key.mode,
            tier=key.tier,
            region=key.region,
            cache_ttl=key.cache_ttl,
            response_id=key.response_id,
        )


def _days(keys: Iterable[Key]) -> str:
    days = sorted({f"{key.start:%Y-%m-%d}" for key in keys})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else literal(amount)


def scope_of(**ids: str | None) -> Scope:
    """Return the scope of the ids that are known."""
    return tuple((name, value) for name, value in ids.items() if value)
