"""Unusual answers of providers, and what they mean."""

from __future__ import annotations

import base64
import json
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.call import Usage
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import read_exchange
from flask_llm_cost.providers import route

from .test_cases import answer
from .test_cases import sse

OPENAI = "https://api.openai.com/v1"
BEDROCK = "https://bedrock-runtime.us-east-1.amazonaws.com/model"
VERTEX = "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5"


CASES: dict[str, tuple[str, object, Usage]] = {
    "responses with cached tokens and reasoning": (
        f"{OPENAI}/responses",
        {
            "id": "resp_1",
            "object": "response",
            "model": "gpt-5-2025-08-07",
            "output": [{"type": "reasoning"}, {"type": "message"}],
            "usage": {
                "input_tokens": 2000,
                "input_tokens_details": {"cached_tokens": 1536},
                "output_tokens": 300,
                "output_tokens_details": {"reasoning_tokens": 256},
                "total_tokens": 2300,
            },
        },
        Usage(
            input_tokens=464,
            cache_read_tokens=1536,
            output_tokens=300,
            reasoning_tokens=256,
        ),
    ),
    "predicted outputs are in the completion": (
        f"{OPENAI}/chat/completions",
        {
            "usage": {
                "prompt_tokens": 50,
                "completion_tokens": 100,
                "total_tokens": 150,
                "completion_tokens_details": {
                    "accepted_prediction_tokens": 40,
                    "rejected_prediction_tokens": 20,
                    "reasoning_tokens": 0,
                },
            }
        },
        Usage(input_tokens=50, output_tokens=100),
    ),
    "completions that echo their prompt count it once": (
        f"{OPENAI}/completions",
        {
            "object": "text_completion",
            "choices": [{"text": "Say this is a test", "logprobs": None}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5},
        },
        Usage(input_tokens=5),
    ),
    "images whose output is not told apart are images": (
        f"{OPENAI}/images/generations",
        {
            "created": 1713833628,
            "data": [{"b64_json": "AAAA"}],
            "usage": {
                "total_tokens": 100,
                "input_tokens": 50,
                "output_tokens": 50,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
            },
        },
        Usage(input_tokens=10, input_image_tokens=40, output_image_tokens=50),
    ),
    "images with text beside them": (
        f"{OPENAI}/images/edits",
        {
            "data": [{"b64_json": "AAAA"}],
            "usage": {
                "input_tokens": 50,
                "input_tokens_details": {"text_tokens": 50, "image_tokens": 0},
                "output_tokens": 60,
                "output_tokens_details": {"text_tokens": 10, "image_tokens": 50},
                "total_tokens": 110,
            },
        },
        Usage(input_tokens=50, output_tokens=10, output_image_tokens=50),
    ),
    "a streamed image has its usage at the end": (
        f"{OPENAI}/images/generations",
        sse(
            {
                "type": "image_generation.partial_image",
                "b64_json": "AAAA",
                "partial_image_index": 0,
            },
            {
                "type": "image_generation.completed",
                "b64_json": "AAAA",
                "usage": {
                    "total_tokens": 100,
                    "input_tokens": 50,
                    "output_tokens": 50,
                    "input_tokens_details": {"text_tokens": 50, "image_tokens": 0},
                },
            },
        ),
        Usage(input_tokens=50, output_image_tokens=50),
    ),
    "a transcript by duration": (
        f"{OPENAI}/audio/transcriptions",
        {"text": "hi", "usage": {"type": "duration", "seconds": 7}},
        Usage(units={"audio_second": Decimal(7)}),
    ),
    "a transcript by token": (
        f"{OPENAI}/audio/transcriptions",
        {
            "text": "hi",
            "usage": {
                "type": "tokens",
                "input_tokens": 14,
                "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
                "output_tokens": 45,
                "total_tokens": 59,
            },
        },
        Usage(input_tokens=4, input_audio_tokens=10, output_tokens=45),
    ),
    "a streamed transcript": (
        f"{OPENAI}/audio/transcriptions",
        sse(
            {"type": "transcript.text.delta", "delta": "hi"},
            {
                "type": "transcript.text.done",
                "text": "hi",
                "usage": {
                    "type": "tokens",
                    "input_tokens": 14,
                    "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
                    "output_tokens": 45,
                    "total_tokens": 59,
                },
            },
        ),
        Usage(input_audio_tokens=14, output_tokens=45),
    ),
    "streamed speech is made of audio": (
        f"{OPENAI}/audio/speech",
        sse(
            {"type": "speech.audio.delta", "audio": "AAAA"},
            {
                "type": "speech.audio.done",
                "usage": {
                    "input_tokens": 14,
                    "output_tokens": 101,
                    "total_tokens": 115,
                },
            },
        ),
        Usage(input_tokens=14, output_audio_tokens=101),
    ),
    "DeepSeek's hits and misses": (
        "https://api.deepseek.com/chat/completions",
        {
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "total_tokens": 120,
                "prompt_cache_hit_tokens": 64,
                "prompt_cache_miss_tokens": 36,
                "completion_tokens_details": {"reasoning_tokens": 12},
            }
        },
        Usage(
            input_tokens=36,
            cache_read_tokens=64,
            output_tokens=20,
            reasoning_tokens=12,
        ),
    ),
    "hits told twice are counted once": (
        "https://api.deepseek.com/chat/completions",
        {
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "total_tokens": 120,
                "prompt_tokens_details": {"cached_tokens": 64},
                "prompt_cache_hit_tokens": 64,
                "prompt_cache_miss_tokens": 36,
            }
        },
        Usage(input_tokens=36, cache_read_tokens=64, output_tokens=20),
    ),
    "Groq's stream": (
        "https://api.groq.com/openai/v1/chat/completions",
        sse(
            {
                "id": "c",
                "choices": [{"delta": {"content": "a"}}],
                "x_groq": {"id": "r"},
            },
            {
                "id": "c",
                "choices": [{"delta": {}, "finish_reason": "stop"}],
                "x_groq": {
                    "id": "r",
                    "usage": {
                        "queue_time": 0.01,
                        "prompt_tokens": 9,
                        "completion_tokens": 3,
                        "total_tokens": 12,
                    },
                },
            },
        ),
        Usage(input_tokens=9, output_tokens=3),
    ),
    "Groq's caches in its chips are no usage": (
        "https://api.groq.com/openai/v1/chat/completions",
        {
            "usage": {
                "prompt_tokens": 9,
                "completion_tokens": 3,
                "total_tokens": 12,
                "total_time": 0.1,
            },
            "x_groq": {
                "id": "r",
                "usage": {"dram_cached_tokens": 5, "sram_cached_tokens": 4},
            },
        },
        Usage(input_tokens=9, output_tokens=3),
    ),
    "Moonshot's cached tokens": (
        "https://api.moonshot.ai/v1/chat/completions",
        {
            "usage": {
                "prompt_tokens": 90,
                "completion_tokens": 3,
                "total_tokens": 93,
                "cached_tokens": 80,
            }
        },
        Usage(input_tokens=10, cache_read_tokens=80, output_tokens=3),
    ),
    "Mistral's transcripts are billed by second": (
        "https://api.mistral.ai/v1/audio/transcriptions",
        {
            "text": "hi",
            "usage": {
                "prompt_audio_seconds": 203,
                "prompt_tokens": 4,
                "total_tokens": 3264,
                "completion_tokens": 635,
            },
        },
        Usage(
            input_tokens=2629,
            output_tokens=635,
            units={"audio_second": Decimal(203)},
        ),
    ),
    "xAI's reasoning stands beside the completion": (
        "https://api.x.ai/v1/chat/completions",
        {
            "usage": {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "prompt_tokens_details": {
                    "text_tokens": 32,
                    "audio_tokens": 0,
                    "image_tokens": 0,
                    "cached_tokens": 6,
                },
                "completion_tokens_details": {"reasoning_tokens": 94},
                "num_sources_used": 0,
            }
        },
        Usage(
            input_tokens=26,
            cache_read_tokens=6,
            output_tokens=103,
            reasoning_tokens=94,
        ),
    ),
    "Alibaba's own API": (
        "https://dashscope-intl.aliyuncs.com/api/v1/services/aigc/text-generation/generation",
        {
            "output": {"text": "hi", "finish_reason": "stop"},
            "usage": {
                "input_tokens": 20,
                "output_tokens": 5,
                "total_tokens": 25,
                "prompt_tokens_details": {"cached_tokens": 8},
            },
            "request_id": "req-1",
        },
        Usage(input_tokens=12, cache_read_tokens=8, output_tokens=5),
    ),
    "Alibaba's embeddings": (
        "https://dashscope-intl.aliyuncs.com/api/v1/services/embeddings/text-embedding"
        "/text-embedding",
        {"output": {"embeddings": []}, "usage": {"total_tokens": 9}, "request_id": "r"},
        Usage(input_tokens=9),
    ),
    "Snowflake's embeddings": (
        "https://org-acct.snowflakecomputing.com/api/v2/cortex/inference:embed",
        {"data": [], "model": "e5", "usage": {"total_tokens": 7}},
        Usage(input_tokens=7),
    ),
    "Voyage's multimodal embeddings": (
        "https://api.voyageai.com/v1/multimodalembeddings",
        {
            "object": "list",
            "data": [{"embedding": [0.1]}],
            "model": "voyage-multimodal-3",
            "usage": {"text_tokens": 5, "image_pixels": 2000000, "total_tokens": 3576},
        },
        Usage(input_tokens=5, units={"pixel": Decimal(2_000_000)}),
    ),
    "Jina's reranker": (
        "https://api.jina.ai/v1/rerank",
        {
            "model": "jina-reranker-v2-base-multilingual",
            "usage": {"total_tokens": 815},
            "results": [{"index": 0, "relevance_score": 0.9}],
        },
        Usage(input_tokens=815),
    ),
    "Cohere's images, embedded": (
        "https://api.cohere.com/v2/embed",
        {
            "id": "e1",
            "embeddings": {"float": [[0.1]]},
            "meta": {"api_version": {"version": "2"}, "billed_units": {"images": 1}},
        },
        Usage(units={"input_image_piece": Decimal(1)}),
    ),
    "Cohere's chat bills less than it counts": (
        "https://api.cohere.com/v2/chat",
        {
            "id": "c1",
            "message": {"content": []},
            "usage": {
                "billed_units": {"input_tokens": 12, "output_tokens": 5},
                "tokens": {"input_tokens": 212, "output_tokens": 7},
                "cached_tokens": 208,
            },
        },
        Usage(input_tokens=12, output_tokens=5),
    ),
    "Gemini with a cache and tools": (
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro"
        ":generateContent",
        {
            "candidates": [],
            "usageMetadata": {
                "promptTokenCount": 1000,
                "cachedContentTokenCount": 800,
                "toolUsePromptTokenCount": 30,
                "candidatesTokenCount": 10,
                "thoughtsTokenCount": 40,
                "totalTokenCount": 1080,
                "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 800}],
                "toolUsePromptTokensDetails": [{"modality": "TEXT", "tokenCount": 30}],
            },
        },
        Usage(
            input_tokens=230,
            cache_read_tokens=800,
            output_tokens=50,
            reasoning_tokens=40,
        ),
    ),
    "Gemini's embeddings with usage": (
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-001"
        ":batchEmbedContents",
        {
            "embeddings": [{"values": [0.1]}],
            "usageMetadata": {"promptTokenCount": 8, "totalTokenCount": 8},
        },
        Usage(input_tokens=8),
    ),
    "Claude on Vertex": (
        f"{VERTEX}/publishers/anthropic/models/claude-sonnet-4-5@20250929:rawPredict",
        {
            "id": "msg_vrtx_1",
            "type": "message",
            "model": "claude-sonnet-4-5-20250929",
            "content": [],
            "usage": {
                "input_tokens": 10,
                "cache_creation_input_tokens": 300,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 100,
                    "ephemeral_1h_input_tokens": 200,
                },
                "cache_read_input_tokens": 1000,
                "output_tokens": 5,
            },
        },
        Usage(
            input_tokens=10,
            cache_read_tokens=1000,
            cache_write_tokens=100,
            cache_write_1h_tokens=200,
            output_tokens=5,
        ),
    ),
    "Claude on Bedrock thinks": (
        f"{BEDROCK}/anthropic.claude-sonnet-4/invoke",
        {
            "id": "msg_bdrk_1",
            "type": "message",
            "content": [],
            "usage": {
                "input_tokens": 10,
                "output_tokens": 50,
                "output_tokens_details": {"thinking_tokens": 30},
            },
        },
        Usage(input_tokens=10, output_tokens=50, reasoning_tokens=30),
    ),
    "Nova on Bedrock": (
        f"{BEDROCK}/amazon.nova-lite-v1%3A0/invoke",
        {
            "output": {"message": {}},
            "usage": {
                "inputTokens": 10,
                "outputTokens": 50,
                "totalTokens": 960,
                "cacheReadInputTokenCount": 900,
                "cacheWriteInputTokenCount": 0,
            },
        },
        Usage(input_tokens=10, cache_read_tokens=900, output_tokens=50),
    ),
    "Llama on Bedrock": (
        f"{BEDROCK}/meta.llama3-70b-instruct-v1%3A0/invoke",
        {"generation": "hi", "prompt_token_count": 4, "generation_token_count": 6},
        Usage(input_tokens=4, output_tokens=6),
    ),
    "Titan's embeddings on Bedrock": (
        f"{BEDROCK}/amazon.titan-embed-text-v2%3A0/invoke",
        {"embedding": [0.1] * 9, "inputTextTokenCount": 6},
        Usage(input_tokens=6),
    ),
    "Converse with caches of two lifetimes": (
        f"{BEDROCK}/anthropic.claude-sonnet-4/converse",
        {
            "output": {},
            "usage": {
                "inputTokens": 5,
                "outputTokens": 6,
                "totalTokens": 411,
                "cacheReadInputTokens": 100,
                "cacheWriteInputTokens": 300,
                "cacheDetails": [
                    {"ttl": "5m", "inputTokens": 200},
                    {"ttl": "1h", "inputTokens": 100},
                ],
            },
        },
        Usage(
            input_tokens=5,
            cache_read_tokens=100,
            cache_write_tokens=200,
            cache_write_1h_tokens=100,
            output_tokens=6,
        ),
    ),
    "Ollama's embeddings": (
        "http://localhost:11434/api/embed",
        {"model": "m", "embeddings": [[0.1]], "prompt_eval_count": 8},
        Usage(input_tokens=8),
    ),
    "a gateway's answer behind blanks that keep it alive": (
        "https://openrouter.ai/api/v1/chat/completions",
        b"\n         \n\n         \n"
        b'{"id":"gen-1","usage":{"prompt_tokens":4,"completion_tokens":2}}',
        Usage(input_tokens=4, output_tokens=2),
    ),
    "a gateway's comments before the first event": (
        "https://openrouter.ai/api/v1/chat/completions",
        b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n"
        + sse({"id": "g", "choices": [{"delta": {"content": "a"}}]})
        + sse({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}})
        + b"data: [DONE]\n\n",
        Usage(input_tokens=4, output_tokens=2),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_variant(name: str) -> None:
    url, body, usage = CASES[name]
    reading = answer(url, body)
    assert reading.usage == usage
    assert not reading.flags - {"region.endpoint", "cache.implicit"}


