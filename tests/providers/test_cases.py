"""Bodies as providers send them, and the usage that they mean."""

from __future__ import annotations

import json
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.call import Usage
from flask_llm_cost.providers import read_exchange

OPENAI = "https://api.openai.com/v1"
ANTHROPIC = "https://api.anthropic.com/v1/messages"
GEMINI = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro"
BEDROCK = "https://bedrock-runtime.us-east-1.amazonaws.com/model"


def answer(url: str, body: object, **request: t.Any) -> Reading:
    reading = read_exchange(
        method=request.pop("method", "POST"),
        url=url,
        request_body=json.dumps(request).encode(),
        status=200,
        headers={},
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
    )
    assert reading is not None
    return reading


def sse(*events: object) -> bytes:
    return b"".join(b"data: " + json.dumps(e).encode() + b"\n\n" for e in events)


CASES: dict[str, tuple[str, object, Usage]] = {
    "chat with cached, audio and reasoning tokens": (
        f"{OPENAI}/chat/completions",
        {
            "id": "chatcmpl-1",
            "choices": [{"message": {"content": "hi"}}],
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": 20},
                "completion_tokens_details": {
                    "reasoning_tokens": 10,
                    "audio_tokens": 5,
                },
            },
        },
        Usage(
            input_tokens=50,
            input_audio_tokens=20,
            cache_read_tokens=30,
            output_tokens=45,
            output_audio_tokens=5,
            reasoning_tokens=10,
        ),
    ),
    "responses with a cache written for two lifetimes": (
        f"{OPENAI}/responses",
        {
            "id": "resp_1",
            "output": [],
            "usage": {
                "input_tokens": 1000,
                "input_tokens_details": {
                    "cached_tokens": 100,
                    "cache_write_tokens": 700,
                    "cache_write_tokens_details": {
                        "ttl_30m_tokens": 400,
                        "ttl_12h_tokens": 300,
                    },
                },
                "output_tokens": 5,
            },
        },
        Usage(
            input_tokens=200,
            cache_read_tokens=100,
            cache_write_tokens=400,
            output_tokens=5,
            other_tokens={"cache_write_12h": 300},
        ),
    ),
    "responses count the tools that were called, not those declared": (
        f"{OPENAI}/responses",
        {
            "id": "resp_1",
            "output": [
                {"type": "web_search_call", "status": "completed"},
                {"type": "web_search_call", "status": "failed"},
                {"type": "code_interpreter_call", "status": "completed"},
                {"type": "message", "content": []},
            ],
            "tools": [{"type": "web_search"}, {"type": "file_search"}],
            "usage": {"input_tokens": 9, "output_tokens": 1},
        },
        Usage(
            input_tokens=9,
            output_tokens=1,
            units={"web_search": Decimal(1), "code_interpreter": Decimal(1)},
        ),
    ),
    "embeddings have no output": (
        f"{OPENAI}/embeddings",
        {"data": [{"embedding": [0.1]}], "usage": {"prompt_tokens": 8}},
        Usage(input_tokens=8),
    ),
    "images by token": (
        f"{OPENAI}/images/generations",
        {
            "data": [{"b64_json": "AAAA"}],
            "usage": {
                "input_tokens": 50,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
                "output_tokens": 100,
                "output_tokens_details": {"image_tokens": 100, "text_tokens": 0},
                "total_tokens": 150,
            },
        },
        Usage(input_tokens=10, input_image_tokens=40, output_image_tokens=100),
    ),
    "images by piece": (
        f"{OPENAI}/images/generations",
        {"created": 1, "data": [{"url": "https://x"}, {"url": "https://y"}]},
        Usage(units={"image": Decimal(2)}),
    ),
    "a transcript by the second": (
        f"{OPENAI}/audio/transcriptions",
        {"text": "hi", "usage": {"type": "duration", "seconds": 3.5}},
        Usage(units={"audio_second": Decimal("3.5")}),
    ),
    "xAI's reasoning stands beside the completion": (
        "https://api.x.ai/v1/chat/completions",
        {
            "usage": {
                "prompt_tokens": 12,
                "completion_tokens": 2,
                "total_tokens": 354,
                "completion_tokens_details": {"reasoning_tokens": 340},
            }
        },
        Usage(input_tokens=12, output_tokens=342, reasoning_tokens=340),
    ),
    "Google's compatible endpoint hides its thinking": (
        "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
        {"usage": {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109}},
        Usage(input_tokens=35, output_tokens=74, reasoning_tokens=62),
    ),
    "Mistral's audio stands beside the prompt": (
        "https://api.mistral.ai/v1/chat/completions",
        {
            "usage": {
                "prompt_tokens": 9,
                "completion_tokens": 248,
                "total_tokens": 632,
                "prompt_tokens_details": {"audio_tokens": 375},
            }
        },
        Usage(input_tokens=9, input_audio_tokens=375, output_tokens=248),
    ),
    "Mistral names cached tokens beside the details": (
        "https://api.mistral.ai/v1/chat/completions",
        {
            "usage": {
                "prompt_tokens": 64,
                "completion_tokens": 6,
                "total_tokens": 70,
                "num_cached_tokens": 48,
            }
        },
        Usage(input_tokens=16, cache_read_tokens=48, output_tokens=6),
    ),
    "Mistral reads documents by the page": (
        "https://api.mistral.ai/v1/ocr",
        {"pages": [{"markdown": "x"}], "usage_info": {"pages_processed": 4}},
        Usage(units={"page": Decimal(4)}),
    ),
    "Mistral's connectors feed the model": (
        "https://api.mistral.ai/v1/conversations",
        {
            "conversation_id": "conv_1",
            "outputs": [{"type": "message.output", "model": "mistral-medium"}],
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "connector_tokens": 900,
                "connectors": {"web_search": 2},
            },
        },
        Usage(input_tokens=1000, output_tokens=20, units={"web_search": Decimal(2)}),
    ),
    "Voyage gives a total only": (
        "https://api.voyageai.com/v1/rerank",
        {"data": [], "model": "rerank-2-lite", "usage": {"total_tokens": 43}},
        Usage(input_tokens=43),
    ),
    "Anthropic's input excludes what is cached": (
        ANTHROPIC,
        {
            "id": "msg_1",
            "type": "message",
            "content": [{"type": "text", "text": "hi"}],
            "usage": {
                "input_tokens": 20,
                "cache_read_input_tokens": 1000,
                "cache_creation_input_tokens": 300,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 100,
                    "ephemeral_1h_input_tokens": 200,
                },
                "output_tokens": 50,
                "output_tokens_details": {"thinking_tokens": 30},
                "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 9},
            },
        },
        Usage(
            input_tokens=20,
            cache_read_tokens=1000,
            cache_write_tokens=100,
            cache_write_1h_tokens=200,
            output_tokens=50,
            reasoning_tokens=30,
            units={"web_search": Decimal(2)},
        ),
    ),
    "Anthropic's stream: the start's cache, the delta's last word": (
        ANTHROPIC,
        sse(
            {
                "type": "message_start",
                "message": {
                    "id": "msg_1",
                    "model": "claude-sonnet-4-6",
                    "usage": {
                        "input_tokens": 25,
                        "cache_creation_input_tokens": 5,
                        "cache_creation": {"ephemeral_1h_input_tokens": 5},
                        "output_tokens": 1,
                    },
                },
            },
            {"type": "ping"},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn"},
                "usage": {
                    "input_tokens": None,
                    "cache_creation_input_tokens": 5,
                    "output_tokens": 64,
                },
            },
            {"type": "message_stop"},
        ),
        Usage(input_tokens=25, cache_write_1h_tokens=5, output_tokens=64),
    ),
    "Gemini: cached inside the prompt; tools and thoughts beside": (
        f"{GEMINI}:generateContent",
        {
            "candidates": [{"content": {"parts": []}}],
            "usageMetadata": {
                "promptTokenCount": 1000,
                "cachedContentTokenCount": 400,
                "toolUsePromptTokenCount": 40,
                "candidatesTokenCount": 20,
                "thoughtsTokenCount": 7,
                "totalTokenCount": 1067,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 500},
                    {"modality": "AUDIO", "tokenCount": 300},
                    {"modality": "VIDEO", "tokenCount": 200},
                ],
                "cacheTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 300},
                    {"modality": "AUDIO", "tokenCount": 100},
                ],
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 12}],
            },
        },
        Usage(
            input_tokens=240,
            input_audio_tokens=200,
            cache_read_tokens=300,
            output_tokens=15,
            output_image_tokens=12,
            other_tokens={"input_video": 200, "cache_read_audio": 100},
            reasoning_tokens=7,
        ),
    ),
    "Gemini by the names of its SDK": (
        f"{GEMINI}:generateContent",
        {
            "usage_metadata": {
                "prompt_token_count": 10,
                "cached_content_token_count": None,
                "candidates_token_count": 1,
                "thoughts_token_count": 2,
                "prompt_tokens_details": [{"modality": "AUDIO", "token_count": 8}],
            }
        },
        Usage(
            input_tokens=2, input_audio_tokens=8, output_tokens=3, reasoning_tokens=2
        ),
    ),
    "Gemini's enums as numbers": (
        f"{GEMINI}:generateContent?$alt=json;enum-encoding=int",
        {
            "usageMetadata": {
                "promptTokenCount": 10,
                "candidatesTokenCount": 1,
                "promptTokensDetails": [{"modality": 2, "tokenCount": 8}],
            }
        },
        Usage(input_tokens=2, input_image_tokens=8, output_tokens=1),
    ),
    "Gemini's array as a stream": (
        f"{GEMINI}:streamGenerateContent",
        [
            {"usageMetadata": {"promptTokenCount": 8, "candidatesTokenCount": 1}},
            {"usageMetadata": {"promptTokenCount": 8, "candidatesTokenCount": 9}},
        ],
        Usage(input_tokens=8, output_tokens=9),
    ),
    "an interaction": (
        "https://generativelanguage.googleapis.com/v1beta/interactions",
        {
            "id": "v1_x",
            "usage": {
                "total_input_tokens": 9,
                "total_cached_tokens": 4,
                "total_output_tokens": 13,
                "total_thought_tokens": 207,
                "total_tool_use_tokens": 2,
            },
            "steps": [],
        },
        Usage(
            input_tokens=7,
            cache_read_tokens=4,
            output_tokens=220,
            reasoning_tokens=207,
        ),
    ),
    "Vertex AI's older embeddings": (
        "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/"
        "us-central1/publishers/google/models/text-embedding-004:predict",
        {
            "predictions": [
                {"embeddings": {"statistics": {"token_count": 3}, "values": [0.1]}},
                {"embeddings": {"statistics": {"token_count": 2}, "values": [0.1]}},
            ]
        },
        Usage(input_tokens=5),
    ),
    "Imagen's images, without one that was filtered": (
        "https://generativelanguage.googleapis.com/v1beta/models/imagen-4.0:predict",
        {
            "predictions": [
                {"bytesBase64Encoded": "AAAA", "mimeType": "image/png"},
                {"raiFilteredReason": "x"},
            ]
        },
        Usage(units={"image": Decimal(1)}),
    ),
    "Claude on Vertex AI": (
        "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5/"
        "publishers/anthropic/models/claude-sonnet-4@20250514:rawPredict",
        {"type": "message", "usage": {"input_tokens": 3, "output_tokens": 4}},
        Usage(input_tokens=3, output_tokens=4),
    ),
    "Converse": (
        f"{BEDROCK}/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse",
        {
            "output": {"message": {"content": []}},
            "usage": {
                "inputTokens": 10,
                "outputTokens": 20,
                "cacheReadInputTokens": 30,
                "cacheWriteInputTokens": 70,
                "cacheDetails": [
                    {"ttl": "5m", "inputTokens": 40},
                    {"ttl": "1h", "inputTokens": 30},
                ],
                "totalTokens": 130,
            },
        },
        Usage(
            input_tokens=10,
            cache_read_tokens=30,
            cache_write_tokens=40,
            cache_write_1h_tokens=30,
            output_tokens=20,
        ),
    ),
    "InvokeModel: Titan": (
        f"{BEDROCK}/amazon.titan-text-express-v1/invoke",
        {"inputTextTokenCount": 9, "results": [{"tokenCount": 17, "outputText": "x"}]},
        Usage(input_tokens=9, output_tokens=17),
    ),
    "InvokeModel: Llama": (
        f"{BEDROCK}/meta.llama3-70b-instruct-v1%3A0/invoke",
        {"generation": "x", "prompt_token_count": 8, "generation_token_count": 35},
        Usage(input_tokens=8, output_tokens=35),
    ),
    "InvokeModel: Claude": (
        f"{BEDROCK}/anthropic.claude-3-haiku-20240307-v1%3A0/invoke",
        {
            "id": "msg_bdrk_1",
            "content": [],
            "usage": {
                "input_tokens": 4,
                "cache_creation_input_tokens": 18,
                "cache_creation": {"ephemeral_1h_input_tokens": 8},
                "cache_read_input_tokens": 2,
                "output_tokens": 50,
            },
        },
        Usage(
            input_tokens=4,
            cache_read_tokens=2,
            cache_write_tokens=10,
            cache_write_1h_tokens=8,
            output_tokens=50,
        ),
    ),
    "Cohere bills billed units": (
        "https://api.cohere.com/v2/chat",
        {
            "id": "c1",
            "message": {"content": []},
            "usage": {
                "billed_units": {"input_tokens": 12, "output_tokens": 65},
                "tokens": {"input_tokens": 212, "output_tokens": 65},
                "cached_tokens": 208,
            },
        },
        Usage(input_tokens=12, output_tokens=65),
    ),
    "Cohere's first chat, streamed by the line": (
        "https://api.cohere.com/v1/chat",
        b'{"is_finished":false,"event_type":"text-generation","text":"A"}\n'
        b'{"is_finished":true,"event_type":"stream-end","response":{"response_id":"r",'
        b'"meta":{"billed_units":{"input_tokens":7,"output_tokens":115}}}}\n',
        Usage(input_tokens=7, output_tokens=115),
    ),
    "a search of Cohere's reranker": (
        "https://api.cohere.com/v2/rerank",
        {"results": [], "meta": {"billed_units": {"search_units": 2}}},
        Usage(units={"search_unit": Decimal(2)}),
    ),
    "Ollama": (
        "http://localhost:11434/api/chat",
        b'{"model":"llama3","message":{"content":"A"},"done":false}\n'
        b'{"model":"llama3","done":true,"prompt_eval_count":17,"eval_count":63}\n',
        Usage(input_tokens=17, output_tokens=63),
    ),
    "watsonx streams counts that grow, and an input that does not": (
        "https://us-south.ml.cloud.ibm.com/ml/v1/text/generation_stream",
        sse(
            {"results": [{"generated_token_count": 1, "input_token_count": 12}]},
            {"results": [{"generated_token_count": 2, "input_token_count": 0}]},
            {"results": [{"generated_token_count": 7, "input_token_count": 0}]},
        ),
        Usage(input_tokens=12, output_tokens=7),
    ),
    "Groq's streams": (
        "https://api.groq.com/openai/v1/chat/completions",
        sse(
            {"id": "c", "model": "llama", "choices": [{"delta": {"content": "a"}}]},
            {
                "id": "c",
                "choices": [{"delta": {}, "finish_reason": "stop"}],
                "x_groq": {"usage": {"prompt_tokens": 18, "completion_tokens": 5}},
            },
        ),
        Usage(input_tokens=18, output_tokens=5),
    ),
    "Moonshot's streams": (
        "https://api.moonshot.ai/v1/chat/completions",
        sse(
            {
                "id": "c",
                "choices": [
                    {
                        "delta": {},
                        "usage": {
                            "prompt_tokens": 9,
                            "completion_tokens": 12,
                            "cached_tokens": 4,
                        },
                    }
                ],
            }
        ),
        Usage(input_tokens=5, cache_read_tokens=4, output_tokens=12),
    ),
    "usage on every chunk is the sum so far": (
        "https://api.perplexity.ai/chat/completions",
        sse(
            *(
                {
                    "id": "c",
                    "choices": [{"delta": {"content": "a"}}],
                    "usage": {"prompt_tokens": 8, "completion_tokens": n},
                }
                for n in range(1, 9)
            )
        ),
        Usage(input_tokens=8, output_tokens=8),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    url, body, usage = CASES[name]
    reading = answer(url, body)
    assert reading.usage == usage
    assert not {flag for flag in reading.flags if not flag.startswith("region.")}


def test_headers_complete_the_counts_of_a_body() -> None:
    reading = read_exchange(
        method="POST",
        url=f"{BEDROCK}/mistral.mistral-7b-instruct-v0%3A2/invoke",
        request_body=b"{}",
        status=200,
        headers={
            "X-Amzn-Bedrock-Input-Token-Count": "18",
            "X-Amzn-Bedrock-Output-Token-Count": "87",
        },
        body=b'{"outputs":[{"text":"x","stop_reason":"stop"}]}',
    )
    assert reading is not None
    assert reading.usage == Usage(input_tokens=18, output_tokens=87)
    assert reading.model == "mistral.mistral-7b-instruct-v0:2"


@pytest.mark.parametrize(
    ("usage", "flags"),
    [
        ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 25}}, True),
        ({"prompt_tokens": -5, "completion_tokens": 3}, True),
        ({"prompt_tokens": 5.5, "completion_tokens": 3}, True),
        ({"prompt_tokens": 10**30, "completion_tokens": 3}, True),
        ({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 7}, True),
        ({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 99}, True),
        (
            {"completion_tokens_details": {"reasoning_tokens": 9}, "prompt_tokens": 1},
            True,
        ),
        ({"prompt_tokens": 5.0, "completion_tokens": "3"}, False),
        ({"prompt_tokens": None, "completion_tokens": 3}, True),
        ({"prompt_tokens": True, "completion_tokens": 3}, True),
        ({"completion_tokens": 3}, True),
        ({"completion_tokens": 3, "total_tokens": 3}, True),
        ({"output_tokens": 3}, True),
        ({"prompt_tokens": 5, "completion_tokens": None}, True),
        ({"prompt_tokens": 5, "completion_tokens": False}, True),
        ({"prompt_tokens": 5}, True),
        ({"prompt_tokens": 5, "total_tokens": 5}, False),
        ({"prompt_tokens": 5, "completion_tokens": 0}, False),
        ({"prompt_tokens": 0, "completion_tokens": 3}, False),
        ({"total_tokens": 5}, False),
    ],
)
def test_contradictory_counts_are_clamped_and_flagged(
    usage: dict[str, t.Any], flags: bool
) -> None:
    reading = answer(f"{OPENAI}/chat/completions", {"usage": usage})
    assert reading.usage is not None
    assert reading.usage.total_tokens >= 0
    assert ("usage_conflict" in reading.flags) is flags


