"""Splits the counts of OpenAI and of compatible APIs into disjoint buckets."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping
from decimal import Decimal

from ..call import Usage
from .dialect import CONFLICT
from .dialect import inner
from .dialect import items
from .dialect import Notes
from .dialect import Object


def usage(notes: Notes, *, hidden_thinking: bool = False) -> Usage | None:
    """Split the provider's counts into disjoint buckets.

    :param hidden_thinking: What the total exceeds input and output by is reasoning, which
        is billed but not counted elsewhere (Google's OpenAI-compatible endpoint).
    """
    seen, count = notes.usage, notes.count
    if COUNTED.isdisjoint(seen):
        return Usage(units=notes.units) if notes.units else None
    if "image_pixels" in seen:
        return _pixels(notes)
    details = _first_object(seen, _OUTPUT_DETAILS)
    total = count(seen.get("total_tokens"))
    into = count(seen.get("prompt_tokens", seen.get("input_tokens")))
    out = count(seen.get("completion_tokens", seen.get("output_tokens")))
    reasoning = count(details.get("reasoning_tokens"))
    input_details = _first_object(seen, _INPUT_DETAILS)
    if not _CACHES.isdisjoint(seen):
        before = into
        into, input_details = _claude_caches(notes, into, input_details)
        if total == before + out:
            total += into - before
    if not into or not out:
        _check_sides(notes, total)
    surplus = total - into - out
    if surplus and total:
        more_in, more_out, thinking = _assign_surplus(
            notes, surplus, reasoning, hidden_thinking=hidden_thinking
        )
        into, out, reasoning = into + more_in, out + more_out, reasoning + thinking
        if notes.operation == "chat" and more_in == _audio_tokens(notes, surplus):
            input_details = {**input_details, "audio_tokens": more_in}
    if reasoning > out:
        notes.flags.add(CONFLICT)
        reasoning = out
    return Usage(
        reasoning_tokens=reasoning,
        units=_units(notes),
        **_input(notes, into, input_details),
        **_output(notes, out, details),
    )


def _pixels(notes: Notes) -> Usage:
    """Get the usage of Voyage's multimodal embeddings.

    Their text is billed by token, and their images and videos by pixel, although the total
    has them as tokens, too: https://docs.voyageai.com/docs/pricing.
    """
    seen, count = notes.usage, notes.count
    pixels = count(seen.get("image_pixels")) + count(seen.get("video_pixels"))
    return Usage(
        count(seen.get("text_tokens")),
        units={"pixel": Decimal(pixels)} if pixels else {},
    )


def draws(notes: Notes) -> bool:
    """Whether the model that answered may draw images, by its name."""
    return _DRAWING_MODEL.search(notes.model or notes.request_model or "") is not None


_DRAWING_MODEL: t.Final = re.compile(r"gemini.*-image|nano-banana")

COUNTED: t.Final = frozenset(
    (
        "prompt_tokens",
        "completion_tokens",
        "input_tokens",
        "output_tokens",
        "total_tokens",
    )
)
_INPUT_DETAILS: t.Final = (
    "prompt_tokens_details",
    "input_tokens_details",
    "input_token_details",
    "prompt_token_details",
)
_OUTPUT_DETAILS: t.Final = (
    "completion_tokens_details",
    "output_tokens_details",
    "output_token_details",
)

_TWO_SIDED: t.Final = frozenset(("chat", "completions", "responses"))
"""Operations with an input and an output. An embedding has no output count."""


def _check_sides(notes: Notes, total: int) -> None:
    """Flag a count that is missing or not a number while the other one is present."""
    if notes.operation not in _TWO_SIDED:
        return
    into, out = (
        next((notes.usage[name] for name in names if name in notes.usage), None)
        for names in _SIDES
    )
    if isinstance(into, bool) or isinstance(out, bool):
        notes.flags.add(CONFLICT)
    elif into is None and out is not None:
        notes.flags.add(CONFLICT)
    elif out is None and into is not None and not total:
        # An answer without output may omit its count. The total shows that it is 0.
        notes.flags.add(CONFLICT)


_SIDES: t.Final = (
    ("prompt_tokens", "input_tokens"),
    ("completion_tokens", "output_tokens"),
)


def _first_object(seen: Object, names: tuple[str, ...]) -> Object:
    for name in names:
        found = seen.get(name)
        if isinstance(found, dict):
            return found
    return {}


def _assign_surplus(
    notes: Notes, surplus: int, reasoning: int, *, hidden_thinking: bool
) -> tuple[int, int, int]:
    """Assign what the total has beyond both sides to input, output and reasoning."""
    if surplus == notes.count(notes.usage.get("total_tokens")):
        # Rerankers and embedders such as Voyage report only a total.
        return surplus, 0, 0
    if surplus == reasoning:
        # xAI chat: completion_tokens excludes reasoning, as the total proves.
        return 0, surplus, 0
    if surplus > 0 and surplus == _audio_tokens(notes, surplus):
        # Mistral: prompt_tokens excludes audio, as the total proves.
        return surplus, 0, 0
    if surplus > 0 and hidden_thinking:
        return 0, surplus, surplus
    notes.flags.add(CONFLICT)
    return 0, 0, 0


def _audio_tokens(notes: Notes, surplus: int) -> int:
    named = _first_object(notes.usage, _INPUT_DETAILS).get("audio_tokens")
    if named is None and notes.count(notes.usage.get("prompt_audio_seconds")):
        # Mistral's older answers report only seconds, so the surplus is their tokens.
        return surplus
    return notes.count(named)


_CACHED: t.Final = ("cached_tokens", "prompt_cache_hit_tokens", "num_cached_tokens")
"""DeepSeek, Mistral, Moonshot and Together report these outside of the details."""

_WRITTEN: t.Final = (
    "cache_write_tokens",
    "cache_creation_tokens",
    # Alibaba's explicit caches:
    # https://www.alibabacloud.com/help/en/model-studio/context-cache
    "cache_creation_input_tokens",
)

_CLAUDE_CACHES: t.Final = ("cache_read_input_tokens", "cache_creation_input_tokens")
"""Anthropic's own counts, which gateways such as Databricks and LiteLLM pass on."""


_RARE_DETAILS: t.Final = frozenset(
    (
        *_WRITTEN,
        "audio_tokens",
        "image_tokens",
        "video_tokens",
        "cached_tokens_details",
    )
)
"""Details that need more than a split into cached and uncached input."""


def _first(names: tuple[str, ...], *places: Object) -> object:
    for place in places:
        if place:
            for name in names:
                value = place.get(name)
                if value:
                    return value
    return None


def _input(notes: Notes, total: int, details: Object) -> dict[str, t.Any]:
    seen, count = notes.usage, notes.count
    cached = count(_first(_CACHED, details, seen))
    if cached <= total and _RARE_DETAILS.isdisjoint(
        name for name, n in details.items() if n
    ):
        return {"input_tokens": total - cached, "cache_read_tokens": cached}
    cached_details = _cached_details(notes, details, cached, total)
    written = count(_first(_WRITTEN, details))
    parts = notes.split_off(total, read=cached, written=written)
    reads = notes.split_off(
        parts["read"],
        audio=count(cached_details.get("audio_tokens")),
        image=count(cached_details.get("image_tokens")),
    )
    # Audio and image counts include cached ones.
    audio = min(parts["rest"], count(details.get("audio_tokens")) - reads["audio"])
    image = min(parts["rest"], count(_images(seen)) - reads["image"])
    video = count(details.get("video_tokens"))
    uncached = notes.split_off(
        parts["rest"], audio=max(0, audio), image=max(0, image), video=video
    )
    ttls = inner(details, "cache_write_tokens_details")
    # LiteLLM's proxy
    by_ttl = inner(details, "cache_creation_token_details")
    writes = notes.split_off(
        parts["written"],
        ttl_12h=count(ttls.get("ttl_12h_tokens")),
        ttl_1h=count(by_ttl.get("ephemeral_1h_input_tokens")),
    )
    others = {
        "input_video": uncached["video"],
        "cache_read_audio": reads["audio"],
        "cache_read_image": reads["image"],
        "cache_write_12h": writes["ttl_12h"],
    }
    return {
        "input_tokens": uncached["rest"],
        "input_audio_tokens": uncached["audio"],
        "input_image_tokens": uncached["image"],
        "cache_read_tokens": reads["rest"],
        "cache_write_tokens": writes["rest"],
        "cache_write_1h_tokens": writes["ttl_1h"],
        "other_tokens": {name: n for name, n in others.items() if n},
    }


def _cached_details(notes: Notes, details: Object, cached: int, total: int) -> Object:
    """Get how much of each kind of input was cached.

    Without details, text is assumed to be cached first, unless all of the input was. Audio
    is not cached then, but images may be, at another rate.
    """
    found = inner(details, "cached_tokens_details")
    if found:
        names = ("audio_tokens", "image_tokens")
        return {name: found.get(name, found.get(f"cached_{name}")) for name in names}
    kinds = {
        "audio_tokens": details.get("audio_tokens"),
        "image_tokens": _images(notes.usage),
    }
    if cached and cached == total:
        return kinds
    if cached and notes.count(kinds["image_tokens"]):
        notes.flags.add("unread_usage")
    return {}


_CACHES: t.Final = frozenset(_CLAUDE_CACHES)


def _claude_caches(notes: Notes, total: int, details: Object) -> tuple[int, Object]:
    """Move a gateway's counts of Claude's caches into the details.

    :return: The input including caches, and the details.
    """
    read, written = (notes.count(notes.usage.get(name)) for name in _CLAUDE_CACHES)
    if _first(_CACHED, details) or _first(_WRITTEN, details) or not read + written:
        return total, details
    # As Anthropic counts, prompt_tokens excludes caches; as LiteLLM counts, it has them.
    sums = total + notes.count(notes.usage.get("completion_tokens"))
    if (
        read + written > total
        or notes.usage.get("total_tokens") == sums + read + written
    ):
        total += read + written
    return total, {
        **details,
        "cached_tokens": read,
        "cache_creation_tokens": written,
        "cache_creation_token_details": inner(notes.usage, "cache_creation"),
    }


def _images(seen: Object) -> object:
    # Chat bills images as text. The images and realtime APIs have rates for them.
    return _first_object(seen, _INPUT_DETAILS[1:3]).get("image_tokens")


def _output(notes: Notes, total: int, details: Object) -> dict[str, t.Any]:
    audio, image = details.get("audio_tokens"), details.get("image_tokens")
    if not details and notes.operation in _OUTPUT_BUCKETS:
        return {_OUTPUT_BUCKETS[notes.operation]: total}
    if not audio and not image:
        if total and "image_tokens" not in details and draws(notes):
            # Images cost more than text, and nothing shows which of them this was.
            notes.flags.add("unread_usage")
        return {"output_tokens": total}
    made = notes.split_off(total, audio=notes.count(audio), image=notes.count(image))
    return {
        "output_tokens": made["rest"],
        "output_audio_tokens": made["audio"],
        "output_image_tokens": made["image"],
    }


_OUTPUT_BUCKETS: t.Final = {
    "images": "output_image_tokens",
    "speech": "output_audio_tokens",
}
"""The bucket of output without details: such an answer contains nothing else."""

_SEARCH_MEMBERS: t.Final = frozenset(
    ("num_search_queries", "server_tool_use", "server_tool_use_details")
    + ("plugins", "x_tools", "num_sources_used", "num_server_side_tools_used")
)


def chat_request(document: Object) -> dict[str, t.Any]:
    """Note whether a request lets the provider search, which has a fee.

    Sources: https://platform.kimi.ai/docs/pricing/tools (``$web_search``),
    https://docs.z.ai/guides/tools/web-search.
    """
    tools = [inner({"": tool}, "") for tool in items(document.get("tools"))]
    kinds = {str(tool.get("type")) for tool in tools}
    return {"searches": not kinds.isdisjoint(("web_search", "builtin_function"))}


_SEARCH_MODEL: t.Final = re.compile(r"-search-(?:preview|api)\b")
"""Chat models that search for each answer, which has a fee:
https://platform.openai.com/docs/pricing (web search)."""


def _units(notes: Notes) -> dict[str, Decimal]:
    searches = notes.operation == "chat" and _SEARCH_MODEL.search(
        notes.model or notes.request_model or ""
    )
    if not searches and _SEARCH_MEMBERS.isdisjoint(notes.usage):
        if notes.operation == "chat" and notes.request.get("searches"):
            # The answer does not count the searches that its request permitted.
            notes.flags.add("unread_usage")
        return notes.units
    units = dict(notes.units)
    seen = notes.usage
    if searches:
        units["web_search"] = Decimal(1)
    for unit, place, name in (
        # Perplexity's research models
        ("web_search", seen, "num_search_queries"),
        # Anthropic's models behind a gateway
        ("web_search", inner(seen, "server_tool_use"), "web_search_requests"),
        # OpenRouter's own tool, whose price differs from that of the model's search
        (
            "gateway_search",
            inner(seen, "server_tool_use_details"),
            "web_search_requests",
        ),
        # Alibaba's searches, in chat and in responses
        ("web_search", inner(inner(seen, "plugins"), "search"), "count"),
        ("web_search", inner(inner(seen, "x_tools"), "web_search"), "count"),
    ):
        count = notes.count(place.get(name))
        if count:
            units.setdefault(unit, Decimal(count))
    if inner(seen, "x_tools").keys() - {"web_search"} or _uncounted(notes, units):
        notes.flags.add("unread_usage")
    return units


def _uncounted(notes: Notes, units: Mapping[str, Decimal]) -> bool:
    """Whether xAI ran tools, which have fees, and reports neither which ones nor its cost."""
    if units or notes.usage.get("cost_in_usd_ticks"):
        return False
    names = ("num_sources_used", "num_server_side_tools_used")
    return any(notes.count(notes.usage.get(name)) for name in names)
