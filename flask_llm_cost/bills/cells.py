"""Cells: the amounts of the ledger and a bill for one day, model and meter.

Both sides are brought to the same terms here; :mod:`.match` compares them.
"""

from __future__ import annotations

import datetime as dt
import itertools
import re
import typing as t
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Set
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal

from ..money import from_pico
from ..money import WIDE
from ..rollups.meters import add_up
from ..rollups.meters import CALLS
from ..rollups.meters import MeterKey
from ..rollups.meters import MeterSum
from ..rollups.meters import MeterSums
from .line import Line
from .models import same_model
from .report import exact
from .scopes import names_of
from .values import days_between

_ZERO: t.Final = Decimal(0)
_TTLS: t.Final = {"cache_write": "", "cache_write_1h": "1h", "cache_write_12h": "12h"}
"""Meters that differ in how long the cache is kept only."""
_SNAPSHOT: t.Final = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{8})$")


class Variant(t.NamedTuple):
    """What else a price depends on, within one meter."""

    mode: str = ""
    """``""`` is standard."""
    long: bool = False
    """Whether it is the rate for long contexts."""
    ttl: str = ""
    """How long a cache is kept; ``""`` is the provider's default."""


class Place(t.NamedTuple):
    """A line of comparison: the same on every day."""

    model: str
    meter: str
    """``""``: all meters of the model."""


@dataclass(slots=True)
class Held:
    """What the ledger has of one variant on one day."""

    quantity: Decimal = _ZERO
    """With a known rate."""
    cost: Decimal = _ZERO
    unpriced: Decimal = _ZERO
    """The quantity of calls without a cost."""
    unrated: Decimal = _ZERO
    """The quantity without a rate of calls with a cost."""
    estimated: Decimal = _ZERO
    estimated_cost: Decimal = _ZERO
    first_hour: Decimal = _ZERO
    last_hour: Decimal = _ZERO
    late: Decimal = _ZERO
    """After the bill's watermark."""
    parts: int = 0
    """Amounts that were rounded each."""
    scopes: dict[str, Decimal] = field(default_factory=dict)
    """Quantities by the ids of scopes that a bill may have, too."""

    @property
    def total(self) -> Decimal:
        """The quantity of all calls."""
        found = exact.add(self.quantity, self.unpriced)
        return exact.add(exact.add(found, self.unrated), self.estimated)


class Part(t.NamedTuple):
    """A part of what is billed."""

    quantity: Decimal = _ZERO
    amount: Decimal = _ZERO

    def plus(self, quantity: Decimal, amount: Decimal) -> Part:
        """Return the sum."""
        return Part(exact.add(self.quantity, quantity), exact.add(self.amount, amount))


@dataclass(slots=True)
class Billed:
    """What a bill has of one variant on one day."""

    quantity: Decimal = _ZERO
    amount: Decimal = _ZERO
    listed: Decimal | None = None
    lines: int = 0
    regions: dict[str, Part] = field(default_factory=dict)
    """Of the lines that name a region."""
    scopes: dict[str, Part] = field(default_factory=dict)
    """Parts by the bill's own ids."""


@dataclass(slots=True)
class Calls:
    """What is known of the ledger's calls of one model on one day."""

    calls: int = 0
    silent: int = 0
    """Calls that reported no usage."""
    most: Decimal | None = _ZERO
    """The most that those can have cost beyond what is known; ``None`` without a limit."""
    unpriced: int = 0
    estimated: int = 0
    incomplete: int = 0
    open: Decimal | None = _ZERO
    """The most that incomplete calls can have cost beyond what is known."""

    def add(self, key: MeterKey, sums: MeterSum) -> None:
        """Add a line that counts calls."""
        n = sums.calls
        if key.status == "failed":
            return
        self.calls += n
        if key.status in ("unsettled", "no_usage"):
            self.silent += n
            self.most = _more(self.most, sums, key.status == "no_usage")
        elif key.status == "incomplete":
            self.open = _more(self.open, sums, False)
        self.unpriced += n if key.status in ("unpriced", "no_usage") else 0
        self.estimated += n if key.status == "estimated" else 0
        self.incomplete += n if key.status in ("incomplete", "unsettled") else 0

    def plus(self, other: Calls) -> Calls:
        """Add those of another model."""
        return Calls(
            self.calls + other.calls,
            self.silent + other.silent,
            _sum(self.most, other.most),
            self.unpriced + other.unpriced,
            self.estimated + other.estimated,
            self.incomplete + other.incomplete,
            _sum(self.open, other.open),
        )


