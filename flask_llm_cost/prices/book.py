"""Look up a model's price and compute a call's cost.

A book has layers: overrides take precedence over the price file, and the price file over
the bundled prices. It is pure: no Flask, no database, no network.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from ..call import Call
from ..call import Cost
from ..call import CostSource
from ..call import Part
from ..call import Usage
from ..completeness import FLAG_OF_SOURCE
from ..completeness import incomplete
from ..completeness import unpriced_conditions
from ..money import from_pico
from ..money import MAX_USD
from ..money import round_pico
from .ceiling import with_ceiling
from .compiled import compile_price
from .compiled import CompiledPrice
from .entry import Entry
from .largest import highest_price
from .layers import bundled_layer
from .layers import Layer
from .layers import make_layer
from .layers import PriceFile
from .layers import refuse_per_token
from .lookup import Found
from .lookup import Lookup
from .meters import aware
from .meters import MIN_TIME
from .meters import PREPAID
from .names import CACHE_SIZE
from .names import check_mode
from .names import is_router
from .names import provider_name
from .names import regional_names
from .names import served_mode
from .price import Price
from .quote import billed_usage
from .quote import combine
from .quote import Quote

STALE_AFTER: t.Final = dt.timedelta(days=30)

_NO_FLAGS: t.Final[frozenset[str]] = frozenset()


class PriceBook:
    """Dated prices by model, in layers.

    ::

        book = PriceBook.bundled()
        cost = book.cost("openai", "gpt-4o", Usage(input_tokens=1000))
    """

    def __init__(
        self, layers: Iterable[Layer], *, aliases: Mapping[str, str] | None = None
    ) -> None:
        self._lookup = Lookup(layers, aliases or {})
        self._latest: dict[tuple[str, str, str | None], CompiledPrice] = {}
        """By provider, model and mode: the price for the time last asked for."""
        self._dated: dict[tuple[str, str, str | None, dt.datetime], CompiledPrice] = {}
        self._highest: dict[str, Price | None] = {}
        self._file: PriceFile | None = None

    @classmethod
    def bundled(cls) -> PriceBook:
        """Return the prices shipped with this release."""
        return cls([bundled_layer()])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PriceBook:
        """Load the prices of one file only. It is read again when it changes.

        :raises PriceFileError: If it cannot be read or is invalid.
        """
        file = PriceFile(Path(path))
        book = cls([file.read()])
        book._file = file
        return book

    @classmethod
    def layered(
        cls,
        overrides: Mapping[str, t.Any] | None = None,
        file: str | os.PathLike[str] | None = None,
        aliases: Mapping[str, str] | None = None,
        *,
        setting: str | None = None,
    ) -> PriceBook:
        """Combine overrides, a price file and the bundled prices.

        :param setting: The setting that names the file, for error messages.
        :raises PriceFileError: If the file or an override is invalid.
        """
        where = "LLM_COST_PRICE_OVERRIDES"
        layers = [make_layer("override", overrides or {}, where)]
        refuse_per_token(layers[0], where)
        watched = None if file is None else PriceFile(Path(file), setting)
        if watched is not None:
            layers.append(watched.read())
        book = cls([*layers, bundled_layer()], aliases=aliases)
        book._file = watched
        return book

    def amended(self, models: Mapping[str, t.Any]) -> PriceBook:
        """Return a book in which these entries precede the file's and the bundled ones.

        :raises PriceFileError: If an entry is invalid.
        """
        self._refresh()
        layer = make_layer("file", models, "The prices")
        layers, aliases = self._lookup.layers, self._lookup.aliases
        overrides = [each for each in layers if each.source == "override"]
        rest = [each for each in layers if each.source != "override"]
        return PriceBook([*overrides, layer, *rest], aliases=aliases)

    # Contents

    @property
    def updated_at(self) -> dt.date | None:
        """When the newest prices in force were updated, if any layer reports it."""
        self._refresh()
        dates = [layer.updated_at for layer in self._lookup.layers]
        return max((date for date in dates if date is not None), default=None)

    @property
    def problem(self) -> str | None:
        """Why the price file's current version is not in force, if it is not."""
        self._refresh()
        return None if self._file is None else self._file.problem

    def stale(self, now: dt.datetime | None = None) -> bool:
        """Whether the prices are older than 30 days or of unknown age."""
        updated = self.updated_at
        today = (now or dt.datetime.now(dt.UTC)).date()
        return updated is None or today - updated > STALE_AFTER

    def entries(self) -> dict[str, tuple[CostSource, Entry]]:
        """Return every entry in force by its key, higher layers first."""
        self._refresh()
        found: dict[str, tuple[CostSource, Entry]] = {}
        for layer in self._lookup.layers:
            for name, entry in layer.entries.items():
                found.setdefault(name, (layer.source, entry))
        return found

    def metadata(self, source: CostSource) -> Mapping[str, t.Any]:
        """Return what a layer says about itself: ``updated_at``, ``sources``, ..."""
        for layer in self._lookup.layers:
            if layer.source == source:
                return layer.metadata
        return {}

    # Look-up

    def find(
        self, provider: str, model: str, at: dt.datetime | None = None
    ) -> Found | None:
        """Return the price of a model at a time (now if ``None``), if it is known."""
        if self._file is not None:
            self._refresh()
        lookup = self._lookup
        return lookup.choose(provider, lookup.matches(provider, model), at)

    def highest(self, provider: str) -> Price | None:
        """Return the highest rates and limits of a provider's models, if any is known."""
        self._refresh()
        highest = self._highest
        if provider not in highest:
            if len(highest) >= CACHE_SIZE:
                highest.clear()
            entries = ((key, entry) for key, (_, entry) in self.entries().items())
            highest[provider] = highest_price(entries, provider)
        return highest[provider]

    # Pricing

    def cost(
        self,
        provider: str,
        model: str,
        usage: Usage,
        at: dt.datetime | None = None,
        mode: str | None = None,
    ) -> Cost | None:
        """Return what a usage costs; ``None`` if no price is known.

        :param at: When the call was sent; now if ``None``.
        :param mode: ``batch``, ``flex``, ``priority``, ...
        :raises ValueError: If the mode is unknown.
        """
        if self._file is not None:
            self._refresh()
        price = self._latest.get((provider, model, mode))
        if price is None or (price.dated and not price.valid_at(at)):
            price = self._compile(provider, model, at, mode)
        return price.cost(usage)

    def quote(
        self,
        provider: str,
        model: str,
        usage: Usage | None,
        *,
        at: dt.datetime | None = None,
        mode: str | None = None,
        service_tier: str | None = None,
        reported_cost: Decimal | None = None,
        flags: Iterable[str] = (),
    ) -> Quote:
        """Return what a recorded call would cost, from everything known about it.

        A cost that the provider reports takes precedence. Without ``mode``, the tier that
        served the call decides.

        :param flags: The call's flags. A flag such as ``region.us`` selects the entry's
            multiplier of that name. With one of :data:`.INCOMPLETE`, the cost is incomplete.
        :return: The cost, ``None`` if no price is known, and flags to set on the call.
        :raises ValueError: If the mode is unknown.
        """
        checked, mode_flags = check_mode(mode), _NO_FLAGS
        if mode is None and service_tier is not None:
            checked, mode_flags = served_mode(provider_name(provider), service_tier)
        known = frozenset(flags)
        regional = regional_names(provider, model, known) if known else ()
        for name in regional:
            found = self.find(provider, name, at)
            if found is not None and found.key == f"{provider}/{name}":
                model, regional = name, ()
        cost = None
        if usage is not None:
            cost = self._cost(provider, model, usage, at, checked, known)
        if cost is not None and regional:
            cost = _flagged(cost, frozenset(("condition_fallback",)))
        reported = reported_cost is not None and _is_amount(reported_cost)
        if reported_cost is not None and reported:
            cost = _reported(reported_cost, cost, checked)
        elif cost is None:
            unpriced = ["unpriced", *(["prepaid"] if checked in PREPAID else [])]
            return Quote(None, mode_flags.union(unpriced))
        if known or mode_flags:
            cost = _flagged(
                cost, mode_flags, incomplete(known | mode_flags, reported=reported)
            )
        return Quote(cost, cost.flags)

    def quote_call(
        self, call: Call, mode: str | None, usage_by_model: Mapping[str, Usage]
    ) -> Quote:
        """Quote a call at its own time.

        :param mode: As in :meth:`quote`.
        :param usage_by_model: What each model used, if several took part and the
            provider does not report the cost of the whole.
        :raises ValueError: If ``mode`` is unknown.
        """
        if usage_by_model:
            quote = combine(
                {
                    model: self._quote_model(call, mode, model, usage)
                    for model, usage in usage_by_model.items()
                }
            )
        else:
            model, quote = self._quote_either(call, mode)
            if call.bound is not None and call.reported_cost is None:
                quote = with_ceiling(self, call, model, quote)
        if quote.cost is None or quote.cost.total_usd <= MAX_USD:
            return quote
        # No call costs millions. The ledger could not store it, either.
        return Quote(None, quote.flags | {"unpriced", "usage_conflict"})

    def _quote_either(self, call: Call, mode: str | None) -> tuple[str, Quote]:
        """Quote the model that answered, or the requested one; return which."""
        quote = self._quote_model(call, mode, call.model, call.usage)
        asked = call.request_model
        if quote.cost is not None or asked is None or not self._stands_in(asked, call):
            return call.model, quote
        other = self._quote_model(call, mode, asked, call.usage)
        if other.cost is None:
            # Without usage neither has a cost, but the ceiling needs the right price.
            return asked if call.usage is None else call.model, quote
        cost = _flagged(other.cost, frozenset(("model_fallback",)))
        return asked, Quote(cost, cost.flags)

    def _quote_model(
        self, call: Call, mode: str | None, model: str, usage: Usage | None
    ) -> Quote:
        return self.quote(
            call.provider,
            model,
            None if usage is None else billed_usage(call, usage),
            at=call.started_at,
            mode=mode,
            service_tier=call.service_tier,
            reported_cost=call.reported_cost,
            flags=call.flags | FLAG_OF_SOURCE.get(call.usage_source, _NO_FLAGS),
        )

    def _stands_in(self, asked: str, call: Call) -> bool:
        """Whether the requested model can be priced instead of the one that answered.

        It cannot if the name stands for a choice among models, or if another model took
        over: then the two have nothing to do with each other.
        """
        if asked == call.model or is_router(asked) or "other_model" in call.flags:
            return False
        return self.find(call.provider, call.model, call.started_at) is None

    def _cost(
        self,
        provider: str,
        model: str,
        usage: Usage,
        at: dt.datetime | None,
        mode: str | None,
        conditions: frozenset[str],
    ) -> Cost | None:
        found = self.find(provider, model, at) if conditions else None
        if found is None:
            return self.cost(provider, model, usage, at, mode)
        if not found.price.depends_on(conditions):
            cost = self.cost(provider, model, usage, at, mode)
        else:
            price = compile_price(found, provider, mode, at=at, conditions=conditions)
            cost = price.cost(usage)
        unpriced = unpriced_conditions(conditions, found.price.conditions)
        return cost if cost is None or not unpriced else _flagged(cost, unpriced)

    def _compile(
        self, provider: str, model: str, at: dt.datetime | None, mode: str | None
    ) -> CompiledPrice:
        """Compile the price of a model at a time, and cache it.

        :raises ValueError: If the mode is unknown.
        """
        # Take the dicts first: if a reload replaces the layers meanwhile, what comes of the
        # old ones is stored in dicts that nobody reads any more.
        latest, dated = self._latest, self._dated
        lookup = self._lookup
        checked = check_mode(mode)
        matches = lookup.matches(provider, model)
        moment = aware(at)
        span = lookup.span(provider, matches, moment)
        key = (provider, model, mode, MIN_TIME if span is None else span[0])
        price = dated.get(key)
        if price is None:
            found = lookup.choose(provider, matches, moment)
            if found is not None and found.price.windows:
                # Not cached, since it depends on the hour.
                return compile_price(
                    found, provider, checked, at=moment, span=(moment, moment)
                )
            price = compile_price(found, provider, checked, span=span)
            if len(dated) >= CACHE_SIZE:
                dated.clear()
            dated[key] = price
        if len(latest) >= CACHE_SIZE:
            latest.clear()
        latest[provider, model, mode] = price
        return price

    def _refresh(self) -> None:
        """Load the price file again if it has changed."""
        file = self._file
        if file is None or not file.due():
            return
        current = next(each for each in self._lookup.layers if each.source == "file")
        layer = file.changed(current)
        if layer is not None:
            lookup = self._lookup
            self._lookup = Lookup(
                (layer if each.source == "file" else each for each in lookup.layers),
                lookup.aliases,
            )
            self._latest, self._dated, self._highest = {}, {}, {}


def _flagged(
    cost: Cost, flags: frozenset[str], doubts: frozenset[str] | None = None
) -> Cost:
    """Add flags to a cost.

    :param doubts: Those that make it incomplete; by default, all that are listed as such.
    """
    doubts = incomplete(flags) if doubts is None else doubts
    if not flags and not doubts:
        return cost
    return dataclasses.replace(
        cost,
        complete=cost.complete and not doubts,
        flags=cost.flags | flags | doubts,
        ceiling_usd=None if doubts else cost.ceiling_usd,
    )


def _reported(amount: Decimal, estimate: Cost | None, mode: str | None) -> Cost:
    total = from_pico(round_pico(amount))
    return Cost(
        total_usd=total,
        parts={"reported": Part(Decimal(1), total, total)},
        source="provider",
        mode=mode,
        estimate_usd=None if estimate is None else estimate.total_usd,
    )


def _is_amount(value: Decimal) -> bool:
    return isinstance(value, Decimal) and value.is_finite() and value >= 0
