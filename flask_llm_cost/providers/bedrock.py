"""Reads Amazon Bedrock's Converse, and the bodies of many vendors in InvokeModel.

Converse excludes cached tokens from ``inputTokens``. InvokeModel passes on the body of
the model's vendor. Counts that it lacks are in headers, or in the last event of a
stream. The frames of AWS event streams arrive here as
``{"event": name, "data": payload}``. Source:
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html and
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html.
"""

from __future__ import annotations

import base64
import binascii
import typing as t
from decimal import Decimal

from ..call import Usage
from . import sparse
from .dialect import CONFLICT
from .dialect import Dialect
from .dialect import inner
from .dialect import items
from .dialect import needles
from .dialect import Notes
from .dialect import Object
from .refusals import note_refusal
from .refusals import refused

_COUNTS: t.Final = {
    "inputTokens": "inputTokens",
    "outputTokens": "outputTokens",
    "totalTokens": "totalTokens",
    "cacheReadInputTokens": "cacheReadInputTokens",
    "cacheReadInputTokenCount": "cacheReadInputTokens",
    "cacheWriteInputTokens": "cacheWriteInputTokens",
    "cacheWriteInputTokenCount": "cacheWriteInputTokens",
    "inputTokenCount": "inputTokens",
    "outputTokenCount": "outputTokens",
    # Anthropic Claude
    "input_tokens": "inputTokens",
    "output_tokens": "outputTokens",
    "cache_read_input_tokens": "cacheReadInputTokens",
    "cache_creation_input_tokens": "cacheWriteInputTokens",
    # Llama
    "prompt_token_count": "inputTokens",
    "generation_token_count": "outputTokens",
    # Titan
    "inputTextTokenCount": "inputTokens",
    "totalOutputTextTokenCount": "outputTokens",
    # Bodies like OpenAI's: Jamba, DeepSeek, gpt-oss, imported models
    "prompt_tokens": "inputTokens",
    "completion_tokens": "outputTokens",
}
"""The vendors' names of Converse's counts."""

_REASONING: t.Final = (
    ("output_tokens_details", "thinking_tokens"),
    ("completion_tokens_details", "reasoning_tokens"),
)
"""Where vendors report how many output tokens were reasoning."""

_TIER: t.Final = "x-amzn-bedrock-service-tier"
_LATENCY: t.Final = "x-amzn-bedrock-performanceconfig-latency"

_HEADERS: t.Final = {
    "x-amzn-bedrock-input-token-count": "inputTokens",
    "x-amzn-bedrock-output-token-count": "outputTokens",
    "x-amzn-bedrock-cache-read-input-token-count": "cacheReadInputTokens",
    "x-amzn-bedrock-cache-write-input-token-count": "cacheWriteInputTokens",
}
_GUARDRAIL: t.Final = "amazon-bedrock-guardrailAction"
_METRICS: t.Final = "amazon-bedrock-invocationMetrics"


def read(notes: Notes, document: Object) -> None:
    """Take notes of a body or of one frame of a stream."""
    body, name = _unwrapped(document)
    if name == "message_start":
        notes.partial = True
    elif name in ("message_delta", "metadata"):
        notes.partial = False
    if name in ("metadata", "message_stop") or _METRICS in body:
        notes.complete = True
    message = inner(body, "message")
    # A body has the vendor's name of the model. It is ignored, because the name in the URL,
    # such as an inference profile in a region, says what is billed.
    notes.identify(model=None, response_id=message.get("id") or body.get("id"))
    _note_tier(notes, body, inner(body, "metadata"))
    router = inner(inner(body, "trace"), "promptRouter").get("invokedModelId")
    if isinstance(router, str):
        notes.model = last_segment(router)
    if inner(inner(body, "trace"), "guardrail") or _GUARDRAIL in body:
        # Guardrails are billed by text units, for which there are no prices.
        notes.flags.add("unread_usage")
    _note_refusal(notes, body, name, message)
    for part in (
        body.get("usage"),
        inner(body, "metadata").get("usage"),
        message.get("usage"),
        body,
    ):
        _merge(notes, part)
    _titan(notes, body)
    notes.extra["metrics"] = {**notes.extra.get("metrics", {}), **inner(body, _METRICS)}


def _note_tier(notes: Notes, *places: Object) -> None:
    """Note the served tier. Optimized latency takes precedence: it has its own prices."""
    for place in places:
        tier = inner(place, "serviceTier").get("type")
        latency = inner(place, "performanceConfig").get("latency")
        for served in (tier, latency if latency != "standard" else None):
            if isinstance(served, str):
                notes.service_tier = served


def _note_refusal(notes: Notes, body: Object, name: object, message: Object) -> None:
    """Note Claude's refusals, which are billed only after some output."""
    if name in ("content_block_start", "contentBlockStart", "contentBlockDelta"):
        notes.extra["wrote"] = True
    inside = inner(inner(body, "output"), "message")
    stops = {"stop_reason": body.get("stopReason")}
    for part in (body, message, inside):
        note_refusal(notes, part.get("content"), part, stops)
    note_refusal(notes, None, inner(body, "delta"))


def cost(notes: Notes) -> Decimal | None:
    """A request that was refused before any output costs nothing."""
    return Decimal(0) if refused(notes) else None


def _unwrapped(document: Object) -> tuple[Object, object]:
    data = document.get("data")
    if "event" not in document or not isinstance(data, dict):
        return document, document.get("type")
    packed = data.get("bytes")
    if isinstance(packed, str):
        try:
            data = sparse.parse(base64.b64decode(packed))
        except binascii.Error:
            data = None
    body: Object = data if isinstance(data, dict) else {}
    return body, document["event"] if document["event"] != "chunk" else body.get("type")


