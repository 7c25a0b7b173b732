"""The contract of meters: what the bundled book prices, readers produce.

Each case is a small answer that yields one meter through ``read_exchange``. A rate of the
bundled book needs a case at its provider, or an entry of ``NOT_READ`` whose outcome is
proven by an example, too.
"""

from __future__ import annotations

import json
import typing as t
from collections.abc import Iterator
from decimal import Decimal

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.call import Usage
from flask_llm_cost.contract import CONDITIONS
from flask_llm_cost.contract import METERS
from flask_llm_cost.contract import MODES
from flask_llm_cost.contract import NO_HOST
from flask_llm_cost.contract import NOT_READ
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.meters import CORE
from flask_llm_cost.prices.meters import PER_PROMPT
from flask_llm_cost.prices.meters import RateKey
from flask_llm_cost.prices.names import served_mode
from flask_llm_cost.prices.price import Price
from flask_llm_cost.providers import read_exchange
from flask_llm_cost.providers.registry import PROVIDERS

BOOK = PriceBook.bundled()

Body = dict[str, t.Any] | bytes | str


def read(
    url: str,
    body: Body,
    request: dict[str, t.Any] | None = None,
    headers: dict[str, str] | None = None,
    method: str = "POST",
) -> Reading | None:
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    return read_exchange(
        method=method,
        url=url,
        request_body=json.dumps(request or {}).encode(),
        status=200,
        headers=headers or {},
        body=content.encode() if isinstance(content, str) else content,
    )


def meters_of(usage: Usage) -> set[str]:
    """Return the meters that a usage has, and those that pricing makes of them."""
    found = {meter for meter, field in CORE.items() if getattr(usage, field)}
    found |= {*usage.other_tokens, *usage.units, "request", "routed_token"}
    if usage.reasoning_tokens:
        found.add("reasoning")
    return found | {PER_PROMPT[name] for name in found & PER_PROMPT.keys()}


# Where each provider speaks like OpenAI

CHATS: t.Final = {
    "openai": "https://api.openai.com/v1/chat/completions",
    "azure": "https://x.openai.azure.com/openai/deployments/m/chat/completions",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
    "vertex": "https://aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints"
    "/openapi/chat/completions",
    "bedrock": "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1/chat"
    "/completions",
    "watsonx": "https://us-south.ml.cloud.ibm.com/ml/v1/text/chat",
    "writer": "https://api.writer.com/v1/chat",
    "snowflake": "https://x.snowflakecomputing.com/api/v2/cortex/inference:complete",
    "databricks": "https://x.cloud.databricks.com/serving-endpoints/m/invocations",
    "cloudflare": "https://api.cloudflare.com/client/v4/accounts/a/ai/v1/chat/completions",
    "ollama": "http://localhost:11434/v1/chat/completions",
}


def chat_url(provider: str) -> str:
    if provider in CHATS:
        return CHATS[provider]
    hosts = next(each.hosts for each in PROVIDERS if each.name == provider)
    return f"https://{hosts[0].replace('*', 'x')}/v1/chat/completions"


MUTE: t.Final = frozenset(
    "anthropic aws_polly black_forest_labs cartesia deepgram elevenlabs fal_ai gladia hume"
    " ideogram luma replicate runwayml sagemaker soniox stability twelvelabs".split()
)
"""Providers that do not speak like OpenAI."""

SPEAKERS: t.Final = tuple(each.name for each in PROVIDERS if each.name not in MUTE)


def chat(**details: t.Any) -> dict[str, t.Any]:
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
    return {"model": "m", "choices": [], "usage": {**usage, **details}}


OPENAI_LIKE: t.Final[dict[str, dict[str, t.Any]]] = {
    "input": chat(),
    "output": chat(),
    "request": chat(),
    "routed_token": chat(),
    "reasoning": chat(completion_tokens_details={"reasoning_tokens": 9}),
    "cache_read": chat(prompt_tokens_details={"cached_tokens": 9}),
    "cache_write": chat(prompt_tokens_details={"cache_write_tokens": 9}),
    "cache_write_1h": chat(
        prompt_tokens_details={
            "cache_creation_tokens": 9,
            "cache_creation_token_details": {"ephemeral_1h_input_tokens": 9},
        }
    ),
    "cache_write_12h": chat(
        prompt_tokens_details={
            "cache_write_tokens": 9,
            "cache_write_tokens_details": {"ttl_12h_tokens": 9},
        }
    ),
    "input_audio": chat(prompt_tokens_details={"audio_tokens": 9}),
    "input_video": chat(prompt_tokens_details={"video_tokens": 9}),
    "cache_read_audio": chat(
        prompt_tokens_details={
            "cached_tokens": 9,
            "audio_tokens": 9,
            "cached_tokens_details": {"audio_tokens": 9},
        }
    ),
    "output_audio": chat(completion_tokens_details={"audio_tokens": 9}),
    "output_image": chat(completion_tokens_details={"image_tokens": 9}),
    "web_search": chat(server_tool_use={"web_search_requests": 1}),
}
"""Answers of chat completions, at every provider that speaks like OpenAI."""