@pytest.mark.parametrize(
    ("url", "body", "usage"),
    [
        (
            f"{BEDROCK}/m/converse",
            {"usage": {"inputTokens": 5, "outputTokens": 6, "totalTokens": 99}},
            Usage(input_tokens=5, output_tokens=6),
        ),
        (
            f"{BEDROCK}/m/invoke-with-response-stream",
            {
                "type": "message_stop",
                "usage": {"input_tokens": 5, "output_tokens": 133},
                "amazon-bedrock-invocationMetrics": {"outputTokenCount": 97},
            },
            Usage(input_tokens=5, output_tokens=133),
        ),
        (
            f"{VERTEX}/publishers/google/models/gemini-2.5-pro:generateContent",
            {
                "usageMetadata": {
                    "promptTokenCount": 5,
                    "candidatesTokenCount": 6,
                    "totalTokenCount": 99,
                }
            },
            Usage(input_tokens=5, output_tokens=6),
        ),
        (
            "https://r.openai.azure.com/openai/v1/chat/completions",
            {
                "usage": {
                    "prompt_tokens": 31,
                    "completion_tokens": 5,
                    "total_tokens": 36,
                    "prompt_tokens_details": {"cached_tokens": 161},
                }
            },
            Usage(cache_read_tokens=31, output_tokens=5),
        ),
    ],
)
def test_contradictory_answers_are_clamped_and_flagged(
    url: str, body: dict[str, t.Any], usage: Usage
) -> None:
    reading = answer(url, body)
    assert reading.usage == usage
    assert "usage_conflict" in reading.flags


