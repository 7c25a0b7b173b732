"""What the price sources offer for a key of a price file."""

from __future__ import annotations

import datetime as dt
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from .document import ADJUSTMENTS
from .document import Amounts
from .document import price_in_force
from .document import rates_of
from .fetch import FetchResult
from .meters import parse_key
from .meters import RateKey
from .plausibility import plausible_limits
from .sources import Sheet

_MAKERS: t.Final = (
    "openai",
    "anthropic",
    "gemini",
    "mistral",
    "deepseek",
    "xai",
    "cohere",
) + ("perplexity", "groq", "moonshot", "zai", "voyage")
"""Providers whose price is meant by a key without a provider, in this order."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What one source says about one model."""

    result: FetchResult
    rates: Amounts
    adjustments: dict[str, t.Any]
    """``multipliers``, ``windows``, ``variants`` and limits, as the source writes them."""
    zeros: frozenset[RateKey]
    """Rates that the source lists as 0, which may mean unknown."""


def _names(sheet: Sheet, model: str) -> Iterator[str]:
    """Yield what a source calls a key of the file, most likely first."""
    names = [model] if "/" in model else [f"{maker}/{model}" for maker in _MAKERS]
    for name in names:
        listed = sheet.listed_as(name)
        if listed is not None:
            yield listed


def offers_for(
    model: str, results: Sequence[FetchResult], now: dt.datetime
) -> Iterator[Offer]:
    """Yield what each source offers for a key, the most trusted source first."""
    for result in results:
        offer = _offer(result, model, now)
        if offer is not None:
            yield offer


def _offer(result: FetchResult, model: str, now: dt.datetime) -> Offer | None:
    sheet = result.sheet
    if sheet is None:
        return None
    for name in _names(sheet, model):
        prices = sheet.models.get(name)
        zeros = sheet.zeros.get(name, ())
        if prices is None and not zeros:
            continue
        # An announced price is not in force yet.
        current = price_in_force(prices, now) or {}
        keys = (parse_key(key) for key in zeros)
        return Offer(
            result,
            rates_of(current),
            {k: v for k, v in current.items() if k in ADJUSTMENTS}
            | plausible_limits(current),
            frozenset(key for key in keys if key is not None),
        )
    return None


def rejection(model: str, results: Sequence[FetchResult]) -> str | None:
    """Return why the first source that lists a model has no usable price for it."""
    for result in results:
        if result.sheet is None:
            continue
        for name in _names(result.sheet, model):
            if name in result.sheet.rejected:
                return f"{result.name}: {result.sheet.rejected[name]}"
    return None


def foreign_currency(
    source: object, model: str, results: Sequence[FetchResult]
) -> str | None:
    """Return the currency of a model's prices if its source lists them in another than USD.

    :param source: The name of the source that the entry follows.
    """
    for result in results:
        if result.sheet is None or result.name != source:
            continue
        for name in _names(result.sheet, model):
            if name in result.sheet.currencies:
                return result.sheet.currencies[name]
    return None


def merged_rates(offers: Sequence[Offer]) -> Amounts:
    """Return the first source's rates, with gaps filled from the others."""
    rates: Amounts = {}
    for offer in reversed(offers):
        rates.update(offer.rates)
    return rates


def merged_adjustments(
    current: Mapping[str, t.Any], offer: Offer
) -> Mapping[str, t.Any]:
    """Return what the source adjusts, with the multipliers that only the file has."""
    if "multipliers" not in offer.adjustments:
        return offer.adjustments
    own = current.get("multipliers") or {}
    merged = {**own, **offer.adjustments["multipliers"]}
    return {**offer.adjustments, "multipliers": merged}