class Case(t.NamedTuple):
    """An answer that yields a meter at some providers, at one path after ``/v1``."""

    meters: str
    urls: dict[str, str]
    body: Body
    request: dict[str, t.Any] | None = None
    headers: dict[str, str] | None = None
    method: str = "POST"


def beside_chat(path: str, *providers: str) -> dict[str, str]:
    """Return the URLs of another path of OpenAI's API at these providers."""
    return {
        name: chat_url(name).replace("/chat/completions", f"/{path}")
        for name in providers
    }


AUDIO = ("openai", "azure", "groq", "mistral", "meta")
IMAGE_USAGE = {
    "input_tokens": 30,
    "output_tokens": 50,
    "total_tokens": 80,
    "input_tokens_details": {
        "text_tokens": 10,
        "image_tokens": 20,
        "cached_tokens": 5,
        "cached_tokens_details": {"image_tokens": 5},
    },
}
GOOGLE = {
    "gemini": "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent",
    "vertex": "https://aiplatform.googleapis.com/v1/projects/p/locations/l/publishers"
    "/google/models/m:generateContent",
}
CLAUDE = {
    "anthropic": "https://api.anthropic.com/v1/messages",
    "vertex": "https://aiplatform.googleapis.com/v1/projects/p/locations/l/publishers"
    "/anthropic/models/m:rawPredict",
    "azure": "https://x.services.ai.azure.com/anthropic/v1/messages",
    "bedrock": "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.m/invoke",
    "databricks": "https://x.cloud.databricks.com/serving-endpoints/anthropic/v1/messages",
}
BEDROCK = "https://bedrock-runtime.us-east-1.amazonaws.com/model"


def modalities(name: str, *kinds: str) -> list[dict[str, t.Any]]:
    return [{"modality": kind, "tokenCount": 9} for kind in kinds]


def grounded(**metadata: t.Any) -> dict[str, t.Any]:
    return {
        "candidates": [{"groundingMetadata": metadata}],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 9},
    }


def output(*items: dict[str, t.Any]) -> dict[str, t.Any]:
    usage = {"input_tokens": 9, "output_tokens": 9, "total_tokens": 18}
    return {"output": list(items), "usage": usage}