@pytest.mark.parametrize(
    ("url", "body", "cost"),
    [
        (
            "https://api.perplexity.ai/chat/completions",
            {
                "prompt_tokens": 8,
                "cost": {"request_cost": 0.005, "total_cost": 0.00522},
            },
            "0.00522",
        ),
        (
            "https://api.x.ai/v1/responses",
            {"input_tokens": 8, "output_tokens": 1, "cost_in_usd_ticks": 37756000},
            "0.0037756",
        ),
        (
            "https://openrouter.ai/api/v1/chat/completions",
            {"prompt_tokens": 8, "completion_tokens": 1, "cost": 1e-05},
            "0.00001",
        ),
        (
            "https://openrouter.ai/api/v1/chat/completions",
            {
                "prompt_tokens": 8,
                "completion_tokens": 1,
                "is_byok": True,
                "cost": 0.0005,
                "cost_details": {"upstream_inference_cost": 0.01},
            },
            "0.0105",
        ),
    ],
)
def test_the_cost_in_the_answer_is_read(
    url: str, body: dict[str, t.Any], cost: str
) -> None:
    assert answer(url, {"usage": body}).reported_cost == Decimal(cost)


def test_a_compound_answer_has_usage_by_model() -> None:
    url = "https://api.groq.com/openai/v1/chat/completions"
    parts = [
        {
            "model": "llama-3.3-70b",
            "usage": {"prompt_tokens": 9, "completion_tokens": 1},
        },
        {
            "model": "llama-4-scout",
            "usage": {"prompt_tokens": 5, "completion_tokens": 2},
        },
        {
            "model": "llama-3.3-70b",
            "usage": {"prompt_tokens": 7, "completion_tokens": 3},
        },
    ]
    told = {"prompt_tokens": 21, "completion_tokens": 6, "total_tokens": 27}
    body = {
        "model": "groq/compound",
        "choices": [],
        "usage": told,
        "usage_breakdown": {"models": parts},
    }
    usage_by_model = {
        "llama-3.3-70b": Usage(input_tokens=16, output_tokens=4),
        "llama-4-scout": Usage(input_tokens=5, output_tokens=2),
    }
    reading = answer(url, body)
    assert reading.usage == Usage(input_tokens=21, output_tokens=6)
    assert reading.usage_by_model == usage_by_model
    last = {
        "choices": [],
        "x_groq": {"usage": told, "usage_breakdown": {"models": parts}},
    }
    assert (
        answer(url, sse(body | {"usage": None}, last)).usage_by_model == usage_by_model
    )


