"""Reads Replicate's predictions: by tokens, images or the seconds that they ran.

A prediction is ordered, and then polled unless the order waits for it. Source: the SDK's
type ``Prediction`` (``metrics``), https://replicate.com/docs/topics/predictions/lifecycle.
"""

from __future__ import annotations

import typing as t

from ..call import Usage
from .dialect import Dialect
from .dialect import inner
from .dialect import Notes
from .dialect import Object

_COUNTS: t.Final = ("input_token_count", "output_token_count")
_UNITS: t.Final = {
    "image_count": "image",
    "video_output_duration_seconds": "video_second",
    "predict_time": "predict_second",
}
"""Metrics that are billed, the first of them that there is: official models are billed by
what they make, others by the time that they run."""


def read(notes: Notes, document: Object) -> None:
    """Take notes of an order, or of one look at its prediction."""
    notes.identify(model=document.get("model"), response_id=document.get("id"))
    notes.date_iso(document.get("created_at"))
    notes.background = True
    metrics = inner(document, "metrics")
    if not document.get("completed_at"):
        return
    for name in _COUNTS:
        if name in metrics:
            notes.usage[name] = notes.count(metrics[name])
    for name, unit in () if notes.usage else _UNITS.items():
        amount = notes.amount(metrics.get(name))
        if amount:
            notes.units[unit] = amount
            break


def usage(notes: Notes) -> Usage | None:
    """Get the tokens or the units of a prediction that has ended."""
    if not notes.usage and not notes.units:
        return None
    read, written = (notes.usage.get(name, 0) for name in _COUNTS)
    return Usage(input_tokens=read, output_tokens=written, units=notes.units)


PREDICTION: t.Final = Dialect(
    read=read,
    usage=usage,
    content=frozenset(("input", "output", "logs")),
    tail=("metrics", "completed_at", "created_at", "model", "id"),
    parse_whole_if=(b"",),
)
