"""The largest cost of an unbounded request: the most that its provider's known
models charge, for the most tokens that they take and write."""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from decimal import Decimal

from ..bound import Bound
from ..call import MAX_COUNT
from ..call import Usage
from ..money import MAX_USD
from .compiled import compile_price
from .lookup import Found
from .meters import RateKey
from .meters import TOKENS
from .names import provider_name
from .price import Price

if t.TYPE_CHECKING:
    from .book import PriceBook
    from .entry import Entry

_LIMITS: t.Final = Price({}, max_input_tokens=1_000_000, max_output_tokens=131_072)
"""Where no entry of a provider states a limit."""

_MOST_UNITS: t.Final = {
    "page": 1_000,  # https://docs.mistral.ai/capabilities/document_ai/basic_ocr
    "annotated_page": 1_000,
    "search_unit": 100,  # of 100 documents each
    "video_second": 60,
    "audio_second": 50_000,  # 25 MB, at 4 kbit/s
    "character": 100_000,
}
"""Units of one request, where a price has no rates for tokens. Of others, it has one."""

_WRITTEN: t.Final = frozenset(("audio_second", "character"))
"""Units of which the request has at least a byte each."""


def largest_request(
    book: PriceBook,
    provider: str,
    model: str,
    bound: Bound,
    at: dt.datetime,
    own: Found | None,
) -> Decimal | None:
    """Return the largest cost of a request that is not bounded otherwise.

    :param own: The price of its model, if that is sure to be the one that answers.
    :return: ``None`` if no price of the provider is known.
    """
    highest = book.highest(provider)
    price = None if own is None else _highest([own.price])
    if own is not None and price is not None:
        for other in (_limits(book, model, at), highest or _LIMITS, _LIMITS):
            price = price.with_limits(other)
        usd = _cost(provider, dataclasses.replace(own, price=price), bound)
        if usd is not None:
            return usd
    if highest is None:
        return None
    highest = highest.with_limits(_LIMITS)
    return _cost(provider, Found(f"{provider}/*", "bundled", highest, "largest"), bound)


def highest_price(entries: Iterable[tuple[str, Entry]], provider: str) -> Price | None:
    """Return a price with the highest rates and limits of a provider's entries.

    :param entries: Those of a book, by key. A key without a provider serves any.
    :return: ``None`` if there are no rates.
    """
    name = provider_name(provider)
    return _highest(
        price
        for key, entry in entries
        if "/" not in key or provider_name(key.partition("/")[0]) == name
        for price in entry.prices
    )


def _highest(prices: Iterable[Price]) -> Price | None:
    """Join prices: the highest rate of each meter in any mode, and the highest limits."""
    rates: dict[RateKey, Decimal] = {}
    most_in = most_out = 0
    for price in prices:
        most_in = max(most_in, price.max_input_tokens or 0)
        most_out = max(most_out, price.max_output_tokens or 0)
        for each in (price.rates, *price.variants.values()):
            for key, rate in each.items():
                base = RateKey(None, key.meter, 0)
                rates[base] = max(rates.get(base, rate), rate)
    if not rates:
        return None
    return Price(
        rates,
        max_input_tokens=most_in or None,
        max_output_tokens=most_out or None,
    )


def _limits(book: PriceBook, model: str, at: dt.datetime) -> Price:
    """Return the limits that its vendor's entry has for a gateway's ``vendor/model``."""
    vendor, slash, name = model.partition("/")
    found = book.find(vendor, name, at) if slash else None
    return Price({}) if found is None else found.price


def _cost(provider: str, found: Found, bound: Bound) -> Decimal | None:
    """Return the most that a request can cost at a price that has limits."""
    price = found.price
    compiled = compile_price(found, provider, None)
    meters = {key.meter for key in price.rates}
    usages = _tokens(bound, price) if price.has_tokens else _units(bound, meters)
    units = {name: n for name, n in bound.units.items() if name in meters}
    costs = [
        cost.total_usd
        for usage in usages
        if (cost := compiled.cost(_with(usage, units))) is not None
        if not cost.flags or cost.complete
    ]
    return min(max(costs), MAX_USD) if costs else None


def _with(usage: Usage, units: dict[str, Decimal]) -> Usage:
    return dataclasses.replace(usage, units={**units, **usage.units})


def _tokens(bound: Bound, price: Price) -> Iterator[Usage]:
    """Yield usages with input and output of each kind that the price has a rate for.

    Rounds without a limit count as one, with a full context window.
    """
    rounds = bound.rounds
    tokens = bound.input_tokens
    if tokens is None or rounds != 1:
        tokens = max(tokens or 0, price.max_input_tokens or 0)
    output = bound.output_tokens
    if output is None:
        output = price.max_output_tokens or 0
    tokens = min(tokens * (rounds or 1), MAX_COUNT)
    output = min(output * bound.choices * (rounds or 1), MAX_COUNT)
    meters = {key.meter for key in price.rates} & TOKENS
    for read in meters.intersection(_INPUTS) or {""}:
        for written in meters.intersection(_OUTPUTS) or {""}:
            counts: dict[str, t.Any] = {}
            if read:
                counts[f"{read}_tokens"] = tokens
            if written:
                counts[f"{written}_tokens"] = output
            if written == "reasoning":
                counts["output_tokens"] = output
            yield Usage(**counts)


_INPUTS: t.Final = ("input", "cache_write", "cache_write_1h", "input_audio")
_OUTPUTS: t.Final = ("output", "output_audio", "output_image", "reasoning")


def _units(bound: Bound, meters: set[str]) -> Iterator[Usage]:
    """Yield what a request can use of a price without rates for tokens."""
    units = {}
    for meter in meters - TOKENS:
        most = _MOST_UNITS.get(meter, 1)
        if meter in _WRITTEN and bound.input_tokens is not None:
            most = min(most, bound.input_tokens)
        units[meter] = Decimal(most * bound.choices)
    yield Usage(units=units)
