"""The most that a request may use, read from the request itself. Pure.

Budgets reserve it before a call is sent, and it bounds the cost of a call whose final
usage never came.
"""

from __future__ import annotations

import json
import re
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal

MAX_TOKENS: t.Final = 10**8
"""A larger limit is a mistake, and is read as no limit."""

_OVERHEAD: t.Final = 256
"""Tokens that chat templates add to a request."""

_TOOLS_OVERHEAD: t.Final = 1_000
"""Tokens that providers add to explain tools to the model. Anthropic's pricing page lists
up to 804."""

_IMAGE: t.Final = 6_000
"""Tokens of an image that is in the request: a small file can have many pixels. Anthropic
counts up to 4,784, and OpenAI's GPT-5 and o-series up to 6,240."""

_IMAGE_4O_MINI: t.Final = 48_200
"""Tokens of an image in detail for GPT-4o mini: 2,833 and 5,667 for each of 8 tiles.
https://platform.openai.com/docs/guides/images-vision"""

_IMAGE_ORIGINAL: t.Final = 16_000
"""Tokens of an image in its original detail, which has up to 10,000 patches."""

_WITHOUT_OUTPUT: t.Final = ("embeddings", "rerank", "moderations")


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that a request may use, as far as it shows."""

    input_tokens: int | None = None
    """``None`` if it refers to input that it does not contain, or could not be read: then
    as many as the model takes."""
    output_tokens: int | None = None
    """Of each choice. ``None`` if it sets no limit: then as many as the model writes."""
    choices: int = 1
    """How many answers it asks for."""
    rounds: int | None = 1
    """How often the provider may run the model: more than once with its own tools.
    ``None`` if there is no limit."""
    units: Mapping[str, Decimal] = field(default_factory=dict)
    """What is billed by the unit: searches that it permits."""
    service_tier: str | None = None
    """As requested, in any of the ways in which providers name a mode."""
    conditions: frozenset[str] = frozenset()
    """What it asks for and a price may depend on, as flags: ``region.us``."""
    other_models: bool = False
    """Whether it names models that may answer instead of its own."""


_UNREADABLE: t.Final = Bound(rounds=None)


def read_bound(body: bytes | None, operation: str) -> Bound:
    """Return the bound of one request.

    :param body: ``None`` if it is not known.
    """
    request = _parse(body)
    if body is None or request is None:
        return _UNREADABLE
    parts = [request, *_nested(request)]
    if operation == "videos":
        return _video(request, parts)
    output = 0 if operation in _WITHOUT_OUTPUT else _output_limit(parts)
    rounds, units = _rounds(request)
    images, refers = survey(request)
    tools = _TOOLS_OVERHEAD if _has_tools(request) else 0
    model = str(request.get("model", ""))
    each = _IMAGE_4O_MINI if "4o-mini" in model else _IMAGE
    if b'"original"' in body:
        each = max(each, _IMAGE_ORIGINAL)
    return Bound(
        # Each token of text has at least one byte.
        input_tokens=None if refers else len(body) + _OVERHEAD + tools + images * each,
        output_tokens=output,
        choices=max([1, *_counts(parts, _CHOICES)]) * _prompts(request),
        rounds=rounds,
        units=units,
        service_tier=requested_tier(request),
        conditions=_conditions(request),
        other_models=any(
            value and _plain(name) in _OTHER_MODELS for name, value in request.items()
        ),
    )


_VIDEO_SECONDS: t.Final = Decimal(8)
"""Of a video whose request states none: Veo's default, which is the longest."""

_VIDEOS: t.Final = frozenset(("n", "samplecount", "numberofvideos"))
_LENGTHS: t.Final = frozenset(("seconds", "duration", "durationseconds"))
_VIDEO_CONDITIONS: t.Final = ("size", "resolution")
_CONDITION: t.Final = re.compile("[a-z0-9x]{1,20}")


def _video(request: Mapping[str, t.Any], parts: list[Mapping[str, t.Any]]) -> Bound:
    """Return the bound of a request for videos, which are billed by the second."""
    lengths = [Decimal(n) for n in _counts(parts, _LENGTHS)] or [_VIDEO_SECONDS]
    number = max([1, *_counts(parts, _VIDEOS)])
    known = {
        f"{name}.{str(part[name]).lower()}"
        for part in parts
        for name in _VIDEO_CONDITIONS
        if _CONDITION.fullmatch(str(part.get(name, "")).lower())
    }
    return Bound(
        input_tokens=0,
        output_tokens=0,
        # Whether the seconds of a video that is extended are billed again is not known.
        rounds=1 if '"video"' not in json.dumps(request) else None,
        units={"video_second": max(lengths) * number},
        conditions=frozenset(known),
    )


def _prompts(request: Mapping[str, t.Any]) -> int:
    """Return how many prompts a request has: completions may have a list of them."""
    prompt = request.get("prompt")
    several = isinstance(prompt, list) and any(
        isinstance(p, (str, list)) for p in prompt
    )
    return len(prompt) if several and prompt else 1


