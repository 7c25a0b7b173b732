"""Tests of the names of providers, and of streams whose dialect only their events show."""

from __future__ import annotations

import typing as t

import pytest

from flask_llm_cost import Usage
from flask_llm_cost.call import Reading
from flask_llm_cost.providers import chat_route
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import known_name
from flask_llm_cost.providers import Provider
from flask_llm_cost.providers import route
from flask_llm_cost.providers.registry import PROVIDERS

ANTHROPIC = [
    {"type": "message_start", "message": {"usage": {"input_tokens": 9}}},
    {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
]
OPENAI = [
    {"choices": [{"delta": {"content": "x"}}]},
    {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5}},
]
RESPONSES = [
    {"type": "response.created", "response": {"id": "resp_1"}},
    {
        "type": "response.completed",
        "response": {"usage": {"input_tokens": 9, "output_tokens": 5}},
    },
]
GEMINI = [
    {"candidates": [{"content": {}}]},
    {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 5}},
]
GENAI = [{"usage_metadata": {"prompt_token_count": 9, "candidates_token_count": 5}}]
CONVERSE = [
    {"messageStart": {"role": "assistant"}},
    {"metadata": {"usage": {"inputTokens": 9, "outputTokens": 5}}},
]
OLLAMA = [{"done": False}, {"done": True, "prompt_eval_count": 9, "eval_count": 5}]


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("Anthropic", "anthropic"),
        (" OPENAI ", "openai"),
        ("google", "gemini"),
        ("google-genai", "gemini"),
        ("vertex_ai", "vertex"),
        ("AWS", "bedrock"),
        ("gcp.vertex_ai", "vertex"),
        ("azure.ai.openai", "azure"),
        ("aws.bedrock", "bedrock"),
        ("mistral_ai", "mistral"),
        ("dashscope", "alibaba"),
        ("My-Gateway", "My-Gateway"),
    ],
)
def test_a_provider_has_one_name(name: str, known: str) -> None:
    assert known_name(name) == known


def test_the_names_of_known_providers_are_their_own() -> None:
    assert [known_name(each.name) for each in PROVIDERS] == [p.name for p in PROVIDERS]


def test_an_apps_own_provider_precedes_the_built_in_ones() -> None:
    own = Provider("Google", ("ai.internal",), ())
    assert known_name("google", [own]) == "Google"


@pytest.mark.parametrize("name", ["Anthropic", "anthropic", " ANTHROPIC"])
def test_hosts_take_names_in_any_case(name: str) -> None:
    found = route("POST", "https://x.test/v1/messages", hosts={"x.test": name})
    assert found is not None
    assert (found.provider, found.operation) == ("anthropic", "chat")


def stream(provider: str, events: list[t.Any], **known: t.Any) -> Reading:
    exchange = Exchange(chat_route(provider, **known), request_body=None)
    for event in events:
        exchange.event(event)
    return exchange.reading(ended=True)


@pytest.mark.parametrize(
    ("provider", "events"),
    [
        ("Anthropic", ANTHROPIC),
        ("anthropic", OPENAI),
        ("openai", OPENAI),
        ("openai", RESPONSES),
        ("Google", GEMINI),
        ("gemini", GENAI),
        ("gemini", OPENAI),
        ("vertex_ai", GEMINI),
        ("vertex", ANTHROPIC),
        ("vertex", OPENAI),
        ("bedrock", CONVERSE),
        ("bedrock", ANTHROPIC),
        ("groq", OPENAI),
        ("ollama", OLLAMA),
        ("my-gateway", OPENAI),
        ("my-gateway", ANTHROPIC),
        ("my-gateway", GEMINI),
        ("my-gateway", CONVERSE),
        ("my-gateway", OLLAMA),
    ],
)
def test_events_show_their_dialect(provider: str, events: list[t.Any]) -> None:
    reading = stream(provider, events)
    assert reading.usage == Usage(input_tokens=9, output_tokens=5)
    assert reading.flags == set()
    assert reading.provider == known_name(provider)


BARE = [{"usage": {"prompt_tokens": 9, "completion_tokens": 5}}]


def test_an_unknown_provider_is_not_read_by_a_guess_in_silence() -> None:
    assert stream("my-gateway", BARE).flags == {"unknown_provider"}
    assert not stream("my-gateway", BARE, hosts={"x.test": "my-gateway"}).flags
    assert not stream("openai", BARE).flags
