"""What do Amazon Bedrock's answers mean: Converse, and the many bodies of InvokeModel?

Converse excludes cached tokens from ``inputTokens``. InvokeModel passes on the body of
the model's vendor; what that does not say stands in headers, and for streams in the
last event. Streams are AWS event-stream frames, given here as
``{"event": name, "data": payload}``. Source:
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html and
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html.
"""

from __future__ import annotations

import base64
import binascii
import typing as t

from ..call import Usage
from . import sparse
from .dialect import CONFLICT
from .dialect import Dialect
from .dialect import inner
from .dialect import items
from .dialect import needles
from .dialect import Notes
from .dialect import Object

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
    # Those with bodies like OpenAI's: Jamba, DeepSeek, gpt-oss, imported models
    "prompt_tokens": "inputTokens",
    "completion_tokens": "outputTokens",
}
"""How vendors name the counts of Converse."""

_THOUGHT: t.Final = (
    ("output_tokens_details", "thinking_tokens"),
    ("completion_tokens_details", "reasoning_tokens"),
)
"""Where vendors say how many output tokens were reasoning."""

_TIER: t.Final = "x-amzn-bedrock-service-tier"

_HEADERS: t.Final = {
    "x-amzn-bedrock-input-token-count": "inputTokens",
    "x-amzn-bedrock-output-token-count": "outputTokens",
    "x-amzn-bedrock-cache-read-input-token-count": "cacheReadInputTokens",
    "x-amzn-bedrock-cache-write-input-token-count": "cacheWriteInputTokens",
}
_METRICS: t.Final = "amazon-bedrock-invocationMetrics"


def read(notes: Notes, document: Object) -> None:
    """Take notes of a body, or of one frame of a stream."""
    body, name = _unwrapped(document)
    if name == "message_start":
        notes.partial = True
    elif name in ("message_delta", "metadata"):
        notes.partial = False
    if name in ("metadata", "message_stop") or _METRICS in body:
        notes.complete = True
    message = inner(body, "message")
    # In streams the vendor's name of the model stands in the message, and is left there:
    # the one in the URL is more exact.
    notes.identify(
        model=body.get("model"), response_id=message.get("id") or body.get("id")
    )
    served = inner(body, "serviceTier").get("type")
    if isinstance(served, str):
        notes.service_tier = served
    router = inner(inner(body, "trace"), "promptRouter").get("invokedModelId")
    if isinstance(router, str):
        notes.model = last_segment(router)
    for part in (
        body.get("usage"),
        inner(body, "metadata").get("usage"),
        message.get("usage"),
        body,
    ):
        _merge(notes, part)
    _titan(notes, body)
    notes.extra["metrics"] = {**notes.extra.get("metrics", {}), **inner(body, _METRICS)}


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
        for name in "cacheDetails", "cache_creation":
            if part.get(name):
                notes.usage[name] = part[name]
        for place, name in _THOUGHT:
            thought = inner(part, place).get(name)
            if thought is not None:
                notes.usage["reasoningTokens"] = thought


def _titan(notes: Notes, body: Object) -> None:
    results = [r for r in items(body.get("results")) if isinstance(r, dict)]
    made = [r["tokenCount"] for r in results if "tokenCount" in r]
    if made:
        notes.usage["outputTokens"] = sum(notes.count(n) for n in made)


def usage(notes: Notes) -> Usage | None:
    """Converse's counts, from the body, else from the last event or the headers."""
    seen = _filled(notes)
    if not notes.usage and not any(notes.count(n) for n in seen.values()):
        # Rerankers and image models: their headers say 0, for tokens are not billed.
        return None
    count = notes.count
    written = count(seen.get("cacheWriteInputTokens"))
    hour = sum(
        count(part.get("inputTokens"))
        for part in items(seen.get("cacheDetails"))
        if isinstance(part, dict) and part.get("ttl") == "1h"
    )
    hour += count(inner(seen, "cache_creation").get("ephemeral_1h_input_tokens"))
    writes = notes.split_off(written, hour=hour)
    made = count(seen.get("outputTokens"))
    found = Usage(
        input_tokens=count(seen.get("inputTokens")),
        cache_read_tokens=count(seen.get("cacheReadInputTokens")),
        cache_write_tokens=writes["rest"],
        cache_write_1h_tokens=writes["hour"],
        output_tokens=made,
        reasoning_tokens=min(made, count(seen.get("reasoningTokens"))),
    )
    total = seen.get("totalTokens")
    # Earlier answers leave caches out of it.
    if total is not None and count(total) not in (
        found.total_tokens,
        found.input_tokens + made,
    ):
        notes.flags.add(CONFLICT)
    return found


def _filled(notes: Notes) -> dict[str, t.Any]:
    """What the body says, and for the rest what the last event or the headers say."""
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
    """The served tier: in the body of Converse, in a header of InvokeModel."""
    return notes.service_tier or notes.headers.get(_TIER)


def last_segment(name: str) -> str:
    """The model in an ARN: of a foundation model, an inference profile, an endpoint."""
    return name.rpartition("/")[2] if name.startswith("arn:") else name


CONVERSE: t.Final = Dialect(
    read=read,
    usage=usage,
    needles=needles(rb'"usage"', rb'"metadata"', b"serviceTier"),
    content=frozenset(("output",)),
    tail=("usage", "serviceTier", "trace"),
    envelope="data",
)

INVOKE: t.Final = Dialect(
    read=read,
    usage=usage,
    # Frames are in base64: nothing can be seen before they are opened.
    needles=needles(
        b"",
    ),
    content=frozenset(("content", "choices", "generation", "completion", "outputs")),
    tail=(
        "usage",
        "prompt_token_count",
        "inputTextTokenCount",
        "id",
        "model",
    ),
    headers=frozenset((*_HEADERS, _TIER)),
    tier=tier,
)
