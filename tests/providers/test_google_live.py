"""Live sessions and interactions of the Gemini API and Vertex AI.

Sources: google-genai's types ``LiveServerMessage``, ``UsageMetadata`` and ``StepStop``;
https://github.com/pydantic/pydantic-ai/pull/7269 (usage is that of one turn).
"""

from __future__ import annotations

import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.call import Usage
from flask_llm_cost.providers import chat_route
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers.finished import whole_reading
from tests.providers.test_cases import answer
from tests.providers.test_cases import sse

GEMINI = "https://generativelanguage.googleapis.com/v1beta"
LIVE = {
    "gemini": "wss://generativelanguage.googleapis.com/ws"
    "/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
    "vertex": "wss://us-central1-aiplatform.googleapis.com/ws"
    "/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent",
}


def turn(prompt: int, response: int, **content: t.Any) -> list[dict[str, t.Any]]:
    usage = {
        "promptTokenCount": prompt,
        "responseTokenCount": response,
        "totalTokenCount": prompt + response,
        "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": response}],
    }
    return [
        {"serverContent": {"modelTurn": {}, **content}},
        {"serverContent": {"turnComplete": True}, "usageMetadata": usage},
    ]


def tracked(provider: str, events: list[t.Any]) -> Reading:
    exchange = Exchange(chat_route(provider), request_body=None)
    exchange.begin_response(200, {})
    for event in events:
        exchange.event(event)
    return whole_reading(exchange)


# As measured in the pull request above
SESSION: t.Final = [
    {"setupComplete": {}},
    *turn(143, 19),
    *turn(181, 24, groundingMetadata={"webSearchQueries": ["a", "b", "a"]}),
    *turn(224, 24, groundingMetadata={"webSearchQueries": ["a"]}),
]
USED = Usage(
    input_tokens=143 + 181 + 224,
    output_audio_tokens=19 + 24 + 24,
    units={"grounding": Decimal(3)},
)


@pytest.mark.parametrize("provider", ["gemini", "vertex", "google"])
@pytest.mark.parametrize("first", [0, 1])
def test_the_turns_of_a_tracked_session_are_summed(provider: str, first: int) -> None:
    reading = tracked(provider, SESSION[first:])
    assert reading.usage == USED
    assert reading.flags == set()


@pytest.mark.parametrize("provider", LIVE)
def test_a_log_of_a_session_is_read_at_its_url(provider: str) -> None:
    reading = answer(LIVE[provider], sse(*SESSION), method="WS")
    assert (reading.provider, reading.operation) == (provider, "realtime")
    assert reading.usage == USED


def test_messages_of_the_sdk_have_snake_case_names() -> None:
    usage = {"prompt_token_count": 9, "response_token_count": 4}
    message = {"server_content": None, "usage_metadata": usage}
    reading = tracked("gemini", [message, message])
    assert reading.usage == Usage(input_tokens=18, output_tokens=8)


def test_a_stream_that_is_not_live_still_counts_its_last_usage() -> None:
    chunk = {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 4}}
    reading = tracked("gemini", [{"candidates": []}, chunk, chunk])
    assert reading.usage == Usage(input_tokens=9, output_tokens=4)


# Interactions


def test_a_tool_with_a_fee_that_is_not_known_is_flagged() -> None:
    tools = [
        {"type": "google_search", "count": 2},
        {"type": "google_flights", "count": 1},
        None,
    ]
    body = {"id": "i", "usage": {**used(9, 5), "grounding_tool_count": tools}}
    reading = answer(f"{GEMINI}/interactions", body)
    assert reading.usage is not None
    assert reading.usage.units == {"grounding": 2}
    assert reading.flags == {"unread_usage"}


def used(into: int, out: int) -> dict[str, t.Any]:
    return {"total_input_tokens": into, "total_output_tokens": out}


STEPS: t.Final = [
    {"event_type": "interaction.created", "interaction": {"id": "i", "model": "m"}},
    {"event_type": "step.start", "index": 0},
    {
        "event_type": "step.delta",
        "index": 0,
        "delta": {},
        "metadata": {"total_usage": used(9, 2)},
    },
    {
        "event_type": "step.stop",
        "index": 0,
        "step_usage": used(1, 1),
        "usage": used(9, 5),
    },
]


@pytest.mark.parametrize(("events", "output"), [(3, 2), (4, 5)])
def test_the_usage_so_far_of_an_interaction_is_known(events: int, output: int) -> None:
    reading = answer(f"{GEMINI}/interactions", sse(*STEPS[:events]), stream=True)
    assert reading.usage == Usage(input_tokens=9, output_tokens=output)


@pytest.mark.parametrize(
    "end",
    [
        {"event_type": "interaction.completed", "interaction": {"usage": used(9, 7)}},
        # Of live interactions, whose events have no inner object
        {"event_type": "interaction.completed", "usage": used(9, 7)},
        {"event_type": "interaction.cancelled", "usage": used(9, 7)},
    ],
)
def test_the_last_event_of_an_interaction_has_all_usage(end: dict[str, t.Any]) -> None:
    for reading in (
        answer(f"{GEMINI}/interactions", sse(*STEPS, end), stream=True),
        tracked("gemini", [*STEPS, end]),
    ):
        assert reading.usage == Usage(input_tokens=9, output_tokens=7)
        assert reading.usage_source == "stream_final"