@pytest.mark.parametrize("path", ["embeddings", "rerank", "moderations"])
def test_operations_without_output_are_not_flagged(path: str) -> None:
    reading = answer(f"{OPENAI}/{path}", {"usage": {"prompt_tokens": 5}})
    assert reading.usage == Usage(input_tokens=5)
    assert not reading.flags


@pytest.mark.parametrize(
    ("host", "usage", "cost"),
    [
        ("openrouter.ai/api", {"cost": 0.00093, "is_byok": False}, "0.00093"),
        ("openrouter.ai/api", {"cost": 0}, "0"),
        (
            "openrouter.ai/api",
            {
                "cost": 0.0001,
                "is_byok": True,
                "cost_details": {"upstream_inference_cost": 0.002},
            },
            "0.0021",
        ),
        ("openrouter.ai/api", {"cost": 0.0001, "is_byok": True}, None),
        ("api.x.ai", {"cost_in_usd_ticks": 6543500}, "0.00065435"),
        ("my.services.ai.azure.com", {"cost_in_usd_ticks": 0}, None),
        ("api.perplexity.ai", {"cost": {"total_cost": 0.00507}}, "0.00507"),
        ("api.openai.com", {"cost": 5}, None),
    ],
)
def test_a_reported_cost_is_read(
    host: str, usage: dict[str, t.Any], cost: str | None
) -> None:
    body = {"usage": {"prompt_tokens": 1, "completion_tokens": 1, **usage}}
    reading = answer(f"https://{host}/v1/chat/completions", body)
    assert reading.reported_cost == (None if cost is None else Decimal(cost))


