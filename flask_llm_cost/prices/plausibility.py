"""Distinguish plausible prices from errors of unit, column or scale.

Price lists are kept by hand. A price per 1,000 tokens that is entered as one per token
is off by a factor of 1,000, and a cache read in the column of writes by ten. Nothing
here knows what a model costs, only what no model costs.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from decimal import Decimal

from ..money import own_context
from .meters import parse_key
from .meters import RateKey
from .meters import TOKENS

Rates: t.TypeAlias = Mapping[RateKey, Decimal]


class Doubt(t.NamedTuple):
    """A rate that cannot be true."""

    key: RateKey
    rate: Decimal
    rule: str
    """``range``, ``digits``, ``batch``, ``cheaper``, ``cache_read``, ``cache_write``,
    ``output`` or ``image``."""
    reason: str


RANGES: t.Final[Mapping[str, tuple[str, str]]] = {
    # USD per 1M tokens. The most expensive model so far is o1-pro: 150 and 600.
    "input": ("0.005", "300"),
    "output": ("0.01", "1200"),
    "reasoning": ("0.01", "1200"),
    "cache_read": ("0.0005", "150"),
    "cache_write": ("0.005", "500"),
    "input_audio": ("0.02", "300"),
    "output_audio": ("0.5", "500"),
    "input_image": ("0.02", "50"),
    "output_image": ("0.5", "400"),
    "input_video": ("0.02", "50"),
    "output_video": ("0.5", "200"),
    # USD each
    "image": ("0.0005", "2"),
    "page": ("0.0001", "0.1"),
    "annotated_page": ("0.0001", "0.1"),
    "character": ("0.00000001", "0.0005"),
    "audio_second": ("0.000002", "0.002"),
    "output_audio_second": ("0.00002", "0.01"),
    "video_second": ("0.005", "5"),
    "input_video_second": ("0.00001", "0.01"),
    "search_unit": ("0.0002", "0.02"),
    "web_search": ("0.001", "0.1"),
    "grounding": ("0.001", "0.1"),
    "grounded_prompt": ("0.001", "0.1"),
    "maps_grounding": ("0.001", "0.1"),
    "file_search": ("0.0005", "0.05"),
    "request": ("0.0005", "0.5"),
    "routed_token": ("0.00000001", "0.000001"),
}
"""The lowest and the highest rate that can be true. A rate of 0 is free."""

_INPUT_ONLY: t.Final = ("0.001", "3")
"""Input of embeddings and rerankers. Without a rate for output, a model is one of those."""

_READS: t.Final = {
    "cache_read": "input",
    "cache_read_audio": "input_audio",
    "cache_read_image": "input_image",
}
_WRITES: t.Final = {
    "cache_write": "input",
    "cache_write_30m": "input",
    "cache_write_1h": "input",
    "cache_write_12h": "input",
    "cache_write_audio": "input_audio",
    "cache_write_image": "input_image",
}
_WRITE_AT_MOST: t.Final = Decimal(5)
_HALF: t.Final = (Decimal("0.45"), Decimal("0.55"))
_CENT: t.Final = Decimal("0.011")
"""Price lists round to a cent per 1M tokens."""
_DIGITS: t.Final = {"input": 9, "image": 5, "video_second": 5}
"""The most digits of a rate, with those of ``input`` for all tokens. A conversion from another
currency has more."""
_IMAGE_TOKENS: t.Final = (Decimal("0.0005"), Decimal("0.006"))
"""The tokens of one image, in millions: from half a thousand to 4K and more."""
_OUTPUT_AT_LEAST: t.Final = Decimal("0.4")
"""Of the input rate. Output is slower to make."""


_LIMITS: t.Final = {"max_input_tokens": 20_000_000, "max_output_tokens": 2_000_000}
_IN_OUT: t.Final = 2
"""Speech has twice as much output as input; a context window has less."""


def implausible_limits(price: Mapping[str, t.Any]) -> Iterator[tuple[str, str]]:
    """Yield the limits of an entry that cannot be true, and why."""
    thresholds = [key.above for key in map(parse_key, price) if key is not None]
    tier = max(thresholds, default=0)
    most = price.get("max_input_tokens")
    if most is not None and most <= tier:
        yield "max_input_tokens", f"there are rates for more than {tier:,}"
    for name, largest in _LIMITS.items():
        if not 0 < price.get(name, 1) <= largest:
            yield name, f"expected 1 to {largest:,}"
    output = price.get("max_output_tokens")
    if output is not None and most and most * _IN_OUT < output <= largest:
        yield "max_output_tokens", f"beside {most:,} for input"


def plausible_limits(price: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the limits of an entry that can be true."""
    doubtful = dict(implausible_limits(price))
    return {k: v for k, v in price.items() if k in _LIMITS and k not in doubtful}


