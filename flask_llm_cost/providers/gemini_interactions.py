"""Reads the answers of Gemini's interactions, which name their counts differently.

Source: https://ai.google.dev/api/interactions-api.
"""

from __future__ import annotations

import dataclasses
import typing as t
from decimal import Decimal

from . import gemini
from .dialect import inner
from .dialect import needles
from .dialect import Notes
from .dialect import Object

_ENDS: t.Final = (
    "interaction.completed",
    "interaction.complete",
    "interaction.cancelled",
)

_GROUNDING_TOOLS: t.Final = {
    "google_search": "grounding",
    "google_maps": "maps_grounding",
    "retrieval": "retrieval_grounding",
}
"""The units of ``grounding_tool_count`` (google-genai, ``GroundingToolCount``)."""

_INTERACTION: t.Final = {
    "total_input_tokens": "promptTokenCount",
    "total_cached_tokens": "cachedContentTokenCount",
    "total_output_tokens": "candidatesTokenCount",
    "total_thought_tokens": "thoughtsTokenCount",
    "total_tool_use_tokens": "toolUsePromptTokenCount",
}
_BY_MODALITY: t.Final = {
    "input_tokens_by_modality": "promptTokensDetails",
    "cached_tokens_by_modality": "cacheTokensDetails",
    "output_tokens_by_modality": "candidatesTokensDetails",
    "tool_use_tokens_by_modality": "toolUsePromptTokensDetails",
}


def read(notes: Notes, document: Object) -> None:
    """Take notes of an interaction or of one event of its stream."""
    body = inner(document, "interaction") or document
    notes.identify(model=body.get("model"), response_id=body.get("id"))
    notes.background = body.get("background") is True
    tier = body.get("service_tier")
    if isinstance(tier, str):
        notes.service_tier = tier
    if document.get("event_type") in _ENDS:
        notes.complete = True
    # Until the end, events of steps have the usage so far.
    seen = inner(body, "usage") or inner(inner(body, "metadata"), "total_usage")
    for name, known in _INTERACTION.items():
        if seen.get(name) is not None:
            notes.usage[known] = seen[name]
    for name, known in _BY_MODALITY.items():
        if isinstance(seen.get(name), list):
            notes.usage[known] = [
                {
                    "modality": str(part.get("modality")).upper(),
                    "tokenCount": part.get("tokens"),
                }
                for part in seen[name]
                if isinstance(part, dict)
            ]
    if isinstance(seen.get("grounding_tool_count"), list):
        _note_tools(notes, seen["grounding_tool_count"])


def _note_tools(notes: Notes, tools: list[t.Any]) -> None:
    # Every event repeats the counts so far. A tool may be listed more than once.
    counts: dict[str, int] = {}
    for tool in tools:
        kind, count = (inner({"": tool}, "").get(name) for name in ("type", "count"))
        unit = _GROUNDING_TOOLS.get(str(kind))
        if unit is not None:
            counts[unit] = counts.get(unit, 0) + notes.count(count)
        elif notes.count(count):
            notes.flags.add("unread_usage")
    notes.units.update({unit: Decimal(n) for unit, n in counts.items() if n})


INTERACTIONS: t.Final = dataclasses.replace(
    gemini.GENERATE,
    read=read,
    needles=needles(rb'"usage"', rb'"total_usage"', rb'"interaction.c'),
    content=frozenset(("steps", "outputs")),
    tail=("usage", "model", "id", "service_tier"),
    parse_whole_if=(),
    skim=None,
)
