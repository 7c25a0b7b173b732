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


def _listings(
    model: str, results: Sequence[FetchResult]
) -> Iterator[tuple[FetchResult, Sheet, str]]:
    """Yield where a key of the file is listed, and under what name, most likely first."""
    names = [model] if "/" in model else [f"{maker}/{model}" for maker in _MAKERS]
    for result in results:
        sheet = result.sheet
        if sheet is not None:
            for listed in filter(None, map(sheet.listed_as, names)):
                yield result, sheet, listed


def offers_for(
    model: str, results: Sequence[FetchResult], now: dt.datetime
) -> Iterator[Offer]:
    """Yield what each source offers for a key, the most trusted source first."""
    seen: set[str] = set()
    for result, sheet, name in _listings(model, results):
        prices, zeros = sheet.models.get(name), sheet.zeros.get(name, ())
        if result.name in seen or (prices is None and not zeros):
            continue
        seen.add(result.name)
        # An announced price is not in force yet.
        current = price_in_force(prices, now) or {}
        keys = (parse_key(key) for key in zeros)
        yield Offer(
            result,
            rates_of(current),
            {k: v for k, v in current.items() if k in ADJUSTMENTS}
            | plausible_limits(current),
            frozenset(key for key in keys if key is not None),
        )


def refusal(
    model: str, results: Sequence[FetchResult], follows: object = None
) -> str | None:
    """Return why the first source that lists a model has no usable price for it.

    :param follows: The source of the entry, which must not list it in another currency.
    """
    for result, sheet, name in _listings(model, results):
        if name in sheet.rejected:
            return f"{result.name}: {sheet.rejected[name]}"
        if name in sheet.currencies and result.name == follows:
            return f"its price is in {sheet.currencies[name]}, not in USD"
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
