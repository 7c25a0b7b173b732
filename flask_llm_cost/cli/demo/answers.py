"""What the fake provider answers, in the formats of OpenAI, Anthropic and Gemini.

An answer depends only on the request: equal requests get equal answers. Unless the
``X-Loopback`` header sets the token counts, the input is counted from the size of the
request (about four characters per token) and the output is :data:`OUTPUT` tokens.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field

Json: t.TypeAlias = dict[str, t.Any]
Headers: t.TypeAlias = tuple[tuple[str, str], ...]

OUTPUT: t.Final = 60
"""Tokens of an answer, unless the request orders otherwise."""

SNAPSHOTS: t.Final = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    "claude-opus-4-1": "claude-opus-4-1-20250805",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
}
"""The dated model that providers report for the name an app asks for."""

_CREATED: t.Final = 1_760_000_000
_WORDS: t.Final = (
    "the ledger records every call and each token has its price so a total is the sum of"
    " what was measured while a model answers in many small pieces over the wire and"
    " nobody has to guess at the end of the month where the money went"
).split()


@dataclass(frozen=True, slots=True)
class Counts:
    """The tokens of one answer, in disjoint buckets; output includes reasoning."""

    input: int = 0
    cached: int = 0
    write: int = 0
    write_1h: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def prompt(self) -> int:
        """All input tokens."""
        return self.input + self.cached + self.write + self.write_1h

    @property
    def visible(self) -> int:
        """The output tokens without reasoning."""
        return self.output - self.reasoning


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: the pieces in which its body is sent."""

    pieces: tuple[bytes, ...]
    status: int = 200
    content_type: str = "application/json"
    headers: Headers = ()


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
        """The requested model, which Gemini has in the path."""
        in_path = re.search(r"/models/([^/:?]+):", self.path)
        return in_path[1] if in_path else str(self.body.get("model") or "unknown")

    @property
    def served(self) -> str:
        """The model that answers."""
        return SNAPSHOTS.get(self.model, self.model)

    @property
    def failure(self) -> str | None:
        """``"429"``, ``"drop"`` (before the status line), ``"cut"`` (midway) or ``None``.

        The model ``demo-429`` selects one too, for apps that send no such header.
        """
        for name in ("drop", "cut"):
            if name in self.orders:
                return name
        named = re.fullmatch(r"demo-(\d{3}|drop|cut)", self.model)
        return self.orders.get("status") or (named[1] if named else None)

    @property
    def counts(self) -> Counts:
        """The tokens: as ordered, else by the size of the request."""
        names = Counts.__dataclass_fields__
        ordered = {k: int(v) for k, v in self.orders.items() if k in names}
        size = sum(len(text) for text in _texts(self.body)) // 4
        return Counts(**ordered) if ordered else Counts(max(1, size), output=OUTPUT)

    @property
    def text(self) -> str:
        """The answer's text, of about the ordered number of tokens, 400 at most."""
        words = max(1, min(self.counts.visible, 400) * 3 // 4)
        said = " ".join(itertools.islice(itertools.cycle(_WORDS), words))
        return self.orders.get("say", said)

    @property
    def text_pieces(self) -> list[str]:
        """The text as a stream sends it."""
        step = max(1, -(-len(self.text) // 12))
        return [self.text[i : i + step] for i in range(0, len(self.text), step)]

    def new_id(self, prefix: str, length: int = 24) -> str:
        """An id in the provider's format."""
        asked = json.dumps([self.path, self.body, [*self.orders.items()]])
        return prefix + hashlib.sha256(asked.encode()).hexdigest()[:length]


def orders_of(header: str) -> dict[str, str]:
    """Parse an ``X-Loopback`` header."""
    words = (word.partition("=") for word in header.split())
    return {name: value for name, _, value in words}


def _texts(value: t.Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _whole(body: Json, status: int = 200, headers: Headers = ()) -> Answer:
    data = json.dumps(body).encode()
    half = len(data) // 2
    return Answer((data[:half], data[half:]), status, headers=headers)


def _streamed(
    events: Iterable[tuple[str | None, t.Any]],
    headers: Headers = (),
) -> Answer:
    """Server-sent events, with or without names."""
    pieces = []
    for name, value in events:
        data = value if isinstance(value, str) else json.dumps(value)
        pieces.append((f"event: {name}\n" if name else "") + f"data: {data}\n\n")
    return Answer(
        tuple(piece.encode() for piece in pieces),
        content_type="text/event-stream; charset=utf-8",
        headers=headers,
    )


# OpenAI -----------------------------------------------------------------------


def _tier(ask: Ask) -> str:
    asked = ask.body.get("service_tier")
    return "default" if asked in (None, "auto") else str(asked)


def _chat(ask: Ask) -> Answer:
    counts = ask.counts
    usage = {
        "prompt_tokens": counts.prompt,
        "completion_tokens": counts.output,
        "total_tokens": counts.prompt + counts.output,
        "prompt_tokens_details": {"cached_tokens": counts.cached},
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning},
    }
    head = {
        "id": ask.new_id("chatcmpl-", 29),
        "object": "chat.completion",
        "created": _CREATED,
        "model": ask.served,
        "service_tier": _tier(ask),
    }
    if not ask.body.get("stream"):
        message = {"role": "assistant", "content": ask.text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return _whole(head | {"choices": [choice], "usage": usage})
    head["object"] = "chat.completion.chunk"
    wanted = bool((ask.body.get("stream_options") or {}).get("include_usage"))

    def chunk(delta: Json, finish: str | None = None) -> tuple[None, Json]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return None, head | {"choices": [choice]} | ({"usage": None} if wanted else {})

    events: list[tuple[str | None, t.Any]] = [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": piece}) for piece in ask.text_pieces),
        chunk({}, "stop"),
    ]
    if wanted:
        events.append((None, head | {"choices": [], "usage": usage}))
    return _streamed([*events, (None, "[DONE]")])


def _embeddings(ask: Ask) -> Answer:
    given = ask.body.get("input", "")
    vector = [0.5] * int(ask.body.get("dimensions") or 1536)
    vectors = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index in range(len(given) if isinstance(given, list) else 1)
    ]
    tokens = ask.counts.prompt
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return _whole(
        {"object": "list", "data": vectors, "model": ask.model, "usage": usage}
    )


def _responses(ask: Ask) -> Answer:
    begun = {
        "id": ask.new_id("resp_", 48),
        "object": "response",
        "created_at": _CREATED,
        "status": "in_progress",
        "model": ask.served,
        "output": [],
        "service_tier": "auto",
        "usage": None,
    }
    part = {"type": "output_text", "annotations": [], "text": ask.text}
    item = {
        "id": ask.new_id("msg_", 40),
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }
    done = begun | {"status": "completed", "output": [item]}
    done |= {"service_tier": _tier(ask), "usage": _responses_usage(ask.counts)}
    if not ask.body.get("stream"):
        return _whole(done)
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    delta = {"type": "response.output_text.delta"} | place
    events: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "item": item | {"content": []}},
        *(delta | {"delta": piece} for piece in ask.text_pieces),
        {"type": "response.output_item.done", "item": item},
        {"type": "response.completed", "response": done},
    ]
    return _streamed(
        (each["type"], each | {"sequence_number": number})
        for number, each in enumerate(events)
    )


def _responses_usage(counts: Counts) -> Json:
    return {
        "input_tokens": counts.prompt,
        "input_tokens_details": {"cached_tokens": counts.cached},
        "output_tokens": counts.output,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.prompt + counts.output,
    }


def _openai_error(status: int, message: str) -> Json:
    return {"error": {"message": message, "type": "requests", "code": None}}


# Anthropic --------------------------------------------------------------------


def _messages(ask: Ask) -> Answer:
    usage = _anthropic_usage(ask.counts)
    message = {
        "id": ask.new_id("msg_01", 22),
        "type": "message",
        "role": "assistant",
        "model": ask.served,
        "content": [{"type": "text", "text": ask.text}],
        "stop_reason": "end_turn",
        "usage": usage,
    }
    headers = (("request-id", ask.new_id("req_011", 21)),)
    if not ask.body.get("stream"):
        return _whole(message, headers=headers)
    # The output of message_start is a first count; that of message_delta is cumulative
    # and omits what only message_start reports (cache_creation, service_tier).
    first: Json = {"content": [], "stop_reason": None}
    first["usage"] = usage | {"output_tokens": 1}
    deltas = [{"type": "text_delta", "text": piece} for piece in ask.text_pieces]
    last = {"output_tokens": ask.counts.output}
    block = {"type": "text", "text": ""}
    events: list[Json] = [
        {"type": "message_start", "message": message | first},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": d} for d in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": last},
        {"type": "message_stop"},
    ]
    return _streamed(((each["type"], each) for each in events), headers)


