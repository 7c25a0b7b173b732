"""Reads Cohere's answers: chat, embed, rerank, classify.

``billed_units`` has the billed quantities. ``tokens`` is larger, since it includes cached
and reasoning tokens, and is not what is billed. Sources:
https://docs.cohere.com/reference (ApiMeta, Usage),
https://docs.cohere.com/docs/how-does-cohere-pricing-work.
"""

from __future__ import annotations

import typing as t
from decimal import Decimal

from ..call import Usage
from .dialect import Dialect
from .dialect import inner
from .dialect import needles
from .dialect import Notes
from .dialect import Object

_UNITS: t.Final = {
    "search_units": "search_unit",
    "classifications": "classification",
    "pages": "page",
}


def read(notes: Notes, document: Object) -> None:
    """Take notes of an answer or of one event of a stream."""
    kind = document.get("type", document.get("event_type"))
    if kind in ("message-end", "stream-end"):
        notes.complete = True
    body = inner(document, "response") or document
    notes.identify(
        model=body.get("model"),
        response_id=body.get("id") or body.get("response_id"),
    )
    for place in (
        body.get("usage"),
        inner(document, "delta").get("usage"),
        body.get("meta"),
    ):
        notes.merge(inner(place, "billed_units"))


def usage(notes: Notes) -> Usage | None:
    """Get the billed tokens and units."""
    seen, count = notes.usage, notes.count
    if not seen:
        return None
    images = count(seen.get("image_tokens"))
    return Usage(
        input_tokens=count(seen.get("input_tokens")),
        input_image_tokens=images,
        output_tokens=count(seen.get("output_tokens")),
        units=_units(notes, tokens=bool(images)),
    )


def _units(notes: Notes, *, tokens: bool) -> dict[str, Decimal]:
    names = dict(_UNITS)
    if not tokens:
        # Newer models are billed by an image's tokens, older ones by the image.
        names["images"] = "input_image_piece"
    units = {unit: notes.amount(notes.usage.get(name)) for name, unit in names.items()}
    return {unit: number for unit, number in units.items() if number}


COHERE: t.Final = Dialect(
    read=read,
    usage=usage,
    needles=needles(rb'"billed_units"', rb'"message-end"', rb'"stream-end"'),
    content=frozenset(("message", "text", "texts", "embeddings", "results")),
    tail=("usage", "meta", "id", "response_id"),
)
