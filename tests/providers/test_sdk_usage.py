"""Each field of usage that a provider's SDK knows is read, or is listed as not billed.

The SDKs' own types are walked, so a field that a new release adds fails here. A field is
read if another value in a sample answer changes the reading.
"""

from __future__ import annotations

import inspect
import json
import re
import typing as t
from collections.abc import Callable
from pathlib import Path

import pytest

from flask_llm_cost import providers
from flask_llm_cost.call import Reading
from flask_llm_cost.providers import chat_route
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import route

pydantic = pytest.importorskip("pydantic")

from tests.providers.sdk_types import changed  # noqa: E402
from tests.providers.sdk_types import changes  # noqa: E402
from tests.providers.sdk_types import Model  # noqa: E402
from tests.providers.sdk_types import sample  # noqa: E402
from tests.providers.sdk_types import usage_types  # noqa: E402
from tests.providers.sdk_types import without_siblings  # noqa: E402

Document = dict[str, t.Any]
Reader = Callable[[Document], list[Reading]]
"""Puts a sample of usage into an answer, and returns its readings."""


def at(url: str, put: Callable[[Document], Document], method: str = "POST") -> Reader:
    """Read answers at a URL."""

    def read(usage: Document) -> list[Reading]:
        found = route(method, url)
        assert found is not None, url
        exchange = Exchange(found, request_body=b'{"model": "m"}')
        exchange.begin_response(200, {})
        exchange.feed(json.dumps(put(usage)).encode(), decoded=True)
        last = exchange.reading(ended=True)
        return [*exchange.take_results(), last]

    return read


def in_events(provider: str, put: Callable[[Document], list[Document]]) -> Reader:
    """Read events that are given to ``track_stream()``."""

    def read(usage: Document) -> list[Reading]:
        exchange = Exchange(chat_route(provider), request_body=None)
        exchange.begin_response(200, {})
        for event in put(usage):
            exchange.event(event)
        last = exchange.reading(ended=True)
        return [*exchange.take_results(), last]

    return read


def unread(
    found: dict[str, Model], places: dict[str, Reader], elsewhere: dict[str, str]
) -> set[str]:
    """Return the paths of the fields that change no reading."""
    fields = set()
    for path, model in found.items():
        if path.startswith(tuple(elsewhere)):
            continue
        readers = [reader for end, reader in places.items() if re.search(end, path)]
        assert readers, f"{path} is read nowhere: add it to the places or elsewhere"
        document = sample(model)
        before = readers[0](document)
        assert any(each.usage is not None for each in before), path
        for name, where, values in changes(model):
            if not any(matters(readers[0], document, where, each) for each in values):
                fields.add(f"{path}.{name}")
    return fields


def matters(
    reader: Reader, document: Document, where: tuple[str | int, ...], value: t.Any
) -> bool:
    """Whether a value changes the reading, at least if another member is missing."""
    return any(
        reader(each) != reader(changed(each, where, value))
        for each in (document, *without_siblings(document, where))
    )


def assert_read(
    found: dict[str, Model],
    places: dict[str, Reader],
    not_billed: dict[str, str],
    elsewhere: dict[str, str],
) -> None:
    fields = unread(found, places, elsewhere)
    ends = tuple(f".{name}" for name in not_billed)
    assert {field for field in fields if not field.endswith(ends)} == set()
    assert_needed(found, elsewhere)
    # Each entry of the list is still about a field that changes nothing.
    assert {end for end in ends if not any(f.endswith(end) for f in fields)} == set()


OPENAI = "https://api.openai.com/v1"
USED = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}


def drawn(usage: Document) -> Document:
    tools = [{"type": "image_generation", "model": "gpt-image-2"}]
    return {"model": "m", "usage": USED, "tools": tools, "tool_usage": usage}


def svg(usage: Document) -> Document:
    item = {"type": "image_generation_call", "svg_usage": usage}
    return {"model": "m", "usage": USED, "output": [item]}


def turn(usage: Document) -> Document:
    kind = "agent.session.turn"
    return {"id": "t", "object": kind, "status": "completed", "usage": usage}


def evaluation(usage: Document) -> Document:
    return {"id": "r", "status": "completed", "per_model_usage": [usage]}


def simple(usage: Document) -> Document:
    return {"model": "m", "usage": usage}


TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
OPENAI_PLACES: dict[str, Reader] = {
    r"^audio\.": at(f"{OPENAI}/audio/transcriptions", simple),
    r"SvgUsage$": at(f"{OPENAI}/responses", svg),
    r"ToolUsage$": at(f"{OPENAI}/responses", drawn),
    r"ResponseUsage$(?<!RealtimeResponseUsage)": at(f"{OPENAI}/responses", simple),
    r"^decision\.": at(f"{OPENAI}/decisions", simple),
    r"^image": at(f"{OPENAI}/images/edits", simple),
    r"RealtimeResponseUsage$": in_events(
        "openai",
        lambda usage: [{"type": "response.done", "response": {"usage": usage}}],
    ),
    r"transcription_completed_event": in_events(
        "openai", lambda usage: [{"type": TRANSCRIBED, "usage": usage}]
    ),
    r"^beta\.threads\.run\.": at(
        f"{OPENAI}/threads/thread_1/runs",
        lambda usage: {"object": "thread.run", "usage": usage},
    ),
    r"TokenUsage$": at(f"{OPENAI}/agents/sessions/s/turns/t", turn, "GET"),
    r"CompletionUsage$": at(f"{OPENAI}/chat/completions", simple),
    r"^create_embedding": at(f"{OPENAI}/embeddings", simple),
    r"PerModelUsage$": at(f"{OPENAI}/evals/e/runs/r", evaluation, "GET"),
    r"SessionUsage$": in_events(
        "openai", lambda usage: [{"type": "session.usage.updated", "usage": usage}]
    ),
    r"SessionUsageUpdatedEvent$": in_events("openai", lambda event: [event]),
}
OPENAI_NOT_BILLED = {
    "text_tokens": "what is left of the total without audio and images",
    "cached_text_tokens": "what is left of the cached total without images",
    "accepted_prediction_tokens": "a part of the completion's tokens",
    "rejected_prediction_tokens": "a part of the completion's tokens",
    "ttl_30m_tokens": "the default time: what is left of the writes without 12 hours",
    "invocation_count": "a count of calls, which are billed by token",
    "image_tokens": "chat bills images as text",
    "active_seconds": "a part of the seconds of a session",
    "usage_ratio": "how full the context is",
    "event_id": "not a quantity",
    "client_event_id": "not a quantity",
}
OPENAI_ELSEWHERE = {
    "admin.": "reports of an organization, not answers",
    "batch_usage.": "a sum: each line of the batch's output is a call",
    "beta.threads.runs.run_step": "a part of the run, whose usage is read",
    "evals.runs.": "a part of the run, whose usage is read",
}


def test_each_field_of_openais_usage_is_read_or_not_billed() -> None:
    pytest.importorskip("openai")
    found = usage_types("openai.types")
    assert len(found) > 20
    assert_read(found, OPENAI_PLACES, OPENAI_NOT_BILLED, OPENAI_ELSEWHERE)


ANTHROPIC = "https://api.anthropic.com/v1"


def delta(usage: Document) -> list[Document]:
    start = {"type": "message_start", "message": {"model": "m", "usage": {}}}
    end = {"stop_reason": "end_turn"}
    return [start, {"type": "message_delta", "delta": end, "usage": usage}]


def session(usage: Document) -> Document:
    return {"type": "session", "id": "s", "status": "terminated", "usage": usage}


def dream(usage: Document) -> Document:
    return {"type": "dream", "id": "d", "status": "completed", "usage": usage}


ANTHROPIC_PLACES: dict[str, Reader] = {
    r"MessageDeltaUsage$": in_events("anthropic", delta),
    r"SessionUsage$": at(f"{ANTHROPIC}/sessions/s", session, "GET"),
    r"DreamUsage$": at(f"{ANTHROPIC}/dreams/d", dream, "GET"),
    r"SpanModelUsage$": in_events(
        "anthropic",
        lambda usage: [{"type": "span.model_request_end", "model_usage": usage}],
    ),
    r"\.(?:Beta)?Usage$|^usage\.": at(f"{ANTHROPIC}/messages", simple),
}
ANTHROPIC_NOT_BILLED = {
    "web_fetch_requests": "fetching has no fee beyond its tokens",
    "active_seconds": "a part of list_cost, or else the flag session_fee",
}
ANTHROPIC_ELSEWHERE = {
    "beta.beta_managed_agents_session_usage_event": "a sum: each request is a call",
    "beta.sessions.beta_managed_agents_session_thread_usage": "a sum, as above",
    "beta.organization.": "reports of an organization, not answers",
    "organization.": "reports of an organization, not answers",
}


