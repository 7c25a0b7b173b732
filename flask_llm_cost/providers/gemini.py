"""Reads Gemini's answers, on the Gemini API and on Vertex AI.

``promptTokenCount`` includes cached tokens. Prompt and candidates exclude the tokens of
tool results and of thinking. Every event of a stream repeats the usage so far.
Source: https://ai.google.dev/api/generate-content#UsageMetadata,
https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/GenerateContentResponse.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t
from decimal import Decimal

from ..call import Usage
from . import sparse
from .dialect import batch_dialect
from .dialect import CONFLICT
from .dialect import Dialect
from .dialect import inner
from .dialect import items
from .dialect import needles
from .dialect import Notes
from .dialect import Object
from .openai_usage import draws

_MODALITIES: t.Final = {
    "AUDIO": "audio",
    "IMAGE": "image",
    "VIDEO": "video",
    2: "image",
    3: "video",
    4: "audio",
}
"""Modalities with their own prices. With ``$alt=json;enum-encoding=int`` they are numbers."""

_KINDS: t.Final = ("audio", "image", "video")

_TRAFFIC: t.Final = {1: "ON_DEMAND", 2: "PROVISIONED_THROUGHPUT"}

_CUMULATIVE: t.Final = (
    "promptTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "toolUsePromptTokenCount",
    "cachedContentTokenCount",
)


def read(notes: Notes, document: Object) -> None:
    """Take notes of an answer or of one event of a stream."""
    notes.identify(
        model=document.get("modelVersion", document.get("model_version")),
        response_id=document.get("responseId", document.get("response_id")),
    )
    notes.date_iso(document.get("createTime"))
    seen = reported(document)
    if isinstance(seen, dict):
        seen = {_wire_name(name): value for name, value in seen.items()}
        most = notes.extra.setdefault("most", {})
        for name in _CUMULATIVE:
            if seen.get(name) is not None:
                most[name] = max(most.get(name, 0), notes.count(seen[name]))
        notes.merge(seen)
    for candidate in items(document.get("candidates")):
        ending = inner({"c": candidate}, "c")
        notes.extra["ended"] = any(map(ending.get, ("finishReason", "finish_reason")))
        notes.running = not notes.extra["ended"]
        _note_grounding(
            notes,
            inner(candidate, "groundingMetadata")
            or inner(candidate, "grounding_metadata"),
        )


def reported(document: Object) -> object:
    """Return the usage of an answer or a message, which SDKs name in their own way."""
    return document.get("usageMetadata", document.get("usage_metadata"))


def is_live(document: Object) -> bool:
    """Whether this is a message of a live session, which has many answers.

    Source: google-genai, ``LiveServerMessage``.
    """
    seen = reported(document)
    if isinstance(seen, dict) and not _LIVE_COUNTS.isdisjoint(seen):
        return True
    return any(document.get(name) is not None for name in _LIVE)


_LIVE_COUNTS: t.Final = frozenset(("responseTokenCount", "response_token_count"))
_LIVE: t.Final = ("setupComplete", "serverContent", "toolCall") + (
    "setup_complete",
    "server_content",
    "tool_call",
)


def _note_grounding(notes: Notes, grounding: Object) -> None:
    """Take notes of what an answer was grounded in: searches, maps, the app's own data.

    Search has a fee for each distinct query from Gemini 3 on, and one for the whole prompt
    before. Maps has one for the prompt. Retrieval has one for the request on Vertex AI.
    Source: https://ai.google.dev/gemini-api/docs/pricing,
    https://cloud.google.com/vertex-ai/generative-ai/pricing#grounding.
    """
    grounding = {_wire_name(name): value for name, value in grounding.items()}
    for kind in "webSearchQueries", "imageSearchQueries":
        for query in items(grounding.get(kind)):
            if query:
                # A stream may repeat a query, so a hash of its text is kept.
                notes.extra.setdefault("queries", set()).add(hash((kind, str(query))))
    kinds = {
        _GROUNDED_IN[name]
        for chunk in items(grounding.get("groundingChunks"))
        if isinstance(chunk, dict)
        for name in _GROUNDED_IN.keys() & _wire_names(chunk)
    }
    if grounding.get("googleMapsWidgetContextToken"):
        kinds.add("maps_grounding")
    if items(grounding.get("retrievalQueries")):
        kinds.add("retrieval_grounding")
    if kinds:
        notes.extra.setdefault("grounded", set()).update(kinds)


_GROUNDED_IN: t.Final = {
    "web": "grounding",
    "image": "grounding",
    "maps": "maps_grounding",
    "retrievedContext": "retrieval_grounding",
}
"""The units of a grounded prompt, by the kind of its grounding chunks."""


def _wire_names(value: Object) -> set[str]:
    return {_wire_name(name) for name, known in value.items() if known is not None}


def skim(notes: Notes, ends: bytes) -> None:
    """Note the grounding of an answer that is too long to keep, such as an image."""
    for found in _QUERIES.finditer(ends):
        queries = items(sparse.parse(found.group(2)))
        _note_grounding(notes, {found.group(1).decode(): queries})
    for found in _CHUNK.finditer(ends):
        _note_grounding(notes, {"groundingChunks": [{found.group(1).decode(): {}}]})


_QUERIES: t.Final = re.compile(
    rb'"((?:web|image)SearchQueries|retrievalQueries)"\s*:\s*'
    rb'(\[(?:[^"\]]|"(?:[^"\\]|\\.)*+")*+\])'
)
_CHUNK: t.Final = re.compile(rb'\{\s*"(web|maps|retrievedContext)"\s*:\s*\{')


def _wire_name(name: str) -> str:
    # The SDK's objects have snake case names.
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest) if rest else name


def _miscounts(notes: Notes) -> bool:
    """Whether a model counts the prompt higher in the course of a stream than at its end.

    Gemini 2.0 Flash reported 145 tokens in its first event, and 85 in the last.
    """
    return str(notes.model or notes.request_model).startswith("gemini-2.0")


def usage(notes: Notes) -> Usage | None:
    """Split the provider's counts into disjoint buckets."""
    seen, count = notes.usage, notes.count
    if not any(name in seen for name in (*_CUMULATIVE, "responseTokenCount")):
        return None
    if not notes.extra.get("ended", True) and _miscounts(notes):
        return None
    cached, uncached = _input(notes)
    candidates = count(seen.get("candidatesTokenCount", seen.get("responseTokenCount")))
    kinds = _kinds(notes, "candidatesTokensDetails", "responseTokensDetails")
    output = notes.split_off(candidates, **{k: kinds.get(k, 0) for k in _KINDS})
    thoughts = count(seen.get("thoughtsTokenCount"))
    others = {
        "input_video": uncached["video"],
        "cache_read_audio": cached["audio"],
        "cache_read_image": cached["image"],
        "output_video": output["video"],
    }
    found = Usage(
        input_tokens=uncached["rest"],
        input_audio_tokens=uncached["audio"],
        input_image_tokens=uncached["image"],
        cache_read_tokens=cached["rest"],
        output_tokens=output["rest"] + thoughts,
        output_audio_tokens=output["audio"],
        output_image_tokens=output["image"],
        other_tokens={name: n for name, n in others.items() if n},
        reasoning_tokens=thoughts,
        units=_units(notes),
    )
    _check_counts(notes, found.total_tokens)
    if candidates and not kinds and draws(notes):
        # Images cost more than text, and nothing shows which of them this was.
        notes.flags.add("unread_usage")
    return found