def test_a_conflict_in_the_usage_of_one_model_is_flagged() -> None:
    url = "https://api.groq.com/openai/v1/chat/completions"
    models = [{"model": "llama-3.3-70b", "usage": {"completion_tokens": 1}}]
    told = {"prompt_tokens": 21, "completion_tokens": 6, "total_tokens": 27}
    body = {"usage": told, "usage_breakdown": {"models": models}}
    assert answer(url, body).flags == {"usage_conflict"}


def test_svgs_are_drawn_by_another_model() -> None:
    drawn = {"model": "gpt-lines", "input_tokens": 5, "output_tokens": 80}
    told = {"input_tokens": 9, "output_tokens": 40, "total_tokens": 49}
    body = {"data": [{"b64_json": "A"}], "usage": told, "svg_usage": drawn}
    reading = answer(f"{OPENAI}/images/generations", body, model="gpt-image-2")
    assert reading.usage == Usage(input_tokens=9, output_image_tokens=40)
    assert reading.usage_by_model == {
        "gpt-image-2": Usage(input_tokens=9, output_image_tokens=40),
        "gpt-lines": Usage(input_tokens=5, output_tokens=80),
    }


def test_the_request_id_of_alibaba_is_read() -> None:
    url, body, _ = CASES["Alibaba's own API"]
    assert answer(url, body, model="qwen-max").response_id == "req-1"


