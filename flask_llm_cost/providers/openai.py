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
from .dialect import Dialect
from .dialect import inner
from .dialect import items
from .dialect import needles
from .dialect import Notes
from .dialect import Object
from .openai_usage import COUNTED
from .openai_usage import usage

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
        notes.extra["svg_usage"] = drawn
    if COUNTED & notes.usage.keys():
        notes.units.pop("image", None)
        return
    count = len(items(document.get("data")))
    if count:
        notes.units["image"] = Decimal(count)


def image_usage_by_model(notes: Notes) -> dict[str, Usage]:
    """What another model used that drew lines: it is beside the images' usage."""
    drawn = notes.extra.get("svg_usage")
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
    if seconds is None and not (COUNTED & notes.usage.keys()):
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
    content=frozenset(("choices", "output", "data")),
    tail=("usage", "service_tier", "model", "id"),
    envelope="response",
)
"""Everything that looks like OpenAI's answers."""

RESPONSES: t.Final = dataclasses.replace(
    CHAT,
    needles=needles(_USAGE, rb"\[DONE\]", rb'"response.created"'),
    skim=skim,
    parse_whole_if=(b'_search_call"', b'_interpreter_call"', b'_generation_call"'),
)
"""Answers with items that are billed one by one."""

EMBEDDINGS: t.Final = dataclasses.replace(CHAT, tail=("usage", "model", "id"))

RUNS: t.Final = dataclasses.replace(CHAT, read=read_run)

BATCH: t.Final = Dialect(
    read=read,
    usage=usage,
    cost=cost,
    parse_whole_if=(b"",),
    batch_results=batch_results,
)

IMAGES: t.Final = dataclasses.replace(
    CHAT,
    read=read_images,
    content=frozenset(),
    tail=("usage",),
    envelope="",
    skim=skim_images,
    usage_by_model=image_usage_by_model,
)

AUDIO: t.Final = dataclasses.replace(
    CHAT,
    read=read_audio,
    content=frozenset(),
    tail=("usage", "duration", "model"),
    envelope="",
)

HIDDEN_THINKING: t.Final = dataclasses.replace(
    CHAT, usage=functools.partial(usage, hidden_thinking=True)
)
"""Google's compatible endpoint."""