CASES: t.Final = (
    Case(
        "input output cache_read cache_write cache_write_1h web_search reasoning",
        CLAUDE,
        {
            "type": "message",
            "usage": {
                "input_tokens": 9,
                "output_tokens": 9,
                "cache_read_input_tokens": 9,
                "cache_creation_input_tokens": 9,
                "cache_creation": {"ephemeral_1h_input_tokens": 5},
                "output_tokens_details": {"thinking_tokens": 3},
                "server_tool_use": {"web_search_requests": 1},
            },
        },
    ),
    Case(
        "input output cache_read cache_write cache_write_1h",
        {"bedrock": f"{BEDROCK}/anthropic.m/converse"},
        {
            "usage": {
                "inputTokens": 9,
                "outputTokens": 9,
                "cacheReadInputTokens": 9,
                "cacheWriteInputTokens": 9,
                "cacheDetails": [{"ttl": "1h", "inputTokens": 5}],
            }
        },
    ),
    Case(
        "input output cache_read reasoning",
        GOOGLE,
        {
            "usageMetadata": {
                "promptTokenCount": 20,
                "cachedContentTokenCount": 9,
                "candidatesTokenCount": 9,
                "thoughtsTokenCount": 9,
            }
        },
    ),
    Case(
        "input_audio input_image input_video cache_read_audio cache_read_image"
        " output_audio output_image output_video",
        GOOGLE,
        {
            "usageMetadata": {
                "promptTokenCount": 60,
                "promptTokensDetails": [
                    {"modality": kind, "tokenCount": 18}
                    for kind in ("AUDIO", "IMAGE", "VIDEO")
                ],
                "cachedContentTokenCount": 18,
                "cacheTokensDetails": modalities("cache", "AUDIO", "IMAGE"),
                "candidatesTokenCount": 27,
                "candidatesTokensDetails": modalities("out", "AUDIO", "IMAGE", "VIDEO"),
            }
        },
    ),
    Case("grounding grounded_prompt", GOOGLE, grounded(webSearchQueries=["a"])),
    Case("maps_grounding", GOOGLE, grounded(groundingChunks=[{"maps": {}}])),
    Case(
        "retrieval_grounding",
        {"vertex": GOOGLE["vertex"]},
        grounded(retrievalQueries=["a"]),
    ),
    Case(
        "image",
        {
            name: url.replace("/m:generateContent", "/imagen-4:predict")
            for name, url in GOOGLE.items()
        },
        {"predictions": [{"bytesBase64Encoded": "AA"}]},
    ),
    Case(
        "video_second",
        {
            name: url.replace("/m:generateContent", "/veo-3:predictLongRunning")
            for name, url in GOOGLE.items()
        },
        {"name": "models/veo-3/operations/o"},
        {"parameters": {"durationSeconds": 8}},
    ),
    Case(
        "character input_image_piece input_video_second",
        {
            "vertex": GOOGLE["vertex"].replace(
                "/m:generateContent", "/multimodalembedding:predict"
            )
        },
        {"predictions": [{"videoEmbeddings": [{"endOffsetSec": 16}]}]},
        {"instances": [{"text": "a cat", "image": {"gcsUri": "gs://x"}}]},
    ),
    Case(
        "cache_write",
        {
            "gemini": "https://generativelanguage.googleapis.com/v1beta/cachedContents",
            "vertex": "https://aiplatform.googleapis.com/v1/projects/p/locations/l"
            "/cachedContents",
        },
        {"name": "cachedContents/c", "usageMetadata": {"totalTokenCount": 9}},
    ),
    Case(
        "image",
        beside_chat(
            "images/generations",
            *("openai", "azure", "xai", "meta", "aiml", "recraft", "tencent"),
        ),
        {"data": [{"url": "https://x"}]},
    ),
    Case(
        "input input_image cache_read_image output_image",
        beside_chat("images/edits", "openai", "azure"),
        {"data": [{"b64_json": "AA"}], "usage": IMAGE_USAGE},
    ),
    Case(
        "input_image output_image",
        {
            "databricks": "https://x.cloud.databricks.com/serving-endpoints/openai/v1"
            "/images/edits"
        },
        {"data": [{"b64_json": "AA"}], "usage": IMAGE_USAGE},
    ),
    Case(
        "web_search file_search code_interpreter image_generation x_search",
        beside_chat("responses", "openai", "azure", "xai", "perplexity"),
        output(
            {"type": "web_search_call", "action": {"type": "search"}},
            {"type": "file_search_call"},
            {"type": "code_interpreter_call"},
            {"type": "image_generation_call"},
            {"type": "x_search_call"},
        ),
    ),
    Case(
        "gateway_search",
        {"openrouter": "https://openrouter.ai/api/v1/chat/completions"},
        chat(server_tool_use_details={"web_search_requests": 1}),
    ),
    Case(
        "audio_second",
        beside_chat("audio/transcriptions", *AUDIO),
        {"text": "x", "usage": {"type": "duration", "seconds": 3}},
    ),
    Case(
        "character",
        beside_chat("audio/speech", *AUDIO, "minimax", "alibaba"),
        b"ID3",
        {"model": "m", "input": "hello"},
    ),
    Case(
        "reasoning output_citation web_search request",
        {"perplexity": "https://api.perplexity.ai/chat/completions"},
        chat(reasoning_tokens=9, citation_tokens=9, num_search_queries=2),
    ),
    Case(
        "web_search",
        {"groq": "https://api.groq.com/openai/v1/chat/completions"},
        {
            **chat(),
            "choices": [
                {"message": {"executed_tools": [{"index": 0, "type": "search"}]}}
            ],
        },
    ),
    Case(
        "page annotated_page",
        {
            "mistral": "https://api.mistral.ai/v1/ocr",
            "azure": "https://x.services.ai.azure.com/providers/mistral/azure/ocr",
            "vertex": GOOGLE["vertex"].replace(
                "google/models/m:generateContent",
                "mistralai/models/mistral-ocr-2505:rawPredict",
            ),
        },
        {"usage_info": {"pages_processed": 3, "pages_processed_annotation": 2}},
    ),
    Case(
        "web_search web_search_premium code_interpreter image_generation",
        {"mistral": "https://api.mistral.ai/v1/conversations"},
        {
            "usage": {
                "prompt_tokens": 9,
                "completion_tokens": 9,
                "connectors": {
                    "web_search": 1,
                    "web_search_premium": 1,
                    "code_interpreter": 1,
                    "image_generation": 1,
                },
            }
        },
    ),
    Case(
        "input output input_image search_unit page classification",
        {"cohere": "https://api.cohere.com/v2/embed"},
        {
            "meta": {
                "billed_units": {
                    "input_tokens": 9,
                    "output_tokens": 9,
                    "image_tokens": 9,
                    "search_units": 1,
                    "pages": 1,
                    "classifications": 1,
                }
            }
        },
    ),
    Case(
        "search_unit",
        {"azure": "https://x.services.ai.azure.com/providers/cohere/v2/rerank"},
        {"results": [], "meta": {"billed_units": {"search_units": 1}}},
    ),
    Case(
        "input_image_piece",
        {"cohere": "https://api.cohere.com/v2/embed"},
        {"meta": {"billed_units": {"images": 1}}},
    ),
    Case(
        "input pixel",
        {"voyage": "https://api.voyageai.com/v1/multimodalembeddings"},
        {"usage": {"text_tokens": 9, "image_pixels": 9, "total_tokens": 18}},
    ),
    Case(
        "input_image_piece",
        {"bedrock": f"{BEDROCK}/amazon.titan-embed-image-v1/invoke"},
        {"embedding": [0.1], "inputTextTokenCount": 0},
        {"inputImage": "AA"},
    ),
    Case(
        "video_second",
        beside_chat("videos", "openai", "azure"),
        {"id": "video_1", "seconds": "8", "size": "720x1280"},
    ),
    Case(
        "input_training",
        beside_chat("fine_tuning/jobs/ftjob-1", "openai"),
        {"id": "ftjob-1", "status": "succeeded", "trained_tokens": 9},
        method="GET",
    ),
    Case(
        "video_second",
        {"xai": "https://api.x.ai/v1/videos/v1"},
        {"status": "done", "video": {"duration": 8}, "usage": {"cost": 1}},
        method="GET",
    ),
    Case(
        "input output",
        {"ollama": "http://localhost:11434/api/chat"},
        {"done": True, "prompt_eval_count": 9, "eval_count": 9},
    ),
    Case(
        "input output",
        {"watsonx": "https://us-south.ml.cloud.ibm.com/ml/v1/text/generation"},
        {"results": [{"input_token_count": 9, "generated_token_count": 9}]},
    ),
    # More of these services is in test_media.
    Case(
        "audio_second",
        {"deepgram": "https://api.deepgram.com/v1/listen"},
        {"metadata": {"duration": 9}},
    ),
    Case(
        "character",
        {
            "deepgram": "https://api.deepgram.com/v1/speak",
            "elevenlabs": "https://api.elevenlabs.io/v1/text-to-speech/v",
        },
        b"ID3",
        {"text": "hello"},
    ),
    Case(
        "audio_second",
        {"elevenlabs": "https://api.elevenlabs.io/v1/speech-to-text"},
        {"audio_duration_secs": 9},
    ),
    Case(
        "audio_second",
        {"assemblyai": "https://api.assemblyai.com/v2/transcript/t"},
        {"id": "t", "status": "completed", "audio_duration": 9},
        method="GET",
    ),
    Case(
        "audio_second",
        {"soniox": "https://api.soniox.com/v1/transcriptions/t"},
        {"id": "t", "status": "completed", "audio_duration_ms": 9000},
        method="GET",
    ),
    Case(
        "character",
        {"aws_polly": "https://polly.us-east-1.amazonaws.com/v1/speech"},
        b"ID3",
        {"Text": "hello"},
        {"x-amzn-requestcharacters": "5"},
    ),
    Case(
        "audio_second",
        {
            "cloudflare": "https://api.cloudflare.com/client/v4/accounts/a/ai/run/@cf"
            "/openai/whisper"
        },
        {"result": {"text": "x", "transcription_info": {"duration": 9}}},
    ),
    Case(
        "predict_second",
        {"replicate": "https://api.replicate.com/v1/predictions"},
        {"id": "p", "completed_at": "x", "metrics": {"predict_time": 9}},
    ),
    Case(
        "input output",
        {"replicate": "https://api.replicate.com/v1/predictions"},
        {
            "completed_at": "x",
            "metrics": {"input_token_count": 9, "output_token_count": 9},
        },
    ),
    Case(
        "image",
        {
            "black_forest_labs": "https://api.bfl.ai/v1/flux-dev",
            "stability": "https://api.stability.ai/v2beta/stable-image/edit/erase",
            "runwayml": "https://api.dev.runwayml.com/v1/text_to_image",
        },
        {"id": "i"},
    ),
    Case("image", {"fal_ai": "https://fal.run/fal-ai/flux/dev"}, {"images": [{}]}),
    Case(
        "video_second",
        {
            "fal_ai": "https://queue.fal.run/minimax/h3/text-to-video",
            "runwayml": "https://api.dev.runwayml.com/v1/image_to_video",
        },
        {"id": "i"},
        {"duration": 5},
    ),
)