def _input(notes: Notes) -> tuple[dict[str, int], dict[str, int]]:
    """Split cached and uncached input by modality."""
    seen, count = notes.usage, notes.count
    prompt = notes.split_off(
        count(seen.get("promptTokenCount")),
        cached=count(seen.get("cachedContentTokenCount")),
    )
    kinds = _kinds(
        notes,
        "promptTokensDetails",
        "promptTokenDetails",
        "toolUsePromptTokensDetails",
    )
    cached_kinds = _cached_kinds(notes, prompt, kinds)
    cached = notes.split_off(
        prompt["cached"],
        audio=cached_kinds.get("audio", 0),
        image=cached_kinds.get("image", 0),
    )
    uncached = notes.split_off(
        prompt["rest"] + count(seen.get("toolUsePromptTokenCount")),
        **{k: max(0, kinds.get(k, 0) - cached_kinds.get(k, 0)) for k in _KINDS},
    )
    return cached, uncached


def _cached_kinds(
    notes: Notes, prompt: dict[str, int], kinds: dict[str, int]
) -> dict[str, int]:
    """Get what was cached by modality, and flag audio that may have been, at its own rate."""
    if notes.usage.get("cacheTokensDetails") is None and kinds.get("audio"):
        if prompt["cached"] and not prompt["rest"]:
            return kinds
        if prompt["cached"]:
            notes.flags.add("unread_usage")
    return _kinds(notes, "cacheTokensDetails")


def _check_counts(notes: Notes, parts: int) -> None:
    """Flag counts that have decreased, and a total that is not the sum of its parts."""
    seen, count = notes.usage, notes.count
    if any(
        count(seen.get(name)) < n for name, n in notes.extra.get("most", {}).items()
    ):
        # Neither the last nor the largest count is provably right. In between, counts
        # may start again after a tool was used.
        notes.flags.add(CONFLICT)
    total = seen.get("totalTokenCount")
    # The total of a live session excludes thinking.
    if total is not None and "responseTokenCount" not in seen:
        if count(total) != parts:
            notes.flags.add(CONFLICT)


