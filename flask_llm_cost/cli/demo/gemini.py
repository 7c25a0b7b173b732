"""Gemini as the fake provider plays it: generateContent, streamed or not."""

from __future__ import annotations

import random

from .answers import Answer
from .answers import Ask
from .answers import compact
from .answers import Counts
from .answers import cut
from .answers import Json
from .answers import new_id
from .answers import prose
from .answers import streamed
from .answers import whole


def _gemini_usage(counts: Counts, output: int) -> Json:
    usage: Json = {
        "promptTokenCount": counts.prompt,
        "candidatesTokenCount": output,
        "totalTokenCount": counts.prompt + output + counts.reasoning,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": counts.prompt}],
    }
    if counts.cached:
        usage["cachedContentTokenCount"] = counts.cached
        usage["cacheTokensDetails"] = [
            {"modality": "TEXT", "tokenCount": counts.cached}
        ]
    if counts.reasoning:
        usage["thoughtsTokenCount"] = counts.reasoning
    return usage


def generate(ask: Ask, counts: Counts, rng: random.Random) -> Answer:
    """``:generateContent`` and ``:streamGenerateContent``"""
    text = prose(ask, rng, counts.output - counts.reasoning)
    written = counts.output - counts.reasoning  # thoughts are counted beside
    foot = {"modelVersion": ask.model, "responseId": new_id("", rng, 23)}

    def chunk(piece: str, output: int, finish: str | None) -> Json:
        content = {"parts": [{"text": piece}], "role": "model"}
        candidate: Json = {"content": content, "index": 0}
        if finish is not None:
            candidate["finishReason"] = finish
        return {
            "candidates": [candidate],
            "usageMetadata": _gemini_usage(counts, output),
            **foot,
        }

    if ":streamGenerateContent" not in ask.path:
        return whole(200, chunk(text, written, "STOP"))
    pieces = cut(text)
    chunks = [
        chunk(
            piece,
            written * (i + 1) // len(pieces),
            "STOP" if i + 1 == len(pieces) else None,
        )
        for i, piece in enumerate(pieces)
    ]
    if "alt=sse" in ask.path:
        return streamed([(None, c) for c in chunks])
    # Without alt=sse the stream is one JSON array, written as it comes.
    frames = [("," if i else "[") + compact(c) + "\r\n" for i, c in enumerate(chunks)]
    return Answer(frames=tuple(f.encode() for f in [*frames, "]"]))


def error(status: int, reason: str) -> Json:
    """How it says that something went wrong."""
    kinds = {400: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}
    kind = kinds.get(status, "INTERNAL")
    return {"error": {"code": status, "message": reason, "status": kind}}
