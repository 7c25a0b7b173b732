"""Answers from public reports of wrong costs, each with the report and what is right.

A cost is right to the last digit, or it is marked as incomplete.
"""

from __future__ import annotations

import json
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.prices.names import is_seen_as_text
from flask_llm_cost.providers import read_exchange
from tests.providers.quotes import priced
from tests.providers.test_cases import sse

Body = dict[str, t.Any] | list[dict[str, t.Any]]

OPENAI: t.Final = "https://api.openai.com/v1/"
CLAUDE: t.Final = "https://api.anthropic.com/v1/messages"
BEDROCK: t.Final = "https://bedrock-runtime.us-east-1.amazonaws.com/model/"
QWEN: t.Final = "https://dashscope-intl.aliyuncs.com/compatible-mode/v1/"
GROK: t.Final = "https://api.x.ai/v1/chat/completions"
FIREWORKS: t.Final = "https://api.fireworks.ai/inference/v1/chat/completions"
VERCEL: t.Final = "https://ai-gateway.vercel.sh/v1/"


def read(
    url: str,
    body: Body,
    request: dict[str, t.Any] | None = None,
    headers: dict[str, str] | None = None,
) -> Reading:
    reading = read_exchange(
        method="POST",
        url=url,
        request_body=json.dumps(request or {}).encode(),
        status=200,
        headers=headers or {},
        body=sse(*body) if isinstance(body, list) else json.dumps(body).encode(),
    )
    assert reading is not None
    return reading


def chat(model: str, into: int, out: int, **usage: t.Any) -> dict[str, t.Any]:
    usage |= {"prompt_tokens": into, "completion_tokens": out}
    usage["total_tokens"] = into + out
    return {"id": "c", "model": model, "choices": [], "usage": usage}


def message(model: str, stop: str, **usage: t.Any) -> dict[str, t.Any]:
    answer = {"id": "m", "type": "message", "model": model, "content": []}
    return {**answer, "stop_reason": stop, "usage": usage}


def assert_costs(reading: Reading, usd: str, *, complete: bool = True) -> None:
    cost = priced(reading)
    assert (cost.total_usd, cost.complete) == (Decimal(usd), complete)


# Service tiers


