"""What do OpenAI's answers mean, and those of the many that speak like it?

The shape says which answer it is, so that one reader serves chat completions,
completions, embeddings, responses, images, transcriptions and assistants, whole or
streamed. Input counts include cached, written and audio tokens; output counts include
reasoning, unless the total proves otherwise. Sources:
https://github.com/openai/openai-openapi (CompletionUsage, ResponseUsage,
ImagesUsage, TranscriptTextUsage, RunCompletionUsage), https://docs.x.ai,
https://openrouter.ai/docs/use-cases/usage-accounting, https://docs.perplexity.ai,
https://api-docs.deepseek.com, https://console.groq.com/docs, https://docs.mistral.ai.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import typing as t
from decimal import Decimal

from ..call import Usage
from .dialect import amount
from .dialect import CONFLICT
from .dialect import Dialect
from .dialect import inner
from .dialect import items
from .dialect import needles
from .dialect import Notes
from .dialect import Object

_FINAL: t.Final = frozenset(
    (
        "response.completed",
        "response.failed",
        "response.incomplete",
        "response.cancelled",
        "transcript.text.done",
        "speech.audio.done",
        "image_generation.completed",
        "image_edit.completed",
    )
)
"""Events after which a stream says nothing new."""

_TOOLS: t.Final = {
    "web_search_call": "web_search",
    "file_search_call": "file_search",
    "code_interpreter_call": "code_interpreter",
    "image_generation_call": "image_generation",
    "x_search_call": "x_search",
}
"""Items of ``output`` that have a price per call, and their units."""

_TICKS_PER_USD: t.Final = 10_000_000_000


def read(notes: Notes, document: Object) -> None:
    """Take notes of an answer, or of one event of a stream."""
    kind = document.get("type")
    if isinstance(kind, str) and kind in _FINAL:
        notes.complete = True
    response = document.get("response")
    body: Object = response if isinstance(response, dict) else document
    if kind == "response.created":
        notes.model = notes.response_id = None
    # Alibaba's own API names the request.
    identity = body.get("id", body.get("request_id"))
    notes.identify(model=body.get("model"), response_id=identity)
    notes.date(body.get("created_at") or body.get("created"))
    notes.background = body.get("background") is True
    tier = body.get("service_tier")
    if isinstance(tier, str) and tier:
        notes.service_tier = tier
    last = notes.merge(_usage_of(body)) and document.get("choices") == []
    if last:
        # The chunk of stream_options.include_usage: the last one before [DONE].
        notes.complete = True
    _tools(notes, body)


def read_run(notes: Notes, document: Object) -> None:
    """Take notes of an assistant's run; its streams speak of other things, too."""
    if document.get("object") == "thread.run":
        notes.identify(model=document.get("model"), response_id=document.get("id"))
        notes.date(document.get("created_at"))
        notes.background = True
        notes.merge(document.get("usage"))


def batch_results(line: Object) -> list[Object]:
    """The answer in one line of a batch's output file."""
    response = inner(line, "response")
    return [inner(response, "body")] if response.get("status_code") == 200 else []


def read_images(notes: Notes, document: Object) -> None:
    """Take notes of images: models before gpt-image are billed for each, not by token."""
    read(notes, document)
    drawn = inner(document, "svg_usage") or inner(notes.usage, "svg_usage")
    if drawn:
        notes.seen["svg_usage"] = drawn
    if _COUNTED & notes.usage.keys():
        notes.units.pop("image", None)
        return
    count = len(items(document.get("data")))
    if count:
        notes.units["image"] = Decimal(count)


def image_shares(notes: Notes) -> dict[str, Usage]:
    """What another model used that drew lines: it is beside the images' usage."""
    drawn = notes.seen.get("svg_usage")
    images, model = usage(notes), notes.model or notes.request_model
    if drawn is None or images is None or model is None:
        return {}
    lines = usage(Notes(usage=dict(drawn), operation="chat", flags=notes.flags))
    name = drawn.get("model")
    if lines is None or not isinstance(name, str) or name == model:
        return {}
    return {model: images, name: lines}


def skim_images(notes: Notes, ends: bytes) -> None:
    """Count the images that can be seen: more may have been between the ends."""
    count = len(_IMAGE.findall(ends))
    if count:
        notes.units["image"] = Decimal(count)


_IMAGE: t.Final = re.compile(rb'"(?:b64_json|url)"\s*:\s*"')


def read_audio(notes: Notes, document: Object) -> None:
    """Take notes of a transcript: billed by token, or by second."""
    read(notes, document)
    seconds = amount(
        notes.usage.get("seconds", notes.usage.get("prompt_audio_seconds"))
    )
    if seconds is None and not (_COUNTED & notes.usage.keys()):
        seconds = amount(document.get("duration"))
    if seconds:
        notes.units["audio_second"] = seconds


def _usage_of(body: Object) -> object:
    usage = body.get("usage")
    if isinstance(usage, dict) and usage:
        return usage
    # Groq's streams; in its whole answers x_groq.usage is about caches in its chips.
    groq = inner(body.get("x_groq"), "usage")
    if "prompt_tokens" in groq:
        return groq
    # Moonshot's streams carry usage in the last choice.
    for choice in items(body.get("choices"))[:1]:
        return inner(choice, "usage")
    return None


