"""OpenAI as the fake provider plays it: chat, responses, completions, embeddings."""

from __future__ import annotations

import random
import typing as t

from .answers import Answer
from .answers import Ask
from .answers import Counts
from .answers import cut
from .answers import Json
from .answers import new_id
from .answers import prose
from .answers import SNAPSHOTS
from .answers import streamed
from .answers import whole


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


def chat(ask: Ask, counts: Counts, rng: random.Random) -> Answer:
    """``/v1/chat/completions``"""
    text = prose(ask, rng, counts.output - counts.reasoning)
    head = {
        "id": new_id("chatcmpl-", rng, 29),
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
        return whole(200, body | {"usage": _chat_usage(counts)})
    head["object"] = "chat.completion.chunk"
    usage = bool((ask.body.get("stream_options") or {}).get("include_usage"))
    unknown = {"usage": None} if usage else {}

    def chunk(delta: Json, finish: str | None = None) -> tuple[None, Json]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return None, head | {"choices": [choice]} | unknown

    frames: list[tuple[str | None, t.Any]]
    frames = [chunk({"role": "assistant", "content": "", "refusal": None})]
    frames += [chunk({"content": piece}) for piece in cut(text)]
    frames += [chunk({}, "stop")]
    if usage:
        frames += [(None, head | {"choices": [], "usage": _chat_usage(counts)})]
    return streamed([*frames, (None, "[DONE]")])


def completions(ask: Ask, counts: Counts, rng: random.Random) -> Answer:
    """``/v1/completions``"""
    text = prose(ask, rng, counts.output)
    head = {
        "id": new_id("cmpl-", rng),
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
        return whole(200, head | {"choices": choice(text, "stop"), "usage": totals})
    frames: list[tuple[str | None, t.Any]]
    frames = [(None, head | {"choices": choice(p, None)}) for p in cut(text)]
    frames += [(None, head | {"choices": choice("", "stop")})]
    if (ask.body.get("stream_options") or {}).get("include_usage"):
        frames += [(None, head | {"choices": [], "usage": totals})]
    return streamed([*frames, (None, "[DONE]")])


def embeddings(ask: Ask, counts: Counts, rng: random.Random) -> Answer:
    """``/v1/embeddings``"""
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
    return whole(200, body)


def responses(ask: Ask, counts: Counts, rng: random.Random) -> Answer:
    """``/v1/responses``"""
    text = prose(ask, rng, counts.output - counts.reasoning)
    item_id = new_id("msg_", rng, 40)
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    item = {
        "id": item_id,
        "type": "message",
        "status": "completed",
        "content": [part],
        "role": "assistant",
    }
    begun = {
        "id": new_id("resp_", rng, 48),
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
        return whole(200, done)
    place = {"item_id": item_id, "output_index": 0, "content_index": 0}
    empty = item | {"status": "in_progress", "content": []}
    events: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": empty},
        {"type": "response.content_part.added", **place, "part": part | {"text": ""}},
        *(
            {"type": "response.output_text.delta", **place, "delta": piece}
            for piece in cut(text)
        ),
        {"type": "response.output_text.done", **place, "text": text},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": done},
    ]
    return streamed(
        [(e["type"], e | {"sequence_number": i}) for i, e in enumerate(events)]
    )


def error(status: int, reason: str) -> Json:
    """How it says that something went wrong."""
    code = {429: "rate_limit_exceeded", 400: "invalid_request_error"}.get(status)
    error = {"message": reason, "type": "requests", "param": None, "code": code}
    return {"error": error}
