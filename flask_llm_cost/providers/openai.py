"""Reads the answers of OpenAI and of compatible APIs.

An answer's shape shows its kind, so one reader serves chat completions, completions,
embeddings, responses, images, transcriptions and assistants, whole or streamed. Input
counts include cached, cache-written and audio tokens. Output counts include reasoning,
unless the total proves otherwise. Sources:
https://github.com/openai/openai-openapi (CompletionUsage, ResponseUsage,
ImagesUsage, TranscriptTextUsage, RunCompletionUsage), https://docs.x.ai,
https://openrouter.ai/docs/use-cases/usage-accounting, https://docs.perplexity.ai,
https://api-docs.deepseek.com, https://console.groq.com/docs, https://docs.mistral.ai.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t
from decimal import Decimal

from ..call import Usage
from ..money import add
from ..money import quotient
from .dialect import add_part
from .dialect import Dialect
from .dialect import inner
from .dialect import items
from .dialect import needles
from .dialect import Notes
from .dialect import Object
from .openai_usage import chat_request
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
"""Terminal events: a stream reports nothing new after one of them."""

_TOOLS: t.Final = {
    "web_search_call": "web_search",
    "file_search_call": "file_search",
    "code_interpreter_call": "code_interpreter",
    "image_generation_call": "image_generation",
    "x_search_call": "x_search",
    # Azure's agents search with Bing at the price of a web search:
    # https://learn.microsoft.com/azure/ai-foundry/agents/how-to/tools/bing-tools
    "bing_grounding_call": "web_search",
    "bing_custom_search_preview_call": "web_search",
}
"""Items of ``output`` with a price per call, and their units."""

_FREE_ACTIONS: t.Final = ("open_page", "find_in_page")
"""Actions of ``web_search_call`` without a fee. Only ``search`` has one:
https://platform.openai.com/docs/guides/tools-web-search."""

_TOOL_MEMBERS: t.Final = frozenset(("output", "tools", "tool_usage"))
"""Members of an answer that may show what its tools did."""

_TICKS_PER_USD: t.Final = 10_000_000_000


def read(notes: Notes, document: Object) -> None:
    """Take notes of an answer or of one event of a stream."""
    kind = document.get("type")
    if isinstance(kind, str) and kind in _FINAL:
        notes.complete = True
    response = document.get("response")
    body: Object = response if isinstance(response, dict) else document
    if kind == "response.created":
        notes.model = notes.response_id = None
    # Alibaba's own API has only a request id.
    identity = body.get("id", body.get("request_id"))
    notes.identify(model=body.get("model"), response_id=identity)
    notes.date(body.get("created_at") or body.get("created"))
    notes.background = body.get("background") is True
    tier = body.get("service_tier")
    if isinstance(tier, str) and tier:
        notes.service_tier = tier
    counted = notes.merge(_usage_of(body))
    if counted and document.get("choices") == []:
        # The chunk for stream_options.include_usage is the last one before [DONE].
        notes.complete = True
    _note_ending(notes, document, counted=counted)
    if not _TOOL_MEMBERS.isdisjoint(body):
        _tools(notes, body)


def _note_ending(notes: Notes, document: Object, *, counted: bool) -> None:
    """Note whether a stream that repeats the usage so far in its chunks has ended.

    DeepSeek, Perplexity and xAI do. Other streams have usage only in one chunk, which may
    come after the one with the reason why the answer ended.
    """
    choices = [inner({"": choice}, "") for choice in items(document.get("choices"))]
    if any(choice.get("finish_reason") for choice in choices):
        notes.extra["reports"] = None
        notes.running = False
    elif counted and any("delta" in choice for choice in choices):
        reports = notes.extra.setdefault("reports", 0)
        if reports is not None:
            notes.extra["reports"] = reports + 1
            notes.running = reports > 0


def turns(notes: Notes, document: Object) -> list[Notes]:
    """Return the answer that ended, if another one begins.

    A web socket has many responses: ``responses.connect()`` of the SDK.
    """
    ended = notes.complete and document.get("type") == "response.created"
    return [notes.take()] if ended else []


def read_run(notes: Notes, document: Object) -> None:
    """Take notes of an assistant's run. Its streams have other objects, too."""
    if document.get("object") == "thread.run":
        notes.identify(model=document.get("model"), response_id=document.get("id"))
        notes.date(document.get("created_at"))
        notes.background = True
        notes.merge(document.get("usage"))
        tools = {
            inner({"": tool}, "").get("type") for tool in items(document.get("tools"))
        }
        if tools & {"code_interpreter", "file_search"}:
            # Only its steps show whether the run used these tools, which have fees.
            notes.flags.add("unread_usage")


def batch_results(line: Object) -> list[Object]:
    """Get the answer in one line of a batch's output file."""
    response = inner(line, "response")
    return [inner(response, "body")] if response.get("status_code") == 200 else []


