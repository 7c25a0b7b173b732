"""Reads Groq's answers, which add to OpenAI's the usage of each model.

Compound systems use several models, each billed at its own rates. Source:
https://console.groq.com/docs/compound, usage_breakdown.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..call import Usage
from . import openai
from . import openai_usage
from .dialect import inner
from .dialect import items
from .dialect import Notes
from .dialect import Object


def read(notes: Notes, document: Object) -> None:
    """Take notes of an answer or of one event of a stream."""
    openai.read(notes, document)
    for place in (document, inner(document, "x_groq")):
        models = items(inner(place, "usage_breakdown").get("models"))
        if models:
            notes.extra["models"] = models


def usage_by_model(notes: Notes) -> dict[str, Usage]:
    """Get the usage by model, if other models took part in the answer."""
    parts: dict[str, Usage] = {}
    for entry in items(notes.extra.get("models")):
        seen = inner(entry, "usage")
        model = entry.get("model") if seen else None
        if isinstance(model, str):
            part = Notes(operation=notes.operation, usage=dict(seen), flags=notes.flags)
            used = openai_usage.usage(part)
            if used is not None:
                parts[model] = parts[model].plus(used) if model in parts else used
    return {} if parts.keys() <= {notes.model} else parts


CHAT: t.Final = dataclasses.replace(
    openai.CHAT, read=read, usage_by_model=usage_by_model
)