def test_several_models_have_usage_by_model() -> None:
    steps = [
        {"type": "message", "input_tokens": 100, "output_tokens": 10},
        {
            "type": "advisor_message",
            "model": "claude-opus-4-8",
            "input_tokens": 250,
            "output_tokens": 22,
        },
        {"type": "message", "input_tokens": 120, "output_tokens": 11},
    ]
    body = {
        "type": "message",
        "model": "claude-sonnet-5",
        "usage": {"input_tokens": 220, "output_tokens": 21, "iterations": steps},
    }
    reading = answer(ANTHROPIC, body)
    assert reading.usage == Usage(input_tokens=220, output_tokens=21)
    assert reading.usage_by_model == {
        "claude-sonnet-5": Usage(input_tokens=220, output_tokens=21),
        "claude-opus-4-8": Usage(input_tokens=250, output_tokens=22),
    }


def test_one_model_with_one_step_has_no_usage_by_model() -> None:
    step = {"type": "message", "input_tokens": 53, "output_tokens": 14}
    body = {"model": "claude-opus-4-7", "usage": {**step, "iterations": [step]}}
    assert answer(ANTHROPIC, body).usage_by_model == {}


def test_a_region_with_its_own_price_is_flagged() -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "inference_geo": "us"}
    assert answer(ANTHROPIC, {"usage": usage}).flags == {"region.us"}
    chat = {"usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    url = "https://eu.api.openai.com/v1/chat/completions"
    assert answer(url, chat).flags == {"region.eu"}


@pytest.mark.parametrize(
    ("url", "body", "tier"),
    [
        (f"{OPENAI}/chat/completions", {"service_tier": "flex"}, "flex"),
        (ANTHROPIC, {"usage": {"service_tier": "batch"}}, "batch"),
        (
            ANTHROPIC,
            {"usage": {"service_tier": "standard", "speed": "fast"}},
            "fast",
        ),
        (
            f"{GEMINI}:generateContent",
            {"usageMetadata": {"trafficType": "PROVISIONED_THROUGHPUT"}},
            "PROVISIONED_THROUGHPUT",
        ),
        (f"{BEDROCK}/m/converse", {"serviceTier": {"type": "priority"}}, "priority"),
    ],
)
def test_the_tier_is_the_served_one(
    url: str, body: dict[str, t.Any], tier: str
) -> None:
    assert answer(url, body, service_tier="auto").service_tier == tier


def test_an_error_has_no_usage() -> None:
    reading = read_exchange(
        method="POST",
        url=f"{OPENAI}/chat/completions",
        request_body=b'{"model":"gpt-4o","stream":true}',
        status=429,
        headers={},
        body=b'{"error":{},"usage":{"prompt_tokens":9}}',
    )
    assert reading is not None
    assert (reading.usage, reading.usage_source) == (None, "unknown")
    assert (reading.model, reading.stream) == ("gpt-4o", True)


def test_a_realtime_log_is_summed() -> None:
    def done(cached: int) -> dict[str, t.Any]:
        details = {
            "audio_tokens": 96,
            "text_tokens": 43,
            "cached_tokens": cached,
            "cached_tokens_details": {"audio_tokens": cached},
        }
        usage = {
            "input_tokens": 139,
            "output_tokens": 4,
            "input_token_details": details,
        }
        return {"type": "response.done", "response": {"id": "r", "usage": usage}}

    log = b"\n".join(json.dumps(e).encode() for e in (done(0), done(64)))
    reading = answer("wss://api.openai.com/v1/realtime", log, method="WS")
    assert reading.usage == Usage(
        input_tokens=86,
        input_audio_tokens=128,
        output_tokens=8,
        other_tokens={"cache_read_audio": 64},
    )