@pytest.mark.parametrize(
    ("asked", "served", "usd"),
    [
        ("priority", "default", "0.004"),
        ("priority", "priority", "0.008"),
        ("flex", "default", "0.004"),
        ("flex", "flex", "0.002"),
        ("auto", "priority", "0.008"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_tier_that_served_a_call_prices_it(
    asked: str, served: str, usd: str, stream: bool
) -> None:
    # BerriAI/litellm#31837, #13810; Willxup/cpa-usage-keeper#394
    usage = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
    answer = {"id": "r", "model": "gpt-5.4", "service_tier": served, "usage": usage}
    created = {**answer, "service_tier": asked, "usage": None}
    events: list[dict[str, t.Any]] = [
        {"type": "response.created", "response": created},
        {"type": "response.completed", "response": answer},
    ]
    request = {"model": "gpt-5.4", "service_tier": asked, "stream": stream}
    body: Body = events if stream else answer
    assert_costs(read(f"{OPENAI}responses", body, request), usd)


# Refusals

REFUSED: t.Final = message(
    "claude-fable-5", "refusal", input_tokens=18, output_tokens=5
)
EVENTS: t.Final[list[dict[str, t.Any]]] = [
    {
        "type": "message_start",
        "message": message("claude-fable-5", "", input_tokens=345, output_tokens=1),
    },
    {
        "type": "message_delta",
        "delta": {"stop_reason": "refusal"},
        "usage": {"output_tokens": 1},
    },
    {"type": "message_stop"},
]
BEGUN: t.Final = {"type": "content_block_start", "index": 0, "content_block": {}}


@pytest.mark.parametrize(
    ("url", "body"),
    [
        (CLAUDE, REFUSED),
        (CLAUDE, EVENTS),
        ("https://openrouter.ai/api/v1/messages", REFUSED),
        (f"{VERCEL}messages", REFUSED),
        (f"{BEDROCK}us.anthropic.claude-fable-5/invoke", REFUSED),
        (
            f"{BEDROCK}us.anthropic.claude-fable-5/converse",
            {
                "output": {"message": {"role": "assistant", "content": []}},
                "stopReason": "refusal",
                "usage": {"inputTokens": 106, "outputTokens": 1, "totalTokens": 107},
            },
        ),
    ],
)
def test_a_refusal_before_any_output_costs_nothing(url: str, body: Body) -> None:
    # theopenco/llmgateway#2642, QuantumNous/new-api#7162
    assert_costs(read(url, body), "0")


@pytest.mark.parametrize(
    ("url", "body", "usd"),
    [
        (CLAUDE, {**REFUSED, "content": [{"type": "text"}]}, "0.00043"),
        (CLAUDE, [EVENTS[0], BEGUN, *EVENTS[1:]], "0.0035"),
        (
            f"{BEDROCK}us.anthropic.claude-fable-5/invoke",
            {**REFUSED, "content": [{"type": "text"}]},
            "0.000473",
        ),
        (CLAUDE, {**REFUSED, "stop_reason": "end_turn"}, "0.00043"),
    ],
)
def test_a_refusal_amid_the_output_is_billed(url: str, body: Body, usd: str) -> None:
    assert_costs(read(url, body), usd)


@pytest.mark.parametrize(("refused_at", "usd"), [(578, "0.6130185"), (0, "0.381067")])
def test_an_attempt_is_billed_if_it_was_refused_after_some_output(
    refused_at: int, usd: str
) -> None:
    # ccusage/ccusage#1552, Moonsong-Labs/agent-prompttrain#200
    used = {"input_tokens": 2, "output_tokens": 13658, "cache_read_input_tokens": 79214}
    first = {
        "type": "message",
        "model": "claude-fable-5",
        "input_tokens": 2,
        "output_tokens": refused_at,
        "cache_creation_input_tokens": 10421,
        "cache_read_input_tokens": 72769,
    }
    second = {"type": "fallback_message", "model": "claude-opus-4-8", **used}
    body = message("claude-opus-4-8", "end_turn", **used, iterations=[first, second])
    assert_costs(read(CLAUDE, {**body, "content": [{"type": "text"}]}), usd)


# Alibaba's caches


@pytest.mark.parametrize(
    ("model", "details", "usd"),
    [
        # BerriAI/litellm#40090: the list has the rate of the implicit cache
        ("qwen3.7-max", {"cached_tokens": 1500}, "0.002075"),
        (
            "qwen3.7-max",
            {"cached_tokens": 1500, "cache_type": "ephemeral"},
            "0.0017",
        ),
        ("qwen3.7-max", {"cache_creation_input_tokens": 1500}, "0.0060125"),
        (
            "qwen3.7-max",
            {
                "cached_tokens": 1000,
                "cache_creation": {
                    "cache_creation_input_tokens": 500,
                    "cache_type": "ephemeral",
                },
            },
            "0.0031375",
        ),
        # anomalyco/models.dev#5235: the list has the rate of the explicit cache
        ("qwen3-coder-plus", {"cached_tokens": 1500}, "0.00085"),
        (
            "qwen3-coder-plus",
            {"cached_tokens": 1500, "cache_type": "ephemeral"},
            "0.0007",
        ),
        (
            "qwen3-coder-plus",
            {"cache_creation": {"ephemeral_5m_input_tokens": 1500}},
            "0.002425",
        ),
    ],
)
def test_alibabas_two_caches_have_rates_of_their_own(
    model: str, details: dict[str, t.Any], usd: str
) -> None:
    body = chat(model, 2000, 10, prompt_tokens_details=details)
    assert_costs(read(f"{QWEN}chat/completions", body), usd)


def test_a_session_shows_what_it_wrote_to_its_cache() -> None:
    # https://www.alibabacloud.com/help/en/model-studio/session-cache
    details = {"cached_tokens": 1305, "cache_creation_input_tokens": 213}
    row = {"prompt_tokens_details": {**details, "cache_type": "ephemeral"}}
    usage = {
        "input_tokens": 1524,
        "output_tokens": 1534,
        "total_tokens": 3058,
        "input_tokens_details": {"cached_tokens": 1305},
        "x_details": [row],
    }
    body = {"id": "r", "model": "qwen3.7-max", "output": [], "usage": usage}
    assert_costs(read(f"{QWEN}responses", body), "0.012511875")


def test_alibabas_messages_tell_the_caches_apart() -> None:
    url = "https://dashscope-intl.aliyuncs.com/apps/anthropic/v1/messages"
    read_at = {"cache_read_input_tokens": 1000, "output_tokens": 0}
    details = {"prompt_tokens_details": {"cached_tokens": 1000}}
    usage = {"input_tokens": 2000, **read_at, **details}
    assert_costs(read(url, message("qwen3.7-max", "end_turn", **usage)), "0.003")
    usage["cache_creation_input_tokens"] = 1000
    assert_costs(read(url, message("qwen3.7-max", "end_turn", **usage)), "0.003375")


@pytest.mark.parametrize(
    "details", [{"cached_tokens": 9}, {"cache_creation_input_tokens": 9}]
)
def test_a_cache_without_any_rate_is_not_complete(details: dict[str, int]) -> None:
    body = chat("qwen3-max", 1000, 0, prompt_tokens_details=details)
    assert_costs(read(f"{QWEN}chat/completions", body), "0.0012", complete=False)


# Long contexts


@pytest.mark.parametrize(
    ("model", "tokens", "usd"),
    [
        ("grok-4.6", 200_000, "0.4"),
        ("grok-4.6", 200_001, "0.800004"),
        ("grok-4.3", 200_001, "0.5000025"),
    ],
)
def test_groks_rates_for_long_contexts_begin_above_the_threshold(
    model: str, tokens: int, usd: str
) -> None:
    # junhoyeo/tokscale#1223. At exactly 200,000, sources disagree: the rule of all others.
    assert_costs(read(GROK, chat(model, tokens, 0)), usd)


def test_cached_input_counts_for_groks_threshold_too() -> None:
    details = {"cached_tokens": 150_000}
    body = chat("grok-4.6", 200_001, 0, prompt_tokens_details=details)
    assert_costs(read(GROK, body), "0.350004")


# Costs that hosts report


def test_deepinfra_reports_what_it_charges() -> None:
    # BerriAI/litellm#38802: at the priority tier, 1.5 times the list price
    url = "https://api.deepinfra.com/v1/openai/chat/completions"
    body = chat("Qwen/Qwen3.6-35B-A3B", 11, 5, estimated_cost=8.775e-06)
    assert_costs(read(url, {**body, "service_tier": "priority"}), "0.000008775")


GATEWAY: t.Final = {"gateway": {"cost": "0.0045405", "marketCost": "0.0045405"}}
BYOK: t.Final = {"gateway": {"cost": "0", "marketCost": "0.0045405"}}


@pytest.mark.parametrize("metadata", [GATEWAY, BYOK])
@pytest.mark.parametrize("name", ["provider_metadata", "providerMetadata"])
def test_vercels_gateway_reports_what_a_call_costs(
    name: str, metadata: dict[str, t.Any]
) -> None:
    # earendil-works/pi#6877, BerriAI/litellm#14002, mastra-ai/mastra#19461
    body = chat("moonshotai/kimi-k9", 1000, 100)
    choice = {"message": {"content": "hi", name: metadata}}
    url = f"{VERCEL}chat/completions"
    assert_costs(read(url, {**body, "choices": [choice]}), "0.0045405")
    delta = {"delta": {name: metadata}, "finish_reason": "stop"}
    chunks = [{"id": "c", "choices": [{"delta": {"content": "hi"}}]}] * 9
    events = [*chunks, {**body, "choices": [delta]}]
    assert_costs(read(url, events, {"stream": True}), "0.0045405")
    answer = {**message("x", "end_turn", input_tokens=1), name: metadata}
    assert_costs(read(f"{VERCEL}messages", answer), "0.0045405")


# Caches that are counted outside of the usage


@pytest.mark.parametrize(
    ("usage", "extra", "headers"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 41518}}, {}, {}),
        ({}, {}, {"fireworks-cached-prompt-tokens": "41518"}),
        ({}, {"perf_metrics": {"cached-prompt-tokens": "41518"}}, {}),
    ],
)
def test_fireworks_counts_its_cache_in_three_places(
    usage: dict[str, t.Any], extra: dict[str, t.Any], headers: dict[str, str]
) -> None:
    # BerriAI/litellm#25950, #31714; promptfoo/promptfoo#9542
    model = "accounts/fireworks/models/glm-5p1"
    body = {**chat(model, 44341, 10, **usage), **extra}
    assert_costs(read(FIREWORKS, body, headers=headers), "0.01479088")