def test_the_model_of_a_deployment_is_in_the_answer() -> None:
    url = (
        "https://r.openai.azure.com/openai/deployments/mine/chat/completions"
        "?api-version=2025-01-01"
    )
    first = {"choices": [], "id": "", "model": "", "prompt_filter_results": []}
    told = {"prompt_tokens": 3, "completion_tokens": 4}
    last = {"id": "c1", "model": "gpt-4o-2024-11-20", "choices": [], "usage": told}
    reading = answer(url, sse(first, last), stream=True)
    assert (reading.request_model, reading.model) == ("mine", "gpt-4o-2024-11-20")
    assert reading.response_id == "c1"


def test_the_tier_of_an_invocation_is_in_a_header() -> None:
    reading = read_exchange(
        method="POST",
        url=f"{BEDROCK}/amazon.nova-lite-v1%3A0/invoke",
        request_body=b"{}",
        status=200,
        headers={"X-Amzn-Bedrock-Service-Tier": "flex"},
        body=b'{"usage":{"inputTokens":1,"outputTokens":2}}',
    )
    assert reading is not None
    assert reading.service_tier == "flex"


def _streamed(url: str, body: bytes) -> Reading:
    found = route("POST", url)
    assert found is not None
    exchange = Exchange(found, request_body=None)
    exchange.begin_response(200, {})
    for at in range(0, len(body), 65_000):
        exchange.feed(body[at : at + 65_000], decoded=True)
    return exchange.reading(ended=True)


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_a_streamed_image_of_any_size_has_usage(size: int) -> None:
    event = {
        "type": "image_generation.completed",
        "created_at": 1764500140,
        "b64_json": "A" * size,
        "output_format": "png",
        "usage": {"input_tokens": 9, "output_tokens": 4000, "total_tokens": 4009},
    }
    reading = _streamed(f"{OPENAI}/images/generations", sse(event))
    assert reading.usage == Usage(input_tokens=9, output_image_tokens=4000)
    assert reading.usage_source == "stream_final"


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_images_of_any_size_are_counted(size: int) -> None:
    body = {"created": 1, "data": [{"revised_prompt": "x", "b64_json": "A" * size}]}
    reading = _streamed(f"{OPENAI}/images/generations", json.dumps(body).encode())
    assert reading.usage == Usage(units={"image": Decimal(1)})
    told = {"input_tokens": 9, "output_tokens": 40, "total_tokens": 49}
    body = {"created": 1, "data": [{"b64_json": "A" * size}], "usage": told}
    reading = _streamed(f"{OPENAI}/images/generations", json.dumps(body).encode())
    assert reading.usage == Usage(input_tokens=9, output_image_tokens=40)


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_imagens_images_of_any_size_are_counted(size: int) -> None:
    image = {"mimeType": "image/png", "bytesBase64Encoded": "A" * size}
    url = "https://generativelanguage.googleapis.com/v1beta/models/imagen-4:predict"
    reading = _streamed(url, json.dumps({"predictions": [image]}).encode())
    assert reading.usage == Usage(units={"image": Decimal(1)})


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_a_chunk_with_an_image_in_it_has_usage(size: int) -> None:
    image = {"image_url": {"url": "data:image/png;base64," + "A" * size}}
    told = {"prompt_tokens": 9, "completion_tokens": 1300}
    chunk = {"id": "g", "choices": [{"delta": {"images": [image]}}], "usage": told}
    url = "https://openrouter.ai/api/v1/chat/completions"
    reading = _streamed(url, sse({"id": "g", "choices": []}) + sse(chunk))
    assert reading.usage == Usage(input_tokens=9, output_tokens=1300)


