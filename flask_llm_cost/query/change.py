"""Why spend changed: volume, mix, prices, and the groups that contributed most."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import sqlalchemy as sa

from ..money import from_pico
from .aggregate import breakdown
from .aggregate import tag_breakdown
from .comparison import Comparison
from .explore import METERS
from .filters import CallFilter
from .totals import Totals

Key: t.TypeAlias = tuple[str, ...]
Both: t.TypeAlias = Mapping[Key, tuple[Totals, Totals]]
"""By group, the totals of the other range and of this one."""

EFFECTS: t.Final = ("volume", "mix", "cache", "price", "other")


@dataclass(frozen=True, slots=True)
class Share:
    """What one group, or one effect, contributes to a difference."""

    key: Key
    """Empty for all other groups together."""
    pico: int

    @property
    def usd(self) -> Decimal:
        """The contribution."""
        return from_pico(self.pico)


@dataclass(frozen=True, slots=True)
class Change:
    """A difference of spend; the shares of each list sum to it exactly."""

    pico: int
    effects: tuple[Share, ...]
    """By :data:`EFFECTS`: more or fewer tokens; other models; more or less of cached input
    and of output; other prices; what is not billed by the token."""
    models: tuple[Share, ...]
    meters: tuple[Share, ...]
    tags: tuple[tuple[str, tuple[Share, ...]], ...]
    """The same of each tag."""

    @property
    def usd(self) -> Decimal:
        """The difference."""
        return from_pico(self.pico)


def what_changed(
    connection: sa.Connection,
    where: CallFilter,
    before: Comparison,
    *,
    tags: Sequence[str] = (),
    most: int = 4,
) -> Change:
    """Return what a range costs more, or less, than another one, and why.

    :param where: The range, up to now if it is not over.
    :param tags: The tags to list contributions of.
    :param most: How many contributions to list.
    """
    other = replace(where, start=before.start, end=before.end)
    pairs = _both(
        breakdown(connection, each, "provider", "model") for each in (other, where)
    )
    return Change(
        pico=sum(now.spend_pico - then.spend_pico for then, now in pairs.values()),
        effects=effects(pairs),
        models=_largest(pairs, most),
        meters=_meters(pairs),
        tags=tuple(
            (
                key,
                _largest(
                    _both(
                        tag_breakdown(connection, each, key) for each in (other, where)
                    ),
                    most,
                ),
            )
            for key in tags
        ),
    )


def _both(found: Iterable[Iterable[t.Any]]) -> Both:
    then, now = ({row.key: row.totals for row in rows} for rows in found)
    nothing = Totals()
    return {
        key: (then.get(key, nothing), now.get(key, nothing))
        for key in dict.fromkeys([*now, *then])
    }


def _largest(pairs: Both, most: int) -> tuple[Share, ...]:
    """Return the groups that changed most, and the rest."""
    shares = [
        Share(key, now.spend_pico - then.spend_pico)
        for key, (then, now) in pairs.items()
        if now.spend_pico != then.spend_pico
    ]
    shares.sort(key=lambda share: (-abs(share.pico), share.key))
    rest = sum(share.pico for share in shares[most:])
    return (*shares[:most], *([Share((), rest)] if shares[most:] else []))


def _meters(pairs: Both) -> tuple[Share, ...]:
    found = []
    for name in METERS:
        field = f"cost_{name}_pico"
        pico = sum(
            getattr(now, field) - getattr(then, field) for then, now in pairs.values()
        )
        found.append(Share((name,), pico))
    whole = sum(now.spend_pico - then.spend_pico for then, now in pairs.values())
    rest = whole - sum(share.pico for share in found)
    found.append(Share((), rest))
    return tuple(share for share in found if share.pico)


@dataclass(frozen=True, slots=True)
class _Cell:
    """The tokens of one type of one model, and what they cost, then and now."""

    model: Key
    tokens0: int
    pico0: int
    tokens1: int
    pico1: int

    @property
    def comparable(self) -> bool:
        """Whether there are tokens wherever there is a cost."""
        return not (self.pico0 and not self.tokens0 or self.pico1 and not self.tokens1)

    @property
    def price1(self) -> Fraction:
        return Fraction(self.pico1, self.tokens1) if self.tokens1 else self.price0

    @property
    def price0(self) -> Fraction:
        """A new model is priced as it is now."""
        if self.tokens0:
            return Fraction(self.pico0, self.tokens0)
        return Fraction(self.pico1, self.tokens1) if self.tokens1 else Fraction(0)


def effects(pairs: Both) -> tuple[Share, ...]:
    """Return the effects of volume, mix and prices; they sum to the difference exactly.

    With the tokens ``Q`` and the mean price ``P`` of all, and the tokens ``q``, the share
    ``s`` and the price ``p`` of each part, then (0) and now (1): volume is ``dQ x P0``,
    mix ``Q1 x sum(ds x (p0 - P0))``, price ``sum(q1 x dp)``. The part of the mix that is
    within models is shown apart: it is more or less of cached input and of output.
    """
    cells = [cell for key, pair in pairs.items() for cell in _cells(key, *pair)]
    whole = sum(now.spend_pico - then.spend_pico for then, now in pairs.values())
    known = [cell for cell in cells if cell.comparable]
    quantity0 = sum(cell.tokens0 for cell in known)
    quantity1 = sum(cell.tokens1 for cell in known)
    if not quantity0 or not quantity1:
        # There is nothing to compare prices with.
        return (Share(("volume",), whole),) if whole else ()
    mean = Fraction(sum(cell.pico0 for cell in known), quantity0)
    mix = quantity1 * _shift(known, quantity0, quantity1, mean)
    models = quantity1 * _shift(_by_model(known), quantity0, quantity1, mean)
    found = {
        "volume": (quantity1 - quantity0) * mean,
        "mix": models,
        "cache": mix - models,
        "price": sum(
            (cell.tokens1 * (cell.price1 - cell.price0) for cell in known), Fraction(0)
        ),
    }
    return _rounded(found, whole)


def _cells(key: Key, then: Totals, now: Totals) -> list[_Cell]:
    return [
        _Cell(
            key,
            _tokens(then, name),
            getattr(then, f"cost_{name}_pico"),
            _tokens(now, name),
            getattr(now, f"cost_{name}_pico"),
        )
        for name in METERS
        if name != "units" and (then.priced or now.priced)
    ]


def _tokens(totals: Totals, meter: str) -> int:
    if not totals.priced:
        return 0
    if meter == "input":
        cached = totals.cache_read_tokens + totals.cache_write_tokens
        return totals.input_tokens - cached
    return t.cast(int, getattr(totals, f"{meter}_tokens"))


def _shift(
    cells: Iterable[_Cell], quantity0: int, quantity1: int, mean: Fraction
) -> Fraction:
    return sum(
        (
            (Fraction(cell.tokens1, quantity1) - Fraction(cell.tokens0, quantity0))
            * (cell.price0 - mean)
            for cell in cells
        ),
        Fraction(0),
    )


def _by_model(cells: Iterable[_Cell]) -> list[_Cell]:
    found: dict[Key, _Cell] = {}
    for cell in cells:
        old = found.get(cell.model, _Cell(cell.model, 0, 0, 0, 0))
        found[cell.model] = _Cell(
            cell.model,
            old.tokens0 + cell.tokens0,
            old.pico0 + cell.pico0,
            old.tokens1 + cell.tokens1,
            old.pico1 + cell.pico1,
        )
    return list(found.values())


def _rounded(found: Mapping[str, Fraction], whole: int) -> tuple[Share, ...]:
    """Round to whole pico-dollars. What is not billed by the token is the rest."""
    exact = sum(found.values(), Fraction(0))
    other = whole - round(exact)
    shares = {name: round(amount) for name, amount in found.items()}
    # Rounding each may be off by a pico-dollar or two in all.
    largest = max(shares, key=lambda name: abs(shares[name]))
    shares[largest] += round(exact) - sum(shares.values())
    shares["other"] = other
    return tuple(Share((name,), shares[name]) for name in EFFECTS if shares[name])
