"""Find prices that have to agree with another row of the same list, and do not.

- A plain name of Bedrock is served in one region, and AWS bills it as a regional profile: only
  global profiles cost less. LiteLLM lists plain names at the global price
  (https://github.com/BerriAI/litellm/issues/42679).
- If a page lists prices by the hour, all models that cite it have such prices. What has none
  was not updated with the others.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterator
from decimal import Decimal

from flask_llm_cost.prices.meters import RateKey
from flask_llm_cost.prices.meters import TOKENS
from flask_llm_cost.prices.sources import Sheet

from .conflicts import Conflict
from .conflicts import Corrections
from .conflicts import Models
from .conflicts import Prices
from .conflicts import rates_of

_REGIONAL: t.Final = "https://aws.amazon.com/bedrock/pricing/"
_PLAIN: t.Final = re.compile(r"bedrock/(?P<model>[a-z0-9-]+\.[^/]+|claude-[^/]+)\Z")
_PROFILE: t.Final = re.compile(r"bedrock/us\.(?P<model>[a-z0-9-]+\.[^/]+)\Z")
_PLACE: t.Final = re.compile(r"(?:us|eu|apac|jp|au|ca|in|sa|global|us-gov)\.")
_VERSION: t.Final = re.compile(r"(?:-v\d+(?::\d+)?|[-@]\d{8})\Z")
_AT_MOST: t.Final = Decimal("1.25")
"""A surcharge for a region is 10 %. More means that the two are not the same."""


def regional(models: Models) -> Iterator[Conflict]:
    """Give a plain name of Bedrock the price of the regional profile in the US."""
    profiles: dict[str, Prices] = {}
    for name in sorted(models):
        found = _PROFILE.match(name)
        if found is not None:
            profiles[_base(found["model"])] = models[name][-1]
    for name in sorted(models):
        found = _PLAIN.match(name)
        if found is None or _PLACE.match(found["model"]):
            continue
        profile = profiles.get(_base(found["model"]))
        if profile is not None:
            yield from _raise(name, models[name][-1], profile)


def _base(model: str) -> str:
    base = model.removeprefix("anthropic.")
    while (shorter := _VERSION.sub("", base)) != base:
        base = shorter
    return base


def _raise(name: str, price: Prices, profile: Prices) -> Iterator[Conflict]:
    rates, theirs = rates_of(price), rates_of(profile)
    factors = {
        theirs[key] / rates[key]
        for key in (RateKey(None, "input", 0), RateKey(None, "output", 0))
        if rates.get(key) and theirs.get(key)
    }
    if len(factors) != 1 or not 1 < (factor := factors.pop()) <= _AT_MOST:
        return
    for key, rate in rates.items():
        if key.meter not in TOKENS:
            continue
        used = theirs.get(key, (rate * factor).normalize() + 0)
        if used != rate:
            why = f"served in one region: {_REGIONAL}"
            price[str(key)] = used
            yield Conflict(
                name, str(key), "region", f"{rate:f}", f"{used:f}", "replaced", why
            )
    # The surcharge of a regional endpoint is in the price now.
    price.get("multipliers", {}).pop("region.endpoint", None)
    if not price.get("multipliers", True):
        del price["multipliers"]
    price.update({"_source": "manual", "_notes": _REGIONAL})


def outdated(sheet: Sheet, corrections: Corrections) -> Iterator[Conflict]:
    """Drop prices without windows that cite a page whose other prices have some."""
    by_the_hour = {
        sheet.pages.get(name)
        for name, prices in sheet.models.items()
        if "windows" in prices[0]
    }
    for name in sorted(sheet.models.keys() & sheet.pages.keys()):
        prices = sheet.models[name][0]
        if sheet.pages[name] not in by_the_hour or "windows" in prices:
            continue
        if name not in corrections.prices:
            found = f"{prices.get('input')}"
            why = f"its page has prices by the hour: {sheet.pages[name]}"
            yield Conflict(name, "", "old", found, None, "dropped", why)
            del sheet.models[name]
