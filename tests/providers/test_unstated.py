"""What an answer does not state is not taken as the cheapest: the cost is not complete."""

from __future__ import annotations

import typing as t

import pytest

from tests.providers.quotes import priced
from tests.providers.test_bug_reports import Body
from tests.providers.test_bug_reports import chat
from tests.providers.test_bug_reports import CLAUDE
from tests.providers.test_bug_reports import FIREWORKS
from tests.providers.test_bug_reports import message
from tests.providers.test_bug_reports import OPENAI
from tests.providers.test_bug_reports import read

GEMINI: t.Final = (
    "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro"
)
GENERATED: t.Final = {
    "modelVersion": "gemini-2.5-pro",
    "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9},
}
SONNET: t.Final = message(
    "claude-sonnet-4-5", "end_turn", input_tokens=9, output_tokens=9
)


@pytest.mark.parametrize(
    ("url", "body", "request_body"),
    [
        (
            f"{OPENAI}chat/completions",
            chat("gpt-5.4", 9, 9),
            {"service_tier": "priority"},
        ),
        (f"{OPENAI}chat/completions", chat("gpt-5.4", 9, 9), {"service_tier": "flex"}),
        (f"{GEMINI}:generateContent", GENERATED, {"serviceTier": "SERVICE_TIER_FLEX"}),
        (CLAUDE, SONNET, {"speed": "fast"}),
    ],
)
def test_a_requested_tier_that_no_answer_confirms_is_flagged(
    url: str, body: Body, request_body: dict[str, t.Any]
) -> None:
    cost = priced(read(url, body, request_body))
    assert (cost.complete, cost.flags) == (False, {"unconfirmed_tier"})


@pytest.mark.parametrize("tier", ["auto", "default", "standard_only", None])
def test_the_standard_tier_needs_no_confirmation(tier: str | None) -> None:
    request = {"service_tier": tier, "messages": [{"content": '"speed": "fast"'}]}
    cost = priced(read(f"{OPENAI}chat/completions", chat("gpt-5.4", 9, 9), request))
    assert (cost.complete, cost.flags) == (True, set())


def test_geminis_header_confirms_the_tier() -> None:
    headers = {"x-gemini-service-tier": "flex"}
    url = f"{GEMINI}:generateContent"
    reading = read(url, GENERATED, {"serviceTier": "flex"}, headers)
    assert (reading.service_tier, reading.flags) == ("flex", set())
    headers = {"x-gemini-service-tier": "paid"}
    assert read(url, GENERATED, {}, headers).service_tier is None


def test_a_cache_that_fireworks_does_not_count_bounds_the_cost() -> None:
    cost = priced(read(FIREWORKS, chat("accounts/fireworks/models/glm-5p1", 9, 9)))
    assert (cost.complete, cost.flags) == (False, {"unstated_cache"})


def test_audio_that_googles_compatible_endpoint_does_not_count_is_flagged() -> None:
    # BerriAI/litellm#3269
    url = "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"
    part = {"type": "input_audio", "input_audio": {"data": "eA=="}}
    request = {"messages": [{"content": [part]}]}
    body = chat("gemini-2.5-flash", 1000, 5)
    assert not priced(read(url, body, request)).complete
    assert priced(read(url, body, {"messages": [{"content": "hi"}]})).complete


@pytest.mark.parametrize(
    ("cached", "details", "complete"),
    [
        (500, None, False),
        (2000, None, True),
        (0, None, True),
        (500, [{"modality": "TEXT", "tokenCount": 500}], True),
    ],
)
def test_audio_that_may_have_been_cached_is_flagged(
    cached: int, details: t.Any, complete: bool
) -> None:
    # langfuse/langfuse-python#1451, pydantic/genai-prices#141
    kinds = [{"modality": kind, "tokenCount": 1000} for kind in ("TEXT", "AUDIO")]
    usage = {"promptTokenCount": 2000, "cachedContentTokenCount": cached}
    usage |= {"promptTokensDetails": kinds, "totalTokenCount": 2000}  # type: ignore[dict-item]
    if details is not None:
        usage["cacheTokensDetails"] = details
    model = "gemini-2.5-flash"
    url = f"https://generativelanguage.googleapis.com/v1beta/models/{model}"
    body = {"modelVersion": model, "usageMetadata": usage}
    assert priced(read(f"{url}:generateContent", body)).complete == complete


@pytest.mark.parametrize(
    ("tools", "flags"),
    [
        ({"web_fetch_requests": 2, "tool_search_requests": 1}, set()),
        ({"code_execution_requests": 1}, {"session_fee"}),
        ({"code_execution_requests": 0}, set()),
        ({"flight_requests": 1}, {"unread_usage"}),
    ],
)
def test_tools_that_claude_bills_by_time_or_anew_are_flagged(
    tools: dict[str, int], flags: set[str]
) -> None:
    # posit-dev/chatlas#364
    usage = {"input_tokens": 9, "output_tokens": 9, "server_tool_use": tools}
    reading = read(CLAUDE, message("claude-sonnet-4-5", "end_turn", **usage))
    assert reading.flags == flags


@pytest.mark.parametrize(
    ("tool", "flags"),
    [
        ("code_interpreter", {"unread_usage"}),
        ("file_search", {"unread_usage"}),
        ("function", set()),
    ],
)
def test_a_run_does_not_state_whether_its_tools_were_used(
    tool: str, flags: set[str]
) -> None:
    # defog-ai/introspect#452
    run = {**chat("gpt-4o", 9, 9), "object": "thread.run", "tools": [{"type": tool}]}
    assert read(f"{OPENAI}threads/thread_1/runs", run).flags == flags
