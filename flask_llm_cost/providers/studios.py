"""Reads services for images and videos that bill what was ordered.

Sources: https://docs.bfl.ai/api-reference (Black Forest Labs: ``AsyncResponse.cost``),
https://docs.bfl.ai/quick_start/get_started (credits),
https://platform.stability.ai/docs/api-reference (an answer is one image), and the
``runwayml`` SDK (``ImageToVideoCreateParams``).
"""

from __future__ import annotations

import dataclasses
import re
import typing as t
from decimal import Decimal

from ..call import Usage
from ..money import quotient
from . import openai
from .dialect import Dialect
from .dialect import Notes
from .dialect import Object
from .dialect import units_usage


def read_order(notes: Notes, document: Object) -> None:
    """Take notes of an image that was ordered."""
    name = document.get("id")
    notes.identify(model=None, response_id=name)
    if name:
        notes.units["image"] = Decimal(1)


ORDER: t.Final = Dialect(read=read_order, usage=units_usage, parse_whole_if=(b"",))


def read_priced(notes: Notes, document: Object) -> None:
    """Take notes of an image of Black Forest Labs, which says what it costs."""
    read_order(notes, document)
    notes.extra["cents"] = notes.amount(document.get("cost"))


def cost(notes: Notes) -> Decimal | None:
    """Get the cost, which is in credits of one cent."""
    cents: Decimal | None = notes.extra.get("cents")
    return None if cents is None else quotient(cents, 100)


PRICED: t.Final = dataclasses.replace(ORDER, read=read_priced, cost=cost)


_NAMES: t.Final = {"core": "stable-image-core", "ultra": "stable-image-ultra"}
"""Models of Stability by the end of their path, where that is not their name in prices."""


def image_request(document: Object) -> dict[str, t.Any]:
    """Note the model that a request names, if its path does not."""
    return {"model": document.get("model")}


def image_usage(notes: Notes) -> Usage:
    """Get the one image that an answer is."""
    path = notes.request_model or ""
    named = notes.request.get("model") if path == "sd3" else _NAMES.get(path)
    notes.identify(model=named, response_id=None)
    return Usage(units={"image": Decimal(1)})


IMAGE: t.Final = dataclasses.replace(ORDER, usage=image_usage, request=image_request)


def studio_request(document: Object) -> dict[str, t.Any]:
    """Note what the price of an order depends on. A size is ``1280:720`` or ``2k``."""
    sides = re.fullmatch(r"(\d{3,5}):(\d{3,5})", str(document.get("ratio")))
    shorter = None if sides is None else f"{min(map(int, sides.groups()))}p"
    return {
        "seconds": document.get("duration"),
        "resolution": document.get("resolution") or shorter,
        "quality": document.get("quality"),
        "audio": "off" if document.get("audio") is False else None,
        "format": document.get("outputFormat") or "mp4",
    }


def conditions(notes: Notes) -> frozenset[str]:
    """Flag the resolution, the quality and a missing sound."""
    names = ("resolution", "quality", "audio")
    return openai.conditions(**{name: notes.request.get(name) for name in names})


def read_video(notes: Notes, document: Object) -> None:
    """Take notes of a video that was ordered. Without a length, its cost is not known."""
    name = document.get("id")
    notes.identify(model=None, response_id=name)
    seconds = notes.amount(notes.request.get("seconds"))
    if name and seconds:
        notes.units["video_second"] = seconds
    if notes.request.get("format") != "mp4":
        notes.flags.add("unread_usage")


PICTURE: t.Final = dataclasses.replace(
    ORDER, request=studio_request, price_flags=conditions
)

VIDEO: t.Final = dataclasses.replace(PICTURE, read=read_video)