def _parse(body: bytes | None) -> Mapping[str, t.Any] | None:
    """Parse JSON in UTF-8, UTF-16 or UTF-32, with or without a byte order mark."""
    if body and body[:64].lstrip().startswith(b"--"):
        return {
            found[1].decode("utf-8", "replace"): found[2].decode("utf-8", "replace")
            for found in _FORM_FIELD.finditer(body)
        }
    try:
        document = json.loads(body) if body else None
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


_FORM_FIELD: t.Final = re.compile(
    rb'name="?([A-Za-z_]{1,64})"?\r?\n(?:[^\r\n]+\r?\n)*\r?\n([^\r\n]{1,256})\r?\n'
)

# Limits and choices, in any spelling

_OUTPUT_LIMITS: t.Final = frozenset(
    ("maxtokens", "maxcompletiontokens", "maxoutputtokens", "maxtokenstosample")
    + ("numpredict", "maxnewtokens", "maxtokencount", "maxgenlen", "maxgentokens")
)
_CHOICES: t.Final = frozenset(
    ("n", "bestof", "candidatecount", "numreturnsequences", "numgenerations")
)
_THINKING: t.Final = frozenset(("budgettokens", "thinkingbudget", "tokenbudget"))
_GROUPS: t.Final = frozenset(
    ("generationconfig", "inferenceconfig", "options", "parameters", "config")
    + ("textgenerationconfig", "additionalmodelrequestfields", "extrabody")
    + ("thinking", "thinkingconfig", "reasoning", "reasoningconfig")
)
"""Members that group settings."""


def _plain(name: object) -> str:
    """Return a name without case, underscores and hyphens."""
    return str(name).replace("_", "").replace("-", "").lower()


def _nested(
    request: Mapping[str, t.Any], depth: int = 2
) -> Iterator[Mapping[str, t.Any]]:
    for name, value in request.items():
        if depth and isinstance(value, dict) and _plain(name) in _GROUPS:
            yield value
            yield from _nested(value, depth - 1)


def _counts(parts: list[Mapping[str, t.Any]], names: frozenset[str]) -> Iterator[int]:
    for part in parts:
        for name, value in part.items():
            if _plain(name) in names:
                count = _count(value)
                if count is not None:
                    yield count