def cases() -> Iterator[tuple[str, str, Case]]:
    for meter, body in OPENAI_LIKE.items():
        for provider in SPEAKERS:
            yield meter, provider, Case(meter, {provider: chat_url(provider)}, body)
    for case in CASES:
        for provider in case.urls:
            yield case.meters, provider, case


PROVEN: t.Final = {
    (provider, meter) for meters, provider, _ in cases() for meter in meters.split()
}


@pytest.mark.parametrize(
    ("meters", "provider", "case"),
    [pytest.param(*each, id=f"{each[1]}-{each[0][:40]}") for each in cases()],
)
def test_an_answer_yields_the_meter(meters: str, provider: str, case: Case) -> None:
    reading = read(
        case.urls[provider], case.body, case.request, case.headers, case.method
    )
    assert reading is not None
    assert reading.provider == provider
    assert reading.usage is not None
    assert set(meters.split()) - meters_of(reading.usage) == set()


# The bundled book


def rates_of(price: Price) -> dict[RateKey, Decimal]:
    rates = dict(price.rates)
    for window in price.windows:
        rates.update(window.rates)
    for variant in price.variants.values():
        rates.update(variant)
    return rates


def priced() -> dict[tuple[str, str], set[str]]:
    """Return the models of the bundled book with a rate, by provider and meter."""
    known = {each.name for each in PROVIDERS}
    found: dict[tuple[str, str], set[str]] = {}
    for key, (_, entry) in BOOK.entries().items():
        provider, _, model = key.partition("/")
        # Other providers have no reader: their calls are recorded with track() only.
        if provider not in known:
            continue
        for price in entry.prices:
            rates = rates_of(price)
            for rate, usd in rates.items():
                text = rate.meter.partition("_")[0]
                # What costs as much as text does not need a meter of its own.
                if rate.meter == text or rates.get(rate._replace(meter=text)) != usd:
                    found.setdefault((provider, rate.meter), set()).add(model)
    return found