def test_counting_tokens_is_never_a_call() -> None:
    for path in (
        "/publishers/anthropic/models/count-tokens:rawPredict",
        "/publishers/google/models/gemini-2.5-pro:countTokens",
    ):
        assert route("POST", VERTEX + path) is None


def test_each_line_of_a_gemini_batch_file_is_a_call() -> None:
    found = route(
        "GET",
        "https://generativelanguage.googleapis.com/download/v1beta/files/b-1:download"
        "?alt=media",
    )
    assert found is not None
    exchange = Exchange(found, request_body=None)
    exchange.begin_response(200, {})
    told = {"promptTokenCount": 7, "candidatesTokenCount": 3}
    lines = [
        {"key": "a", "response": {"responseId": "r1", "usageMetadata": told}},
        {"key": "b", "error": {"code": 400}},
        {"key": "c", "response": {"responseId": "r2", "usageMetadata": told}},
    ]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    exchange.feed(body, decoded=True)
    exchange.reading(ended=True)
    results = exchange.take_results()
    assert [r.response_id for r in results] == ["r1", "r2"]
    assert {r.service_tier for r in results} == {"batch"}
    assert [r.usage for r in results] == [Usage(input_tokens=7, output_tokens=3)] * 2


def test_a_gemini_batch_may_contain_its_answers() -> None:
    url = "https://generativelanguage.googleapis.com/v1beta/batches/b1"
    told = {"promptTokenCount": 13, "candidatesTokenCount": 1, "thoughtsTokenCount": 43}
    answers = [
        {"response": {"usageMetadata": told, "responseId": f"r{n}"}} for n in (1, 2)
    ]
    answers.append({"error": {"code": 3}})
    made = "2026-08-19T14:34:12.267870162Z"
    batch: dict[str, t.Any] = {"name": "batches/b1", "metadata": {"createTime": made}}
    for done in (False, True):
        if done:
            inlined = {"inlinedResponses": {"inlinedResponses": answers}}
            batch["metadata"]["output"] = inlined
        found = route("GET", url)
        assert found is not None
        exchange = Exchange(found, request_body=None)
        exchange.begin_response(200, {})
        exchange.feed(json.dumps(batch, indent=2).encode(), decoded=True)
        assert exchange.reading(ended=True).usage is None
        results = exchange.take_results()
        assert [r.response_id for r in results] == (["r1", "r2"] if done else [])
    assert results[0].usage == Usage(
        input_tokens=13, output_tokens=44, reasoning_tokens=43
    )
    assert results[0].created_at is not None
    assert results[0].created_at.isoformat() == "2026-08-19T14:34:12+00:00"