def _merge(notes: Notes, part: object) -> None:
    if isinstance(part, dict):
        for name, value in part.items():
            known = _COUNTS.get(name)
            if known is not None and value is not None:
                notes.usage[known] = value
        for name in "cacheDetails", "cache_creation", "server_tool_use":
            if part.get(name):
                notes.usage[name] = part[name]
        for place, name in _REASONING:
            reasoning = inner(part, place).get(name)
            if reasoning is not None:
                notes.usage["reasoningTokens"] = reasoning


def _titan(notes: Notes, body: Object) -> None:
    results = [r for r in items(body.get("results")) if isinstance(r, dict)]
    output = [r["tokenCount"] for r in results if "tokenCount" in r]
    if output:
        notes.usage["outputTokens"] = sum(notes.count(n) for n in output)


def usage(notes: Notes) -> Usage | None:
    """Split the counts of the body, the last event and the headers into buckets."""
    seen, units = _filled(notes), _units(notes)
    if not notes.usage and not any(notes.count(n) for n in seen.values()):
        # Rerankers and image models are not billed by token: their headers have 0.
        return Usage(units=units) if units else None
    count = notes.count
    written = count(seen.get("cacheWriteInputTokens"))
    hour = sum(
        count(part.get("inputTokens"))
        for part in items(seen.get("cacheDetails"))
        if isinstance(part, dict) and part.get("ttl") == "1h"
    )
    hour += count(inner(seen, "cache_creation").get("ephemeral_1h_input_tokens"))
    writes = notes.split_off(written, hour=hour)
    output = count(seen.get("outputTokens"))
    found = Usage(
        input_tokens=count(seen.get("inputTokens")),
        cache_read_tokens=count(seen.get("cacheReadInputTokens")),
        cache_write_tokens=writes["rest"],
        cache_write_1h_tokens=writes["hour"],
        output_tokens=output,
        reasoning_tokens=min(output, count(seen.get("reasoningTokens"))),
        units=units,
    )
    total = seen.get("totalTokens")
    # Older answers exclude cached tokens from the total.
    if total is not None and count(total) not in (
        found.total_tokens,
        found.input_tokens + output,
    ):
        notes.flags.add(CONFLICT)
    return found


def request(document: Object) -> dict[str, t.Any]:
    """Note an image, a recording or a film to embed, which is not billed by token.

    The bodies are those of Titan, Nova and TwelveLabs:
    https://docs.aws.amazon.com/bedrock/latest/userguide/titan-multiemb-models.html and
    https://docs.aws.amazon.com/nova/latest/userguide/embeddings-schema.html.
    """
    kinds = {*inner(document, "singleEmbeddingParams"), document.get("inputType")}
    if "inputImage" in document:
        kinds.add("image")
    return {kind: kind in kinds for kind in ("image", "audio", "video")}


def _units(notes: Notes) -> dict[str, Decimal]:
    searches = inner(notes.usage, "server_tool_use").get("web_search_requests")
    units = {"web_search": Decimal(notes.count(searches))}
    if notes.operation == "embeddings":
        units["input_image_piece"] = Decimal(bool(notes.request.get("image")))
        if notes.request.get("audio") or notes.request.get("video"):
            # Billed by the second, which neither request nor answer states.
            notes.flags.add("unread_usage")
    return {unit: count for unit, count in units.items() if count}


def _filled(notes: Notes) -> dict[str, t.Any]:
    """Complete the body's counts from the last event and the headers."""
    seen, count = dict(notes.usage), notes.count
    for elsewhere, names in (
        (notes.extra.get("metrics", {}), _COUNTS),
        (notes.headers, _HEADERS),
    ):
        for name, known in names.items():
            value = elsewhere.get(name)
            if value is None:
                continue
            if count(seen.setdefault(known, value)) != count(value):
                notes.flags.add(CONFLICT)
    return seen


def tier(notes: Notes) -> str | None:
    """Get the served tier, from the body of Converse or a header of InvokeModel."""
    if notes.headers.get(_LATENCY) == "optimized":
        return "optimized"
    return notes.service_tier or notes.headers.get(_TIER)


def last_segment(name: str) -> str:
    """Get the model from the ARN of a model, an inference profile or an endpoint."""
    return name.rpartition("/")[2] if name.startswith("arn:") else name


_REFUSAL: t.Final = (b'"refusal"',)

CONVERSE: t.Final = Dialect(
    read=read,
    usage=usage,
    cost=cost,
    parse_whole_if=_REFUSAL,
    needles=needles(rb'"usage"', rb'"metadata"', b"serviceTier", b"performanceConfig"),
    content=frozenset(("output",)),
    tail=("usage", "serviceTier", "performanceConfig", "trace"),
    envelope="data",
)

INVOKE: t.Final = Dialect(
    read=read,
    usage=usage,
    cost=cost,
    parse_whole_if=_REFUSAL,
    # Frames are base64, so no needle can be found in them.
    content=frozenset(("content", "choices", "generation", "completion", "outputs")),
    tail=("usage", "prompt_token_count", "inputTextTokenCount", "id", "model"),
    headers=frozenset((*_HEADERS, _TIER, _LATENCY)),
    tier=tier,
    request=request,
    request_if=(b'"inputImage"', b'"singleEmbeddingParams"', b'"inputType"'),
)