def _tools(notes: Notes, body: Object) -> None:
    counts: dict[str, int] = {}
    containers: set[str] = set()
    for item in items(body.get("output")):
        if isinstance(item, dict) and item.get("status") != "failed":
            unit = _TOOLS.get(str(item.get("type")))
            if unit is not None and not _same_container(item, containers):
                counts[unit] = counts.get(unit, 0) + 1
    for unit, count in counts.items():
        notes.units[unit] = Decimal(count)


def _same_container(item: Object, containers: set[str]) -> bool:
    """Whether code ran where code of this answer ran before: a container is billed once."""
    name = item.get("container_id")
    if not isinstance(name, str) or item.get("type") != "code_interpreter_call":
        return False
    known = name in containers
    containers.add(name)
    return known


def skim(notes: Notes, ends: bytes) -> None:
    """Count billed items by their type: it stands before their content."""
    counts: dict[str, int] = {}
    for found in _TYPE.finditer(ends):
        unit = _TOOLS.get(found.group(1).decode())
        if unit is not None:
            counts[unit] = counts.get(unit, 0) + 1
    notes.units.update({unit: Decimal(count) for unit, count in counts.items()})


_TYPE: t.Final = re.compile(rb'"type"\s*:\s*"([a-z_]+_call)"')


def usage(notes: Notes, *, hidden_thinking: bool = False) -> Usage | None:
    """Cut the provider's counts into disjoint buckets.

    :param hidden_thinking: What the total has beyond input and output is reasoning that
        is billed but not counted elsewhere (Google's compatible endpoint).
    """
    seen, count = notes.usage, notes.count
    if _COUNTED.isdisjoint(seen):
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


_COUNTED: t.Final = frozenset(
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
    held = notes.carve(total, read=cached, written=count(_first(_WRITTEN, into)))
    kinds = notes.carve(
        held["read"],
        audio=count(by_kind.get("audio_tokens")),
        image=count(by_kind.get("image_tokens")),
    )
    # Audio and image counts include cached ones; where nothing says how many of them
    # were cached, text is taken to be cached first.
    audio = min(held["rest"], count(into.get("audio_tokens")) - kinds["audio"])
    image = min(held["rest"], count(_images(seen)) - kinds["image"])
    video = count(into.get("video_tokens"))
    fresh = notes.carve(
        held["rest"], audio=max(0, audio), image=max(0, image), video=video
    )
    half_day = count(inner(into, "cache_write_tokens_details").get("ttl_12h_tokens"))
    lasting = notes.carve(held["written"], half_day=half_day)
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
    made = notes.carve(total, audio=notes.count(audio), image=notes.count(image))
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


def cost(notes: Notes) -> Decimal | None:
    """What the provider itself says that it charges, in USD."""
    seen = notes.usage
    ticks = amount(seen.get("cost_in_usd_ticks"))
    if ticks:
        # 0 is no bill: Azure serves grok with 0 ticks and bills it elsewhere.
        return ticks / _TICKS_PER_USD
    charged = seen.get("cost")
    if isinstance(charged, dict):
        # Perplexity: every chunk has the object, the last one the sum.
        return amount(charged.get("total_cost")) or None
    if "is_byok" in seen or "cost_details" in seen or notes.provider == "openrouter":
        return _openrouter_cost(amount(charged), seen)
    return None


def _openrouter_cost(charged: Decimal | None, seen: Object) -> Decimal | None:
    # With a key of one's own, "cost" is OpenRouter's fee and the upstream bill is apart.
    if charged is not None and seen.get("is_byok") is True:
        upstream = amount(inner(seen, "cost_details").get("upstream_inference_cost"))
        return None if upstream is None else charged + upstream
    return charged


_USAGE: t.Final = rb'"usage"(?!\s*:\s*null)'
"""With stream_options.include_usage every chunk has ``"usage":null`` but the last."""

CHAT: t.Final = Dialect(
    read=read,
    usage=usage,
    cost=cost,
    needles=needles(_USAGE, rb"\[DONE\]"),
    heavy=frozenset(("choices", "output", "data")),
    tail=("usage", "service_tier", "model", "id"),
    envelope="response",
)
"""Everything that looks like OpenAI's answers."""

RESPONSES: t.Final = dataclasses.replace(
    CHAT,
    needles=needles(_USAGE, rb"\[DONE\]", rb'"response.created"'),
    skim=skim,
    whole=(b'_search_call"', b'_interpreter_call"', b'_generation_call"'),
)
"""Answers with items that are billed one by one."""

EMBEDDINGS: t.Final = dataclasses.replace(CHAT, tail=("usage", "model", "id"))

RUNS: t.Final = dataclasses.replace(CHAT, read=read_run)

BATCH: t.Final = Dialect(
    read=read, usage=usage, cost=cost, whole=(b"",), results=batch_results
)

IMAGES: t.Final = dataclasses.replace(
    CHAT,
    read=read_images,
    heavy=frozenset(),
    tail=("usage",),
    envelope="",
    skim=skim_images,
    shares=image_shares,
)

AUDIO: t.Final = dataclasses.replace(
    CHAT,
    read=read_audio,
    heavy=frozenset(),
    tail=("usage", "duration", "model"),
    envelope="",
)

HIDDEN_THINKING: t.Final = dataclasses.replace(
    CHAT, usage=functools.partial(usage, hidden_thinking=True)
)
"""Google's compatible endpoint."""
