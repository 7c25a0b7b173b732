"""How are the counts of OpenAI, and of those that speak like it, cut into buckets?"""

from __future__ import annotations

import typing as t
from decimal import Decimal

from ..call import Usage
from .dialect import CONFLICT
from .dialect import inner
from .dialect import Notes
from .dialect import Object


def usage(notes: Notes, *, hidden_thinking: bool = False) -> Usage | None:
    """Cut the provider's counts into disjoint buckets.

    :param hidden_thinking: What the total has beyond input and output is reasoning that
        is billed but not counted elsewhere (Google's compatible endpoint).
    """
    seen, count = notes.usage, notes.count
    if COUNTED.isdisjoint(seen):
        return Usage(units=notes.units) if notes.units else None
    into, out = _first_object(seen, _INTO), _first_object(seen, _OUT)
    total = count(seen.get("total_tokens"))
    total_in = count(seen.get("prompt_tokens", seen.get("input_tokens")))
    total_out = count(seen.get("completion_tokens", seen.get("output_tokens")))
    reasoning = count(out.get("reasoning_tokens"))
    if not total_in or not total_out:
        _check_sides(notes, total)
    if total != total_in + total_out and total:
        total_in, total_out, reasoning = _settled(
            notes, total, total_in, total_out, reasoning, hidden_thinking
        )
    if reasoning > total_out:
        notes.flags.add(CONFLICT)
        reasoning = total_out
    return Usage(
        reasoning_tokens=reasoning,
        units=_units(notes),
        **_input(notes, total_in, into),
        **_output(notes, total_out, out),
    )


COUNTED: t.Final = frozenset(
    (
        "prompt_tokens",
        "completion_tokens",
        "input_tokens",
        "output_tokens",
        "total_tokens",
    )
)
_INTO: t.Final = (
    "prompt_tokens_details",
    "input_tokens_details",
    "input_token_details",
    "prompt_token_details",
)
_OUT: t.Final = (
    "completion_tokens_details",
    "output_tokens_details",
    "output_token_details",
)


_TWO_SIDED: t.Final = frozenset(("chat", "completions", "responses"))
"""What has an input and an output: an embedding has no output to be counted."""


def _check_sides(notes: Notes, total: int) -> None:
    """Flag a count that is missing, or none at all, where the other one is there."""
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
        # An answer without any output may leave its count out; the total shows it.
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


def _settled(
    notes: Notes, total: int, into: int, out: int, reasoning: int, hidden: bool
) -> tuple[int, int, int]:
    """Input, output and reasoning where they do not add up to the total."""
    surplus = total - into - out
    if surplus < 0:
        notes.flags.add(CONFLICT)
    elif not into and not out:
        # Rerankers and embedders such as Voyage give a total and nothing else.
        into = total
    elif surplus == reasoning:
        # xAI chat: reasoning stands beside completion_tokens; the total proves it.
        out += surplus
    elif surplus == _audio_beside(notes, surplus):
        # Mistral: audio stands beside prompt_tokens; the total proves it.
        into += surplus
    elif hidden:
        out += surplus
        reasoning += surplus
    else:
        notes.flags.add(CONFLICT)
    return into, out, reasoning


def _audio_beside(notes: Notes, surplus: int) -> int:
    named = _first_object(notes.usage, _INTO).get("audio_tokens")
    if named is None and notes.count(notes.usage.get("prompt_audio_seconds")):
        # Its older answers give seconds alone: what is beside the text is their tokens.
        return surplus
    return notes.count(named)


_CACHED: t.Final = ("cached_tokens", "prompt_cache_hit_tokens", "num_cached_tokens")
"""DeepSeek, Mistral, Moonshot and Together name them beside the details."""

_WRITTEN: t.Final = ("cache_write_tokens", "cache_creation_tokens")


_OTHERS: t.Final = frozenset(
    (
        *_WRITTEN,
        "audio_tokens",
        "image_tokens",
        "video_tokens",
        "cached_tokens_details",
    )
)
"""What makes it more than cached and not."""


def _first(names: tuple[str, ...], *places: Object) -> object:
    for place in places:
        for name in names:
            value = place.get(name)
            if value:
                return value
    return None


def _input(notes: Notes, total: int, into: Object) -> dict[str, t.Any]:
    seen, count = notes.usage, notes.count
    cached = count(_first(_CACHED, into, seen))
    if cached <= total and _OTHERS.isdisjoint(name for name, n in into.items() if n):
        return {"input_tokens": total - cached, "cache_read_tokens": cached}
    by_kind = inner(into, "cached_tokens_details")
    held = notes.split_off(total, read=cached, written=count(_first(_WRITTEN, into)))
    kinds = notes.split_off(
        held["read"],
        audio=count(by_kind.get("audio_tokens")),
        image=count(by_kind.get("image_tokens")),
    )
    # Audio and image counts include cached ones; where nothing says how many of them
    # were cached, text is taken to be cached first.
    audio = min(held["rest"], count(into.get("audio_tokens")) - kinds["audio"])
    image = min(held["rest"], count(_images(seen)) - kinds["image"])
    video = count(into.get("video_tokens"))
    fresh = notes.split_off(
        held["rest"], audio=max(0, audio), image=max(0, image), video=video
    )
    half_day = count(inner(into, "cache_write_tokens_details").get("ttl_12h_tokens"))
    lasting = notes.split_off(held["written"], half_day=half_day)
    others = {
        "input_video": fresh["video"],
        "cache_read_audio": kinds["audio"],
        "cache_read_image": kinds["image"],
        "cache_write_12h": lasting["half_day"],
    }
    return {
        "input_tokens": fresh["rest"],
        "input_audio_tokens": fresh["audio"],
        "input_image_tokens": fresh["image"],
        "cache_read_tokens": kinds["rest"],
        "cache_write_tokens": lasting["rest"],
        "other_tokens": {name: n for name, n in others.items() if n},
    }


def _images(seen: Object) -> object:
    # Chat bills what it sees as text; images and realtime have a rate for it.
    return _first_object(seen, _INTO[1:3]).get("image_tokens")


def _output(notes: Notes, total: int, out: Object) -> dict[str, t.Any]:
    audio, image = out.get("audio_tokens"), out.get("image_tokens")
    if not out and notes.operation in _MADE_OF:
        return {_MADE_OF[notes.operation]: total}
    if not audio and not image:
        return {"output_tokens": total}
    made = notes.split_off(total, audio=notes.count(audio), image=notes.count(image))
    return {
        "output_tokens": made["rest"],
        "output_audio_tokens": made["audio"],
        "output_image_tokens": made["image"],
    }


_MADE_OF: t.Final = {
    "images": "output_image_tokens",
    "speech": "output_audio_tokens",
}
"""What output is where no details say it: an answer there is nothing else."""

_SEARCHED: t.Final = frozenset(
    ("num_search_queries", "server_tool_use", "server_tool_use_details")
)


def _units(notes: Notes) -> dict[str, Decimal]:
    if _SEARCHED.isdisjoint(notes.usage):
        return notes.units
    units = dict(notes.units)
    seen = notes.usage
    for unit, place, name in (
        # Perplexity's research models
        ("web_search", seen, "num_search_queries"),
        # Anthropic's models behind a gateway
        ("web_search", inner(seen, "server_tool_use"), "web_search_requests"),
        # OpenRouter's own tool, whose price is not that of the model's own search
        (
            "gateway_search",
            inner(seen, "server_tool_use_details"),
            "web_search_requests",
        ),
    ):
        count = notes.count(place.get(name))
        if count:
            units.setdefault(unit, Decimal(count))
    return units