# Audio


@pytest.mark.parametrize(("seconds", "usd"), [(3.2, "0.0003083"), (30, "0.0009249")])
def test_groq_bills_ten_seconds_of_audio_at_least(seconds: float, usd: str) -> None:
    # BerriAI/litellm#16570, pydantic/genai-prices#578
    url = "https://api.groq.com/openai/v1/audio/transcriptions"
    body = {"text": "hi", "duration": seconds}
    assert_costs(read(url, body, {"model": "whisper-large-v3"}), usd)


# Gemini


@pytest.mark.parametrize("modality", ["IMAGE", "VIDEO", "DOCUMENT"])
@pytest.mark.parametrize("host", ["generativelanguage", "aiplatform"])
def test_what_gemini_sees_has_the_rate_of_text(modality: str, host: str) -> None:
    # BerriAI/litellm#14285, #18153
    details = [
        {"modality": "TEXT", "tokenCount": 4},
        {"modality": modality, "tokenCount": 996},
    ]
    usage = {
        "promptTokenCount": 1000,
        "cachedContentTokenCount": 500,
        "totalTokenCount": 1000,
        "promptTokensDetails": details,
        "cacheTokensDetails": [{"modality": modality, "tokenCount": 500}],
    }
    url = f"https://{host}.googleapis.com/v1/models/gemini-2.5-flash:generateContent"
    body = {"modelVersion": "gemini-2.5-flash", "usageMetadata": usage}
    assert_costs(read(url, body), "0.000165")


