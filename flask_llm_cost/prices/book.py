"""Which price holds for a model, and what does a call cost by it?

A book has layers: overrides go before the price file, that before the bundled prices.
It is pure: no Flask, no database, no network.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import logging
import os
import re
import time
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from functools import lru_cache
from pathlib import Path

from ..call import Cost
from ..call import CostSource
from ..call import Part
from ..call import Usage
from ..errors import PriceFileError
from .price import add_up
from .price import Entry
from .price import instant
from .price import Malformed
from .price import MODES
from .price import Parts
from .price import PREPAID
from .price import Price
from .price import RateKey
from .price import read_entry
from .price import Sums
from .price import Table
from .price import to_pico
from .price import to_usd
from .price import TOKENS

_log = logging.getLogger("flask_llm_cost.prices")

BUNDLED: t.Final = Path(__file__).with_name("bundled.json")
STALE_AFTER: t.Final = dt.timedelta(days=30)

_SYNONYMS: t.Final = {
    "google": "gemini",
    "googleai": "gemini",
    "vertex_ai": "vertex",
    "google-vertex": "vertex",
    "azure_ai": "azure",
    "azure_openai": "azure",
    "aws": "bedrock",
    "amazon_bedrock": "bedrock",
    "x-ai": "xai",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "dashscope": "alibaba",
    "voyageai": "voyage",
    "moonshotai": "moonshot",
    "zhipuai": "zai",
    "z-ai": "zai",
    "mistralai": "mistral",
}
"""Other spellings of provider names, as gateways and price lists have them."""

_DIRECT: t.Final = frozenset(
    "openai anthropic gemini vertex azure bedrock mistral cohere watsonx writer alibaba"
    " cerebras crusoe deepinfra deepseek fireworks groq hyperbolic jina minimax moonshot"
    " nebius novita nvidia perplexity sambanova snowflake together voyage xai zai".split()
)
"""Who bills by a list of their own. Anyone else is a gateway or one's own machine: what
a model of some name costs elsewhere says nothing of it."""

_SNAPSHOTS: t.Final = (
    re.compile(r"(.+)-(?:\d{4}-\d{2}-\d{2}|\d{8})\Z", re.ASCII),
    # As OpenAI's completions name the model that served
    re.compile(r"(.+):(?:\d{4}-\d{2}-\d{2}|\d{8})-v\d\Z", re.ASCII),
    # As Vertex AI does, and the Gemini API
    re.compile(r"(.+)@(?:\d{8}|default)\Z", re.ASCII),
    re.compile(r"((?:[^/]+/)*gemini-.+)-00\d\Z", re.ASCII),
    # A fine-tuned model of one's own is priced as `ft:` and the model that it began as.
    re.compile(r"((?:[^/]+/)?ft:[^:/]+):.*\Z"),
)
_MAX_BYTES: t.Final = 8 * 1024 * 1024
_CACHED: t.Final = 4096
_CHECK_EVERY: t.Final = 1.0


def _named(name: str) -> str:
    """A key as it is compared: providers in any case and spelling, models as they are."""
    head, slash, tail = name.partition("/")
    if not slash:
        return name
    head = head.lower()
    return f"{_SYNONYMS.get(head, head)}/{tail}"


def _provider(name: str) -> str:
    name = name.strip().lower()
    return _SYNONYMS.get(name, name)


class Layer:
    """The entries of one source, and where they come from."""

    def __init__(
        self,
        source: CostSource,
        entries: Iterable[Entry],
        *,
        metadata: Mapping[str, t.Any] | None = None,
        also: Mapping[str, str] | None = None,
    ) -> None:
        self.source: CostSource = source
        self.metadata = dict(metadata or {})
        self.entries: dict[str, Entry] = {}
        self.wildcards: dict[str, Entry] = {}
        for entry in entries:
            name = _named(entry.key)
            head, _, tail = name.partition("/")
            table = self.wildcards if tail == "*" else self.entries
            name = head if tail == "*" else name
            if name in table:
                raise Malformed(
                    f"{entry.key} and {table[name].key} are the same model: keep one"
                )
            table[name] = entry
        for other, name in (also or {}).items():
            self.entries.setdefault(_named(other), self.entries[_named(name)])
        self._lasts: dict[str, list[Entry]] | None = None

    def get(self, name: str) -> Entry | None:
        """The entry of exactly that key."""
        return self.entries.get(_named(name))

    def last(self, name: str) -> list[Entry]:
        """The entries whose key ends in that name."""
        lasts = self._lasts
        if lasts is None:
            lasts = {}
            for key, entry in self.entries.items():
                _, slash, tail = key.rpartition("/")
                if slash:
                    lasts.setdefault(tail, []).append(entry)
            self._lasts = lasts
        return lasts.get(name, [])


class Match(t.NamedTuple):
    """An entry that serves a model, and how it was found."""

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
    """The book's key, as it is written there."""
    source: CostSource
    price: Price
    matched_by: str
    """``exact``, ``alias``, ``snapshot``, ``borrowed``, ``wildcard`` or ``free``."""
    flags: frozenset[str] = frozenset()
    factor: Decimal | None = None
    """A negotiated ``provider/*`` multiplier."""


