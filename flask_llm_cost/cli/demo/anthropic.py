"""Anthropic as the fake provider plays it: messages."""

from __future__ import annotations

import random
from dataclasses import replace

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


def messages(ask: Ask, counts: Counts, rng: random.Random) -> Answer:
    """``/v1/messages``"""
    text = prose(ask, rng, counts.output - counts.reasoning)
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
        "id": new_id("msg_01", rng, 22),
        "type": "message",
        "role": "assistant",
        "model": SNAPSHOTS.get(ask.model, ask.model),
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    request_id = new_id("req_011", rng, 21)
    if not ask.body.get("stream"):
        return whole(200, message, **{"request-id": request_id})
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
            for piece in cut(text)
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": final,
            "usage": {"output_tokens": counts.output},
        },
        {"type": "message_stop"},
    ]
    return replace(
        streamed([(e["type"], e) for e in events]), headers={"request-id": request_id}
    )


def error(status: int, reason: str) -> Json:
    """How it says that something went wrong."""
    kinds = {
        400: "invalid_request_error",
        429: "rate_limit_error",
        529: "overloaded_error",
    }
    error = {"type": kinds.get(status, "api_error"), "message": reason}
    return {"type": "error", "error": error}
