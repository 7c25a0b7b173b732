"""Hosts that speak like OpenAI, and what their answers have in addition.

Sources: https://github.com/github/gh-aw-firewall/pull/5253 (``copilot_usage``),
https://github.com/github/copilot-sdk/blob/main/docs/features/usage-and-billing.md and
https://docs.github.com/en/copilot/concepts/billing-and-usage (a credit is one cent);
https://github.com/meta-llama/llama-api-python (``metrics``);
https://github.com/BerriAI/litellm/issues/5610 (what Databricks calls its models);
https://github.com/BerriAI/litellm/pull/35949 (searches on Azure).
"""

from __future__ import annotations

import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.call import Usage
from flask_llm_cost.providers import chat_route
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import known_name
from tests.providers.quotes import cost_of
from tests.providers.quotes import priced
from tests.providers.test_cases import answer
from tests.providers.test_cases import sse

# GitHub Copilot

COPILOT = "https://api.githubcopilot.com"
CREDITS = {
    "token_details": [
        {"token_type": "input", "token_count": 3857},
        {"token_type": "cache_read", "token_count": 0},
        {"token_type": "cache_write", "token_count": 12539},
        {"token_type": "output", "token_count": 362},
    ],
    "total_nano_aiu": 6_360_225_000,
}
CHAT = {
    "id": "c",
    "model": "claude-sonnet-4.6",
    "choices": [],
    "usage": {
        "prompt_tokens": 16396,
        "completion_tokens": 362,
        "total_tokens": 16758,
        "prompt_tokens_details": {"cached_tokens": 0},
    },
    "copilot_usage": CREDITS,
}
WRITTEN = Usage(input_tokens=3857, cache_write_tokens=12539, output_tokens=362)
USD = Decimal("0.06360225")


def assert_billed(reading: Reading, usage: Usage = WRITTEN) -> None:
    assert reading.provider == "github_copilot"
    assert reading.usage == usage
    cost = priced(reading)
    assert (cost.total_usd, cost.source, cost.complete) == (USD, "provider", True)


def tracked(provider: str, *events: object) -> Reading:
    exchange = Exchange(chat_route(provider), request_body=None)
    exchange.begin_response(200, {})
    for event in events:
        exchange.event(t.cast("dict[str, t.Any]", event))
    return exchange.reading(ended=True)


def test_copilot_reports_its_cost_and_the_tokens_by_kind() -> None:
    url = f"{COPILOT}/chat/completions"
    assert_billed(answer(url, CHAT))
    assert_billed(answer(url, {**CHAT, "choices": [{"x": "y" * 2_000_000}]}))
    assert_billed(answer(url, sse({"choices": [{}]}, CHAT), stream=True))
    business = "https://api.business.githubcopilot.com/chat/completions"
    assert_billed(answer(business, CHAT))
    assert_billed(tracked("github_copilot", CHAT))


@pytest.mark.parametrize("inside", [True, False])
def test_copilots_responses_have_the_cost_in_the_last_event(inside: bool) -> None:
    usage = {"input_tokens": 16396, "output_tokens": 362, "total_tokens": 16758}
    response: dict[str, t.Any] = {"id": "r", "model": "gpt-5.6-sol", "usage": usage}
    event: dict[str, t.Any] = {"type": "response.completed", "response": response}
    (response if inside else event)["copilot_usage"] = CREDITS
    assert_billed(answer(f"{COPILOT}/responses", sse(event), stream=True))
    assert_billed(tracked("github-copilot", event))


def test_copilots_messages_keep_anthropics_own_counts() -> None:
    usage = {
        "input_tokens": 3857,
        "cache_creation_input_tokens": 12539,
        "output_tokens": 362,
    }
    message = {"type": "message", "usage": usage, "copilot_usage": CREDITS}
    assert_billed(answer(f"{COPILOT}/v1/messages", message))
    start = {"type": "message_start", "message": {"usage": usage}}
    end = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 362},
        "copilot_usage": CREDITS,
    }
    assert_billed(answer(f"{COPILOT}/v1/messages", sse(start, end), stream=True))
    assert_billed(tracked("github_copilot", start, end))


@pytest.mark.parametrize(
    ("billed", "usage"),
    [
        ({}, Usage(input_tokens=16396, output_tokens=362)),
        ({"token_details": "none"}, Usage(input_tokens=16396, output_tokens=362)),
        (
            {"token_details": [{"token_type": "cache_write", "token_count": 12539}]},
            WRITTEN,
        ),
        ({"token_details": [None, *CREDITS["token_details"]]}, WRITTEN),  # type: ignore[misc]
    ],
)
def test_what_copilot_does_not_list_is_as_in_the_usual_usage(
    billed: dict[str, t.Any], usage: Usage
) -> None:
    reading = answer(f"{COPILOT}/chat/completions", {**CHAT, "copilot_usage": billed})
    assert reading.usage == usage
    assert reading.reported_cost is None
    assert cost_of(reading) is None


