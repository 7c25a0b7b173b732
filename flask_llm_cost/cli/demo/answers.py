"""What a request to the fake provider is, and what its answer is made of.

An answer depends on nothing but the request: the same request always gets the same
text and the same counts. Counts come from the request's own size (about four
characters are a token), unless its ``X-Loopback`` header orders otherwise.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field

Json: t.TypeAlias = dict[str, t.Any]

SNAPSHOTS: t.Final = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "o3": "o3-2025-04-16",
    "o4-mini": "o4-mini-2025-04-16",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    "claude-opus-4-1": "claude-opus-4-1-20250805",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
}
"""The names that providers answer with to the names that apps ask for."""

_REASONING: t.Final = re.compile(r"o[1-9]|gpt-5|gemini-(2\.5|3)")
_FAILING: t.Final = re.compile(r"demo-(\d{3}|drop|cut)")
_WORDS: t.Final = (
    "the ledger keeps every call and each token has its price so a total is the sum of"
    " what was measured while a model answers in many small pieces over the wire and"
    " nobody has to guess at the end of the month where the money went"
).split()


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as the fake provider understands it."""

    path: str
    """With its query."""
    body: Json
    orders: Mapping[str, str] = field(default_factory=dict)
    """From the ``X-Loopback`` header: ``status=429``, ``drop``, ``cut``, ``slow=80``,
    ``say=TEXT``, or a count: ``input=``, ``cached=``, ``write=``, ``write_1h=``,
    ``output=``, ``reasoning=``."""

    @property
    def model(self) -> str:
        """The model asked for; Gemini has it in the path."""
        in_path = re.search(r"/models/([^/:?]+):", self.path)
        return in_path[1] if in_path else str(self.body.get("model") or "unknown")

    @property
    def failure(self) -> str | None:
        """``"429"``, ``"drop"`` (before the status line), ``"cut"`` (midway) or None."""
        for name in ("drop", "cut"):
            if name in self.orders:
                return name
        named = _FAILING.fullmatch(self.model)
        return self.orders.get("status") or (named[1] if named else None)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes over the wire: a body, or the frames of a stream."""

    status: int = 200
    content_type: str = "application/json"
    body: bytes = b""
    frames: tuple[bytes, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    end: t.Literal["whole", "drop", "cut"] = "whole"


@dataclass(frozen=True, slots=True)
class Counts:
    """The tokens of one answer, in disjoint buckets; reasoning is a part of output."""

    input: int
    cached: int
    write: int
    write_1h: int
    output: int
    reasoning: int

    @property
    def prompt(self) -> int:
        return self.input + self.cached + self.write + self.write_1h


def seed(ask: Ask) -> random.Random:
    """Chance that is the same for the same request."""
    text = ask.path + json.dumps(ask.body, sort_keys=True)
    return random.Random(hashlib.sha256(text.encode()).digest())


def draw(ask: Ask) -> Counts:
    """The tokens of an answer: as ordered, else by the size of the request."""
    rng = seed(ask)
    size = max(1, sum(len(s) for s in _texts(ask.body)) // 4)
    cached, write, write_1h = _cache(ask.body, size, rng)
    output = min(_limit(ask.body), max(4, int(rng.lognormvariate(5.3, 0.7))))
    reasoning = int(output * rng.uniform(0.2, 0.7)) if _reasons(ask) else 0
    drawn = {
        "input": size - cached - write - write_1h,
        "cached": cached,
        "write": write,
        "write_1h": write_1h,
        "output": output,
        "reasoning": reasoning,
    }
    ordered = {k: int(v) for k, v in ask.orders.items() if k in drawn}
    if ordered:
        # An order is exact: what it leaves out is 0, not drawn.
        drawn = dict.fromkeys(drawn, 0) | ordered
    return Counts(**drawn)


def _texts(value: t.Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


def _cache(body: Json, size: int, rng: random.Random) -> tuple[int, int, int]:
    """Tokens read from and written to the prompt cache (default and 1 h)."""
    marked = [b for b in _blocks(body) if "cache_control" in b]
    if marked:  # Anthropic: the app says what to cache, and pays for writing it
        tokens = min(size - 1, sum(len(str(b.get("text", ""))) for b in marked) // 4)
        if rng.random() < 0.8:
            return tokens, 0, 0
        hour = marked[-1]["cache_control"].get("ttl") == "1h"
        return (0, 0, tokens) if hour else (0, tokens, 0)
    if size >= 1024 and "input" not in body and rng.random() < 0.6:
        return int(size * rng.uniform(0.4, 0.9)) // 128 * 128, 0, 0
    return 0, 0, 0


def _blocks(body: Json) -> Iterator[Json]:
    contents = [body.get("system")]
    contents += [m.get("content") for m in body.get("messages", ())]
    for content in contents:
        if isinstance(content, list):
            yield from (b for b in content if isinstance(b, dict))


def _limit(body: Json) -> int:
    config = body.get("generationConfig") or {}
    for source, name in (
        (body, "max_completion_tokens"),
        (body, "max_output_tokens"),
        (body, "max_tokens"),
        (config, "maxOutputTokens"),
    ):
        if isinstance(source.get(name), int):
            return max(1, int(source[name]))
    return 4096


def _reasons(ask: Ask) -> bool:
    if "/embeddings" in ask.path or "/v1/completions" in ask.path:
        return False
    return bool(_REASONING.match(ask.model)) or "thinking" in ask.body


def prose(ask: Ask, rng: random.Random, tokens: int) -> str:
    """A text of about so many tokens."""
    if "say" in ask.orders:
        return ask.orders["say"]
    return " ".join(rng.choice(_WORDS) for _ in range(max(1, tokens * 3 // 4)))


def cut(text: str, most: int = 12) -> list[str]:
    """The text in the pieces that a stream sends."""
    step = max(1, -(-len(text) // most))
    return [text[i : i + step] for i in range(0, len(text), step)]


def new_id(prefix: str, rng: random.Random, length: int = 24) -> str:
    """An id as providers make them."""
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz123456789"
    return prefix + "".join(rng.choices(letters, k=length))


def compact(value: t.Any) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))


def whole(status: int, body: Json, **headers: str) -> Answer:
    """An answer in one piece."""
    return Answer(status, body=compact(body).encode(), headers=headers)


def streamed(frames: list[tuple[str | None, t.Any]]) -> Answer:
    """Server-sent events, with or without names."""
    lines = []
    for name, value in frames:
        data = value if isinstance(value, str) else compact(value)
        lines.append((f"event: {name}\n" if name else "") + f"data: {data}\n\n")
    return Answer(
        content_type="text/event-stream; charset=utf-8",
        frames=tuple(line.encode() for line in lines),
    )
