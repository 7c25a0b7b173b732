"""Reads Anthropic's Messages API: direct, on Vertex AI, on Azure and behind gateways.

``input_tokens`` excludes cache reads and cache writes. In streams, ``message_start`` has
the input side. The counts in ``message_delta`` are cumulative and final, but it may omit
some. Source: https://docs.claude.com/en/api/messages (Usage),
.../build-with-claude/streaming, .../build-with-claude/prompt-caching.
"""

from __future__ import annotations

import re
import typing as t
from decimal import Decimal

from ..call import Usage
from .dialect import add_part
from .dialect import batch_dialect
from .dialect import CONFLICT
from .dialect import Dialect
from .dialect import inner
from .dialect import items
from .dialect import needles
from .dialect import Notes
from .dialect import Object
from .refusals import note_refusal
from .refusals import refused

_TOOLS: t.Final = {"web_search_requests": "web_search"}
"""Server tools with a price per call."""

_FREE_TOOLS: t.Final = frozenset(("web_fetch_requests", "tool_search_requests"))


def read(notes: Notes, document: Object) -> None:
    """Take notes of a message or of one event of a stream."""
    kind = document.get("type")
    if kind == "message_start":
        notes.partial = True
        message = inner(document, "message")
    else:
        message = document
    if kind == "message_stop":
        notes.complete = True
    elif kind == "message_delta":
        notes.partial = False
        notes.complete = inner(document, "delta").get("stop_reason") is not None
    elif kind == "content_block_start":
        notes.extra["wrote"] = True
    elif kind in ("message", "message_start", None):
        notes.identify(model=message.get("model"), response_id=message.get("id"))
    note_refusal(notes, message.get("content"), message, inner(document, "delta"))
    if message.get("container") or inner(document, "delta").get("container"):
        # Code ran in a container, which is billed by the time that it runs:
        # https://platform.claude.com/docs/en/about-claude/pricing (code execution).
        notes.flags.add("session_fee")
    notes.merge(message.get("usage"))


def request(document: Object) -> dict[str, t.Any]:
    """Note who is billed for a request: a customer of the app's may be."""
    return {"bill_to": inner(document, "billing_policy").get("bill_to")}


def cost(notes: Notes) -> Decimal | None:
    """A request that the app's customer is billed for, or nobody, costs the app nothing.

    Source: the SDK's type ``BetaBillingPolicyParam``. A request that the customer has not
    allowed is rejected rather than billed to the app.
    """
    if notes.request.get("bill_to") == "user_profile":
        return Decimal(0)
    return Decimal(0) if refused(notes) and len(_attempts(notes)) < 2 else None


def _attempts(notes: Notes) -> list[Object]:
    """Return the steps that are billed: not attempts that were refused before any output."""
    steps: list[Object] = [
        step for step in items(notes.usage.get("iterations")) if isinstance(step, dict)
    ]
    if all(step.get("type") != _FALLBACK for step in steps):
        return steps
    return [
        step
        for step in steps
        if step.get("type") not in ("message", _FALLBACK)
        or notes.count(step.get("output_tokens"))
    ]


def usage(notes: Notes) -> Usage | None:
    """Split the provider's counts into disjoint buckets."""
    if not notes.usage.keys() & {"input_tokens", "output_tokens"}:
        return None
    return _buckets(notes, notes.usage, _units(notes))


def _buckets(notes: Notes, seen: Object, units: dict[str, Decimal]) -> Usage:
    count = notes.count
    by_ttl = inner(seen, "cache_creation")
    hour = count(by_ttl.get("ephemeral_1h_input_tokens"))
    written = seen.get("cache_creation_input_tokens")
    if written is None:
        written = hour + count(by_ttl.get("ephemeral_5m_input_tokens"))
    writes = notes.split_off(count(written), hour=hour)
    output = count(seen.get("output_tokens"))
    thinking = count(inner(seen, "output_tokens_details").get("thinking_tokens"))
    if thinking > output:
        notes.flags.add(CONFLICT)
    uncached = count(seen.get("input_tokens"))
    read = count(seen.get("cache_read_input_tokens"))
    if "prompt_tokens_details" in seen:
        # Alibaba's imitation: its input includes caches, and is known before they are.
        cached = read + writes["rest"] + writes["hour"]
        if cached > uncached:
            notes.flags.add(CONFLICT)
        uncached = max(0, uncached - cached)
    return Usage(
        input_tokens=uncached,
        cache_read_tokens=read,
        cache_write_tokens=writes["rest"],
        cache_write_1h_tokens=writes["hour"],
        output_tokens=output,
        reasoning_tokens=min(thinking, output),
        units=units,
    )


