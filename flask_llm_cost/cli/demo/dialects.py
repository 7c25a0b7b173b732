"""Which dialect answers a path, and how it says that something went wrong."""

from __future__ import annotations

import random
import re
import typing as t
from collections.abc import Callable
from dataclasses import replace

from . import anthropic
from . import gemini
from . import openai
from .answers import Answer
from .answers import Ask
from .answers import Counts
from .answers import draw
from .answers import Json
from .answers import seed
from .answers import whole


def answer(ask: Ask) -> Answer:
    """Answer one request in the dialect of its path."""
    failure = ask.failure
    dialect = _dialect(ask.path)
    if dialect is None:
        return whole(404, {"error": {"message": f"No such endpoint: {ask.path}"}})
    name, say = dialect
    if failure == "drop":
        return Answer(end="drop")
    if failure is not None and failure != "cut":
        return _error(name, int(failure), ask.model)
    said = say(ask, draw(ask), seed(ask))
    return replace(said, end="cut") if failure == "cut" else said


Say: t.TypeAlias = Callable[[Ask, Counts, random.Random], Answer]

DIALECTS: t.Final[tuple[tuple[str, str, Say], ...]] = (
    (r"/v1/chat/completions", "openai", openai.chat),
    (r"/v1/completions", "openai", openai.completions),
    (r"/v1/embeddings", "openai", openai.embeddings),
    (r"/v1/responses", "openai", openai.responses),
    (r"/v1/messages", "anthropic", anthropic.messages),
    (
        r"/v1(beta)?/models/[^/:]+:(stream)?[gG]enerateContent",
        "gemini",
        gemini.generate,
    ),
)
"""A path, the provider whose it is, and what answers."""


def _dialect(path: str) -> tuple[str, Say] | None:
    bare = path.split("?", 1)[0]
    for pattern, name, say in DIALECTS:
        if re.fullmatch(pattern, bare):
            return name, say
    return None


def _error(dialect: str, status: int, model: str) -> Answer:
    reason = _REASONS.get(status, "The server had an error.").format(model=model)
    headers = {"retry-after": "1"} if status == 429 else {}
    return whole(status, _ERRORS[dialect](status, reason), **headers)


_ERRORS: t.Final[dict[str, Callable[[int, str], Json]]] = {
    "openai": openai.error,
    "anthropic": anthropic.error,
    "gemini": gemini.error,
}
_REASONS: t.Final = {
    400: "The request for {model} cannot be understood.",
    429: "Rate limit reached for {model}. Try again in 1s.",
    529: "Overloaded.",
}
