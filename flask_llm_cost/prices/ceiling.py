"""The most that a request can cost, and what it probably cost: for calls without final
usage, and for budgets before a call is sent."""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing as t
from collections.abc import Iterator
from decimal import Decimal

from ..bound import Bound
from ..call import Call
from ..call import Cost
from ..call import MAX_COUNT
from ..call import Usage
from ..completeness import INCOMPLETE
from ..completeness import incomplete
from ..completeness import PRICE_FLAGS
from ..money import MAX_USD
from .largest import largest_request
from .names import is_router
from .quote import billed_usage
from .quote import Quote

if t.TYPE_CHECKING:
    from .book import PriceBook
    from .price import Price

_DOUBTS: t.Final = frozenset(INCOMPLETE) | PRICE_FLAGS

_ROUTING: t.Final = ("openrouter", "huggingface", "vercel")
"""Providers that pass a call on to one of several others, at its price."""


def with_ceiling(book: PriceBook, call: Call, model: str, quote: Quote) -> Quote:
    """Add the ceiling and the estimate to the quote of a call without its final usage.

    :param model: The model whose price applies.
    :param quote: Of what the provider reported before. Its cost is ``None`` if that is
        nothing.
    """
    bound = call.bound
    assert bound is not None
    plain = (call.flags - _DOUBTS) | bound.conditions

    def price(usage: Usage, tier: str | None) -> Quote:
        return book.quote(
            call.provider,
            model,
            billed_usage(call, usage),
            at=call.started_at,
            service_tier=tier,
            flags=plain,
        )

    ceiling = None
    found = book.find(call.provider, model, call.started_at)
    if found is not None and model == call.model and call.provider not in _ROUTING:
        estimated = call.usage_source == "estimated"
        most = most_usages(bound, found.price, None if estimated else call.usage)
        tier = call.service_tier or _tier(bound)
        ceiling = _highest(price(usage, tier) for usage in most)
    likely = price(call.estimate or Usage(), call.service_tier)
    return quote if likely.cost is None else _limited(quote, likely.cost, call, ceiling)


def _limited(quote: Quote, likely: Cost, call: Call, ceiling: Decimal | None) -> Quote:
    """Return a quote with limits, none of which is below what is known.

    :param likely: The cost of the estimate.
    """
    cost = quote.cost
    if cost is None:
        # Nothing is known to be billed, so far; not even what the request is billed for.
        cost = dataclasses.replace(likely, total_usd=Decimal(0), parts={})
    estimate = None
    if call.estimate is not None:
        estimate = max(cost.total_usd, likely.total_usd)
    if ceiling is not None:
        ceiling = max(cost.total_usd, ceiling)
        estimate = None if estimate is None else min(estimate, ceiling)
    flags = (quote.flags | cost.flags | incomplete(call.flags)) - {"unpriced"}
    cost = dataclasses.replace(
        cost,
        complete=False,
        flags=flags,
        estimate_usd=estimate,
        ceiling_usd=ceiling,
    )
    return Quote(cost, flags)


class RequestCeiling(t.NamedTuple):
    """The most that a request can cost, as far as known."""

    usd: Decimal | None
    """``None`` if no price of its provider is known."""
    bounded: bool
    """Whether request and model bound it. Otherwise it is the largest that is known."""
    priced: bool
    """Whether the model has a price."""


def request_ceiling(
    book: PriceBook, provider: str, model: str, bound: Bound, at: dt.datetime
) -> RequestCeiling:
    """Return the most that a request can cost.

    Values that neither the request nor its model's price bounds are the largest known
    of its provider: the highest rates, and the most tokens.
    """
    found = book.find(provider, model, at)
    own = None if is_router(model) or bound.other_models else found
    if own is not None:
        usd = _highest(_quotes(book, provider, model, bound, own.price, at))
        if usd is not None:
            # Which of its providers will answer, and at what price, is not known.
            return RequestCeiling(usd, bounded=provider not in _ROUTING, priced=True)
    usd = largest_request(book, provider, model, bound, at, own)
    return RequestCeiling(usd, bounded=False, priced=found is not None)


def _quotes(
    book: PriceBook,
    provider: str,
    model: str,
    bound: Bound,
    price: Price,
    at: dt.datetime,
) -> Iterator[Quote]:
    tier = _tier(bound)
    for usage in most_usages(bound, price):
        yield book.quote(
            provider, model, usage, at=at, service_tier=tier, flags=bound.conditions
        )


def _tier(bound: Bound) -> str | None:
    """Return the requested tier; ``None`` if the provider chooses, as it does by default."""
    tier = bound.service_tier
    return None if tier in ("auto", "standard_only") else tier


def most_usages(
    bound: Bound, price: Price, known: Usage | None = None
) -> Iterator[Usage]:
    """Yield what a request can use at most, once for each way in which it may be billed.

    :param known: What the provider reported so far: its input is final, unless the
        provider runs the model again.
    :return: Nothing if there is no limit.
    """
    rounds = bound.rounds
    output = bound.output_tokens
    if output is None:
        output = price.max_output_tokens
    if rounds is None or output is None:
        return
    written = min(output * bound.choices * rounds, MAX_COUNT)
    for base in _inputs(bound, price, known, rounds):
        yield from _answers(
            dataclasses.replace(base, units=bound.units), written, price
        )


def _answers(base: Usage, written: int, price: Price) -> Iterator[Usage]:
    """Yield a request's usage with an answer of each kind that the price tells apart."""
    meters = {key.meter for key in price.rates}
    yield dataclasses.replace(base, output_tokens=written)
    if "output_audio" in meters:
        yield dataclasses.replace(base, output_audio_tokens=written)
    if "output_image" in meters:
        yield dataclasses.replace(base, output_image_tokens=written)
    if "reasoning" in meters:
        yield dataclasses.replace(base, output_tokens=written, reasoning_tokens=written)


def _inputs(
    bound: Bound, price: Price, known: Usage | None, rounds: int
) -> Iterator[Usage]:
    if known is not None and known.total_input_tokens and rounds == 1:
        yield _without_output(known)
        return
    tokens = bound.input_tokens
    if tokens is None or rounds > 1:
        # Each round reads the results of the tools before it: all that fits.
        tokens = price.max_input_tokens
    if tokens is not None:
        tokens = min(tokens * rounds, MAX_COUNT)
        # Input may be written to a cache, at a higher rate.
        yield Usage(input_tokens=tokens)
        yield Usage(cache_write_tokens=tokens)
        yield Usage(cache_write_1h_tokens=tokens)


def _without_output(usage: Usage) -> Usage:
    other = {k: n for k, n in usage.other_tokens.items() if not k.startswith("output_")}
    return dataclasses.replace(
        usage,
        output_tokens=0,
        output_audio_tokens=0,
        output_image_tokens=0,
        reasoning_tokens=0,
        other_tokens=other,
    )


def _highest(quotes: t.Iterable[Quote]) -> Decimal | None:
    """Return the highest limit, of quotes with a rate for all that is used.

    A cache that the price does not know is not billed apart: that quote is left out.
    """
    costs = [quote.cost for quote in quotes if quote.cost is not None]
    limits = [cost.ceiling_usd for cost in costs if cost.ceiling_usd is not None]
    highest = max(limits, default=MAX_USD)
    return highest if highest < MAX_USD else None
