"""Match the quantities of a ledger to those of a bill, and name the differences.

Each difference that is named is added to the ledger's side, so that what is left of it gets
smaller until both sides agree. So the residuals always sum to the difference, exactly.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from decimal import Decimal
from decimal import ROUND_FLOOR

from ..money import WIDE
from .cell import Cell
from .cell import to_whole_pico
from .cells import BillDay
from .cells import Billed
from .cells import Calls
from .cells import Held
from .cells import LedgerDay
from .cells import Place
from .cells import Variant
from .rate_causes import is_price
from .rate_causes import is_region
from .rate_causes import is_steady
from .rate_causes import one_ratio
from .rate_causes import OneRatio
from .rate_causes import rounding_step
from .rate_causes import steady_rates
from .report import exact
from .report import UNEXPLAINED
from .scopes import lacking

_ZERO: t.Final = Decimal(0)
_BATCH: t.Final = "batch"
_CONVERTED: t.Final = Decimal("1e-10")
"""How much the rounding of a converted amount can be, as a share of it."""

Doubles: t.TypeAlias = Callable[[dt.date, frozenset[str]], Mapping[str, Decimal]]
"""Returns the quantities that the ledger has twice, by meter, of one day and model."""


class Matcher:
    """Compares the lines that have quantities, over all days of a period.

    :param foreign: Whether the bill is in another currency than USD.
    :param converted: Whether it was converted at a rate that the bill does not state.
    """

    def __init__(
        self,
        ledger: Mapping[dt.date, LedgerDay],
        bill: Mapping[dt.date, BillDay],
        *,
        doubles: Doubles,
        foreign: bool = False,
        converted: bool = False,
    ) -> None:
        self._ledger = ledger
        self._foreign = foreign
        self._converted = converted
        self._step = _ZERO
        """How much each line of the bill may be rounded by."""
        self._doubles = doubles
        self._most: dict[tuple[dt.date, str], Decimal] = {}
        """What is left of the ceilings of calls without usage."""
        self._open: dict[tuple[dt.date, str], Decimal] = {}
        """What is left of the ceilings of incomplete calls."""
        self._known_doubles: dict[tuple[dt.date, str], dict[str, Decimal]] = {}
        self.cells: dict[tuple[Place, dt.date], dict[Variant, Cell]] = {}
        for day, each in bill.items():
            for place, variants in each.billed.items():
                if place.meter:
                    self._add(day, place, variants)
        for day, held in ledger.items():
            for place in held.held:
                if (place, day) not in self.cells:
                    self._add(day, place, {})

    def _add(
        self, day: dt.date, place: Place, billed: Mapping[Variant, Billed]
    ) -> None:
        ours = self._ledger.get(day, LedgerDay()).held.get(place, {})
        self.cells[place, day] = {
            variant: Cell(
                day,
                place,
                variant,
                ours.get(variant, Held()),
                billed.get(variant, Billed()),
            )
            for variant in sorted({*ours, *billed})
        }

    def take_model(self, day: dt.date, model: str) -> Iterator[Cell]:
        """Leave out a model that is compared by its total only; return its cells."""
        for key in [k for k in self.cells if k[1] == day and k[0].model == model]:
            yield from self.cells.pop(key).values()

    def take_day(self, day: dt.date) -> None:
        """Leave out a day that is compared call by call."""
        for key in [k for k in self.cells if k[1] == day]:
            del self.cells[key]

    def take(self, day: dt.date, meter: str) -> Decimal:
        """Leave out a meter that the bill has as a fee of all models; return its cost."""
        cost = _ZERO
        for key in [k for k in self.cells if k[1] == day and k[0].meter == meter]:
            if not any(cell.billed.lines for cell in self.cells[key].values()):
                for cell in self.cells.pop(key).values():
                    cost = exact.add(cost, cell.held.cost)
        return cost

    def run(self) -> list[Cell]:
        """Name all differences; return the cells."""
        cells = [cell for each in self.cells.values() for cell in each.values()]
        for cell in cells:
            self._known_of_calls(cell)
        for variants in self.cells.values():
            self._move(list(variants.values()))
        edges = self._edges()
        twice = self._twice()
        for cell in cells:
            self._quantities(cell, edges, twice)
        self._step = rounding_step(cells) or _ZERO
        ratio = one_ratio(cells, converted=self._converted)
        steady = steady_rates(cells)
        for cell in cells:
            self._rates(cell, ratio, steady)
        return cells

    def _calls(self, cell: Cell) -> Calls:
        day = self._ledger.get(cell.day)
        found = None if day is None else day.calls.get(cell.place.model)
        return Calls() if found is None else found

    # What the ledger knows that it does not know

    def _known_of_calls(self, cell: Cell) -> None:
        held, rate = cell.held, cell.bill_rate
        have = min(cell.billed.quantity, held.total)
        cell.matched = (
            cell.billed.amount
            if have == cell.billed.quantity
            else to_whole_pico(WIDE.multiply(have, rate or _ZERO))
        )
        if rate is None:
            for each in (held.unpriced, held.unrated, held.estimated):
                cell.quantity = exact.add(cell.quantity, each)
            return
        for cause, quantity in (
            ("unpriced", held.unpriced),
            ("incomplete", held.unrated),
            ("estimated", held.estimated),
        ):
            if quantity:
                amount = to_whole_pico(WIDE.multiply(quantity, rate))
                if quantity == cell.billed.quantity and not cell.cost:
                    amount = cell.billed.amount
                cell.name(cause, amount, quantity)

    # Variants

    def _move(self, cells: list[Cell]) -> None:
        """Find quantities that the ledger has as one variant, and the bill as another."""
        ours = [cell for cell in cells if cell.held.quantity and cell.left]
        theirs = [cell for cell in cells if cell.left > 0 and cell.billed.quantity]
        pairs = [
            (other, cell) for cell in theirs for other in ours if other is not cell
        ]
        # What the ledger has nothing of comes first, then what has one cause, and then
        # what leaves nothing.
        pairs.sort(
            key=lambda pair: (
                bool(pair[1].held.total),
                len(_unlike(*pair)),
                -pair[0].left != pair[1].left,
            )
        )
        for other, cell in pairs:
            # What the ledger does not have at all is what another one lacks.
            whole = not cell.held.total
            size = min(cell.left, other.quantity if whole else -other.left)
            if size > 0:
                _move_between(other, cell, size)

    # Quantities

    def _edges(self) -> set[tuple[Place, Variant, dt.date]]:
        """Find runs of days whose differences cancel out over their midnights."""
        lines: dict[tuple[Place, Variant], dict[dt.date, Cell]] = {}
        for (place, day), variants in self.cells.items():
            for variant, cell in variants.items():
                lines.setdefault((place, variant), {})[day] = cell
        found: set[tuple[Place, Variant, dt.date]] = set()
        for (place, variant), days in lines.items():
            done: set[dt.date] = set()
            for day in sorted(days):
                if days[day].left and day not in done:
                    run = _run(days, day, batch=variant.mode == _BATCH)
                    done.update(run)
                    found.update((place, variant, each) for each in run)
        return found

    def _twice(self) -> set[tuple[dt.date, str]]:
        """Find models of which a day has exactly twice what was billed."""
        models: dict[tuple[dt.date, str], list[Cell]] = {}
        for (place, day), variants in self.cells.items():
            models.setdefault((day, place.model), []).extend(variants.values())
        return {
            key
            for key, cells in models.items()
            if any(cell.billed.quantity for cell in cells)
            and all(cell.quantity == 2 * cell.billed.quantity for cell in cells)
        }

    def _quantities(
        self,
        cell: Cell,
        edges: set[tuple[Place, Variant, dt.date]],
        twice: set[tuple[dt.date, str]],
    ) -> None:
        if not cell.left:
            return
        fits = list(self._fitting(cell, twice))
        if (cell.place, cell.variant, cell.day) in edges:
            fits.append(("day_edge", cell.left))
        if cell.left < 0 and -cell.left <= cell.held.late:
            fits.append(("lag", cell.left))
        whole = [cause for cause, quantity in fits if quantity == cell.left]
        if len(whole) > 1:
            cell.name_quantity(UNEXPLAINED, cell.left, candidates=whole)
            return
        for cause, quantity in fits:
            if cause in whole or not whole:
                cell.name_quantity(cause, quantity)
                self._spend(cell, cause)
        if cell.left > 0:
            billed = {name: part.quantity for name, part in cell.billed.scopes.items()}
            missing = lacking(billed, cell.held.scopes, cell.left)
            for scope, quantity in sorted(missing.items(), key=str):
                cell.name_quantity("uncaptured", quantity, scope=scope)
        elif cell.left < 0:
            cell.name_quantity("not_on_bill", cell.left)

    def _fitting(
        self, cell: Cell, twice: set[tuple[dt.date, str]]
    ) -> Iterable[tuple[str, Decimal]]:
        """Return the causes that a ledger shows by itself, and how much they can be."""
        left, key = cell.left, (cell.day, cell.place.model)
        calls = self._calls(cell)
        if left > 0 and calls.silent:
            room = self._most.setdefault(key, calls.most or _ZERO)
            amount = WIDE.multiply(left, cell.rate)
            if calls.most is None or amount <= room:
                yield "no_usage", left
            elif room > 0 and cell.rate:
                whole = WIDE.divide(room, cell.rate).to_integral_value(ROUND_FLOOR)
                yield "no_usage", whole
        if left < 0 and key in twice:
            yield "double_capture", left
        elif left < 0 and (double := self._double(cell)):
            yield "double_capture", max(left, -double)

    def _double(self, cell: Cell) -> Decimal:
        """Return what the ledger has twice of a line; only asked where it has too much."""
        key = cell.day, cell.place.model
        if key not in self._known_doubles:
            found = self._doubles(cell.day, frozenset((cell.place.model,)))
            self._known_doubles[key] = dict(found)
        return self._known_doubles[key].get(cell.place.meter, _ZERO)

    def _spend(self, cell: Cell, cause: str) -> None:
        """Take what was named from the ceiling of the calls without usage."""
        key = cell.day, cell.place.model
        if cause == "no_usage" and key in self._most and cell.residuals:
            amount = cell.residuals[-1].amount_usd
            self._most[key] = exact.subtract(self._most[key], amount)

    # Rates

    def _rates(
        self,
        cell: Cell,
        ratio: OneRatio | None,
        steady: Mapping[tuple[Place, Variant], list[Cell]],
    ) -> None:
        rest, key = cell.rest, (cell.day, cell.place.model)
        if not rest:
            return
        if abs(rest) <= exact.add(cell.tolerance, self._step * cell.billed.lines):
            cell.name("rounding", rest)
            return
        fits = list(self._rate_causes(cell, ratio))
        others = steady.get((cell.place, cell.variant), [])
        if not fits and ratio is not None and ratio.is_part_of(cell):
            if ratio.is_rounded(cell) and is_price(cell, others):
                cell.name(ratio.causes[0], rest)
                return
            # Something else is on top of it.
            cell.name(ratio.causes[0], ratio.part(cell), candidates=ratio.causes[1:])
            fits = ["price"] if is_steady(cell, others) else []
            rest = cell.rest
        elif not fits and is_price(cell, others):
            fits = ["price"]
        if len(fits) == 1:
            cell.name(fits[0], rest)
            if fits == ["incomplete"]:
                self._open[key] = exact.subtract(self._open[key], rest)
        else:
            # What has no limit can be the cause, but nothing proves it.
            open_ended = rest > 0 and self._calls(cell).open is None
            maybe = ["incomplete"] if open_ended else []
            cell.name(UNEXPLAINED, cell.rest, candidates=fits or maybe)

    def _rate_causes(self, cell: Cell, ratio: OneRatio | None) -> Iterable[str]:
        key, rest = (cell.day, cell.place.model), cell.rest
        room = self._open.setdefault(key, self._calls(cell).open or _ZERO)
        if 0 < rest <= room:
            yield "incomplete"
        if is_region(cell):
            yield "region"
        if self._foreign and abs(rest) <= WIDE.multiply(_CONVERTED, cell.billed.amount):
            yield "currency"
        elif ratio is not None:
            if ratio.fits(cell):
                yield from ratio.causes
        elif cell.billed.listed is not None and rest < 0:
            if abs(exact.subtract(cell.billed.listed, cell.cost)) <= cell.tolerance:
                yield "discount"


def _unlike(one: Cell, other: Cell) -> list[str]:
    """Return the causes that tell two variants apart."""
    names = ("tier", "long_context", "cache_ttl")
    aspects = zip(names, one.variant, other.variant, strict=True)
    return [name for name, ours, theirs in aspects if ours != theirs]


def _move_between(source: Cell, target: Cell, size: Decimal) -> None:
    """Move a quantity of the ledger to the variant that it was billed as."""
    theirs, ours = target.bill_rate or _ZERO, source.rate
    taken = to_whole_pico(WIDE.multiply(size, ours))
    given = to_whole_pico(WIDE.multiply(size, theirs))
    if size == source.quantity:
        taken = source.cost
    if size == target.billed.quantity and not target.quantity:
        given = target.billed.amount
    source.cost = exact.subtract(source.cost, taken)
    source.quantity = exact.subtract(source.quantity, size)
    target.cost = exact.add(target.cost, taken)
    source.moved = target.moved = True
    causes = _unlike(source, target)
    amount = exact.subtract(given, taken)
    if len(causes) == 1:
        target.name(causes[0], amount, size)
    else:
        target.name(UNEXPLAINED, amount, size, candidates=causes)
    # What they are billed for, both sides have.
    target.matched = min(exact.add(target.matched, given), target.billed.amount)


def _run(days: Mapping[dt.date, Cell], first: dt.date, *, batch: bool) -> list[dt.date]:
    """Return the days from one whose differences cancel out, if such are next to it."""
    flow, day = _ZERO, first
    run: list[dt.date] = []
    while (cell := days.get(day)) is not None:
        run.append(day)
        flow = exact.subtract(flow, cell.left)  # to the next day
        if not flow:
            return run if len(run) > 1 else []
        following = days.get(day + dt.timedelta(days=1))
        if following is None:
            return []
        if batch:
            if len(run) > 2:
                return []
        elif not -following.held.first_hour <= flow <= cell.held.last_hour:
            return []
        day += dt.timedelta(days=1)
    return []
