"""Give Bedrock names without a region prefix the regional price; LiteLLM lists the global one.

A plain name is served in one region, and AWS bills it as a regional profile. Only global
profiles cost less: https://github.com/BerriAI/litellm/issues/42679.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from decimal import Decimal

from ..meters import parse_key
from ..meters import TOKENS
from . import tidy

Prices: t.TypeAlias = dict[str, t.Any]

PAGE: t.Final = "https://aws.amazon.com/bedrock/pricing/"
_NAME: t.Final = re.compile(
    r"bedrock/(?P<place>(?:us|eu|apac|jp|au|ca|in|sa|global|us-gov)\.)?"
    r"(?P<model>[a-z0-9-]+\.[^/]+|claude-[^/]+)\Z"
)
_VERSION: t.Final = re.compile(r"(?:(?:-v\d+(?::\d+)?|[-@]\d{8}))+\Z")
_AT_MOST: t.Final = Decimal("1.25")
"""A surcharge for a region is 10 %. More means that the two are not the same."""


def price_regionally(
    models: Mapping[str, list[Prices]],
) -> Iterator[tuple[str, str, Decimal, Decimal]]:
    """Give plain names the price of the profile in the US.

    :return: The model, the rate, what was found, and what it is now.
    """
    names = [found for found in map(_NAME.match, models) if found is not None]
    profiles = {
        _base(found): models[found[0]][-1] for found in names if found["place"] == "us."
    }
    for found in names:
        profile = None if found["place"] else profiles.get(_base(found))
        if profile is not None:
            for each in _raised(models[found[0]][-1], profile):
                yield found[0], *each


def _base(found: re.Match[str]) -> str:
    return _VERSION.sub("", found["model"].removeprefix("anthropic."))


def _raised(price: Prices, profile: Prices) -> Iterator[tuple[str, Decimal, Decimal]]:
    shared = [k for k in ("input", "output") if price.get(k) and profile.get(k)]
    factors = {profile[key] / price[key] for key in shared}
    if len(factors) != 1 or not 1 < (factor := factors.pop()) <= _AT_MOST:
        return
    for name, rate in [*price.items()]:
        key = parse_key(name)
        if key is not None and key.meter in TOKENS:
            used = profile.get(name, tidy(rate * factor))
            if used != rate:
                price[name] = used
                yield name, rate, used
    # The surcharge of a regional endpoint is in the price now.
    price.get("multipliers", {}).pop("region.endpoint", None)
    if not price.get("multipliers", True):
        del price["multipliers"]
    price["_notes"] = PAGE
