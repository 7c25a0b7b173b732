"""Reads Groq's answers, which add to OpenAI's the usage of each model.

Compound systems use several models, each billed at its own rates. Source:
https://console.groq.com/docs/compound, usage_breakdown.
"""

from __future__ import annotations

import dataclasses
import typing as t
from decimal import Decimal

from ..call import Usage
from . import openai
from . import openai_media
from . import openai_usage
from .dialect import add_part
from .dialect import inner
from .dialect import items
from .dialect import needles
from .dialect import Notes
from .dialect import Object


def read(notes: Notes, document: Object) -> None:
    """Take notes of an answer or of one event of a stream."""
    openai.read(notes, document)
    for place in (document, inner(document, "x_groq")):
        models = items(inner(place, "usage_breakdown").get("models"))
        if models:
            notes.extra["models"] = models
    for choice in items(document.get("choices")):
        for part in "message", "delta":
            for tool in items(inner(choice, part).get("executed_tools")):
                _note_tool(notes, tool)


def _note_tool(notes: Notes, tool: object) -> None:
    """Count a search, and flag other tools: these are billed by the hour or the visit.

    Source: https://console.groq.com/docs/tool-use/built-in-tools, and
    https://groq.com/pricing (built-in tools).
    """
    if not isinstance(tool, dict):
        return
    kind = str(tool.get("type"))
    if kind not in _SEARCHES:
        notes.flags.add(_OTHER_TOOLS.get(kind, "unread_usage"))
        return
    # A stream may repeat a tool, with its results.
    seen = notes.extra.setdefault("searches", set())
    seen.add(str(tool.get("index", len(seen))))
    notes.units["web_search"] = Decimal(len(seen))


_SEARCHES: t.Final = frozenset(("search", "web_search", "browser_search"))
_OTHER_TOOLS: t.Final = {
    "python": "session_fee",
    "code_interpreter": "session_fee",
    "browser_automation": "session_fee",
}


_SHORTEST_S: t.Final = Decimal(10)
"""Less audio is billed like this much: https://console.groq.com/docs/speech-to-text."""


def read_audio(notes: Notes, document: Object) -> None:
    """Take notes of a transcript, which is billed by the second."""
    openai_media.read_audio(notes, document)
    if "audio_second" in notes.units:
        notes.units["audio_second"] = max(_SHORTEST_S, notes.units["audio_second"])


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
                add_part(parts, model, used, notes.flags)
    if parts.keys() <= {notes.model}:
        return {}
    if notes.units:
        # The breakdown has no searches: assign them to one model.
        model = notes.model if notes.model in parts else next(iter(parts))
        parts[model] = dataclasses.replace(parts[model], units=dict(notes.units))
    return parts


CHAT: t.Final = dataclasses.replace(
    openai.CHAT,
    read=read,
    usage_by_model=usage_by_model,
    needles=(*openai.CHAT.needles, *needles(rb'"executed_tools"')),
    parse_whole_if=(b'"executed_tools"',),
)

AUDIO: t.Final = dataclasses.replace(openai_media.AUDIO, read=read_audio)