def test_each_field_of_anthropics_usage_is_read_or_not_billed() -> None:
    pytest.importorskip("anthropic")
    found = usage_types("anthropic.types")
    assert len(found) > 5
    assert_read(found, ANTHROPIC_PLACES, ANTHROPIC_NOT_BILLED, ANTHROPIC_ELSEWHERE)


GEMINI = "https://generativelanguage.googleapis.com/v1beta"
GOOGLE_PLACES: dict[str, Reader] = {
    r"GenerateContentResponseUsageMetadata$": at(
        f"{GEMINI}/models/m:generateContent", lambda usage: {"usageMetadata": usage}
    ),
    r"CachedContentUsageMetadata$": at(
        f"{GEMINI}/cachedContents", lambda usage: {"usageMetadata": usage}
    ),
    r"^types\.UsageMetadata$": in_events(
        "gemini", lambda usage: [{"serverContent": {}, "usageMetadata": usage}]
    ),
    r"^interactions\.": at(f"{GEMINI}/interactions", simple),
}
GOOGLE_NOT_BILLED = {
    "UsageMetadata.total_token_count": "of a live session: it excludes thinking",
    "initial_input_tokens": "a part of total_input_tokens",
    "total_tokens": "the sum of the others",
    "audio_duration_seconds": "a part of a cache, which is billed by its tokens",
    "image_count": "a part of a cache, which is billed by its tokens",
    "text_count": "a part of a cache, which is billed by its tokens",
    "video_duration_seconds": "a part of a cache, which is billed by its tokens",
}


def test_each_field_of_googles_usage_is_read_or_not_billed() -> None:
    genai = pytest.importorskip("google.genai.types")
    interactions = pytest.importorskip("google.genai._gaos.types.interactions.usage")
    found: dict[str, Model] = {
        f"types.{name}": each
        for name, each in vars(genai).items()
        if name.endswith("UsageMetadata") and hasattr(each, "model_fields")
    }
    assert len(found) > 2
    found["interactions.Usage"] = interactions.Usage
    assert_read(found, GOOGLE_PLACES, GOOGLE_NOT_BILLED, {})


# Bedrock's types have no samples: a field is read if a reader names it.

READERS = "\n".join(
    path.read_text() for path in Path(inspect.getfile(providers)).parent.glob("*.py")
)

BEDROCK_NOT_BILLED = {
    "latencyMs": "not a quantity",
    "guardrailProcessingLatency": "not a quantity",
    "guardrailCoverage": "how much of the text was checked",
    "usage": "text units of a guardrail, without a price: flagged unread_usage",
}
BEDROCK_ELSEWHERE = {
    "GuardrailUsage": "text units of a guardrail, without a price: flagged unread_usage",
    "GuardrailChecks": "no route: checks without a model are not recorded",
}


def test_each_field_of_bedrocks_usage_is_read_or_not_billed() -> None:
    session = pytest.importorskip("botocore.session").get_session()
    model = session.get_service_model("bedrock-runtime")
    shapes = {name: model.shape_for(name) for name in model.shape_names}
    found = {
        name: set(shape.members)
        for name, shape in shapes.items()
        if re.search("Usage|Metrics|CacheDetail$", name) and hasattr(shape, "members")
    }
    assert len(found) > 5
    unknown = {
        f"{name}.{field}"
        for name, fields in found.items()
        if not name.startswith(tuple(BEDROCK_ELSEWHERE))
        for field in fields
        if f'"{field}"' not in READERS and field not in BEDROCK_NOT_BILLED
    }
    assert unknown == set()
    assert_needed(found, BEDROCK_ELSEWHERE)


def assert_needed(found: t.Iterable[str], elsewhere: dict[str, str]) -> None:
    """Assert that each entry of a list is still about a type of the SDK."""
    for prefix in elsewhere:
        assert any(path.startswith(prefix) for path in found), prefix