def usage_by_model(notes: Notes) -> dict[str, Usage]:
    """Get the usage by model, if the top level does not include all of it.

    The top level counts only the final model's messages. A compaction, an advisor and a
    model that was replaced by a fallback are billed, too, each at its model's rates
    (https://docs.claude.com/en/docs/build-with-claude/compaction, Usage).
    """
    parts: dict[str, Usage] = {}
    units = _units(notes)
    for step in _attempts(notes):
        model = str(step.get("model") or notes.model or notes.request_model or "")
        used = _buckets(notes, step, units)
        units = {}  # the top level counts them: assign them to the first model only
        add_part(parts, model, used, notes.flags)
    total = usage(notes)
    if total is None or [p.total_tokens for p in parts.values()] == [
        total.total_tokens
    ]:
        return {}
    return parts


def _units(notes: Notes) -> dict[str, Decimal]:
    requests = inner(notes.usage, "server_tool_use")
    for name in requests.keys() - _TOOLS.keys() - _FREE_TOOLS:
        if notes.count(requests[name]):
            # Code is billed by the time that it runs.
            timed = name.startswith("code_execution")
            notes.flags.add("session_fee" if timed else "unread_usage")
    counts = {unit: notes.count(requests.get(name)) for name, unit in _TOOLS.items()}
    return {unit: Decimal(count) for unit, count in counts.items() if count}


def price_flags(notes: Notes) -> frozenset[str]:
    """Flag the region of inference, a fallback to another model, and a credit for it."""
    flags = set()
    place = notes.usage.get("inference_geo")
    if isinstance(place, str) and re.fullmatch("[a-z]{2}", place):
        flags.add(f"region.{place}")
    steps = items(notes.usage.get("iterations"))
    if any(inner({"step": step}, "step").get("type") == _FALLBACK for step in steps):
        flags.add("other_model")
    credit = inner(inner(notes.usage, "fallback_credit"), "status")
    if credit.get("type") == "redeemed":
        # Billed as if the conversation had been on this model all along: what the caches
        # would have held then cannot be known from this answer.
        flags.add("fallback_credit")
    return frozenset(flags)


_FALLBACK: t.Final = "fallback_message"
"""The type of an iteration by a model that took over (``BetaIterationsUsage``)."""


def tier(notes: Notes) -> str | None:
    """Get the served tier. Fast mode takes precedence, as it has its own prices."""
    if notes.usage.get("speed") == "fast":
        return "fast"
    served = notes.usage.get("service_tier")
    return served if isinstance(served, str) else notes.service_tier


def batch_results(line: Object) -> list[Object]:
    """Get the message in one line of a batch's results."""
    result = inner(line, "result")
    return [inner(result, "message")] if result.get("type") == "succeeded" else []


def read_batch(notes: Notes, document: Object) -> None:
    """Take notes of a batch object: its date, which its results do not have."""
    notes.identify(model=None, response_id=document.get("id"))
    notes.date_iso(document.get("created_at"))


MESSAGES: t.Final = Dialect(
    read=read,
    usage=usage,
    tier=tier,
    usage_by_model=usage_by_model,
    price_flags=price_flags,
    cost=cost,
    request=request,
    request_if=(b'"bill_to"',),
    needles=needles(rb'"usage"', rb'"message_stop"'),
    content=frozenset(("content",)),
    parse_whole_if=(b'"refusal"',),
    tail=("usage", "container", "model", "id"),
    envelope="message",
)

BATCH: t.Final = batch_dialect(MESSAGES, batch_results)

BATCH_STATE: t.Final = Dialect(
    read=read_batch, usage=lambda notes: None, parse_whole_if=(b"",)
)