@pytest.mark.parametrize(
    "key",
    [
        "gemini/gemini-2.5-flash-native-audio",
        "gemini/gemini-live-2.5",
        "gemini/gemini-embedding-2",
        "openrouter/google/gemini-2.5-flash",
    ],
)
def test_elsewhere_what_a_model_sees_needs_a_rate_of_its_own(key: str) -> None:
    assert not is_seen_as_text(key)


# Latency


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("converse", {"performanceConfig": {"latency": "optimized"}}, {}),
        ("invoke", {}, {"x-amzn-bedrock-performanceconfig-latency": "optimized"}),
    ],
)
def test_latency_that_bedrock_optimized_has_a_price_of_its_own(
    path: str, body: dict[str, t.Any], headers: dict[str, str]
) -> None:
    url = f"{BEDROCK}us.anthropic.claude-3-5-haiku-20241022-v1:0/{path}"
    used = {"inputTokens": 10, "outputTokens": 1, "totalTokens": 11}
    reading = read(url, {**body, "usage": used}, headers=headers)
    assert reading.service_tier == "optimized"
    cost = priced(reading)
    # The bundled prices have no such rate.
    assert (cost.complete, cost.mode, cost.flags) == (
        False,
        "optimized",
        {"mode_fallback"},
    )


# Kinds of input

IMAGES: t.Final = f"{OPENAI}images/generations"


@pytest.mark.parametrize(
    ("details", "usd", "complete"),
    [
        ({"cached_tokens": 0}, "0.04886", True),
        (
            {"cached_tokens": 800, "cached_tokens_details": {"image_tokens": 800}},
            "0.04406",
            True,
        ),
        (
            {
                "cached_tokens": 800,
                "cached_tokens_details": {"cached_image_tokens": 800},
            },
            "0.04406",
            True,
        ),
        ({"cached_tokens": 1000}, "0.043085", True),
        # It does not state which kind was cached
        ({"cached_tokens": 800}, "0.04376", False),
    ],
)
def test_cached_images_have_a_rate_of_their_own(
    details: dict[str, t.Any], usd: str, complete: bool
) -> None:
    # langfuse/langfuse#14123, Laisky/one-api#401, theopenco/llmgateway#2176
    kinds = {"text_tokens": 100, "image_tokens": 900, **details}
    usage = {"input_tokens": 1000, "output_tokens": 1372, "total_tokens": 2372}
    body = {"data": [{"b64_json": "x"}]}
    body |= {"usage": {**usage, "input_tokens_details": kinds}}  # type: ignore[dict-item]
    reading = read(IMAGES, body, {"model": "gpt-image-2"})
    assert_costs(reading, usd, complete=complete)