class Quote(t.NamedTuple):
    """A cost if one is known, and what is to be noted about it either way."""

    cost: Cost | None
    flags: frozenset[str]


_NONE: t.Final[frozenset[str]] = frozenset()
_FREE: t.Final = Entry(
    ":free",
    (Price({RateKey(None, name, 0): Decimal(0) for name in TOKENS}),),
)
_UNPRICED: t.Final = Quote(None, frozenset(("unpriced",)))


class PriceBook:
    """Dated prices by model, in layers.

    ::

        book = PriceBook.bundled()
        cost = book.cost("openai", "gpt-4o", Usage(input_tokens=1000))
    """

    def __init__(
        self, layers: Iterable[Layer], *, aliases: Mapping[str, str] | None = None
    ) -> None:
        self._layers: tuple[Layer, ...] = tuple(layers)
        self._aliases = {
            _named(name): target for name, target in (aliases or {}).items()
        }
        self._matches: dict[tuple[str, str], tuple[Match, ...]] = {}
        self._plans: dict[tuple[str, str, str | None], _Plan] = {}
        self._joined: dict[tuple[int, int], tuple[Price, Price, Price]] = {}
        self._file: _File | None = None

    @classmethod
    def bundled(cls) -> PriceBook:
        """The prices that came with this release."""
        return cls([_bundled_layer()])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PriceBook:
        """The prices of one file, and no others. A changed file is read again.

        :raises PriceFileError: If it cannot be read, or is wrong.
        """
        file = _File(Path(path))
        book = cls([file.read()])
        book._file = file
        return book

    @classmethod
    def layered(
        cls,
        overrides: Mapping[str, t.Any] | None = None,
        file: str | os.PathLike[str] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> PriceBook:
        """Overrides, then a price file, then the bundled prices.

        :raises PriceFileError: If the file or an override is wrong.
        """
        layers = [_layer("override", overrides or {}, "LLM_COST_PRICE_OVERRIDES")]
        watched = None if file is None else _File(Path(file))
        if watched is not None:
            layers.append(watched.read())
        book = cls([*layers, _bundled_layer()], aliases=aliases)
        book._file = watched
        return book

    # What is in it

    @property
    def updated_at(self) -> dt.date | None:
        """When the newest prices in force were taken down; ``None`` if nothing says so."""
        self._refresh()
        dates = [_updated(layer) for layer in self._layers]
        return max((date for date in dates if date is not None), default=None)

    def stale(self, now: dt.datetime | None = None) -> bool:
        """Are the prices older than 30 days, or of unknown age?"""
        updated = self.updated_at
        today = (now or dt.datetime.now(dt.UTC)).date()
        return updated is None or today - updated > STALE_AFTER

    def entries(self) -> dict[str, tuple[CostSource, Entry]]:
        """Every entry in force by its key, higher layers first."""
        self._refresh()
        held: dict[str, tuple[CostSource, Entry]] = {}
        for layer in self._layers:
            for name, entry in layer.entries.items():
                held.setdefault(name, (layer.source, entry))
        return held

    def metadata(self, source: CostSource) -> Mapping[str, t.Any]:
        """What a layer says of itself: ``updated_at``, ``sources``, ..."""
        for layer in self._layers:
            if layer.source == source:
                return layer.metadata
        return {}

    # Looking up

    def find(
        self, provider: str, model: str, at: dt.datetime | None = None
    ) -> Found | None:
        """The price of a model at a time, now if left out; ``None`` if none is known."""
        if self._file is not None:
            self._refresh()
        return self._choose(provider, self._lookup(provider, model), at)

    def _choose(
        self, provider: str, matches: Iterable[Match], at: dt.datetime | None
    ) -> Found | None:
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

    def _lookup(self, provider: str, model: str) -> tuple[Match, ...]:
        # The dict is taken first: what comes of layers that a reload replaces meanwhile
        # then lands in a dict that nobody reads.
        held = self._matches
        matches = held.get((provider, model))
        if matches is None:
            matches = tuple(_unique(self._search(_provider(provider), model.strip())))
            if len(held) >= _CACHED:
                held.clear()
            held[provider, model] = matches
        return matches

    def _search(self, provider: str, model: str) -> t.Iterator[Match]:
        if not model:
            return
        names = _names(provider, model)
        yield from self._exact(names, "exact")
        if model.endswith(":free"):
            yield Match(_FREE, len(self._layers), "bundled", "free", _NONE)
            return
        snapshots = _undated(names)
        target = self._target(names)
        aliased = () if target is None else _names(*_split(target, provider))
        for number in range(len(self._layers)):
            yield from self._exact(aliased, "alias", number)
            yield from self._exact(_undated(aliased), "alias", number)
            yield from self._exact(snapshots, "snapshot", number)
        for number, layer in enumerate(self._layers):
            entry = layer.wildcards.get(provider)
            if entry is not None and any(price.has_tokens for price in entry.prices):
                yield Match(entry, number, layer.source, "wildcard", _NONE)
        yield from self._borrow(provider, model)

    def _target(self, names: Iterable[str]) -> str | None:
        for name in names:
            target = self._aliases.get(_named(name))
            if target is not None:
                return target
        return None

    def _exact(
        self, names: Iterable[str], by: str, number: int | None = None
    ) -> t.Iterator[Match]:
        numbers = range(len(self._layers)) if number is None else (number,)
        for each in numbers:
            layer = self._layers[each]
            for name in names:
                entry = layer.get(name)
                if entry is not None:
                    yield Match(entry, each, layer.source, by, _NONE)

    def _borrow(self, provider: str, model: str) -> t.Iterator[Match]:
        last = model.rpartition("/")[2]
        for number, layer in enumerate(self._layers):
            if layer.source == "bundled" and provider not in _DIRECT:
                return
            for name in (last, *_undated((last,))):
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
            if len(held) >= _CACHED:
                held.clear()
            held[id(price), id(fees)] = made
        return made[2]

    def _wildcards(
        self, provider: str, match: Match, at: dt.datetime | None
    ) -> tuple[Decimal | None, tuple[Price, ...]]:
        """What ``provider/*`` entries say: a multiplier, and fees of tools."""
        factor: Decimal | None = None
        said: list[Price] = []
        for number, layer in enumerate(self._layers):
            entry = (
                layer.wildcards.get(_provider(provider)) if layer.wildcards else None
            )
            price = None if entry is None else entry.at(at)
            if price is None:
                continue
            said.append(price)
            # Not on what a higher layer says: that is the price itself.
            if factor is None and number <= match.layer:
                factor = price.multiplier
        return factor, tuple(said)

    # Pricing

    def cost(
        self,
        provider: str,
        model: str,
        usage: Usage,
        at: dt.datetime | None = None,
        mode: str | None = None,
    ) -> Cost | None:
        """What a usage costs by this book; ``None`` if no price is known.

        :param at: When the call was sent, now if left out.
        :param mode: ``batch``, ``flex``, ``priority``, ...
        :raises ValueError: If there is no such mode.
        """
        if mode is not None:
            mode = check_mode(mode)
        return self._cost(provider, model, usage, at, mode, _NONE)

    def price(
        self,
        provider: str,
        model: str,
        usage: Usage | None,
        *,
        at: dt.datetime | None = None,
        pricing_mode: str | None = None,
        service_tier: str | None = None,
        reported_cost: Decimal | None = None,
        flags: frozenset[str] = _NONE,
    ) -> Cost | None:
        """What a call cost by everything that is known of it.

        What the provider reports goes first; the mode is the caller's, else the tier
        that served. ``None`` if no price is known.

        :param flags: What is known of the call; a ``region.us`` among them selects an
            entry's multiplier of that name.
        :raises ValueError: If ``pricing_mode`` is none.
        """
        return self.quote(
            provider,
            model,
            usage,
            at=at,
            pricing_mode=pricing_mode,
            service_tier=service_tier,
            reported_cost=reported_cost,
            flags=flags,
        ).cost

    def quote(
        self,
        provider: str,
        model: str,
        usage: Usage | None,
        *,
        at: dt.datetime | None = None,
        pricing_mode: str | None = None,
        service_tier: str | None = None,
        reported_cost: Decimal | None = None,
        flags: frozenset[str] = _NONE,
    ) -> Quote:
        """As :meth:`price`, with the flags also where no cost is known."""
        mode, noted = check_mode(pricing_mode), _NONE
        if mode is None and pricing_mode is None and service_tier is not None:
            mode, noted = served_mode(_provider(provider), service_tier)
        cost = None
        if usage is not None:
            cost = self._cost(provider, model, usage, at, mode, flags)
        if reported_cost is not None and _is_amount(reported_cost):
            cost = _reported(reported_cost, cost, mode)
        elif cost is None:
            prepaid = ("prepaid",) if mode in PREPAID else ()
            return Quote(None, _UNPRICED.flags | noted | frozenset(prepaid))
        if noted:
            cost = _with_flags(cost, noted)
        return Quote(cost, cost.flags)

    def _cost(
        self,
        provider: str,
        model: str,
        usage: Usage,
        at: dt.datetime | None,
        mode: str | None,
        conditions: frozenset[str],
    ) -> Cost | None:
        if self._file is not None:
            self._refresh()
        plan = self._plans.get((provider, model, mode))
        if plan is None:
            plan = self._plan(provider, model, at, mode)
        if plan.dated or conditions:
            return self._dated_cost(provider, model, usage, at, mode, conditions)
        if plan.price is None:
            return None
        above = plan.price.tier(usage) if plan.price.thresholds else 0
        table = plan.tables[above]
        return _costed(plan, table, add_up(table, usage))

    def _plan(
        self, provider: str, model: str, at: dt.datetime | None, mode: str | None
    ) -> _Plan:
        """What to do for a model. Kept, but where the date or the hour may matter."""
        held = self._plans
        matches = self._lookup(provider, model)
        found = self._choose(provider, matches, at)
        dated = self._is_dated(provider, matches)
        if found is None:
            plan = _NO_PLAN._replace(dated=dated)
        else:
            dated = dated or bool(found.price.windows)
            plan = _planned(found, provider, mode, at, _NONE, dated=dated)
        if len(held) >= _CACHED:
            held.clear()
        held[provider, model, mode] = plan
        return plan

    def _is_dated(self, provider: str, matches: Sequence[Match]) -> bool:
        """Does it depend on the date which entry, or which of its prices, holds?"""
        if not matches:
            return False
        provider = _provider(provider)
        said = [layer.wildcards.get(provider) for layer in self._layers]
        entries = [matches[0].entry, *(entry for entry in said if entry is not None)]
        return any(
            len(entry.prices) != 1 or entry.prices[0].valid_from is not None
            for entry in entries
        )

    def _dated_cost(
        self,
        provider: str,
        model: str,
        usage: Usage,
        at: dt.datetime | None,
        mode: str | None,
        conditions: frozenset[str],
    ) -> Cost | None:
        moment = at or dt.datetime.now(dt.UTC)
        found = self.find(provider, model, moment)
        if found is None:
            return None
        plan = _planned(found, provider, mode, moment, conditions, dated=True)
        if plan.price is None:
            return None
        table = plan.tables[plan.price.tier(usage)]
        return _costed(plan, table, add_up(table, usage))

    # The watched file

    def _refresh(self) -> None:
        file = self._file
        if file is None:
            return
        layer = file.changed()
        if layer is not None:
            self._layers = tuple(
                layer if each.source == "file" else each for each in self._layers
            )
            self._matches, self._plans, self._joined = {}, {}, {}


class _Plan(t.NamedTuple):
    """A price, compiled for one mode."""

    price: Price | None
    """``None`` if nothing is known, or nothing for this mode."""
    dated: bool
    """Is it to be made anew for each call?"""
    tables: Mapping[int, Table]
    """By tier."""
    source: CostSource
    key: str
    flags: frozenset[str]
    valid_from: dt.datetime | None


_NO_PLAN: t.Final = _Plan(None, False, {}, "bundled", "", _NONE, None)


def _planned(
    found: Found,
    provider: str,
    mode: str | None,
    at: dt.datetime | None,
    conditions: frozenset[str],
    *,
    dated: bool,
) -> _Plan:
    price = found.price
    if mode in PREPAID and mode not in price.modes:
        return _NO_PLAN._replace(dated=dated)
    claude = _is_claude(provider, found.key)
    tables = {
        above: price.table(
            above,
            mode=mode,
            at=at,
            conditions=conditions,
            factor=found.factor,
            claude=claude,
        )
        for above in (0, *price.thresholds)
    }
    return _Plan(
        price, dated, tables, found.source, found.key, found.flags, price.valid_from
    )


def _costed(plan: _Plan, table: Table, sums: Sums) -> Cost | None:
    pico, lines, missing, flags = sums
    if missing and not lines:
        # Not one used meter has a rate: nothing is known, not even a floor.
        return None
    if plan.flags:
        flags = flags | plan.flags
    cost = _new(Cost)
    _set_total(cost, to_usd(pico))
    _set_parts(cost, Parts(lines))
    _set_source(cost, plan.source)
    _set_key(cost, plan.key)
    _set_valid_from(cost, plan.valid_from)
    _set_tier(cost, table.tier)
    _set_mode(cost, table.mode)
    _set_complete(cost, not missing)
    _set_flags(cost, flags)
    _set_estimate(cost, None)
    return cost


# A frozen dataclass's own __init__ takes twice as long as this, and as all of the sums.
_new: t.Final[t.Callable[[type[Cost]], Cost]] = object.__new__
(
    _set_total,
    _set_parts,
    _set_source,
    _set_key,
    _set_valid_from,
    _set_tier,
    _set_mode,
    _set_complete,
    _set_flags,
    _set_estimate,
) = (Cost.__dict__[field.name].__set__ for field in dataclasses.fields(Cost))


def _reported(amount: Decimal, estimate: Cost | None, mode: str | None) -> Cost:
    total = to_usd(to_pico(amount))
    return Cost(
        total_usd=total,
        parts={"reported": Part(Decimal(1), total, total)},
        source="provider",
        mode=mode,
        estimate_usd=None if estimate is None else estimate.total_usd,
    )


def _is_amount(value: Decimal) -> bool:
    return isinstance(value, Decimal) and value.is_finite() and value >= 0


def _with_flags(cost: Cost, flags: frozenset[str]) -> Cost:
    return Cost(
        cost.total_usd,
        cost.parts,
        cost.source,
        cost.price_key,
        cost.valid_from,
        cost.tier,
        cost.mode,
        cost.complete,
        cost.flags | flags,
        cost.estimate_usd,
    )


# Names


def _names(provider: str, model: str) -> tuple[str, ...]:
    """The keys that mean exactly this model, the closest first."""
    names = [f"{provider}/{model}", model] if provider else [model]
    _, slash, last = model.rpartition("/")
    if slash and last:
        names += [f"{provider}/{last}", last] if provider else [last]
    return tuple(dict.fromkeys(names))


def _undated(names: Iterable[str]) -> tuple[str, ...]:
    found = (form.match(name) for name in names for form in _SNAPSHOTS)
    return tuple(match[1] for match in found if match is not None)


def _split(target: str, provider: str) -> tuple[str, str]:
    """The provider and model of an alias's target; without one, the provider stays."""
    head, slash, tail = target.partition("/")
    return (_provider(head), tail) if slash else (provider, target)


def _unique(matches: Iterable[Match]) -> t.Iterator[Match]:
    seen: set[int] = set()
    for match in matches:
        if id(match.entry) not in seen:
            seen.add(id(match.entry))
            yield match


@lru_cache(maxsize=_CACHED)
def _is_claude(provider: str, key: str) -> bool:
    return provider.lower() == "anthropic" or "claude" in key.lower()


# Modes

_STANDARD: t.Final = frozenset(
    ("", "standard", "default", "auto", "on_demand", "standard_only", "1")
    + ("traffic_type_unspecified", "unspecified", "service_tier_unspecified")
)
_SERVED: t.Final = {
    "on_demand_priority": "priority",
    "on_demand_flex": "flex",
    "on_demand_offpeak": "off_peak",
    "provisioned_throughput": "provisioned",
    # Vertex AI's enum by number, as some clients store it
    "2": "provisioned",
    "performance": "optimized",
}
_OF_PROVIDER: t.Final = {
    # A commitment that is paid per month: https://docs.anthropic.com/en/api/service-tiers
    ("anthropic", "priority"): "reserved",
}


def check_mode(mode: str | None) -> str | None:
    """A pricing mode as the book knows it; ``None`` for standard.

    :raises ValueError: If there is no such mode.
    """
    if mode is None:
        return None
    name = mode.strip().lower()
    if name in ("", "standard", "default"):
        return None
    if name not in MODES:
        raise ValueError(
            f"pricing_mode must be standard or one of {', '.join(MODES)}, not {mode!r}"
        )
    return name


def served_mode(provider: str, tier: str) -> tuple[str | None, frozenset[str]]:
    """The mode of a tier that a provider says it served, and flags."""
    name = tier.strip().lower().removeprefix("service_tier_")
    if name in _STANDARD:
        return None, _NONE
    mode = _OF_PROVIDER.get((provider, name)) or _SERVED.get(name, name)
    if mode not in MODES:
        return None, frozenset(("unknown_tier",))
    return mode, _NONE


# Layers


def _updated(layer: Layer) -> dt.date | None:
    value = layer.metadata.get("updated_at")
    try:
        return None if value is None else instant(value, "updated_at").date()
    except Malformed:
        return None


@cache
def _bundled_layer() -> Layer:
    document = json.loads(BUNDLED.read_bytes(), parse_float=Decimal)
    entries = (Entry(key, raw=value) for key, value in document["models"].items())
    return Layer(
        "bundled",
        entries,
        metadata=document["metadata"],
        also=document.get("also"),
    )


def _layer(
    source: CostSource,
    models: object,
    where: str,
    metadata: Mapping[str, t.Any] | None = None,
) -> Layer:
    if not isinstance(models, Mapping):
        raise PriceFileError(f"{where} must map model names to rates, not {models!r}")
    notes: list[str] = []
    try:
        entries = [
            read_entry(str(key), value, notes.append) for key, value in models.items()
        ]
        layer = Layer(source, entries, metadata=metadata)
    except Malformed as error:
        raise PriceFileError(f"{where}: {error}.") from None
    for note in notes:
        _log.warning("%s: %s.", where, note)
    return layer


class _File:
    """A price file that may change while we run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None
        self._checked = 0.0

    def read(self) -> Layer:
        """Read it now.

        :raises PriceFileError: If it cannot be read, or is wrong.
        """
        try:
            self._stamp = _stamp(self.path)
            if self._stamp[1] > _MAX_BYTES:
                raise PriceFileError(
                    f"{self.path} has {self._stamp[1]} bytes; a price file has at most"
                    f" {_MAX_BYTES}."
                )
            data = self.path.read_bytes()
        except OSError as error:
            raise PriceFileError(
                f"{self.path} cannot be read: {error.strerror or error}."
            ) from error
        self._checked = time.monotonic()
        return read_file(self.path, data)

    def changed(self) -> Layer | None:
        """The new layer if the file changed and is right. Asks at most once a second."""
        now = time.monotonic()
        if now - self._checked < _CHECK_EVERY:
            return None
        self._checked = now
        try:
            stamp = _stamp(self.path)
        except OSError:
            stamp = _GONE
        if stamp == self._stamp:
            return None
        try:
            return self.read()
        except PriceFileError as error:
            self._stamp = stamp
            _log.error("%s The prices read before stay in force.", error)
            return None


_GONE: t.Final = (0, 0, 0)


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_file(path: Path, data: bytes) -> Layer:
    """Read a price file's bytes.

    :raises PriceFileError: If they are no price file.
    """
    document = parse_file(path, data)
    if not isinstance(document, Mapping):
        raise PriceFileError(
            f"{path} must hold a mapping, not {type(document).__name__}."
        )
    models, metadata = document, None
    if "models" in document:
        models, metadata = document["models"], document.get("metadata")
        if metadata is not None and not isinstance(metadata, Mapping):
            raise PriceFileError(
                f"{path}: metadata must be a mapping, not {metadata!r}."
            )
    return _layer("file", {} if models is None else models, str(path), metadata)


def parse_file(path: Path, data: bytes) -> t.Any:
    """A price file's document; numbers are exact: ``Decimal``, or text from YAML.

    :raises PriceFileError: If it is neither JSON nor YAML.
    """
    if path.suffix.lower() in (".yaml", ".yml"):
        return _parse_yaml(path, data)
    try:
        return json.loads(data, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise PriceFileError(f"{path} is no JSON: {error}.") from None


def _parse_yaml(path: Path, data: bytes) -> t.Any:
    try:
        import yaml
    except ImportError:
        raise PriceFileError(
            f"{path} needs PyYAML: install Flask-LLM-Cost[yaml], or write JSON."
        ) from None
    try:
        # The base loader leaves every scalar text, so that no rate becomes a float.
        return yaml.load(data, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise PriceFileError(f"{path} is no YAML: {error}.") from None
