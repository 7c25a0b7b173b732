"""Why a line is billed at a rate other than the ledger's."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from ..money import context
from ..money import WIDE
from .cell import Cell
from .cell import to_whole_pico
from .cells import Part
from .cells import Place
from .cells import Variant
from .report import add_up
from .report import exact

_REGIONS: t.Final = tuple(
    WIDE.divide(*map(Decimal, pair))
    for pair in ((1, 1), (11, 10), (9, 10), (10, 11), (10, 9))
)
"""What regions cost compared to others: the same, 10 % more, or less."""
_SHORT: t.Final = context(4)
"""A price has few digits."""
_FACTOR: t.Final = context(6)
"""So has a discount."""
_MANY: t.Final = 100
"""Units from which a rate with few digits is no accident: of 4, any amount has one."""
_CLOSE: t.Final = Decimal("0.01")
_MOST: t.Final = Decimal("0.9")
_LOOSE: t.Final = Decimal("1e-6")
_FEW_LINES: t.Final = 3
_CENTS: t.Final = 4
"""The most decimals of amounts that may be rounded: prices have more."""
_ROUNDED: t.Final = Decimal("1e-4")


def is_region(cell: Cell) -> bool:
    """Whether each part of a line costs what the ledger says, or as in another region."""
    rate, billed = cell.ledger_rate, cell.billed
    if rate is None or not billed.regions:
        return False
    parts = list(billed.regions.values())
    rest = exact.subtract(billed.quantity, add_up(part.quantity for part in parts))
    if rest:
        amount = add_up(part.amount for part in parts)
        parts.append(Part(rest, exact.subtract(billed.amount, amount)))
    expected = [WIDE.multiply(part.quantity, rate) for part in parts]
    return all(
        any(
            abs(WIDE.multiply(usd, factor) - part.amount) <= 2 * cell.tolerance
            for factor in _REGIONS
        )
        for usd, part in zip(expected, parts, strict=True)
    )


# Rounding to cents


def rounding_step(cells: Iterable[Cell]) -> Decimal | None:
    """Return how much a line can be rounded by, if nearly all lines are rounded alike.

    Such as half a cent, where all amounts have two decimals. ``None`` if more decimals are
    given, or if the amounts show something else.
    """
    known = [c for c in cells if c.billed.amount and c.ledger_rate and not c.left]
    places = [_decimals(cell.billed.amount) for cell in known]
    off = [cell for cell in known if abs(cell.rest) > cell.tolerance]
    if len(off) < _FEW_LINES or not places or max(places) > _CENTS:
        return None
    step = Decimal(5).scaleb(-max(places) - 1)
    fitting = [c for c in known if abs(c.rest) <= c.tolerance + step * c.billed.lines]
    return step if len(fitting) >= _MOST * len(known) else None


def _decimals(amount: Decimal) -> int:
    return max(0, -t.cast(int, amount.normalize(WIDE).as_tuple().exponent))


# One ratio of all lines


@dataclass(frozen=True, slots=True)
class OneRatio:
    """The ratio of what is billed to what the ledger says, if all lines have the same."""

    ratio: Decimal
    causes: Sequence[str]
    """Why it may be."""
    loose: Decimal
    """How much lines may differ from it, as a share of their amounts."""
    scopes: Mapping[str, Decimal] = dataclasses.field(default_factory=dict)
    """The ratios of accounts or keys, by id, if they differ."""

    def part(self, cell: Cell) -> Decimal:
        """Return what the ratio amounts to."""
        if cell.moved:
            base = cell.cost
        else:
            held = cell.held
            # The rest is in the cell at the bill's rate already.
            unknown = exact.subtract(held.total, held.quantity)
            quantity = exact.subtract(cell.billed.quantity, unknown)
            base = WIDE.multiply(quantity, cell.rate)
        if not self.scopes:
            return to_whole_pico(WIDE.multiply(base, self.ratio - 1))
        parts = (
            WIDE.multiply(
                WIDE.multiply(part.quantity, cell.rate), self.scopes[scope] - 1
            )
            for scope, part in cell.billed.scopes.items()
        )
        return to_whole_pico(add_up(parts))

    def fits(self, cell: Cell) -> bool:
        """Whether it is all of what is left to be named."""
        if not cell.moved and not cell.ledger_rate:
            return False
        loose = WIDE.multiply(self.loose, abs(cell.billed.amount))
        return self._off(cell) <= 2 * cell.tolerance + loose

    def is_part_of(self, cell: Cell) -> bool:
        """Whether it is nearly all, and has one cause."""
        if len(self.causes) > 1 or cell.moved or not cell.ledger_rate:
            return False
        return self._off(cell) <= WIDE.multiply(_CLOSE, abs(cell.billed.amount))

    def is_rounded(self, cell: Cell) -> bool:
        """Whether it is all, except for the rounding of the price to its last digit."""
        off, quantity = self._off(cell), cell.billed.quantity
        if off > WIDE.multiply(_ROUNDED, abs(cell.billed.amount)):
            return False
        most = WIDE.multiply(WIDE.divide(_last_digit(cell), 2), quantity)
        return off <= exact.add(most, 2 * cell.tolerance)

    def _off(self, cell: Cell) -> Decimal:
        return abs(exact.subtract(cell.rest, self.part(cell)))


def _last_digit(cell: Cell) -> Decimal:
    """Return what the last digit of a line's price is worth: of the shortest that fits."""
    rate, quantity = cell.bill_rate or Decimal(0), cell.billed.quantity
    for digits in range(1, 12):
        price = context(digits).plus(rate)
        off = abs(WIDE.multiply(price, quantity) - cell.billed.amount)
        if off <= cell.tolerance:
            break
    return Decimal(1).scaleb(price.normalize(WIDE).adjusted() - digits + 1)


