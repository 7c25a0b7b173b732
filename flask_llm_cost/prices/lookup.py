"""Find the entries of a book that price a model, closest match first."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from ..call import CostSource
from .entry import Entry
from .layers import Layer
from .meters import MAX_TIME
from .meters import MIN_TIME
from .meters import RateKey
from .meters import TOKENS
from .names import CACHE_SIZE
from .names import candidate_keys
from .names import may_borrow
from .names import normalize_key
from .names import provider_name
from .names import split_target
from .names import strip_snapshots
from .price import Price

_NO_FLAGS: t.Final[frozenset[str]] = frozenset()


class Match(t.NamedTuple):
    """An entry that prices a model, and how it was found."""

    entry: Entry
    layer: int
    source: CostSource
    by: str
    """``exact``, ``alias``, ``snapshot``, ``borrowed``, ``wildcard`` or ``free``."""
    flags: frozenset[str]


@dataclass(frozen=True, slots=True)
class Found:
    """The price of a model at a time."""

    key: str
    """The book's key, as written there."""
    source: CostSource
    price: Price
    matched_by: str
    """As :attr:`Match.by`."""
    flags: frozenset[str] = frozenset()
    factor: Decimal | None = None
    """A negotiated ``provider/*`` multiplier."""


_FREE: t.Final = Entry(
    ":free",
    (Price({RateKey(None, name, 0): Decimal(0) for name in TOKENS}),),
)
"""OpenRouter's variant of a model that costs nothing. To another provider, or a host on no
list, the name says nothing: https://openrouter.ai/docs, on model variants."""


class Lookup:
    """Finds models in layers that do not change, and caches the results.

    :param aliases: Other names of models, to the keys they stand for.
    """

    def __init__(self, layers: Iterable[Layer], aliases: Mapping[str, str]) -> None:
        self.layers: tuple[Layer, ...] = tuple(layers)
        self.aliases = {normalize_key(name): key for name, key in aliases.items()}
        self._matches: dict[tuple[str, str], tuple[Match, ...]] = {}
        self._joins: dict[tuple[str, int, int], tuple[Price, Price, Price]] = {}

    def choose(
        self, provider: str, matches: Sequence[Match], at: dt.datetime | None
    ) -> Found | None:
        """Return the closest match's price at a time."""
        for number, match in enumerate(matches, 1):
            price = match.entry.at(at)
            if price is not None:
                factor, wildcards = self._wildcards(provider, match, at)
                for each in wildcards:
                    price = self._joined(Price.with_fees, price, each)
                for other in matches[number:]:
                    # A limit belongs to the model, not to what someone charges for it.
                    limits = other.entry.at(at)
                    if limits is not None:
                        price = self._joined(Price.with_limits, price, limits)
                return Found(
                    match.entry.key, match.source, price, match.by, match.flags, factor
                )
        return None

    def matches(self, provider: str, model: str) -> tuple[Match, ...]:
        """Return every entry that may price a model, closest first."""
        cache = self._matches
        matches = cache.get((provider, model))
        if matches is None:
            unique: dict[int, Match] = {}
            for match in self._search(provider_name(provider), model.strip()):
                unique.setdefault(id(match.entry), match)
            matches = tuple(unique.values())
            if len(cache) >= CACHE_SIZE:
                cache.clear()
            cache[provider, model] = matches
        return matches

    def _search(self, provider: str, model: str) -> Iterator[Match]:
        if not model:
            return
        names = candidate_keys(provider, model)
        yield from self._exact(names, "exact")
        if provider == "openrouter" and model.endswith(":free"):
            yield Match(_FREE, len(self.layers), "bundled", "free", _NO_FLAGS)
            return
        snapshots = strip_snapshots(names)
        target = self._target(names)
        aliased = (
            () if target is None else candidate_keys(*split_target(target, provider))
        )
        for number in range(len(self.layers)):
            yield from self._exact(aliased, "alias", number)
            yield from self._exact(strip_snapshots(aliased), "alias", number)
            yield from self._exact(snapshots, "snapshot", number)
        for number, layer in enumerate(self.layers):
            entry = layer.wildcards.get(provider)
            if entry is not None and any(price.has_tokens for price in entry.prices):
                yield Match(entry, number, layer.source, "wildcard", _NO_FLAGS)
        yield from self._borrow(provider, model)

    def _target(self, names: Iterable[str]) -> str | None:
        for name in names:
            target = self.aliases.get(normalize_key(name))
            if target is not None:
                return target
        return None

    def _exact(
        self, names: Iterable[str], by: str, number: int | None = None
    ) -> Iterator[Match]:
        numbers = range(len(self.layers)) if number is None else (number,)
        for each in numbers:
            layer = self.layers[each]
            for name in names:
                entry = layer.get(name)
                if entry is not None:
                    yield Match(entry, each, layer.source, by, _NO_FLAGS)

    def _borrow(self, provider: str, model: str) -> Iterator[Match]:
        """Find the only key with this last segment, at whatever provider."""
        last = model.rpartition("/")[2]
        for number, layer in enumerate(self.layers):
            for name in (last, *strip_snapshots((last,))):
                entries = layer.with_last_segment(name)
                if len(entries) == 1 and _may_lend(layer, entries[0], provider):
                    flags = frozenset(("borrowed_price",))
                    yield Match(entries[0], number, layer.source, "borrowed", flags)
                if entries:
                    return

    def _joined(
        self, join: t.Callable[[Price, Price], Price], price: Price, other: Price
    ) -> Price:
        # Storing the pair as well keeps both ids from being reused.
        cache, key = self._joins, (join.__name__, id(price), id(other))
        found = cache.get(key)
        if found is None:
            found = (price, other, join(price, other))
            if len(cache) >= CACHE_SIZE:
                cache.clear()
            cache[key] = found
        return found[2]

    def _wildcards(
        self, provider: str, match: Match, at: dt.datetime | None
    ) -> tuple[Decimal | None, list[Price]]:
        """Return the multiplier and the prices of ``provider/*`` entries."""
        factor: Decimal | None = None
        prices: list[Price] = []
        for number, layer in enumerate(self.layers):
            if not layer.wildcards:
                continue
            entry = layer.wildcards.get(provider_name(provider))
            price = None if entry is None else entry.at(at)
            if price is None:
                continue
            prices.append(price)
            # Not for prices of a higher layer: those are final.
            if factor is None and number <= match.layer:
                factor = price.multiplier
        return factor, prices

    def span(
        self, provider: str, matches: Sequence[Match], moment: dt.datetime
    ) -> tuple[dt.datetime, dt.datetime] | None:
        """Return the dates around a moment between which no other price takes effect."""
        name = provider_name(provider)
        wildcards = (layer.wildcards.get(name) for layer in self.layers)
        entries = [match.entry for match in matches]
        entries += [entry for entry in wildcards if entry is not None]
        dates = {price.valid_from for each in entries for price in each.prices}
        known = [date for date in dates if date is not None]
        if not known:
            return None
        since = max((date for date in known if date <= moment), default=MIN_TIME)
        until = min((date for date in known if date > moment), default=MAX_TIME)
        return since, until


def _may_lend(layer: Layer, entry: Entry, provider: str) -> bool:
    lender = provider_name(entry.key.partition("/")[0])
    return layer.source != "bundled" or may_borrow(provider, lender)