def _count(value: object) -> int | None:
    """Return a positive whole number, however it is written."""
    if isinstance(value, str) and len(value) <= 32:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not 0 < value <= MAX_TOKENS:
        return None
    return -int(-value // 1)


def _output_limit(parts: list[Mapping[str, t.Any]]) -> int | None:
    limit = max(_counts(parts, _OUTPUT_LIMITS), default=None)
    if limit is None:
        return None
    thinking = max(_counts(parts, _THINKING), default=0)
    # Between calls of tools, Claude may think for more tokens than its answer may have:
    # https://platform.claude.com/docs/en/build-with-claude/extended-thinking
    return limit + thinking if thinking >= limit else limit


def requested_tier(request: Mapping[str, t.Any]) -> str | None:
    """Return the requested tier. Anthropic and Bedrock name some modes otherwise.

    Sources: the SDK's types ``BetaMessageCreateParams`` (speed), and Bedrock's Converse
    (``ServiceTier``, ``PerformanceConfiguration``).
    """
    performance = request.get("performanceConfig")
    latency = performance.get("latency") if isinstance(performance, dict) else None
    for name, mode in ((request.get("speed"), "fast"), (latency, "optimized")):
        if name == mode:
            return mode
    for name in ("service_tier", "serviceTier"):
        tier = request.get(name)
        if isinstance(tier, dict):
            tier = tier.get("type")
        if isinstance(tier, str):
            return tier
    return None


def _conditions(request: Mapping[str, t.Any]) -> frozenset[str]:
    place = request.get("inference_geo")
    known = isinstance(place, str) and re.fullmatch("[a-z]{2}", place)
    return frozenset((f"region.{place}",)) if known else frozenset()


# Tools that the provider runs itself

_CLIENT_TOOLS: t.Final = ("function", "custom", "local_shell", "apply_patch") + (
    "bash",
    "text_editor",
    "computer",
    "memory",
)
"""Types of tools that the app runs, or what they begin with."""

_CLIENT_KEYS: t.Final = frozenset(
    ("functiondeclarations", "computeruse", "toolspec", "inputschema", "function")
    + ("name", "cachepoint", "parameterdefinitions")
)
"""Members of a tool without a type that the app runs."""

_SERVER_TOOLS: t.Final = frozenset(
    ("websearchoptions", "plugins", "mcpservers", "searchparameters", "compoundcustom")
    + ("connectors", "datasources", "enablesearch", "fallbacks", "models", "webplugins")
    + ("searchoptions", "agent", "agentid", "assistantid", "threadid")
)
"""Members of a request that let the provider run tools or other models."""

_OTHER_MODELS: t.Final = frozenset(("fallbacks", "models"))

_SEARCHING: t.Final = re.compile(
    r"search|sonar|compound|deep-research|:online", re.IGNORECASE
)
"""Models that search the web by themselves."""

_FEES: t.Final = {
    "web_search": "web_search",
    "web_fetch": None,
    "file_search": "file_search",
}
"""Tools whose use is limited by the request: the unit that each use is billed as."""

_Rounds: t.TypeAlias = tuple[int | None, dict[str, Decimal]]


def _has_tools(request: Mapping[str, t.Any]) -> bool:
    return any(request.get(name) for name in ("tools", "functions", "toolConfig"))


def _rounds(request: Mapping[str, t.Any]) -> _Rounds:
    """Return how often the model may run, and the units that its tools may be billed."""
    if _SEARCHING.search(str(request.get("model", ""))) or any(
        value and _plain(name) in _SERVER_TOOLS for name, value in request.items()
    ):
        return None, {}
    tools = [tool for tool in _tools(request) if not _runs_in_app(tool)]
    total = _count(request.get("max_tool_calls"))
    uses, units = _compacts(request), dict[str, Decimal]()
    for tool in tools:
        name = next((n for n in _FEES if str(tool.get("type")).startswith(n)), None)
        most = total or _count(tool.get("max_uses"))
        if name is None or most is None:
            return None, {}
        uses += most
        unit = _FEES[name]
        if unit is not None:
            units[unit] = units.get(unit, Decimal(0)) + most
    return 1 + uses, units


def _compacts(request: Mapping[str, t.Any]) -> int:
    """Return how many more rounds there may be because the provider shortens the input.

    Anthropic bills the summary in addition, and OpenAI has the same setting:
    https://platform.claude.com/docs/en/build-with-claude/compaction
    """
    setting = request.get("context_management")
    edits = setting.get("edits") if isinstance(setting, dict) else setting
    return sum(
        isinstance(edit, dict) and str(edit.get("type")).startswith("compact")
        for edit in (edits if isinstance(edits, list) else ())
    )


def _tools(request: Mapping[str, t.Any]) -> Iterator[Mapping[str, t.Any]]:
    listed = request.get("tools")
    inside = request.get("toolConfig")
    if listed is None and isinstance(inside, dict):
        listed = inside.get("tools")
    for tool in listed if isinstance(listed, list) else ():
        yield tool if isinstance(tool, dict) else {"type": str(tool)}


def _runs_in_app(tool: Mapping[str, t.Any]) -> bool:
    kind = tool.get("type")
    if isinstance(kind, str):
        return kind.startswith(_CLIENT_TOOLS)
    return bool(tool) and all(_plain(name) in _CLIENT_KEYS | _NOTES for name in tool)


_NOTES: t.Final = frozenset(("description", "parameters", "cachecontrol", "strict"))

# Input that the request contains, or only refers to

_REFERENCES: t.Final = frozenset(
    ("fileid", "fileids", "fileuri", "fileurl", "filedata", "s3location")
    + ("previousresponseid", "conversation", "conversationid", "promptid")
    + ("cachedcontent", "documenturl", "videourl", "video", "document")
)
"""Members that hold an id or a URL, or a document whose pages are not counted in bytes."""

_LINKS: t.Final = frozenset(("url", "uri", "imageurl", "image", "audiourl"))
_DOCUMENTS: t.Final = ("application/pdf", "video/")
_CALLS: t.Final = ("tool_use", "function_call", "tool_call")


def survey(request: Mapping[str, t.Any]) -> tuple[int, bool]:
    """Count the images in a request, and say whether it refers to other input."""
    prompt = request.get("prompt")
    if isinstance(prompt, dict) and prompt.get("id"):
        return 0, True
    images, refers = 0, False
    left: list[t.Any] = [request]
    while left:
        node = left.pop()
        if isinstance(node, list):
            left += node
        elif isinstance(node, dict) and node.get("type") not in _CALLS:
            for name, value in node.items():
                refers = refers or _is_reference(_plain(name), value)
                images += _is_image(_plain(name), value)
                left.append(value)
    return images, refers


def _is_reference(name: str, value: object) -> bool:
    if name in _REFERENCES:
        return bool(value)
    if not isinstance(value, str):
        return False
    if name in _LINKS:
        return value.startswith(("http://", "https://", "gs://", "s3://"))
    return name in ("mimetype", "mediatype") and value.startswith(_DOCUMENTS)


def _is_image(name: str, value: object) -> bool:
    if name in ("mimetype", "mediatype"):
        return isinstance(value, str) and value.startswith("image/")
    if name in ("url", "imageurl", "image"):
        return isinstance(value, str) and value.startswith("data:")
    return name == "images" and isinstance(value, list) and bool(value)
