"""What do OpenAI's answers mean, and those of the many that speak like it?

One reader serves chat completions, completions, embeddings and responses, whole or
streamed: the shape says which it is. Sources: the OpenAPI description
(https://github.com/openai/openai-openapi) and recorded traffic.
"""

from __future__ import annotations

import re
import typing as t

from ..call import Usage
from .dialect import Dialect
from .dialect import inner
from .dialect import Notes
from .dialect import Object

_FINAL: t.Final = frozenset(
    ("response.completed", "response.failed", "response.incomplete")
    + ("response.cancelled", "error")
)


def read(notes: Notes, document: Object) -> None:
    """Take notes of an answer or of one event."""
    kind = document.get("type")
    if isinstance(kind, str) and kind in _FINAL:
        notes.complete = True
    response = document.get("response")
    body = response if isinstance(response, dict) else document
    notes.identify(model=body.get("model"), response_id=body.get("id"))
    tier = body.get("service_tier")
    if isinstance(tier, str):
        notes.service_tier = tier
    if notes.merge(body.get("usage")) and document.get("choices") == []:
        # The chunk that stream_options.include_usage asks for: the last before [DONE].
        notes.complete = True


def usage(notes: Notes) -> Usage | None:
    """Disjoint buckets: prompts include cached tokens, completions reasoning."""
    seen = notes.usage
    if not seen:
        return None
    count = notes.count
    total_in = count(seen.get("prompt_tokens") or seen.get("input_tokens"))
    total_out = count(seen.get("completion_tokens") or seen.get("output_tokens"))
    into = inner(seen, "prompt_tokens_details") or inner(seen, "input_tokens_details")
    out = inner(seen, "completion_tokens_details") or inner(
        seen, "output_tokens_details"
    )
    fresh = notes.carve(total_in, cached=count(into.get("cached_tokens")))
    return Usage(
        input_tokens=fresh["rest"],
        cache_read_tokens=fresh["cached"],
        output_tokens=total_out,
        reasoning_tokens=min(total_out, count(out.get("reasoning_tokens"))),
        units=notes.units,
    )


CHAT: t.Final = Dialect(
    read=read,
    usage=usage,
    needles=(b'"usage"', b"[DONE]"),
    idle=re.compile(rb'"usage"\s*:\s*null'),
    heavy=frozenset(("choices", "output", "data")),
    tail=(b'"service_tier"', b'"usage"'),
)