def one_ratio(cells: Iterable[Cell], *, converted: bool) -> OneRatio | None:
    """Return the ratio of all lines, if there is one and it is not 1.

    :param converted: Whether the bill was converted at a rate that it does not state.
    """
    known = [c for c in cells if c.billed.quantity and c.ledger_rate and not c.moved]
    known = [cell for cell in known if cell.bill_rate]
    if len({cell.place for cell in known}) < 2:
        return None
    for ratio, loose in _ratios(known):
        causes = _causes(known, ratio, converted)
        if causes and abs(ratio - 1) >= _LOOSE:
            found = OneRatio(ratio, causes, loose)
            if _have(known, found) and not any(map(_ties, known)):
                return found
    return None if converted else _by_scope(known)


def _ties(cell: Cell) -> bool:
    """Whether a line is billed at the ledger's rate, so that no ratio is that of all."""
    expected = WIDE.multiply(cell.billed.quantity, cell.rate)
    off = abs(exact.subtract(expected, cell.billed.amount))
    return off <= cell.tolerance < WIDE.multiply(_LOOSE, abs(expected))


def _by_scope(cells: Sequence[Cell]) -> OneRatio | None:
    """Return the ratios of accounts or keys, if each has one and they are not all 1."""
    ratios: dict[str, set[Decimal]] = {}
    places: dict[str, set[Place]] = {}
    for cell in cells:
        parts = cell.billed.scopes
        if cell.billed.quantity != add_up(part.quantity for part in parts.values()):
            return None
        for scope, part in parts.items():
            usd = WIDE.multiply(part.quantity, cell.rate)
            if usd:
                ratio = _FACTOR.plus(WIDE.divide(part.amount, usd))
                ratios.setdefault(scope, set()).add(ratio)
                places.setdefault(scope, set()).add(cell.place)
    if any(len(each) > 1 for each in ratios.values()):
        return None
    found = {scope: each.pop() for scope, each in ratios.items()}
    lower = [scope for scope, ratio in found.items() if ratio != 1]
    if not lower or len(found) < 2 or any(not 0 < found[each] < 1 for each in lower):
        return None
    if any(len(places[each]) < 2 for each in lower):
        return None
    return OneRatio(min(found.values()), ("discount",), Decimal(0), found)