def test_audio_that_is_counted_only_in_seconds_is_not_billed_as_text() -> None:
    body = chat("voxtral-small-2507", 4, 31, prompt_audio_seconds=10)
    body["usage"]["total_tokens"] = 410
    reading = read("https://api.mistral.ai/v1/chat/completions", body)
    assert reading.usage is not None
    assert reading.usage.input_audio_tokens == 375
    assert_costs(reading, "0.0000503", complete=False)


# Regions


def test_a_region_does_not_raise_the_fee_of_a_search() -> None:
    # maximhq/bifrost#5072: the factor is for tokens
    url = (
        "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5"
        "/publishers/anthropic/models/claude-sonnet-4-5:rawPredict"
    )
    used = {"input_tokens": 1000, "output_tokens": 100}
    used |= {"server_tool_use": {"web_search_requests": 1}}  # type: ignore[dict-item]
    body = message("claude-sonnet-4-5-20250929", "end_turn", **used)
    assert_costs(read(url, body), "0.01495")


def test_openrouters_messages_report_their_cost() -> None:
    # Helicone/helicone#5243
    body = message("anthropic/claude-sonnet-4.5", "end_turn", input_tokens=1, cost=0.1)
    assert_costs(read("https://openrouter.ai/api/v1/messages", body), "0.1")


@pytest.mark.parametrize(
    ("region", "model", "usd", "complete"),
    [
        ("us-east-1", "qwen.qwen3-next-80b-a3b", "0.00027", True),
        ("eu-west-1", "qwen.qwen3-next-80b-a3b", "0.000321", True),
        ("ap-northeast-1", "deepseek.v3.2", "0.000962", True),
        # No list has its rate in this region
        ("ap-northeast-1", "amazon.nova-pro-v1:0", "0.00112", False),
        # A profile's name says what it costs, and Claude costs the same in all regions
        ("ap-northeast-1", "apac.amazon.nova-pro-v1:0", "0.001176", True),
        ("eu-west-1", "anthropic.claude-sonnet-4-5-20250929-v1:0", "0.00495", True),
        ("eu-west-1", "eu.anthropic.claude-opus-4-6-v1", "0.00825", True),
    ],
)
def test_a_region_of_bedrock_has_its_own_prices(
    region: str, model: str, usd: str, complete: bool
) -> None:
    # BerriAI/litellm#42191, anomalyco/models.dev#1006, Portkey-AI/models#773
    url = f"https://bedrock-runtime.{region}.amazonaws.com/model/{model}/converse"
    used = {"inputTokens": 1000, "outputTokens": 100, "totalTokens": 1100}
    assert_costs(read(url, {"usage": used}), usd, complete=complete)


# Reports that came out right when they were first tried


def generated(model: str, **usage: int) -> dict[str, t.Any]:
    return {"modelVersion": model, "usageMetadata": usage}


GOOGLE: t.Final = "https://generativelanguage.googleapis.com/v1beta/models/x"