# Meta

LLAMA = "https://api.llama.com/v1/chat/completions"
METRICS = [
    {"metric": "num_completion_tokens", "value": 23, "unit": "tokens"},
    {"metric": "num_prompt_tokens", "value": 127.0, "unit": "tokens"},
    {"metric": "num_total_tokens", "value": 150, "unit": "tokens"},
    {"metric": "time_to_first_token", "value": 0.2},
]
MODEL = "Llama-4-Maverick-17B-128E-Instruct-FP8"


@pytest.mark.parametrize("size", [5, 2_000_000])
def test_the_llama_api_has_metrics(size: int) -> None:
    message = {"role": "assistant", "content": {"type": "text", "text": "y" * size}}
    body = {"id": "l", "completion_message": message, "metrics": METRICS}
    reading = answer(LLAMA, body, model=MODEL)
    assert (reading.provider, reading.model, reading.response_id) == (
        "meta",
        MODEL,
        "l",
    )
    assert reading.usage == Usage(input_tokens=127, output_tokens=23)


def test_a_stream_of_the_llama_api_ends_with_metrics() -> None:
    events: list[dict[str, t.Any]] = [
        {"event": {"event_type": "start", "delta": {"type": "text", "text": ""}}},
        *({"event": {"event_type": "progress", "delta": {}}} for _ in range(9)),
        {"event": {"event_type": "complete", "delta": {}, "stop_reason": "stop"}},
        {"event": {"event_type": "metrics", "delta": {}, "metrics": METRICS}},
    ]
    for reading in (
        answer(LLAMA, sse(*events), model=MODEL, stream=True),
        tracked("meta_llama", *events),
    ):
        assert reading.usage == Usage(input_tokens=127, output_tokens=23)
        assert reading.usage_source == "stream_final"
    cut = answer(LLAMA, sse(*events[:-1]), model=MODEL, stream=True)
    assert cut.usage is None


@pytest.mark.parametrize(
    "url",
    [
        "https://api.llama.com/compat/v1/chat/completions",
        "https://api.meta.ai/v1/chat/completions",
        "https://api.meta.ai/v1/responses",
    ],
)
def test_metas_compatible_apis_are_priced(url: str) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    body = {"id": "m", "model": "muse-spark-1.3", "choices": [], "usage": usage}
    cost = priced(answer(url, body))
    assert (cost.total_usd, cost.complete) == (Decimal("0.001675"), True)


def test_copilots_names_are_one() -> None:
    names = ("Copilot", "github-copilot", "github_copilot", "githubcopilot")
    assert {known_name(name) for name in names} == {"github_copilot"}


def test_metas_names_are_one() -> None:
    assert known_name("meta_llama") == known_name("Meta") == "meta"


# Databricks

DATABRICKS = "https://dbc-1.cloud.databricks.com/serving-endpoints"
LLAMA_33 = "databricks-meta-llama-3-3-70b-instruct"
TOKENS = {"prompt_tokens": 20, "completion_tokens": 15, "total_tokens": 35}


def served(model: str) -> dict[str, t.Any]:
    return {"id": "d", "model": model, "choices": [], "usage": TOKENS}


@pytest.mark.parametrize(
    ("url", "request_model"),
    [
        (f"{DATABRICKS}/{LLAMA_33}/invocations", {}),
        (f"{DATABRICKS}/chat/completions", {"model": LLAMA_33}),
        (
            "https://1.gcp.databricks.com/serving-endpoints/chat/completions",
            {"model": LLAMA_33},
        ),
    ],
)
def test_databricks_prices_its_endpoints_by_their_names(
    url: str, request_model: dict[str, str]
) -> None:
    # As in llama-stack's recordings of this endpoint
    body = served("meta-llama-3.3-70b-instruct-121024")
    reading = answer(url, body, **request_model)
    assert reading.model == LLAMA_33
    cost = priced(reading)
    assert cost.price_key == f"databricks/{LLAMA_33}"
    assert (cost.total_usd, cost.complete) == (Decimal("0.00003250065"), True)


def test_an_endpoint_of_the_customers_own_has_the_served_models_name() -> None:
    reading = answer(f"{DATABRICKS}/my-endpoint/invocations", served("gpt-4o"))
    assert (reading.model, reading.request_model) == ("gpt-4o", "my-endpoint")