def with_svgs(
    notes: Notes, parts: dict[str, Usage], svgs: list[Object]
) -> dict[str, Usage]:
    """Add the usage of models that drew SVGs (the SDK's type ``SvgUsage``)."""
    for svg in svgs:
        thinking = {"reasoning_tokens": svg.get("reasoning_tokens")}
        seen = {**svg, "output_tokens_details": thinking}
        used = usage(Notes(usage=seen, operation="chat", flags=notes.flags))
        name = svg.get("model")
        if used is None or not isinstance(name, str) or not name:
            notes.flags.add("unread_usage")
        else:
            add_part(parts, name, used, notes.flags)
    return parts


def conditions(**found: object) -> frozenset[str]:
    """Flag conditions that a price may depend on. No price has one called ``other``."""
    return frozenset(
        f"{name}.{value.lower() if _CONDITION.fullmatch(value.lower()) else 'other'}"
        for name, value in found.items()
        if isinstance(value, str) and value
    )


_CONDITION: t.Final = re.compile(r"[a-z0-9x.-]{1,20}")


def _usage_of(body: Object) -> object:
    usage = body.get("usage")
    if isinstance(usage, dict) and usage:
        return usage
    # Groq's streams. In whole answers, x_groq.usage is about the cache of its chips.
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
        if isinstance(item, dict):
            unit = billed(item)
            name = _container(item)
            if name is not None:
                notes.flags.add("session_fee")
            if unit is not None and name not in containers:
                counts[unit] = counts.get(unit, 0) + 1
                containers |= set() if name is None else {name}
    notes.containers |= containers
    searches = inner(inner(body, "tool_usage"), "web_search").get("num_requests")
    if searches is not None:
        # The provider's own count of billable searches takes precedence.
        counts["web_search"] = notes.count(searches)
    for unit, count in counts.items():
        notes.units[unit] = Decimal(count)
    _drawings(notes, body)


def billed(item: Object) -> str | None:
    """Return the unit that an item of the output is billed by, if it is billed."""
    if item.get("status") == "failed":
        return None
    if inner(item, "action").get("type") in _FREE_ACTIONS:
        return None
    if item.get("type") == "shell_call":
        return None if _container(item) is None else "code_interpreter"
    return _TOOLS.get(str(item.get("type")))


def _container(item: Object) -> str | None:
    """Return the container that ran an item's code, which is billed only once.

    The SDK's types ``ResponseCodeInterpreterToolCall`` and
    ``ResponseFunctionShellToolCall``, whose environment may be the user's own.
    """
    kind = item.get("type")
    place = inner(item, "environment") if kind == "shell_call" else item
    name = place.get("container_id")
    known = kind in ("code_interpreter_call", "shell_call")
    return name if known and name and isinstance(name, str) else None


def _drawings(notes: Notes, body: Object) -> None:
    """Take notes of the images that tools drew, and of the models that drew them."""
    svgs = [inner(item, "svg_usage") for item in items(body.get("output"))]
    if any(svgs):
        notes.extra["svgs"] = [svg for svg in svgs if svg]
    images = inner(inner(body, "tool_usage"), "image_gen")
    if any(images.get(name) for name in COUNTED):
        notes.extra["image_gen"] = images
        # Its tokens are billed, not the images.
        notes.units.pop("image_generation", None)
    for tool in items(body.get("tools")):
        kind = str(tool.get("type")) if isinstance(tool, dict) else ""
        if kind == "image_generation":
            notes.extra["drawer"] = tool.get("model")
        elif kind.startswith("web_search"):
            notes.extra["search_tool"] = kind


def tool_usage_by_model(notes: Notes) -> dict[str, Usage]:
    """Separate the usage of the models that drew images, which ``usage`` excludes."""
    answer, model = usage(notes), notes.model or notes.request_model
    if answer is None or model is None:
        return {}
    parts = {model: answer}
    if "image_gen" in notes.extra:
        used, name = _drawn(notes, notes.extra["image_gen"]), notes.extra.get("drawer")
        if used is None or not isinstance(name, str) or not name:
            # The answer does not name the model that drew.
            notes.flags.add("unread_usage")
        else:
            add_part(parts, name, used, notes.flags)
    parts = with_svgs(notes, parts, notes.extra.get("svgs", []))
    return {} if parts == {model: answer} else parts


def _drawn(notes: Notes, images: Object) -> Usage | None:
    cached = inner(images, "cached_tokens_details")
    details = {
        **inner(images, "input_tokens_details"),
        "cached_tokens": images.get("cached_tokens"),
        "cached_tokens_details": {"image_tokens": cached.get("cached_image_tokens")},
    }
    drawn = Notes(operation="images", flags=notes.flags)
    drawn.usage = {**images, "input_tokens_details": details}
    return usage(drawn)