RIGHT: t.Final[dict[str, tuple[str, Body, str]]] = {
    "latitude-dev/latitude-llm#4051": (
        "https://x.openai.azure.com/openai/deployments/d/chat/completions",
        chat(
            "gpt-5.1",
            30000,
            4603,
            prompt_tokens_details={"cached_tokens": 8000},
            completion_tokens_details={"reasoning_tokens": 440},
        ),
        "0.07453",
    ),
    "earendil-works/pi#2148": (
        f"{GOOGLE}:generateContent",
        generated(
            "gemini-3-flash-preview",
            promptTokenCount=20212,
            cachedContentTokenCount=16298,
            candidatesTokenCount=931,
            totalTokenCount=21143,
        ),
        "0.0055649",
    ),
    "langfuse/langfuse#12531": (
        f"{GOOGLE}:generateContent",
        generated(
            "gemini-3-pro-preview",
            promptTokenCount=324,
            candidatesTokenCount=1364,
            thoughtsTokenCount=495,
            totalTokenCount=2183,
        ),
        "0.022956",
    ),
    "BerriAI/litellm#14849": (
        f"{GOOGLE}:generateContent",
        generated(
            "gemini-2.5-pro",
            promptTokenCount=262960,
            cachedContentTokenCount=257955,
            candidatesTokenCount=1744,
            totalTokenCount=264704,
        ),
        "0.10316125",
    ),
    "BerriAI/litellm#26253": (
        f"{GOOGLE}:generateContent",
        generated(
            "gemini-2.5-flash",
            promptTokenCount=27,
            toolUsePromptTokenCount=10309,
            candidatesTokenCount=45,
            thoughtsTokenCount=31,
            totalTokenCount=10412,
        ),
        "0.0032908",
    ),
    "Arize-ai/openinference#2381": (
        f"{BEDROCK}us.anthropic.claude-sonnet-4-5-20250929-v1:0/converse",
        {
            "usage": {
                "inputTokens": 3,
                "outputTokens": 12,
                "cacheReadInputTokens": 13216,
                "cacheWriteInputTokens": 25,
                "totalTokens": 13256,
            }
        },
        "0.004672305",
    ),
    "anthropics/claude-code#60641": (
        CLAUDE,
        message(
            "claude-opus-4-6",
            "end_turn",
            input_tokens=1000,
            output_tokens=100,
            inference_geo="us",
        ),
        "0.00825",
    ),
    "can1357/oh-my-pi#6876": (
        CLAUDE,
        message(
            "claude-opus-5",
            "end_turn",
            input_tokens=0,
            output_tokens=0,
            cache_creation_input_tokens=344139,
            cache_creation={"ephemeral_1h_input_tokens": 344139},
        ),
        "3.44139",
    ),
    "tensorzero/tensorzero#5481": (
        CLAUDE,
        [
            {
                "type": "message_start",
                "message": message("claude-sonnet-4-5", "", input_tokens=25),
            },
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn"},
                "usage": {"output_tokens": 15},
            },
        ],
        "0.0003",
    ),
    "tailcallhq/forgecode#1641": (
        "https://openrouter.ai/api/v1/chat/completions",
        chat(
            "anthropic/claude-sonnet-4.5",
            9171,
            113,
            cost=0,
            is_byok=True,
            cost_details={"upstream_inference_cost": 0.0360795},
        ),
        "0.0360795",
    ),
    "AstrBotDevs/AstrBot#6614": (
        "https://api.moonshot.ai/v1/chat/completions",
        chat("kimi-k2-0905-preview", 1336, 31, cached_tokens=1280),
        "0.0003031",
    ),
    "BYK/loreai#503": (
        CLAUDE,
        message(
            "claude-sonnet-4-5",
            "end_turn",
            input_tokens=1000,
            output_tokens=100,
            cache_read_input_tokens=1000,
            cache_creation_input_tokens=1000,
            cache_creation={"ephemeral_1h_input_tokens": 1000},
            service_tier="batch",
        ),
        "0.0054",
    ),
    "cline/cline#10314": (
        f"{GOOGLE}:generateContent",
        generated(
            "gemini-3-flash-preview",
            promptTokenCount=250000,
            cachedContentTokenCount=200000,
            candidatesTokenCount=10,
            totalTokenCount=250010,
        ),
        "0.03503",
    ),
    "RooCodeInc/Roo-Code#8982": (
        f"{QWEN}chat/completions",
        chat("qwen3-max", 40000, 100),
        "0.0972",
    ),
}


@pytest.mark.parametrize("report", RIGHT)
def test_a_report_is_right(report: str) -> None:
    url, body, usd = RIGHT[report]
    assert_costs(read(url, body), usd)