def _kinds(notes: Notes, *names: str) -> dict[str, int]:
    kinds: dict[str, int] = {}
    for name in names:
        for part in items(notes.usage.get(name)):
            if isinstance(part, dict):
                modality = part.get("modality")
                kind = _MODALITIES.get(modality) if _plain(modality) else None
                if kind is not None:
                    tokens = part.get("tokenCount", part.get("token_count"))
                    kinds[kind] = kinds.get(kind, 0) + notes.count(tokens)
    return kinds


def _plain(value: object) -> t.TypeGuard[str | int]:
    return isinstance(value, (str, int))


_PER_PROMPT: t.Final = re.compile(r"gemini-(?:[a-z]+-)*[12]\b")
"""Models with one fee for a grounded prompt: https://ai.google.dev/gemini-api/docs/pricing."""


def _units(notes: Notes) -> dict[str, Decimal]:
    units = dict(notes.units)
    grounded = notes.extra.get("grounded", set())
    if notes.provider != "vertex":
        # The Gemini API bills file search by its embeddings, not by the request.
        grounded = grounded - {"retrieval_grounding"}
    units.update(dict.fromkeys(grounded, Decimal(1)))
    if "maps_grounding" in grounded and not _PER_PROMPT.search(notes.model or ""):
        # Later models bill each query to Maps, which an answer does not list.
        notes.flags.add("unread_usage")
    queries = notes.extra.get("queries")
    if queries:
        units["grounding"] = Decimal(len(queries))
    return units


def tier(notes: Notes) -> str | None:
    """Get the Gemini API's service tier or Vertex AI's traffic type."""
    for name in "serviceTier", "trafficType":
        served = notes.usage.get(name)
        if isinstance(served, int):
            served = _TRAFFIC.get(served)
        if isinstance(served, str):
            return served
    named = notes.headers.get(_TIER_HEADER)
    return named if named in _TIERS else notes.service_tier


_TIER_HEADER: t.Final = "x-gemini-service-tier"
_TIERS: t.Final = ("standard", "flex", "priority")
"""Values of the header: https://ai.google.dev/gemini-api/docs/priority-inference."""


def read_prediction(notes: Notes, document: Object) -> None:
    """Take notes of Vertex AI's text embeddings."""
    total = 0
    for prediction in items(document.get("predictions")):
        counted = inner(inner(prediction, "embeddings"), "statistics").get(
            "token_count"
        )
        if counted is not None:
            total += notes.count(counted)
            notes.usage["promptTokenCount"] = total
    notes.merge(document.get("usageMetadata"))


GENERATE: t.Final = Dialect(
    read=read,
    usage=usage,
    tier=tier,
    needles=needles(rb'"usageMetadata"', rb'"groundingMetadata"'),
    content=frozenset(("candidates", "embedding", "embeddings")),
    tail=("usageMetadata", "modelVersion", "responseId"),
    parse_whole_if=(b'"groundingMetadata"',),
    skim=skim,
    headers=frozenset((_TIER_HEADER,)),
)

PREDICT: t.Final = dataclasses.replace(
    GENERATE,
    read=read_prediction,
    tail=("token_count",),
    parse_whole_if=(b'"token_count"',),
    skim=None,
)


def batch_results(document: Object) -> list[Object]:
    """Get the answers in one line of a batch's output file, or in a batch object.

    Answers have no date, and embeddings neither a model nor an id. Those in a batch object
    get them from the batch.
    """
    batch = inner(document, "metadata") or document
    output = inner(batch, "output") or inner(document, "response")
    lines = [
        line
        for kind in ("inlinedResponses", "inlinedEmbedContentResponses")
        for line in items(inner(output, kind).get("inlinedResponses"))
    ]
    answers: list[Object] = []
    for number, line in enumerate([*lines, document]):
        answer = inner(line, "response")
        if "tokenCount" in answer:
            answer = _embedding(answer, batch, document.get("name"), number)
        if "usageMetadata" in answer:
            answers.append({"createTime": batch.get("createTime"), **answer})
    return answers


def _embedding(answer: Object, batch: Object, name: object, number: int) -> Object:
    """Bring a batch's embedding (``:asyncBatchEmbedContent``) into the usual form."""
    model = batch.get("model")
    return {
        "object": "embedding",
        "modelVersion": model.rpartition("/")[2] if isinstance(model, str) else None,
        "responseId": None if name is None else f"{name}/{number}",
        "usageMetadata": {"promptTokenCount": answer["tokenCount"]},
    }


BATCH: t.Final = batch_dialect(GENERATE, batch_results)