def _anthropic_usage(counts: Counts) -> Json:
    return {
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


def _anthropic_error(status: int, message: str) -> Json:
    kind = {400: "invalid_request_error", 429: "rate_limit_error"}.get(status)
    return {"type": "error", "error": {"type": kind or "api_error", "message": message}}


# Gemini -----------------------------------------------------------------------


def _generate(ask: Ask) -> Answer:
    counts = ask.counts
    pieces = ask.text_pieces

    def chunk(text: str, tokens: int, finish: str | None) -> Json:
        usage = {
            "promptTokenCount": counts.prompt,
            "cachedContentTokenCount": counts.cached,
            "candidatesTokenCount": tokens,  # thoughts are counted separately
            "thoughtsTokenCount": counts.reasoning,
            "totalTokenCount": counts.prompt + tokens + counts.reasoning,
        }
        content = {"parts": [{"text": text}], "role": "model"}
        candidate = {"content": content, "index": 0, "finishReason": finish}
        return {
            "candidates": [candidate],
            "usageMetadata": usage,
            "modelVersion": ask.model,
            "responseId": ask.new_id("", 23),
        }

    if ":streamGenerateContent" not in ask.path:
        return _whole(chunk(ask.text, counts.visible, "STOP"))
    last = len(pieces)
    return _streamed(
        (None, chunk(piece, counts.visible * n // last, "STOP" if n == last else None))
        for n, piece in enumerate(pieces, 1)
    )


def _gemini_error(status: int, message: str) -> Json:
    kind = {400: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED"}.get(status, "INTERNAL")
    return {"error": {"code": status, "message": message, "status": kind}}


# All of them ------------------------------------------------------------------

_Error: t.TypeAlias = Callable[[int, str], Json]

_PATHS: t.Final[tuple[tuple[str, Callable[[Ask], Answer], _Error], ...]] = (
    (r"/v1/chat/completions", _chat, _openai_error),
    (r"/v1/embeddings", _embeddings, _openai_error),
    (r"/v1/responses", _responses, _openai_error),
    (r"/v1/messages", _messages, _anthropic_error),
    (r"/v1(beta)?/models/[^/:]+:(stream)?[gG]enerateContent", _generate, _gemini_error),
)


def answer(ask: Ask) -> Answer:
    """Answer a request in the format that its path selects."""
    bare = ask.path.split("?")[0]
    for pattern, write, error in _PATHS:
        if re.fullmatch(pattern, bare) is None:
            continue
        if ask.failure in (None, "drop", "cut"):
            return write(ask)
        status = int(ask.failure or 500)
        headers = (("retry-after", "1"),) if status == 429 else ()
        return _whole(error(status, f"The demo answers {status}."), status, headers)
    return _whole(_openai_error(404, f"Unknown endpoint: {bare}"), 404)