def test_every_rate_of_the_book_is_for_a_meter_that_a_reader_produces() -> None:
    unread = {
        where: sorted(models)[:3]
        for where, models in priced().items()
        if where not in PROVEN
        and where not in NOT_READ
        and ("*", where[1]) not in NOT_READ
    }
    assert unread == {}


def test_each_provider_of_the_book_is_reached_by_a_route_or_listed() -> None:
    known = {each.name for each in PROVIDERS}
    priced_at = {key.partition("/")[0] for key in BOOK.entries() if "/" in key}
    assert priced_at - known == NO_HOST.keys()


def test_the_short_list_has_only_rates_of_the_book_that_no_reader_produces() -> None:
    known = priced()
    for provider, meter in NOT_READ:
        assert (provider, meter) not in PROVEN
        assert any(
            provider in ("*", place) and meter == name for place, name in known
        ), (provider, meter)


def test_the_table_names_a_reader_for_each_meter_that_is_produced() -> None:
    produced = {meter for _, meter in PROVEN}
    named = {name for name, meter in METERS.items() if meter.fields}
    assert produced == named


def test_every_condition_and_mode_of_the_book_is_in_the_table() -> None:
    for _, entry in BOOK.entries().values():
        for price in entry.prices:
            assert {name.partition(".")[0] for name in price.conditions} <= {
                *CONDITIONS
            }
            assert price.modes <= {*MODES}


@pytest.mark.parametrize("mode", MODES)
def test_a_served_tier_selects_each_mode(mode: str) -> None:
    # How Gemini's and Vertex AI's types of traffic do is tested with the price book.
    assert served_mode("openai", mode)[0] == mode


# What the calls on the short list say


class Example(t.NamedTuple):
    """A call that uses a meter which no reader produces."""

    url: str
    body: Body
    request: dict[str, t.Any] | None = None