def _more(known: Decimal | None, sums: MeterSum, unlimited: bool) -> Decimal | None:
    if known is None or sums.unbounded or unlimited:
        return None
    return exact.add(known, from_pico(sums.open_amount))


def _sum(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if one is None or other is None else exact.add(one, other)


Model: t.TypeAlias = tuple[str, str]
"""A provider, and a name of one of its models."""

_Hourly: t.TypeAlias = Iterable[tuple[dt.datetime, MeterSums]]


class LedgerDay:
    """What the ledger has of one day."""

    def __init__(self) -> None:
        self.held: dict[Place, dict[Variant, Held]] = defaultdict(
            lambda: defaultdict(Held)
        )
        self.calls: dict[str, Calls] = defaultdict(Calls)
        self.reported: dict[str, Decimal] = defaultdict(Decimal)
        """Costs without quantities, by model."""

    @property
    def cost(self) -> Decimal:
        """What is known of the cost."""
        total = _ZERO
        for variants in self.held.values():
            for each in variants.values():
                total = exact.add(total, each.cost)
        for amount in self.reported.values():
            total = exact.add(total, amount)
        return total

    def add(
        self, hour: int, key: MeterKey, sums: MeterSum, model: str, late: bool
    ) -> None:
        """Add a sum."""
        if key.meter == CALLS:
            self.calls[model].add(key, sums)
            return
        if key.meter == "reported" and key.status != "estimated":
            cost = self.reported[model]
            self.reported[model] = exact.add(cost, from_pico(sums.cost))
            return
        place, variant = place_of(model, key.meter, key.mode, bool(key.tier))
        held = self.held[place][variant]
        name = _quantity_name(key)
        for each in (name, *_moments(hour, late)):
            setattr(held, each, exact.add(getattr(held, each), sums.quantity))
        held.parts += sums.calls
        for each in names_of(key.scope):
            known = held.scopes.get(each, _ZERO)
            held.scopes[each] = exact.add(known, sums.quantity)
        cost_name = "estimated_cost" if key.status == "estimated" else "cost"
        cost = exact.add(getattr(held, cost_name), from_pico(sums.cost))
        setattr(held, cost_name, cost)


def _quantity_name(key: MeterKey) -> str:
    if key.status == "estimated":
        return "estimated"
    if key.rate:
        return "quantity"
    return "unpriced" if key.status in ("unpriced", "no_usage") else "unrated"


def _moments(hour: int, late: bool) -> Iterable[str]:
    if hour == 0:
        yield "first_hour"
    if hour == 23:
        yield "last_hour"
    if late:
        yield "late"


def place_of(
    model: str, meter: str, mode: str | None, long: bool, ttl: str | None = None
) -> tuple[Place, Variant]:
    """Return where a quantity belongs."""
    if meter in _TTLS:
        told = ttl if ttl in _TTLS.values() else ""
        return Place(model, "cache_write"), Variant(
            mode or "", long, _TTLS[meter] or told or ""
        )
    return Place(model, meter), Variant(mode or "", long)


def in_parts(
    hourly: _Hourly, watermark: dt.datetime | None
) -> Iterator[tuple[dt.datetime, MeterSums]]:
    """Sum the hours of a day that are not compared one by one, to save memory."""
    for _, hours in itertools.groupby(hourly, lambda each: each[0].date()):
        parts: dict[tuple[int, bool], list[MeterSums]] = defaultdict(list)
        first: dict[tuple[int, bool], dt.datetime] = {}
        for hour, sums in hours:
            late = watermark is not None and hour >= watermark
            part = hour.hour if hour.hour in (0, 23) else 1, late
            first.setdefault(part, hour)
            parts[part].append(sums)
            if len(parts[part]) > 1:
                parts[part] = [add_up(parts[part])]
        for part, moment in first.items():
            yield moment, parts[part][0]


def long_periods(lines: Iterable[Line]) -> dict[dt.date, dt.date]:
    """Return the first day of the period of each day, of a bill by month or week only.

    Lines of usage are compared on their first day. If some are of single days, there are no
    such periods.
    """
    found: dict[dt.date, dt.date] = {}
    for line in lines:
        if line.kind != "usage":
            continue
        days = days_between(line.start, line.end)
        first = line.start.date()
        if len(days) == 1 or any(found.get(day, first) != first for day in days):
            return {}
        found.update((day, first) for day in days)
    return found


def ledger_days(
    hourly: _Hourly,
    models: Mapping[str, str],
    watermark: dt.datetime | None,
    periods: Mapping[dt.date, dt.date],
) -> dict[dt.date, LedgerDay]:
    """Arrange the ledger's sums by UTC day.

    :param models: Names of models, as both sides have them: see :func:`same_models`.
    :param periods: As :func:`long_periods` returns them.
    """
    days: dict[dt.date, LedgerDay] = defaultdict(LedgerDay)
    for hour, sums in hourly:
        late = watermark is not None and hour >= watermark
        for key, each in sums.items():
            model = models.get(key.model, key.model)
            day = periods.get(hour.date(), hour.date())
            days[day].add(hour.hour, key, each, model, late)
    return days


class BillDay:
    """What a bill has of one day."""

    def __init__(self) -> None:
        self.billed: dict[Place, dict[Variant, Billed]] = defaultdict(
            lambda: defaultdict(Billed)
        )
        self.unknown: list[Line] = []
        """Lines of usage that name no model."""
        self.others: list[Line] = []
        """Lines that no call accounts for."""

    def add(self, line: Line, usd: Decimal, model: str) -> None:
        """Add a line of usage of a model."""
        long = line.tier == "long_context"
        place, variant = place_of(
            model, line.meter or "", line.mode, long, line.cache_ttl
        )
        if line.quantity is None:
            place, variant = Place(model, ""), Variant()
        billed = self.billed[place][variant]
        billed.amount = exact.add(billed.amount, usd)
        billed.lines += 1
        quantity = line.quantity or _ZERO
        billed.quantity = exact.add(billed.quantity, quantity)
        for parts, name in (
            (billed.regions, line.region),
            (billed.scopes, scope_name(line)),
        ):
            if name is not None:
                parts[name] = parts.get(name, Part()).plus(quantity, usd)
        listed = _listed_usd(line, usd)
        if listed is not None:
            billed.listed = exact.add(billed.listed or _ZERO, listed)


def _listed_usd(line: Line, usd: Decimal) -> Decimal | None:
    """Return the amount at list price, converted as the billed one is."""
    if line.listed is None or line.billed == usd:
        return line.listed
    if not line.billed:
        return None
    if line.listed == line.billed:
        return usd
    return WIDE.divide(WIDE.multiply(line.listed, usd), line.billed)


_SCOPES: t.Final = ("project", "workspace", "api_key", "account", "principal")


def scope_name(line: Line) -> str | None:
    """Return the id of what a line was billed to, the most telling one."""
    return next((line.scope[name] for name in _SCOPES if line.scope.get(name)), None)


def same_models(ledger: Set[Model], bill: Set[Model]) -> dict[str, str]:
    """Map names that mean the same model to one of them.

    One side may have an alias where the other names the snapshot that answered. If there
    are several snapshots, all of them are compared together. A call may name the region of
    an inference profile, or spell the model otherwise.
    """
    sides = {name for _, name in ledger}, {name for _, name in bill}
    found: dict[str, str] = {}
    for alias in sides[0] ^ sides[1]:
        other = sides[1] if alias in sides[0] else sides[0]
        snapshots = {name for name in other if name != alias and stem(name) == alias}
        if len(snapshots) == 1:
            found[alias] = snapshots.pop()
        else:
            found.update((name, alias) for name in snapshots)
    for provider, name in ledger:
        if name not in sides[1] and name not in found:
            same = {other for p, other in bill if same_model(provider, name, p, other)}
            if len(same) == 1:
                only = same.pop()
                found[name] = found.get(only, only)
    return found


def stem(model: str) -> str:
    """Return a model's name without the date of its snapshot."""
    return _SNAPSHOT.sub("", model)
