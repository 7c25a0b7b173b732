"""What the fake provider says: three dialects in their real wire shapes.

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
from collections.abc import Callable
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


def answer(ask: Ask) -> Answer:
    """Answer one request in the dialect of its path."""
    failure = ask.failure
    dialect = _dialect(ask.path)
    if dialect is None:
        return _json(404, {"error": {"message": f"No such endpoint: {ask.path}"}})
    name, say = dialect
    if failure == "drop":
        return Answer(end="drop")
    if failure is not None and failure != "cut":
        return _error(name, int(failure), ask.model)
    said = say(ask, _draw(ask), _seed(ask))
    if failure == "cut":
        return Answer(
            said.status,
            said.content_type,
            said.body,
            said.frames,
            said.headers,
            end="cut",
        )
    return said


# What a request costs ---------------------------------------------------------


def _seed(ask: Ask) -> random.Random:
    text = ask.path + json.dumps(ask.body, sort_keys=True)
    return random.Random(hashlib.sha256(text.encode()).digest())


def _draw(ask: Ask) -> Counts:
    rng = _seed(ask)
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


def _prose(ask: Ask, rng: random.Random, tokens: int) -> str:
    if "say" in ask.orders:
        return ask.orders["say"]
    return " ".join(rng.choice(_WORDS) for _ in range(max(1, tokens * 3 // 4)))


def _pieces(text: str, most: int = 12) -> list[str]:
    step = max(1, -(-len(text) // most))
    return [text[i : i + step] for i in range(0, len(text), step)]


def _id(prefix: str, rng: random.Random, length: int = 24) -> str:
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz123456789"
    return prefix + "".join(rng.choices(letters, k=length))


# Framing ----------------------------------------------------------------------


def _compact(value: t.Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _json(status: int, body: Json, **headers: str) -> Answer:
    # OpenAI and Anthropic send one line, Gemini pretty-prints; readers must not care.
    return Answer(status, body=_compact(body).encode(), headers=headers)


def _events(frames: list[tuple[str | None, t.Any]]) -> Answer:
    """Server-sent events, with or without names."""
    lines = []
    for name, value in frames:
        data = value if isinstance(value, str) else _compact(value)
        lines.append((f"event: {name}\n" if name else "") + f"data: {data}\n\n")
    return Answer(
        content_type="text/event-stream; charset=utf-8",
        frames=tuple(line.encode() for line in lines),
    )


# OpenAI -----------------------------------------------------------------------


def _chat_usage(counts: Counts) -> Json:
    return {
        "prompt_tokens": counts.prompt,
        "completion_tokens": counts.output,
        "total_tokens": counts.prompt + counts.output,
        "prompt_tokens_details": {"cached_tokens": counts.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": counts.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _served_tier(body: Json) -> str:
    asked = body.get("service_tier")
    return "default" if asked in (None, "auto") else str(asked)


def _chat(ask: Ask, counts: Counts, rng: random.Random) -> Answer:
    text = _prose(ask, rng, counts.output - counts.reasoning)
    head = {
        "id": _id("chatcmpl-", rng, 29),
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": SNAPSHOTS.get(ask.model, ask.model),
        "service_tier": _served_tier(ask.body),
        "system_fingerprint": "fp_b547601dbd",
    }
    if not ask.body.get("stream"):
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None}
        body = head | {"choices": [choice | {"finish_reason": "stop"}]}
        return _json(200, body | {"usage": _chat_usage(counts)})
    head["object"] = "chat.completion.chunk"
    usage = bool((ask.body.get("stream_options") or {}).get("include_usage"))
    unknown = {"usage": None} if usage else {}

    def chunk(delta: Json, finish: str | None = None) -> tuple[None, Json]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return None, head | {"choices": [choice]} | unknown

    frames: list[tuple[str | None, t.Any]]
    frames = [chunk({"role": "assistant", "content": "", "refusal": None})]
    frames += [chunk({"content": piece}) for piece in _pieces(text)]
    frames += [chunk({}, "stop")]
    if usage:
        frames += [(None, head | {"choices": [], "usage": _chat_usage(counts)})]
    return _events([*frames, (None, "[DONE]")])


def _completions(ask: Ask, counts: Counts, rng: random.Random) -> Answer:
    text = _prose(ask, rng, counts.output)
    head = {
        "id": _id("cmpl-", rng),
        "object": "text_completion",
        "created": 1_760_000_000,
        "model": SNAPSHOTS.get(ask.model, ask.model),
    }
    totals = {
        "prompt_tokens": counts.prompt,
        "completion_tokens": counts.output,
        "total_tokens": counts.prompt + counts.output,
    }

    def choice(piece: str, finish: str | None) -> list[Json]:
        return [{"text": piece, "index": 0, "logprobs": None, "finish_reason": finish}]

    if not ask.body.get("stream"):
        return _json(200, head | {"choices": choice(text, "stop"), "usage": totals})
    frames: list[tuple[str | None, t.Any]]
    frames = [(None, head | {"choices": choice(p, None)}) for p in _pieces(text)]
    frames += [(None, head | {"choices": choice("", "stop")})]
    if (ask.body.get("stream_options") or {}).get("include_usage"):
        frames += [(None, head | {"choices": [], "usage": totals})]
    return _events([*frames, (None, "[DONE]")])


def _embeddings(ask: Ask, counts: Counts, rng: random.Random) -> Answer:
    given = ask.body.get("input", "")
    texts = given if isinstance(given, list) else [given]
    size = int(ask.body.get("dimensions") or 1536)
    vectors = [
        {
            "object": "embedding",
            "index": index,
            "embedding": [round(rng.uniform(-0.1, 0.1), 9) for _ in range(size)],
        }
        for index in range(len(texts))
    ]
    usage = {"prompt_tokens": counts.prompt, "total_tokens": counts.prompt}
    body = {"object": "list", "data": vectors, "model": ask.model, "usage": usage}
    return _json(200, body)


def _responses(ask: Ask, counts: Counts, rng: random.Random) -> Answer:
    text = _prose(ask, rng, counts.output - counts.reasoning)
    item_id = _id("msg_", rng, 40)
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    item = {
        "id": item_id,
        "type": "message",
        "status": "completed",
        "content": [part],
        "role": "assistant",
    }
    begun = {
        "id": _id("resp_", rng, 48),
        "object": "response",
        "created_at": 1_760_000_000,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": SNAPSHOTS.get(ask.model, ask.model),
        "output": [],
        "parallel_tool_calls": True,
        "service_tier": "auto",
        "store": True,
        "usage": None,
        "metadata": {},
    }
    done = begun | {
        "status": "completed",
        "output": [item],
        "service_tier": _served_tier(ask.body),
        "usage": {
            "input_tokens": counts.prompt,
            "input_tokens_details": {"cached_tokens": counts.cached},
            "output_tokens": counts.output,
            "output_tokens_details": {"reasoning_tokens": counts.reasoning},
            "total_tokens": counts.prompt + counts.output,
        },
    }
    if not ask.body.get("stream"):
        return _json(200, done)
    place = {"item_id": item_id, "output_index": 0, "content_index": 0}
    empty = item | {"status": "in_progress", "content": []}
    events: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": empty},
        {"type": "response.content_part.added", **place, "part": part | {"text": ""}},
        *(
            {"type": "response.output_text.delta", **place, "delta": piece}
            for piece in _pieces(text)
        ),
        {"type": "response.output_text.done", **place, "text": text},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": done},
    ]
    return _events(
        [(e["type"], e | {"sequence_number": i}) for i, e in enumerate(events)]
    )


# Anthropic --------------------------------------------------------------------


def _messages(ask: Ask, counts: Counts, rng: random.Random) -> Answer:
    text = _prose(ask, rng, counts.output - counts.reasoning)
    usage = {
        "input_tokens": counts.input,
        "cache_creation_input_tokens": counts.write + counts.write_1h,
        "cache_read_input_tokens": counts.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": counts.write,
            "ephemeral_1h_input_tokens": counts.write_1h,
        },
        "output_tokens": counts.output,
        "service_tier": "standard",
    }
    message = {
        "id": _id("msg_01", rng, 22),
        "type": "message",
        "role": "assistant",
        "model": SNAPSHOTS.get(ask.model, ask.model),
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    request_id = _id("req_011", rng, 21)
    if not ask.body.get("stream"):
        return _json(200, message, **{"request-id": request_id})
    # The count of message_start is a beginning; that of message_delta is cumulative
    # and leaves out what only message_start says (cache_creation, service_tier).
    begun: Json = {
        "content": [],
        "stop_reason": None,
        "usage": usage | {"output_tokens": 1},
    }
    final = {"stop_reason": "end_turn", "stop_sequence": None}
    events: list[Json] = [
        {"type": "message_start", "message": message | begun},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        {"type": "ping"},
        *(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": piece},
            }
            for piece in _pieces(text)
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": final,
            "usage": {"output_tokens": counts.output},
        },
        {"type": "message_stop"},
    ]
    said = _events([(e["type"], e) for e in events])
    return Answer(
        said.status,
        said.content_type,
        frames=said.frames,
        headers={"request-id": request_id},
    )


# Gemini -----------------------------------------------------------------------


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


def _generate(ask: Ask, counts: Counts, rng: random.Random) -> Answer:
    text = _prose(ask, rng, counts.output - counts.reasoning)
    written = counts.output - counts.reasoning  # thoughts are counted beside
    foot = {"modelVersion": ask.model, "responseId": _id("", rng, 23)}

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
        return _json(200, chunk(text, written, "STOP"))
    pieces = _pieces(text)
    chunks = [
        chunk(
            piece,
            written * (i + 1) // len(pieces),
            "STOP" if i + 1 == len(pieces) else None,
        )
        for i, piece in enumerate(pieces)
    ]
    if "alt=sse" in ask.path:
        return _events([(None, c) for c in chunks])
    # Without alt=sse the stream is one JSON array, written as it comes.
    frames = [("," if i else "[") + _compact(c) + "\r\n" for i, c in enumerate(chunks)]
    return Answer(frames=tuple(f.encode() for f in [*frames, "]"]))


# Which dialect, and its errors ------------------------------------------------

Say: t.TypeAlias = Callable[[Ask, Counts, random.Random], Answer]

DIALECTS: t.Final[tuple[tuple[str, str, Say], ...]] = (
    (r"/v1/chat/completions", "openai", _chat),
    (r"/v1/completions", "openai", _completions),
    (r"/v1/embeddings", "openai", _embeddings),
    (r"/v1/responses", "openai", _responses),
    (r"/v1/messages", "anthropic", _messages),
    (r"/v1(beta)?/models/[^/:]+:(stream)?[gG]enerateContent", "gemini", _generate),
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
    return _json(status, _ERRORS[dialect](status, reason), **headers)


def _openai_error(status: int, reason: str) -> Json:
    code = {429: "rate_limit_exceeded", 400: "invalid_request_error"}.get(status)
    error = {"message": reason, "type": "requests", "param": None, "code": code}
    return {"error": error}


def _anthropic_error(status: int, reason: str) -> Json:
    kinds = {
        400: "invalid_request_error",
        429: "rate_limit_error",
        529: "overloaded_error",
    }
    error = {"type": kinds.get(status, "api_error"), "message": reason}
    return {"type": "error", "error": error}


def _gemini_error(status: int, reason: str) -> Json:
    kinds = {400: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}
    kind = kinds.get(status, "INTERNAL")
    return {"error": {"code": status, "message": reason, "status": kind}}


_ERRORS: t.Final[dict[str, Callable[[int, str], Json]]] = {
    "openai": _openai_error,
    "anthropic": _anthropic_error,
    "gemini": _gemini_error,
}
_REASONS: t.Final = {
    400: "The request for {model} cannot be understood.",
    429: "Rate limit reached for {model}. Try again in 1s.",
    529: "Overloaded.",
}
