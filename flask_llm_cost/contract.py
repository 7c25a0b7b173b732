"""The contract between what readers count and what the book prices: every meter.

A test walks the bundled book. Each rate must be for a meter that a reader produces from an
answer, proven by an example, or be listed in :data:`NOT_READ` with the reason.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping


class Meter(t.NamedTuple):
    """One thing that providers bill."""

    unit: str
    """What one unit is. Rates of tokens are USD per 1M, all others USD each."""
    fields: Mapping[str, str]
    """Where readers find it, by dialect. Empty if no reader produces it."""
    rates: tuple[str, ...] = ()
    """Other rates that price it, in this order, if it has none."""


_IN: t.Final = ("input",)
_OUT: t.Final = ("output",)

METERS: t.Final[Mapping[str, Meter]] = {
    # Tokens
    "input": Meter(
        "token",
        {
            "openai": "usage.prompt_tokens, usage.input_tokens",
            "anthropic": "usage.input_tokens",
            "gemini": "usageMetadata.promptTokenCount, toolUsePromptTokenCount",
            "bedrock": "usage.inputTokens, x-amzn-bedrock-input-token-count",
            "cohere": "billed_units.input_tokens",
            "mistral": "usage.prompt_tokens, connector_tokens",
            "ollama": "prompt_eval_count",
            "watsonx": "input_token_count",
            "meta": "metrics[num_prompt_tokens]",
        },
    ),
    "output": Meter(
        "token",
        {
            "openai": "usage.completion_tokens, usage.output_tokens",
            "anthropic": "usage.output_tokens",
            "gemini": "usageMetadata.candidatesTokenCount, thoughtsTokenCount",
            "bedrock": "usage.outputTokens, x-amzn-bedrock-output-token-count",
            "cohere": "billed_units.output_tokens",
            "mistral": "usage.completion_tokens",
            "ollama": "eval_count",
            "watsonx": "generated_token_count",
            "meta": "metrics[num_completion_tokens]",
        },
    ),
    "reasoning": Meter(
        "token",
        {
            "openai": "completion_tokens_details.reasoning_tokens",
            "perplexity": "usage.reasoning_tokens",
            "anthropic": "output_tokens_details.thinking_tokens",
            "gemini": "usageMetadata.thoughtsTokenCount",
        },
        _OUT,
    ),
    "cache_read": Meter(
        "token",
        {
            "openai": "prompt_tokens_details.cached_tokens, prompt_cache_hit_tokens",
            "anthropic": "usage.cache_read_input_tokens",
            "gemini": "usageMetadata.cachedContentTokenCount",
            "bedrock": "usage.cacheReadInputTokens",
        },
        _IN,
    ),
    "cache_write": Meter(
        "token",
        {
            "openai": "prompt_tokens_details.cache_write_tokens,"
            " cache_creation_input_tokens",
            "anthropic": "usage.cache_creation_input_tokens",
            "bedrock": "usage.cacheWriteInputTokens",
            "gemini": "usageMetadata.totalTokenCount of a new cachedContent",
        },
        _IN,
    ),
    "cache_write_1h": Meter(
        "token",
        {
            "openai": "cache_creation_token_details.ephemeral_1h_input_tokens",
            "anthropic": "cache_creation.ephemeral_1h_input_tokens",
            "bedrock": "cacheDetails[ttl=1h].inputTokens",
        },
        _IN,
    ),
    "cache_write_12h": Meter(
        "token", {"openai": "cache_write_tokens_details.ttl_12h_tokens"}
    ),
    "cache_write_30m": Meter("token", {}, ("cache_write",)),
    "cache_write_audio": Meter("token", {}, ("cache_write",)),
    "cache_write_image": Meter("token", {}, ("cache_write",)),
    "input_audio": Meter(
        "token",
        {
            "openai": "prompt_tokens_details.audio_tokens",
            "gemini": "promptTokensDetails[AUDIO]",
        },
        _IN,
    ),
    "input_image": Meter(
        "token",
        {
            "openai": "input_tokens_details.image_tokens",
            "gemini": "promptTokensDetails[IMAGE]",
            "cohere": "billed_units.image_tokens",
        },
        _IN,
    ),
    "input_video": Meter(
        "token",
        {
            "openai": "prompt_tokens_details.video_tokens",
            "gemini": "promptTokensDetails[VIDEO]",
        },
        _IN,
    ),
    "input_document": Meter("token", {}, _IN),
    "input_training": Meter("token", {"openai": "trained_tokens of a fine-tuning job"}),
    "cache_read_audio": Meter(
        "token",
        {
            "openai": "cached_tokens_details.audio_tokens",
            "gemini": "cacheTokensDetails[AUDIO]",
        },
        ("cache_read", "input"),
    ),
    "cache_read_image": Meter(
        "token",
        {
            "openai": "cached_tokens_details.image_tokens",
            "gemini": "cacheTokensDetails[IMAGE]",
        },
        ("cache_read", "input"),
    ),
    "cache_read_video": Meter("token", {}, ("cache_read", "input")),
    "output_audio": Meter(
        "token",
        {
            "openai": "completion_tokens_details.audio_tokens",
            "gemini": "candidatesTokensDetails[AUDIO]",
        },
        _OUT,
    ),
    "output_image": Meter(
        "token",
        {
            "openai": "usage.output_tokens of images",
            "gemini": "candidatesTokensDetails[IMAGE]",
        },
        _OUT,
    ),
    "output_video": Meter("token", {"gemini": "candidatesTokensDetails[VIDEO]"}, _OUT),
    "output_citation": Meter("token", {"perplexity": "usage.citation_tokens"}, _OUT),
    # Searches and tools
    "web_search": Meter(
        "search",
        {
            "openai": "output[web_search_call, bing_grounding_call],"
            " tool_usage.web_search, plugins.search, x_tools, a search model",
            "anthropic": "server_tool_use.web_search_requests",
            "bedrock": "server_tool_use.web_search_requests",
            "mistral": "connectors.web_search",
            "perplexity": "usage.num_search_queries",
            "groq": "executed_tools[search]",
        },
    ),
    "web_search_premium": Meter("search", {"mistral": "connectors.web_search_premium"}),
    "x_search": Meter("search", {"openai": "output[x_search_call]"}),
    "gateway_search": Meter(
        "search", {"openai": "server_tool_use_details.web_search_requests"}
    ),
    "file_search": Meter(
        "search", {"openai": "output[file_search_call], a search in a vector store"}
    ),
    "grounding": Meter(
        "query",
        {"gemini": "groundingMetadata.webSearchQueries, grounding_tool_count"},
        ("grounded_prompt",),
    ),
    "grounded_prompt": Meter("prompt", {"gemini": "as grounding, once per call"}),
    "maps_grounding": Meter(
        "prompt", {"gemini": "groundingChunks[maps], grounding_tool_count"}
    ),
    "retrieval_grounding": Meter(
        "request", {"gemini": "groundingMetadata.retrievalQueries (Vertex AI)"}
    ),
    "code_interpreter": Meter(
        "session",
        {
            "openai": "output[code_interpreter_call, shell_call].container_id",
            "mistral": "connectors.code_interpreter",
        },
    ),
    "computer_use": Meter("call", {}),
    "image_generation": Meter(
        "call",
        {
            "openai": "output[image_generation_call]",
            "mistral": "connectors.image_generation",
        },
    ),
    # Media, pages and the rest
    "image": Meter(
        "image",
        {
            "openai": "data[]",
            "gemini": "predictions[]",
            "fal": "images[], request.num_images",
            "replicate": "metrics.image_count",
            "minimax": "metadata.success_count",
            "studios": "one per answer (Black Forest Labs, Stability, Runway)",
        },
    ),
    "input_image_piece": Meter(
        "image",
        {
            "cohere": "billed_units.images",
            "bedrock": "request.inputImage (Titan)",
            "gemini": "request.instances[].image (multimodal embeddings)",
        },
    ),
    "audio_second": Meter(
        "second",
        {
            "openai": "usage.seconds, duration, prompt_audio_seconds",
            "deepgram": "metadata.duration times metadata.channels",
            "elevenlabs": "audio_duration_secs",
            "assemblyai": "audio_duration",
            "soniox": "audio_duration_ms",
            "cloudflare": "result.transcription_info.duration",
        },
    ),
    "input_audio_second": Meter("second", {}),
    "output_audio_second": Meter("second", {}),
    "video_second": Meter(
        "second",
        {
            "openai": "seconds of a video",
            "xai": "video.duration",
            "fal": "request.duration",
            "studios": "request.duration (Runway)",
            "replicate": "metrics.video_output_duration_seconds",
            "gemini": "request.parameters: durationSeconds times sampleCount (Veo)",
        },
    ),
    "input_video_second": Meter(
        "second", {"gemini": "predictions[].videoEmbeddings[]: endOffsetSec"}
    ),
    "predict_second": Meter("second", {"replicate": "metrics.predict_time"}),
    "page": Meter(
        "page",
        {"mistral": "usage_info.pages_processed", "cohere": "billed_units.pages"},
    ),
    "annotated_page": Meter(
        "page", {"mistral": "usage_info.pages_processed_annotation"}
    ),
    "search_unit": Meter("search unit", {"cohere": "billed_units.search_units"}),
    "classification": Meter(
        "classification", {"cohere": "billed_units.classifications"}
    ),
    "character": Meter(
        "character",
        {
            "openai": "request.input of /audio/speech",
            "gemini": "request.instances[].text (multimodal embeddings)",
            "deepgram": "dg-char-count, request.text",
            "elevenlabs": "request.text",
            "polly": "x-amzn-requestcharacters",
            "minimax": "extra_info.usage_characters",
        },
    ),
    "output_character": Meter("character", {}),
    "pixel": Meter(
        "pixel", {"openai": "usage.image_pixels, usage.video_pixels (Voyage)"}
    ),
    "output_pixel": Meter("pixel", {}),
    "session": Meter("session", {}),
    "routed_token": Meter(
        "input token", {"prices": "input of a call to Azure's model router"}
    ),
    "request": Meter("call", {"prices": "each call, if the model has this rate"}),
}
"""Every meter. A price file can add custom units with ``units:``."""

MODES: t.Final[Mapping[str, str]] = {
    "batch": "results of a batch; service_tier batch",
    "flex": "service_tier flex; trafficType ON_DEMAND_FLEX",
    "priority": "service_tier priority; trafficType ON_DEMAND_PRIORITY",
    "fast": "Anthropic: usage.speed fast",
    "ultrafast": "service_tier ultrafast",
    "balanced": "service_tier balanced",
    "scale": "service_tier scale",
    "optimized": "Bedrock: performanceConfig.latency optimized; service_tier performance",
    "off_peak": "trafficType ON_DEMAND_OFFPEAK, or pricing_mode",
    "provisioned": "trafficType PROVISIONED_THROUGHPUT",
    "reserved": "service_tier reserved; Anthropic: service_tier priority",
}
"""Service modes that can have rates of their own, and what selects them."""

CONDITIONS: t.Final[Mapping[str, str]] = {
    "region": "the host (OpenAI, Vertex AI), or usage.inference_geo (Anthropic)",
    "size": "request.size of images, size of videos",
    "quality": "request.quality of images; rendering_speed, style (fal)",
    "resolution": "request.resolution (fal, Runway), ratio (Runway),"
    " parameters.resolution (Veo)",
    "audio": "request.parameters.generateAudio (Veo on Vertex AI), audio (Runway)",
    "thinking": "completion_tokens_details.reasoning_tokens (Alibaba)",
    "cache": "prompt_tokens_details.cache_type (Alibaba): its two caches have two rates",
    "search_context": "usage.search_context_size (Perplexity)",
    "search_tool": "response.tools[].type (OpenAI): the preview of the search has its own fee",
}
"""Kinds of conditions with multipliers or variants, and where they are found."""


NO_HOST: t.Final[Mapping[str, str]] = {
    "lemonade": "a server of one's own: name it in LLM_COST_PROVIDER_HOSTS",
    "modal": "apps of one's own, billed by the second",
    "nace": "no public API host is known",
    "nlp_cloud": "an API of its own, whose answers have no usage",
    "qwen_ai_platform": "LiteLLM's name for Alibaba's host in China",
    "qwencloud": "LiteLLM's name for Alibaba's international host",
    "scaledown": "an API of its own, whose answers are not documented",
    "text-completion-inception": "LiteLLM's name for Inception's completions",
    "transcribe": "jobs that write to storage",
}
"""Providers of the bundled book that no route reaches, and why."""


class NotRead(t.NamedTuple):
    """Why no reader produces a meter at a provider, and what such a call says."""

    reason: str
    outcome: t.Literal["not_recorded", "unpriced", "incomplete", "not_billed"]
    """``not_recorded``: there is no route, so there is no call. ``unpriced``: the call has
    no cost. ``incomplete``: its cost is incomplete. ``not_billed``: the answer reports
    another meter, which the same price covers, so nothing is missing."""


def _covered(reason: str) -> NotRead:
    return NotRead(reason, "not_billed")


_NO_ROUTE: t.Final = "the API has no route yet"
_NO_USAGE: t.Final = "neither request nor answer states the quantity"
_SAME_MODELS: t.Final = "the same models are billed by token, which the answer reports"

NOT_READ: t.Final[Mapping[tuple[str, str], NotRead]] = {
    ("alibaba", "image"): NotRead(
        "image generation has no usage in OpenAI's shape", "unpriced"
    ),
    ("alibaba", "video_second"): NotRead(_NO_USAGE, "unpriced"),
    ("azure", "pixel"): NotRead(_NO_USAGE, "unpriced"),
    ("azure", "output_audio_second"): NotRead(_NO_USAGE, "unpriced"),
    ("openai", "output_audio_second"): NotRead(_NO_USAGE, "unpriced"),
    ("bedrock", "image"): NotRead(_NO_USAGE, "unpriced"),
    ("bedrock", "search_unit"): NotRead(_NO_USAGE, "unpriced"),
    ("bedrock", "input_audio_second"): NotRead(_NO_USAGE, "incomplete"),
    ("bedrock", "input_video_second"): NotRead(_NO_USAGE, "incomplete"),
    ("fal_ai", "input"): NotRead(_NO_USAGE, "unpriced"),
    ("fal_ai", "output"): NotRead(_NO_USAGE, "unpriced"),
    ("fal_ai", "output_pixel"): _covered(
        "an image of the default size has a rate of its own; another size is flagged"
    ),
    ("gemini", "input_video_second"): _covered(_SAME_MODELS),
    ("minimax", "video_second"): NotRead(_NO_USAGE, "unpriced"),
    ("nscale", "pixel"): NotRead(_NO_USAGE, "unpriced"),
    ("runwayml", "character"): NotRead(_NO_USAGE, "unpriced"),
    ("vertex", "audio_second"): NotRead(_NO_ROUTE, "not_recorded"),
    ("vertex", "output_character"): NotRead(_NO_USAGE, "unpriced"),
    ("vertex", "search_unit"): NotRead(_NO_ROUTE, "not_recorded"),
    ("watsonx", "audio_second"): NotRead(_NO_USAGE, "unpriced"),
    ("xai", "audio_second"): NotRead(_NO_USAGE, "unpriced"),
}
"""Rates of the bundled book, by provider and meter, that no reader produces."""
