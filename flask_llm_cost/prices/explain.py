"""Why does a model cost what it costs? For ``prices explain`` and for the curious."""

from __future__ import annotations

import datetime as dt
import difflib
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from ..call import Cost
from ..call import Usage
from ..money import digits
from .book import PriceBook
from .entry import beside
from .meters import aware
from .meters import PREPAID
from .names import check_mode
from .price import Price

_HOW: t.Final = {
    "exact": "by its name",
    "alias": "by an alias",
    "snapshot": "as a dated snapshot",
    "borrowed": "as the one model of that name, at another provider",
    "wildcard": "as any model of that provider",
    "free": "as a free variant",
}
HOW_LAYERS: t.Final = {
    "override": "the overrides",
    "file": "the price file",
    "bundled": "the bundled prices",
    "provider": "the provider's own report",
}
"""What to call the source of a price."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a price was found, and what a usage costs by it. ``str()`` is the whole text."""

    provider: str
    model: str
    at: dt.datetime
    mode: str | None
    usage: Usage | None
    key: str | None
    """The book's key that matched; ``None`` if none did."""
    source: str | None
    matched_by: str | None
    valid_from: dt.datetime | None
    rates: Mapping[str, Decimal]
    """Every rate of the price by its key, then multipliers and rates of some hours."""
    metadata: Mapping[str, t.Any]
    """``_source``, ``_source_version``, ``_fetched_at``, ... of the entry."""
    layer_updated_at: str | None
    """What the layer says of its age."""
    factor: Decimal | None
    """The negotiated multiplier, if any."""
    cost: Cost | None
    missing: tuple[str, ...]
    """Used meters without a rate."""
    flags: frozenset[str]
    nearest: tuple[str, ...] = ()
    """Keys that look alike, where none matched."""

    @property
    def ok(self) -> bool:
        """Is there a price, with a rate for all that was used?"""
        return self.key is not None and not self.missing and "prepaid" not in self.flags

    @property
    def message(self) -> str:
        """The outcome in one line."""
        name = f"{self.provider}/{self.model}"
        if self.key is None:
            return f"No price is known for {name}."
        matched = (
            f"{name} is priced as {self.key}, found in {HOW_LAYERS[self.source or 'file']}"
            f" {_HOW[self.matched_by or 'exact']}"
        )
        if "prepaid" in self.flags:
            return f"{matched}, but {self.mode} capacity has no rate there."
        if self.missing:
            return f"{matched}, but a rate is missing for {', '.join(self.missing)}."
        return f"{matched}."

    def __str__(self) -> str:
        return "\n".join((self.message, *self._lines()))

    def _lines(self) -> t.Iterator[str]:
        if self.key is None:
            if self.nearest:
                yield f"Nearest names: {', '.join(self.nearest)}"
            yield (
                "Add it to LLM_COST_PRICES_FILE or LLM_COST_PRICE_OVERRIDES, or alias it"
                " in LLM_COST_MODEL_ALIASES."
            )
            return
        since = "no date" if self.valid_from is None else f"{self.valid_from:%Y-%m-%d}"
        yield f"Valid from: {since}"
        if self.layer_updated_at is not None:
            yield f"Prices of: {self.layer_updated_at}"
        for name, value in sorted(self.metadata.items()):
            yield f"{name}: {value}"
        if self.factor is not None:
            yield f"Negotiated multiplier: {self.factor}"
        yield "Rates (USD per 1M tokens, or each):"
        for name, rate in self.rates.items():
            yield f"  {name}: {digits(rate)}"
        if self.cost is not None:
            yield from self._cost_lines(self.cost)
        if self.flags:
            yield f"Flags: {', '.join(sorted(self.flags))}"

    def _cost_lines(self, cost: Cost) -> t.Iterator[str]:
        yield f"Mode: {cost.mode or 'standard'}; tier: {cost.tier or 'base'}"
        for meter, part in cost.parts.items():
            yield (
                f"  {meter}: {digits(part.quantity)} at {digits(part.rate)}"
                f" = ${digits(part.amount_usd)}"
            )
        floor = "" if cost.complete else " or more"
        yield f"Total: ${digits(cost.total_usd)}{floor}"


def explain(
    book: PriceBook,
    provider: str,
    model: str,
    usage: Usage | None = None,
    at: dt.datetime | None = None,
    mode: str | None = None,
    *,
    flags: frozenset[str] = frozenset(),
) -> Explanation:
    """Say how a model's price is found, and what a usage costs by it.

    :param usage: One token in and one out, if left out.
    :param flags: Those of a call: ``region.us`` among them selects a multiplier.
    :raises ValueError: If there is no such mode.
    """
    moment = aware(at)
    name = check_mode(mode)
    used = usage or Usage(input_tokens=1, output_tokens=1)
    found = book.find(provider, model, moment)
    if found is None:
        return Explanation(
            provider=provider,
            model=model,
            at=moment,
            mode=name,
            usage=usage,
            key=None,
            source=None,
            matched_by=None,
            valid_from=None,
            rates={},
            metadata={},
            layer_updated_at=None,
            factor=None,
            cost=None,
            missing=(),
            flags=frozenset(("unpriced",)),
            nearest=nearest(book, provider, model),
        )
    cost = book.price(
        provider,
        model,
        used,
        at=moment,
        pricing_mode=name or "standard",
        flags=flags,
    )
    noted = found.flags if cost is None else cost.flags
    if name in PREPAID and name not in found.price.modes:
        noted = noted | {"prepaid"}
    updated = book.metadata(found.source).get("updated_at")
    return Explanation(
        provider=provider,
        model=model,
        at=moment,
        mode=name,
        usage=usage,
        key=found.key,
        source=found.source,
        matched_by=found.matched_by,
        valid_from=found.price.valid_from,
        rates=rates_in_order(found.price),
        metadata=found.price.metadata,
        layer_updated_at=None if updated is None else str(updated),
        factor=found.factor,
        cost=cost,
        missing=missing_of(used, cost),
        flags=noted,
    )


def rates_in_order(price: Price) -> dict[str, Decimal]:
    """Every rate, and what changes rates: multipliers, and rates of some hours."""
    rates = price.rates
    keys = sorted(rates, key=lambda key: (key.mode or "", key.above, key.meter))
    return {**{str(key): rates[key] for key in keys}, **beside(price)}


def missing_of(usage: Usage, cost: Cost | None) -> tuple[str, ...]:
    """The meters that were used, and have no part of the cost."""
    used = {
        "input": usage.input_tokens,
        "input_audio": usage.input_audio_tokens,
        "input_image": usage.input_image_tokens,
        "cache_read": usage.cache_read_tokens,
        "cache_write": usage.cache_write_tokens,
        "cache_write_1h": usage.cache_write_1h_tokens,
        "output": usage.output_tokens,
        "output_audio": usage.output_audio_tokens,
        "output_image": usage.output_image_tokens,
        **usage.other_tokens,
        **usage.units,
    }
    # Where several models took part, each has parts of its own.
    parts = {meter.partition("@")[0] for meter in ({} if cost is None else cost.parts)}
    if "reasoning" in parts:
        parts.add("output")
    return tuple(name for name, count in used.items() if count and name not in parts)


def nearest(book: PriceBook, provider: str, model: str) -> tuple[str, ...]:
    """Up to five keys of the book that look like this model."""
    # One entry may stand under several names.
    keys = dict.fromkeys(entry.key for _, entry in book.entries().values())
    return tuple(
        difflib.get_close_matches(f"{provider}/{model}", keys, n=5, cutoff=0.6)
    )