def doubts(rates: Rates) -> Iterator[Doubt]:
    """Yield the implausible rates of one price, alone or compared with the others."""
    makes_text = any(
        key.meter.startswith("output") or key.meter == "reasoning" for key in rates
    )
    used = {key: rate for key, rate in rates.items() if rate}
    beyond = {key: _out_of_range(key, rate, makes_text) for key, rate in used.items()}
    # A rate that is out of range says nothing about the others.
    others = {key: rate for key, rate in rates.items() if beyond.get(key) is None}
    for key, rate in used.items():
        found = beyond[key] or _against_others(key, rate, others)
        found = found or _too_precise(key, rate)
        if found is not None:
            yield Doubt(key, rate, *found)


def _out_of_range(
    key: RateKey, rate: Decimal, makes_text: bool
) -> tuple[str, str] | None:
    limits = RANGES.get(key.meter)
    if key.meter == "input" and not makes_text:
        limits = _INPUT_ONLY
    if limits is None and key.meter in _WRITES:
        limits = RANGES["cache_write"]
    if limits is None or Decimal(limits[0]) <= rate <= Decimal(limits[1]):
        return None
    unit = "per 1M tokens" if key.meter in TOKENS else "each"
    return "range", f"expected {limits[0]} to {limits[1]} USD {unit}"


@own_context
def _too_precise(key: RateKey, rate: Decimal) -> tuple[str, str] | None:
    most = _DIGITS.get(key.meter, _DIGITS["input"] if key.meter in TOKENS else 0)
    if not most or len(rate.normalize().as_tuple().digits) <= most:
        return None
    return "digits", "with more digits than a list price has, as after a conversion"


@own_context
def _against_others(
    key: RateKey, rate: Decimal, rates: Rates
) -> tuple[str, str] | None:
    if key.mode in ("batch", "flex") and key.meter in TOKENS:
        found = _against_standard(key, rate, rates)
        if found is not None:
            return found
    if key.meter in _READS:
        whole = _whole(key, _READS[key.meter], rates)
        if whole is not None and rate > whole:
            return "cache_read", f"above the {whole:f} of uncached tokens"
    if key.meter in _WRITES:
        whole = _whole(key, _WRITES[key.meter], rates)
        if whole and not whole <= rate <= whole * _WRITE_AT_MOST:
            return "cache_write", f"beside {whole:f} for uncached tokens"
    if key.meter in ("image", "output_image"):
        return _against_image(key, rates)
    if key.meter == "output":
        whole = rates.get(key._replace(meter="input"))
        if whole is not None and rate < whole * _OUTPUT_AT_LEAST:
            return "output", f"far below the {whole:f} of input"
    return None


def _against_image(key: RateKey, rates: Rates) -> tuple[str, str] | None:
    image, token = (rates.get(key._replace(meter=m)) for m in ("image", "output_image"))
    if not image or not token:
        return None
    low, high = _IMAGE_TOKENS
    if key.meter == "image" and image < token * low:
        return "image", f"an image has more tokens than that pays for, at {token:f}"
    if key.meter == "output_image" and image > token * high:
        return "image", f"an image has fewer tokens than its {image:f} pays for"
    return None


def _against_standard(
    key: RateKey, rate: Decimal, rates: Rates
) -> tuple[str, str] | None:
    standard = rates.get(key._replace(mode=None))
    if not standard:
        return None
    if rate > standard:
        return "cheaper", f"above the standard {standard:f}"
    # A token that is read from a cache may cost the same in a batch.
    if key.mode != "batch" or key.meter in _READS or abs(rate * 2 - standard) < _CENT:
        return None
    low, high = _HALF
    if low * standard <= rate <= high * standard:
        return None
    return "batch", f"not about half of the standard {standard:f}"


def _whole(key: RateKey, meter: str, rates: Rates) -> Decimal | None:
    """Return what uncached tokens cost in the same mode and tier."""
    return rates.get(key._replace(meter=meter))