VERTEX = (
    "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers"
)
EXAMPLES: t.Final = {
    ("alibaba", "image"): Example(
        "https://dashscope.aliyuncs.com/api/v1/services/aigc/multimodal-generation"
        "/generation",
        {"output": {"choices": []}, "usage": {"image_count": 1, "width": 1024}},
        {"model": "qwen-image-2.0"},
    ),
    ("alibaba", "video_second"): Example(
        "https://dashscope.aliyuncs.com/api/v1/services/aigc/video-generation"
        "/video-synthesis",
        {"output": {"task_id": "t"}},
    ),
    ("azure", "pixel"): Example(
        "https://x.openai.azure.com/openai/v1/images/generations",
        {"data": [{"url": "https://x"}]},
        {"model": "FLUX.2-flex"},
    ),
    ("azure", "output_audio_second"): Example(
        "https://x.openai.azure.com/openai/deployments/gpt-4o-mini-tts/audio/speech",
        b"ID3",
        {"input": "hello"},
    ),
    ("openai", "output_audio_second"): Example(
        "https://api.openai.com/v1/audio/speech",
        b"ID3",
        {"model": "gpt-4o-mini-tts", "input": "hello"},
    ),
    ("bedrock", "image"): Example(
        f"{BEDROCK}/amazon.nova-canvas-v1%3A0/invoke", {"images": ["AA"]}
    ),
    ("bedrock", "search_unit"): Example(
        f"{BEDROCK}/amazon.rerank-v1%3A0/invoke", {"results": [{"index": 0}]}
    ),
    ("bedrock", "input_audio_second"): Example(
        f"{BEDROCK}/amazon.nova-2-multimodal-embeddings-v1%3A0/invoke",
        {"embeddings": [], "inputTextTokenCount": 3},
        {"singleEmbeddingParams": {"audio": {}}},
    ),
    ("bedrock", "input_video_second"): Example(
        f"{BEDROCK}/amazon.nova-2-multimodal-embeddings-v1%3A0/invoke",
        {"embeddings": [], "inputTextTokenCount": 3},
        {"singleEmbeddingParams": {"video": {}}},
    ),
    ("minimax", "video_second"): Example(
        "https://api.minimax.io/v1/video_generation", {"task_id": "t"}
    ),
    ("fal_ai", "input"): Example(
        "https://fal.run/fal-ai/moondream3-preview/query", {"output": "x"}
    ),
    ("fal_ai", "output"): Example(
        "https://fal.run/fal-ai/moondream3-preview/query", {"output": "x"}
    ),
    ("runwayml", "character"): Example(
        "https://api.dev.runwayml.com/v1/text_to_speech", {"id": "i"}
    ),
    ("nscale", "pixel"): Example(
        "https://inference.api.nscale.com/v1/images/generations",
        {"data": [{"url": "https://x"}]},
        {"model": "black-forest-labs/FLUX.1-schnell"},
    ),
    ("vertex", "audio_second"): Example(
        "https://speech.googleapis.com/v2/projects/p:recognize", {"results": []}
    ),
    ("vertex", "output_character"): Example(
        f"{VERTEX}/google/models/medlm-large:predict", {"predictions": [{}]}
    ),
    ("vertex", "search_unit"): Example(
        "https://discoveryengine.googleapis.com/v1/projects/p:rank", {"records": []}
    ),
    ("watsonx", "audio_second"): Example(
        "https://us-south.ml.cloud.ibm.com/ml/v1/audio/transcriptions", {"text": "x"}
    ),
    ("xai", "audio_second"): Example("https://api.x.ai/v1/stt", {"text": "x"}),
}


def outcome(example: Example) -> str:
    """Return what a call says, as :class:`.NotRead` names it."""
    reading = read(example.url, example.body, example.request)
    if reading is None:
        return "not_recorded"
    cost = BOOK.quote(
        reading.provider, reading.model or "", reading.usage, flags=reading.flags
    ).cost
    if cost is None:
        return "unpriced"
    return "complete" if cost.complete else "incomplete"


@pytest.mark.parametrize("where", NOT_READ, ids="-".join)
def test_a_call_on_the_short_list_never_has_a_complete_cost(
    where: tuple[str, str],
) -> None:
    entry = NOT_READ[where]
    assert entry.reason
    if entry.outcome == "not_billed":
        assert where not in EXAMPLES
    else:
        assert outcome(EXAMPLES[where]) == entry.outcome