def test_base64_frames_of_bedrock_contain_the_vendors_stream() -> None:
    events = [
        {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 9}}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {
                "output_tokens": 40,
                "output_tokens_details": {"thinking_tokens": 25},
            },
        },
        {"type": "message_stop", "amazon-bedrock-invocationMetrics": {}},
    ]
    body = b"".join(
        json.dumps(
            {
                "event": "chunk",
                "data": {"bytes": base64.b64encode(json.dumps(e).encode()).decode()},
            }
        ).encode()
        + b"\n"
        for e in events
    )
    url = f"{BEDROCK}/anthropic.claude-sonnet-4/invoke-with-response-stream"
    reading = answer(url, body)
    assert reading.usage == Usage(input_tokens=9, output_tokens=40, reasoning_tokens=25)
    assert reading.usage_source == "stream_final"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"{OPENAI}/embeddings", {"usage": {"prompt_tokens": 7, "total_tokens": 7}}),
        (
            "https://api.cohere.com/v2/embed",
            {"meta": {"billed_units": {"input_tokens": 7}}},
        ),
        (
            "https://api.cohere.com/v2/chat",
            {"usage": {"billed_units": {"input_tokens": 7}}},
        ),
        (
            "https://api.cohere.com/v1/chat",
            {"meta": {"billed_units": {"input_tokens": 7}}},
        ),
    ],
)
def test_an_id_may_be_anywhere(url: str, told: dict[str, t.Any]) -> None:
    content = {"data": [], "embeddings": [], "message": {}, "text": "hi"}
    identity = {"id": "r1"} if "/v1/chat" not in url else {"response_id": "r1"}
    for order in (
        (identity, content, told),
        (content, identity, told),
        (content, told, identity),
        (told, content, identity),
    ):
        body = {name: value for part in order for name, value in part.items()}
        reading = answer(url, body)
        assert reading.usage == Usage(input_tokens=7)
        assert reading.response_id == "r1"