def _ratios(cells: Sequence[Cell]) -> Iterator[tuple[Decimal, Decimal]]:
    """Return what the ratio may be, and how much lines may differ from it."""
    dollars: dict[Decimal, Decimal] = {}
    for cell in cells:
        short = _FACTOR.plus(_ratio(cell))
        dollars[short] = exact.add(dollars.get(short, Decimal(0)), cell.billed.amount)
    yield max(dollars, key=lambda ratio: dollars[ratio]), Decimal(0)
    # Prices after a discount may be rounded each.
    yield _ratio(max(cells, key=lambda cell: cell.billed.amount)), _LOOSE


def _ratio(cell: Cell) -> Decimal:
    expected = WIDE.multiply(cell.billed.quantity, cell.rate)
    return WIDE.divide(cell.billed.amount, expected)


def _have(cells: Sequence[Cell], found: OneRatio) -> bool:
    """Whether nearly all lines have a ratio, and no line is far from it."""
    fitting = [cell for cell in cells if found.fits(cell)]
    dollars, all_dollars = (
        add_up(abs(cell.billed.amount) for cell in some) for some in (fitting, cells)
    )
    if dollars < WIDE.multiply(_MOST, all_dollars):
        return False
    far = [cell for cell in cells if not _is_close(cell, found.ratio)]
    return not far or _are_prices(far)


def _are_prices(cells: Sequence[Cell]) -> bool:
    """Whether lines have another ratio on all of their days: prices, beside a discount."""
    ratios: dict[tuple[Place, Variant], list[Decimal]] = {}
    for cell in cells:
        line = ratios.setdefault((cell.place, cell.variant), [])
        line.append(_FACTOR.plus(_ratio(cell)))
    return all(len(each) > 1 and len({*each}) == 1 for each in ratios.values()) and all(
        ratio > 0 for each in ratios.values() for ratio in each
    )


def _is_close(cell: Cell, ratio: Decimal) -> bool:
    expected = WIDE.multiply(WIDE.multiply(cell.billed.quantity, cell.rate), ratio)
    return abs(expected - cell.billed.amount) <= WIDE.multiply(_CLOSE, abs(expected))


def _causes(cells: Iterable[Cell], ratio: Decimal, converted: bool) -> Sequence[str]:
    if ratio <= 0:
        return ()
    if not converted:
        return ("discount",) if ratio < 1 else ()
    if ratio > 1 or all(cell.billed.listed == cell.billed.amount for cell in cells):
        return ("currency",)
    return ("discount", "currency")


# Prices


def steady_rates(
    cells: Iterable[Cell],
) -> Mapping[tuple[Place, Variant], list[Cell]]:
    """Return the cells whose rates may be those of others, by line."""
    found: dict[tuple[Place, Variant], list[Cell]] = {}
    for cell in cells:
        if cell.bill_rate and cell.held.quantity and not cell.moved:
            found.setdefault((cell.place, cell.variant), []).append(cell)
    return found


def is_steady(cell: Cell, others: Iterable[Cell]) -> bool:
    """Whether the bill's rate is that of another day."""
    quantity, amount = cell.billed.quantity, cell.billed.amount
    for other in others:
        if other is not cell and other.bill_rate:
            off = abs(WIDE.multiply(other.bill_rate, quantity) - amount)
            scale = WIDE.divide(quantity, other.billed.quantity)
            if off <= cell.tolerance + WIDE.multiply(scale, other.tolerance):
                return True
    return False


def is_price(cell: Cell, others: Iterable[Cell]) -> bool:
    """Whether the bill's rate can be a price: it is that of another day, or is short."""
    rate, quantity, amount = cell.bill_rate, cell.billed.quantity, cell.billed.amount
    if rate is None or rate <= 0:
        return False
    if is_steady(cell, others):
        return True
    if quantity < _MANY:
        return False
    short = WIDE.multiply(_SHORT.plus(rate), quantity)
    return abs(short - amount) <= cell.tolerance
