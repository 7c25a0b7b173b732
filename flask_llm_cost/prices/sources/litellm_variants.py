"""Read LiteLLM's prices that depend on the size of an image or the resolution of a video."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping
from decimal import Decimal

from ...money import context
from ...money import own_context
from . import amount
from . import Sheet
from . import tidy

IMAGES: t.Final = re.compile(
    r"(?:[a-z_]+/)??(?:(?P<quality>hd|standard|low|medium|x?high|max)/)?"
    r"(?P<width>\d+|max)-x-(?P<height>\d+|max)/(?P<model>.+)\Z"
)
"""A key for one size, and possibly one quality, of a model's images."""
RESOLUTION: t.Final = re.compile(r"output_cost_per_second_(\d+p|\dk)\Z")
"""A field for one resolution of a model's videos."""

_PIXELS: t.Final = context(3)
"""LiteLLM divides the price of an image by its pixels, and rounds."""
_RESOLUTIONS: t.Final = tuple(
    f"resolution.{name}" for name in "480p 720p 768p 1080p 2k 4k".split()
)
_USUAL: t.Final = ("resolution.720p", "resolution.1080p")
_HIGH_RES: t.Final = "-high-res"
_SORA_SIZES: t.Final = {
    "": ("size.720x1280", "size.1280x720"),
    _HIGH_RES: ("size.1024x1792", "size.1792x1024"),
}
"""https://platform.openai.com/docs/pricing#video"""


def read_image_size(
    sheet: Sheet,
    name: str | None,
    found: re.Match[str],
    fields: Mapping[str, t.Any],
) -> None:
    """Read the price of one size of a model's images.

    :param found: A match of :data:`IMAGES`.
    """
    price = _image_price(found, fields)
    entries = sheet.models.get(name or "", [{}])
    rates = entries[0]
    # Models that are billed by token have such keys as well, as estimates.
    if name is None or price is None or {"output", "output_image"} & rates.keys():
        sheet.skip("images by size")
        return
    sheet.read += 1
    size, quality = f"size.{found['width']}x{found['height']}", found["quality"]
    terms = [f"quality.{quality or 'standard'} {size}"]
    # Size and quality are optional in OpenAI's API: 1024x1024 and standard.
    if quality in (None, "standard"):
        terms.append(size)
    if quality in (None, "standard", "hd") and size == "size.1024x1024":
        terms.append(f"quality.{quality or 'standard'}")
    if len(terms) == 3:
        rates.setdefault("image", price)
    variants = rates.setdefault("variants", {})
    variants.update({term: {"image": price} for term in terms})
    sheet.models[name] = entries


@own_context
def _image_price(found: re.Match[str], fields: Mapping[str, t.Any]) -> Decimal | None:
    if "max" in (found["width"], found["height"]) or "-steps/" in found["model"]:
        return None
    for field in ("input_cost_per_image", "output_cost_per_image"):
        price = amount(fields.get(field))
        if price:
            return tidy(price)
    pixel = amount(fields.get("input_cost_per_pixel"))
    if not pixel:
        return None
    pixels = Decimal(found["width"]) * Decimal(found["height"])
    return tidy(_PIXELS.multiply(pixel, pixels))


def add_resolutions(rates: dict[str, t.Any]) -> None:
    """Add the usual resolutions of videos that cost the base rate.

    They have no field of their own, but a higher resolution has one.
    """
    base, variants = rates.get("video_second"), rates.get("variants", {})
    priced = {
        name: each["video_second"]
        for name, each in variants.items()
        if name in _RESOLUTIONS
    }
    for number, name in enumerate(_RESOLUTIONS):
        lower, higher = (
            [priced[each] for each in names if each in priced]
            for names in (_RESOLUTIONS[:number], _RESOLUTIONS[number + 1 :])
        )
        if base is None or not higher or name in priced or name not in _USUAL:
            continue
        if max(lower, default=base) <= base <= min(higher):
            variants[name] = {"video_second": base}


def fold_high_resolutions(sheet: Sheet) -> None:
    """Give Sora its prices by size: LiteLLM lists the higher ones as another model."""
    for name in [name for name in sheet.models if "/sora-2" in name]:
        if name.endswith(_HIGH_RES):
            continue
        base = sheet.models[name][0]
        for suffix, sizes in _SORA_SIZES.items():
            for other in sheet.models.get(f"{name}{suffix}", ()):
                rate = {"video_second": other["video_second"]}
                base.setdefault("variants", {}).update(dict.fromkeys(sizes, rate))