def skim(notes: Notes, ends: bytes) -> None:
    """Count billed items by their type, which precedes their content."""
    counts: dict[str, int] = {}
    for found in _TYPE.finditer(ends):
        unit = _TOOLS.get(found.group(1).decode())
        if unit is not None:
            counts[unit] = counts.get(unit, 0) + 1
    if "web_search" in counts:
        counts["web_search"] -= len(_FREE_ACTION.findall(ends))
    notes.units.update({unit: Decimal(max(0, n)) for unit, n in counts.items()})


_TYPE: t.Final = re.compile(rb'"type"\s*:\s*"([a-z_]+_call)"')
_FREE_ACTION: t.Final = re.compile(rb'"type"\s*:\s*"(?:open_page|find_in_page)"')


def cost(notes: Notes) -> Decimal | None:
    """Get the cost in USD that the provider reports."""
    seen = notes.usage
    ticks = notes.amount(seen.get("cost_in_usd_ticks"))
    if ticks:
        # 0 is not a price: Azure serves Grok with 0 ticks and bills it elsewhere.
        return quotient(ticks, _TICKS_PER_USD)
    charged = seen.get("cost")
    if isinstance(charged, dict):
        # Perplexity: every chunk has the object, but only the last one has the total.
        return notes.amount(charged.get("total_cost")) or None
    if "is_byok" in seen or "cost_details" in seen or notes.provider == "openrouter":
        return _openrouter_cost(notes, notes.amount(charged))
    return None


def _openrouter_cost(notes: Notes, charged: Decimal | None) -> Decimal | None:
    seen = notes.usage
    # With the user's own key, "cost" is OpenRouter's fee without the upstream cost.
    if charged is not None and seen.get("is_byok") is True:
        upstream = notes.amount(
            inner(seen, "cost_details").get("upstream_inference_cost")
        )
        return None if upstream is None else add(charged, upstream)
    return charged


def hosting(notes: Notes) -> frozenset[str]:
    """Flag a fine-tuned model on Azure: most deployments of these are billed by the hour.

    Source: https://learn.microsoft.com/azure/foundry/openai/how-to/fine-tuning-cost-management
    """
    tuned = notes.provider == "azure" and ".ft-" in (notes.model or "")
    return frozenset(("session_fee",)) if tuned else frozenset()


_MINI: t.Final = ("gpt-4o-mini", "gpt-4.1-mini")


def search_conditions(notes: Notes) -> frozenset[str]:
    """Flag the preview of the search, which has another fee at models without reasoning.

    With its successor, GPT-4o mini and GPT-4.1 mini are billed a fixed block of 8,000
    input tokens for each search, which ``usage`` is not known to include. Source:
    https://platform.openai.com/docs/pricing#built-in-tools
    """
    found, kind = hosting(notes), notes.extra.get("search_tool")
    if kind is None or "web_search" not in notes.units:
        return found
    if kind.startswith("web_search_preview"):
        return found | {"search_tool.preview"}
    mini = str(notes.model or notes.request_model).startswith(_MINI)
    return found | {"unread_usage"} if mini else found


_USAGE: t.Final = rb'"usage"(?!\s*:\s*null)'
"""With stream_options.include_usage, all chunks except the last have ``"usage":null``."""

CHAT: t.Final = Dialect(
    read=read,
    usage=usage,
    cost=cost,
    price_flags=hosting,
    request=chat_request,
    request_if=(b'"web_search"', b'"builtin_function"'),
    needles=needles(_USAGE, rb"\[DONE\]"),
    content=frozenset(("choices", "output", "data")),
    tail=("usage", "service_tier", "model", "id"),
    envelope="response",
)
"""All answers that look like OpenAI's."""

RESPONSES: t.Final = dataclasses.replace(
    CHAT,
    needles=needles(_USAGE, rb"\[DONE\]", rb'"response.created"'),
    skim=skim,
    tail=("usage", "tool_usage", "tools", "service_tier", "model", "id"),
    parse_whole_if=(
        b'_search_call"',
        b'_interpreter_call"',
        b'_generation_call"',
        b'"shell_call"',
        b'"bing_',
    ),
    usage_by_model=tool_usage_by_model,
    price_flags=search_conditions,
)
"""Answers with items that have a price per call."""

EMBEDDINGS: t.Final = dataclasses.replace(CHAT, tail=("usage", "model", "id"))

RUNS: t.Final = dataclasses.replace(CHAT, read=read_run)


def google_usage(notes: Notes) -> Usage | None:
    """Split the counts of Google's OpenAI-compatible endpoint, which has no kinds of input.

    Audio costs more than text, so a request with audio is flagged.
    """
    if notes.request.get("hears"):
        notes.flags.add("unread_usage")
    return usage(notes, hidden_thinking=True)


HIDDEN_THINKING: t.Final = dataclasses.replace(
    CHAT,
    usage=google_usage,
    request=lambda document: {"hears": True},
    request_if=(b'"input_audio"',),
)
"""Google's OpenAI-compatible endpoint."""