def test_databricks_claude_has_the_endpoints_price_for_caches() -> None:
    model = "databricks-claude-sonnet-4-5"
    usage = {
        **TOKENS,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 50,
    }
    body = {**served("us.anthropic.claude-sonnet-4-5-20250929-v1:0"), "usage": usage}
    cost = priced(answer(f"{DATABRICKS}/{model}/invocations", body))
    assert cost.price_key == f"databricks/{model}"
    assert set(cost.parts) == {"input", "output", "cache_read", "cache_write"}
    assert cost.complete


# Azure


@pytest.mark.parametrize(
    "url",
    [
        "https://r.openai.azure.com/openai/v1/responses",
        "https://r.openai.azure.com/openai/responses?api-version=2025-04-01-preview",
        "https://r.cognitiveservices.azure.com/openai/v1/responses",
        "https://r.services.ai.azure.com/api/projects/p/openai/v1/responses",
    ],
)
@pytest.mark.parametrize(
    ("output", "searches"),
    [
        (
            [
                {"type": "web_search_call", "action": {"type": "search"}},
                {"type": "web_search_call", "action": {"type": "open_page"}},
            ],
            1,
        ),
        (
            [
                {"type": "bing_grounding_call", "status": "completed"},
                {"type": "bing_grounding_call_output", "status": "completed"},
                {"type": "bing_custom_search_preview_call", "status": "completed"},
                {"type": "bing_grounding_call", "status": "failed"},
            ],
            2,
        ),
        # Runs in the app's own search service, which is billed by the hour
        ([{"type": "azure_ai_search_call", "status": "completed"}], 0),
    ],
)
def test_azure_bills_its_searches_with_bing(
    url: str, output: list[dict[str, t.Any]], searches: int
) -> None:
    usage = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}
    body = {"id": "r", "model": "gpt-5.5", "output": output, "usage": usage}
    cost = priced(answer(url, body))
    assert cost.total_usd == Decimal("0.0008") + searches * Decimal("0.014")
    assert cost.complete


@pytest.mark.parametrize(
    ("url", "body", "request_model", "usd"),
    [
        (
            "https://r.services.ai.azure.com/providers/mistral/azure/ocr",
            {"usage_info": {"pages_processed": 3, "pages_processed_annotation": 1}},
            "mistral-ocr-4-0",
            "0.017",
        ),
        (
            "https://r.services.ai.azure.com/providers/cohere/v2/rerank",
            {"meta": {"billed_units": {"search_units": 2}}},
            "cohere-rerank-v4.0-pro",
            "0.005",
        ),
        (
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l"
            "/publishers/mistralai/models/mistral-ocr-2505:rawPredict",
            {"usage_info": {"pages_processed": 4}},
            "mistral-ocr-2505",
            "0.002",
        ),
    ],
)
def test_other_vendors_models_are_read_as_the_vendors_do(
    url: str, body: dict[str, t.Any], request_model: str, usd: str
) -> None:
    cost = priced(answer(url, body, model=request_model))
    assert (cost.total_usd, cost.complete) == (Decimal(usd), True)


# Alibaba and Mistral


@pytest.mark.parametrize(
    ("path", "extra", "flags"),
    [
        # aliyun's DashScope: "usage.plugins.search.count", and "x_tools" in responses
        ("chat/completions", {"plugins": {"search": {"count": 2}}}, set()),
        ("responses", {"x_tools": {"web_search": {"count": 2}}}, set()),
        (
            "responses",
            {"x_tools": {"web_search": {"count": 2}, "web_extractor": {"count": 1}}},
            {"unread_usage"},
        ),
    ],
)
def test_alibaba_counts_its_searches(
    path: str, extra: dict[str, t.Any], flags: set[str]
) -> None:
    usage = {"input_tokens": 800, "output_tokens": 120, "total_tokens": 920, **extra}
    url = f"https://dashscope-intl.aliyuncs.com/compatible-mode/v1/{path}"
    reading = answer(url, {"id": "a", "model": "qwen3.7-max", "usage": usage})
    assert reading.usage is not None
    assert reading.usage.units == {"web_search": 2}
    assert reading.flags == flags
    # The bundled prices have no rate for it.
    assert not priced(reading).complete


def test_a_connector_that_is_not_known_is_flagged() -> None:
    used = {"prompt_tokens": 9, "completion_tokens": 9}
    url = "https://api.mistral.ai/v1/conversations"
    for connectors, flags in (
        ({"web_search": 1}, set()),
        ({"web_search": 1, "maps": 2}, {"unread_usage"}),
        ({"maps": 0}, set()),
    ):
        reading = answer(url, {"usage": {**used, "connectors": connectors}})
        assert reading.flags == flags
