"""Reads fal's images and videos, which are billed when they are ordered.

An answer has the images, or only the id of a request in the queue. What a video has cost is
not in its answer, so the seconds are those of the request. Sources: the SDK's
``fal_client.client`` (``RUN_URL_FORMAT``), https://fal.ai/docs/model-apis/pricing.
"""

from __future__ import annotations

import re
import typing as t
from decimal import Decimal

from . import openai
from .dialect import Dialect
from .dialect import items
from .dialect import Notes
from .dialect import Object
from .dialect import units_usage

_SIZES: t.Final = {
    "square_hd": "1024x1024",
    "square": "512x512",
    "portrait_4_3": "768x1024",
    "portrait_16_9": "576x1024",
    "landscape_4_3": "1024x768",
    "landscape_16_9": "1024x576",
}
_VIDEO: t.Final = re.compile("video")


def request(document: Object) -> dict[str, t.Any]:
    """Note how much is asked for, and of which kind."""
    size = document.get("image_size")
    if isinstance(size, dict):
        size = f"{size.get('width')}x{size.get('height')}"
    return {
        "images": document.get("num_images"),
        "seconds": str(document.get("duration") or "").removesuffix("s"),
        "size": _SIZES.get(str(size), size),
        "quality": document.get("quality") or _quality(document),
        "resolution": document.get("resolution"),
    }


def _quality(document: Object) -> object:
    """Get what the price depends on like a quality: Ideogram's speed, Recraft's vectors."""
    style = str(document.get("style") or "")
    return document.get("rendering_speed") or ("vector" if "vector" in style else None)


def read(notes: Notes, document: Object) -> None:
    """Take notes of an answer, or of a request that was put into the queue."""
    notes.identify(model=None, response_id=document.get("request_id"))
    asked = notes.request
    if _VIDEO.search(notes.request_model or ""):
        seconds = notes.amount(asked.get("seconds") or None)
        if seconds:
            notes.units["video_second"] = seconds
        return
    made = len(items(document.get("images")))
    if made or asked.get("images"):
        notes.units["image"] = Decimal(made or notes.count(asked["images"]))


def conditions(notes: Notes) -> frozenset[str]:
    """Flag the size, the quality and the resolution, which prices depend on."""
    names = ("size", "quality", "resolution")
    return openai.conditions(**{name: notes.request.get(name) for name in names})


ORDER: t.Final = Dialect(
    read=read,
    usage=units_usage,
    parse_whole_if=(b"",),
    price_flags=conditions,
    request=request,
)
