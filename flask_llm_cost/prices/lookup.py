"""Which entries of a book serve a model, the closest first?"""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from decimal import Decimal

from ..call import CostSource
from .entry import Entry
from .layers import Layer
from .meters import RateKey
from .meters import TOKENS
from .names import CACHED
from .names import DIRECT
from .names import named
from .names import names_of
from .names import provider_name
from .names import split
from .names import undated
from .plan import Found
from .price import Price

EVER: t.Final = dt.datetime.min.replace(tzinfo=dt.UTC)
_NEVER: t.Final = dt.datetime.max.replace(tzinfo=dt.UTC)
_NONE: t.Final[frozenset[str]] = frozenset()


class Match(t.NamedTuple):
    """An entry that serves a model, and how it was found."""

    entry: Entry
    layer: int
    source: CostSource
    by: str
    """``exact``, ``alias``, ``snapshot``, ``borrowed``, ``wildcard`` or ``free``."""
    flags: frozenset[str]


_FREE: t.Final = Entry(
    ":free",
    (Price({RateKey(None, name, 0): Decimal(0) for name in TOKENS}),),
)


class Lookup:
    """Finds models in layers that do not change; what it found is remembered.

    :param aliases: Other names of models.
    """

    def __init__(self, layers: Iterable[Layer], aliases: Mapping[str, str]) -> None:
        self.layers: tuple[Layer, ...] = tuple(layers)
        self.aliases = {named(name): target for name, target in aliases.items()}
        self._matches: dict[tuple[str, str], tuple[Match, ...]] = {}
        self._joined: dict[tuple[int, int], tuple[Price, Price, Price]] = {}

    def choose(
        self, provider: str, matches: Iterable[Match], at: dt.datetime | None
    ) -> Found | None:
        """The price at a time, of the closest entry that has one then."""
        for match in matches:
            price = match.entry.at(at)
            if price is not None:
                factor, said = self._wildcards(provider, match, at)
                for each in said:
                    price = self._with_fees(price, each)
                return Found(
                    match.entry.key, match.source, price, match.by, match.flags, factor
                )
        return None

    def matches(self, provider: str, model: str) -> tuple[Match, ...]:
        """Every entry that may serve a model, the closest first."""
        held = self._matches
        matches = held.get((provider, model))
        if matches is None:
            matches = tuple(
                _unique(self._search(provider_name(provider), model.strip()))
            )
            if len(held) >= CACHED:
                held.clear()
            held[provider, model] = matches
        return matches

    def _search(self, provider: str, model: str) -> t.Iterator[Match]:
        if not model:
            return
        names = names_of(provider, model)
        yield from self._exact(names, "exact")
        if model.endswith(":free"):
            yield Match(_FREE, len(self.layers), "bundled", "free", _NONE)
            return
        snapshots = undated(names)
        target = self._target(names)
        aliased = () if target is None else names_of(*split(target, provider))
        for number in range(len(self.layers)):
            yield from self._exact(aliased, "alias", number)
            yield from self._exact(undated(aliased), "alias", number)
            yield from self._exact(snapshots, "snapshot", number)
        for number, layer in enumerate(self.layers):
            entry = layer.wildcards.get(provider)
            if entry is not None and any(price.has_tokens for price in entry.prices):
                yield Match(entry, number, layer.source, "wildcard", _NONE)
        yield from self._borrow(provider, model)

    def _target(self, names: Iterable[str]) -> str | None:
        for name in names:
            target = self.aliases.get(named(name))
            if target is not None:
                return target
        return None

    def _exact(
        self, names: Iterable[str], by: str, number: int | None = None
    ) -> t.Iterator[Match]:
        numbers = range(len(self.layers)) if number is None else (number,)
        for each in numbers:
            layer = self.layers[each]
            for name in names:
                entry = layer.get(name)
                if entry is not None:
                    yield Match(entry, each, layer.source, by, _NONE)

    def _borrow(self, provider: str, model: str) -> t.Iterator[Match]:
        last = model.rpartition("/")[2]
        for number, layer in enumerate(self.layers):
            if layer.source == "bundled" and provider not in DIRECT:
                return
            for name in (last, *undated((last,))):
                entries = layer.last(name)
                if len(entries) == 1:
                    flags = frozenset(("borrowed_price",))
                    yield Match(entries[0], number, layer.source, "borrowed", flags)
                if entries:
                    return

    def _with_fees(self, price: Price, fees: Price) -> Price:
        # The pair is kept with what was made of it, so that no id is used again.
        held = self._joined
        made = held.get((id(price), id(fees)))
        if made is None:
            made = (price, fees, price.with_fees(fees))
            if len(held) >= CACHED:
                held.clear()
            held[id(price), id(fees)] = made
        return made[2]

    def _wildcards(
        self, provider: str, match: Match, at: dt.datetime | None
    ) -> tuple[Decimal | None, tuple[Price, ...]]:
        """What ``provider/*`` entries say: a multiplier, and fees of tools."""
        factor: Decimal | None = None
        said: list[Price] = []
        for number, layer in enumerate(self.layers):
            entry = (
                layer.wildcards.get(provider_name(provider))
                if layer.wildcards
                else None
            )
            price = None if entry is None else entry.at(at)
            if price is None:
                continue
            said.append(price)
            # Not on what a higher layer says: that is the price itself.
            if factor is None and number <= match.layer:
                factor = price.multiplier
        return factor, tuple(said)

    def span(
        self, provider: str, matches: Sequence[Match], moment: dt.datetime
    ) -> tuple[dt.datetime, dt.datetime] | None:
        """Around a moment, between which dates no other price begins to hold."""
        name = provider_name(provider)
        said = (layer.wildcards.get(name) for layer in self.layers)
        entries = [match.entry for match in matches]
        entries += [entry for entry in said if entry is not None]
        dates = {price.valid_from for each in entries for price in each.prices}
        known = [date for date in dates if date is not None]
        if not known:
            return None
        since = max((date for date in known if date <= moment), default=EVER)
        until = min((date for date in known if date > moment), default=_NEVER)
        return since, until


def _unique(matches: Iterable[Match]) -> t.Iterator[Match]:
    seen: set[int] = set()
    for match in matches:
        if id(match.entry) not in seen:
            seen.add(id(match.entry))
            yield match