def test_perplexity_excludes_research_from_the_completion() -> None:
    told = {
        "prompt_tokens": 33,
        "completion_tokens": 7163,
        "total_tokens": 7196,
        "citation_tokens": 19028,
        "num_search_queries": 18,
        "reasoning_tokens": 73997,
    }
    reading = answer("https://api.perplexity.ai/chat/completions", {"usage": told})
    assert reading.usage == Usage(
        input_tokens=33,
        output_tokens=7163 + 73997,
        reasoning_tokens=73997,
        other_tokens={"output_citation": 19028},
        units={"web_search": Decimal(18)},
    )
    assert reading.flags == frozenset()


@pytest.mark.parametrize(("last", "flags"), [(447, set()), (5, {"usage_conflict"})])
def test_gemini_counts_may_restart_but_not_end_lower(
    last: int, flags: set[str]
) -> None:
    """After a search in files, the answer restarts. Its last count includes everything."""
    url = (
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-flash"
        ":streamGenerateContent?alt=sse"
    )
    events = [
        {"usageMetadata": {"promptTokenCount": 8, "thoughtsTokenCount": n}}
        for n in (419, 28, last)
    ]
    reading = answer(url, sse(*events))
    assert reading.usage == Usage(
        input_tokens=8, output_tokens=last, reasoning_tokens=last
    )
    assert reading.flags == flags


@pytest.mark.parametrize("size", [1000, 3_000_000])
@pytest.mark.parametrize("stream", [False, True])
def test_searches_for_an_image_of_any_size_are_counted(size: int, stream: bool) -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "A" * size}}
    body = {
        "candidates": [
            {
                "content": {"parts": [image], "role": "model"},
                "groundingMetadata": {
                    "webSearchQueries": ['a ]\\" b', "c"],
                    "searchEntryPoint": {"renderedContent": "<p>"},
                },
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 9,
            "candidatesTokenCount": 1120,
            "totalTokenCount": 1129,
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1120}],
        },
    }
    url = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro-image"
    whole = sse(body) if stream else json.dumps(body).encode()
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    assert _streamed(f"{url}:{verb}", whole).usage == Usage(
        input_tokens=9,
        output_image_tokens=1120,
        units={"grounding": Decimal(2)},
    )
