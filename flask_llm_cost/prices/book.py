"""Which price holds for a model, and what does a call cost by it?

A book has layers: overrides go before the price file, that before the bundled prices.
It is pure: no Flask, no database, no network.
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
from ..money import from_pico
from ..money import round_pico
from .entry import Entry
from .joined import joined
from .layers import bundled_layer
from .layers import Layer
from .layers import make_layer
from .layers import PriceFile
from .layers import updated
from .lookup import EVER
from .lookup import Lookup
from .meters import aware
from .meters import PREPAID
from .names import CACHED
from .names import check_mode
from .names import provider_name
from .names import served_mode
from .plan import Found
from .plan import Plan
from .plan import plan_of
from .plan import Quote

STALE_AFTER: t.Final = dt.timedelta(days=30)


_NONE: t.Final[frozenset[str]] = frozenset()
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
        self._lookup = Lookup(layers, aliases or {})
        self._plans: dict[tuple[str, str, str | None], Plan] = {}
        """By provider, model and mode: that of the time that was last asked for."""
        self._dated: dict[tuple[str, str, str | None, dt.datetime], Plan] = {}
        self._file: PriceFile | None = None

    @classmethod
    def bundled(cls) -> PriceBook:
        """The prices that came with this release."""
        return cls([bundled_layer()])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PriceBook:
        """The prices of one file, and no others. A changed file is read again.

        :raises PriceFileError: If it cannot be read, or is wrong.
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
        """Overrides, then a price file, then the bundled prices.

        :param setting: Which setting named the file, to be named if it is wrong.
        :raises PriceFileError: If the file or an override is wrong.
        """
        layers = [make_layer("override", overrides or {}, "LLM_COST_PRICE_OVERRIDES")]
        watched = None if file is None else PriceFile(Path(file), setting)
        if watched is not None:
            layers.append(watched.read())
        book = cls([*layers, bundled_layer()], aliases=aliases)
        book._file = watched
        return book

    def amended(self, models: Mapping[str, t.Any]) -> PriceBook:
        """This book with entries that go before those of the file and the bundled ones.

        :raises PriceFileError: If one is wrong.
        """
        self._refresh()
        layer = make_layer("file", models, "The prices")
        layers, aliases = self._lookup.layers, self._lookup.aliases
        over = [each for each in layers if each.source == "override"]
        rest = [each for each in layers if each.source != "override"]
        return PriceBook([*over, layer, *rest], aliases=aliases)

    # What is in it

    @property
    def updated_at(self) -> dt.date | None:
        """When the newest prices in force were taken down; ``None`` if nothing says so."""
        self._refresh()
        dates = [updated(layer) for layer in self._lookup.layers]
        return max((date for date in dates if date is not None), default=None)

    @property
    def problem(self) -> str | None:
        """Why the price file that is there now is not the one in force, if it is not."""
        self._refresh()
        return None if self._file is None else self._file.problem

    def stale(self, now: dt.datetime | None = None) -> bool:
        """Are the prices older than 30 days, or of unknown age?"""
        updated = self.updated_at
        today = (now or dt.datetime.now(dt.UTC)).date()
        return updated is None or today - updated > STALE_AFTER

    def entries(self) -> dict[str, tuple[CostSource, Entry]]:
        """Every entry in force by its key, higher layers first."""
        self._refresh()
        held: dict[str, tuple[CostSource, Entry]] = {}
        for layer in self._lookup.layers:
            for name, entry in layer.entries.items():
                held.setdefault(name, (layer.source, entry))
        return held

    def metadata(self, source: CostSource) -> Mapping[str, t.Any]:
        """What a layer says of itself: ``updated_at``, ``sources``, ..."""
        for layer in self._lookup.layers:
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
        lookup = self._lookup
        return lookup.choose(provider, lookup.matches(provider, model), at)

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
        if self._file is not None:
            self._refresh()
        plan = self._plans.get((provider, model, mode))
        if plan is None or (plan.dated and not plan.holds(at)):
            plan = self._plan(provider, model, at, mode)
        return plan.cost(usage)

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
            mode, noted = served_mode(provider_name(provider), service_tier)
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

    def quote_call(
        self, call: Call, mode: str | None, usage_by_model: Mapping[str, Usage]
    ) -> Quote:
        """The same of a call, at its own time.

        :param mode: As ``pricing_mode``.
        :param usage_by_model: What each model used, where several took part and the provider
            reports no cost of the whole.
        :raises ValueError: If ``mode`` is none.
        """
        used: Mapping[str, Usage | None] = usage_by_model or {call.model: call.usage}
        quotes = {
            model: self.quote(
                call.provider,
                model,
                usage,
                at=call.started_at,
                pricing_mode=mode,
                service_tier=call.service_tier,
                reported_cost=call.reported_cost,
                flags=call.flags,
            )
            for model, usage in used.items()
        }
        return joined(quotes) if usage_by_model else quotes[call.model]

    def _cost(
        self,
        provider: str,
        model: str,
        usage: Usage,
        at: dt.datetime | None,
        mode: str | None,
        conditions: frozenset[str],
    ) -> Cost | None:
        if conditions:
            found = self.find(provider, model, at)
            if found is not None and not conditions.isdisjoint(found.price.multipliers):
                plan = plan_of(found, provider, mode, at=at, conditions=conditions)
                return plan.cost(usage)
        return self.cost(provider, model, usage, at, mode)

    def _plan(
        self, provider: str, model: str, at: dt.datetime | None, mode: str | None
    ) -> Plan:
        """What to do for a model at a time; kept while that may be asked for again.

        :raises ValueError: If there is no such mode.
        """
        # The dicts are taken first: what comes of layers that a reload replaces meanwhile
        # then lands in dicts that nobody reads.
        held, dated = self._plans, self._dated
        lookup = self._lookup
        checked = check_mode(mode)
        matches = lookup.matches(provider, model)
        moment = aware(at)
        span = lookup.span(provider, matches, moment)
        key = (provider, model, mode, EVER if span is None else span[0])
        plan = dated.get(key)
        if plan is None:
            found = lookup.choose(provider, matches, moment)
            if found is not None and found.price.windows:
                # It is another one at another hour.
                return plan_of(
                    found, provider, checked, at=moment, span=(moment, moment)
                )
            plan = plan_of(found, provider, checked, span=span)
            if len(dated) >= CACHED:
                dated.clear()
            dated[key] = plan
        if len(held) >= CACHED:
            held.clear()
        held[provider, model, mode] = plan
        return plan

    # The watched file

    def _refresh(self) -> None:
        file = self._file
        if file is None or not file.due():
            return
        held = next(each for each in self._lookup.layers if each.source == "file")
        layer = file.changed(held)
        if layer is not None:
            lookup = self._lookup
            self._lookup = Lookup(
                (layer if each.source == "file" else each for each in lookup.layers),
                lookup.aliases,
            )
            self._plans, self._dated = {}, {}


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


def _with_flags(cost: Cost, flags: frozenset[str]) -> Cost:
    return dataclasses.replace(cost, flags=cost.flags | flags)
