"""The paths of known providers that cost money and whose answers are not read."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from .paths import Path
from .unread import UNREAD

_ZAI: t.Final = {
    "search": r"/web_search|/reader",
    "videos": r"/videos/generations",
    "ocr": r"/layout_parsing|/files/ocr",
    "speech": r"/voice/clone",
    "agents": r"/v1/agents",
}

_PATTERNS: t.Final[Mapping[str, Mapping[str, str]]] = {
    "alibaba": {
        "images": r"/services/aigc/[\w-]+/[\w-]+",
        "audio": r"/services/audio/[\w/-]+",
    },
    "anthropic": {"tools": r"/v1/experimental/\w+_prompt"},
    "assemblyai": {"tools": r"/lemur/v3/generate/[\w-]+"},
    "aws_polly": {"speech": r"/v1/synthesisTasks"},
    "azure": {
        "audio": r"/speechtotext/(?:v[\d.]+/)?transcriptions(?::transcribe|:submit)?",
        "ocr": r"/(?:documentintelligence|contentunderstanding)/\w+/[^/]+:analyze\w*",
        "moderations": r"/contentsafety/(?:text|image):\w+",
        "images": r"/providers/blackforestlabs/v1/[^/]+",
        "realtime": r"/realtime/calls",
    },
    "bedrock": {
        "videos": r"/async-invoke",
        "moderations": r"/guardrail/[^/]+/version/[^/]+/apply",
        "realtime": r"/model/[^/]+/invoke-with-bidirectional-stream",
    },
    "bigmodel": _ZAI,
    "black_forest_labs": {"fine_tuning": r"/v1/finetune"},
    "cloudflare": {
        "ocr": r"/ai/tomarkdown",
        "search": r"/(?:autorag/rags|ai-search/instances)/[^/]+/(?:ai-)?search",
    },
    "cohere": {
        "tools": r"/v1/summarize",
        "ocr": r"/v[12]/parse",
        "batch": r"/v[12]/embed-jobs",
        "fine_tuning": r"/v1/finetuning/finetuned-models",
    },
    "databricks": {
        "search": r"/vector-search/indexes/[^/]+/query",
        "agents": r"/genie/spaces/[^/]+/start-conversation",
    },
    "deepgram": {"tools": r"/v1/read"},
    "deepinfra": {"predictions": r"/v1/inference/.+"},
    "elevenlabs": {
        "speech": r"/v1/(?:text-to-dialogue|speech-to-speech/[^/]+)"
        r"(?:/stream)?(?:/with-timestamps)?"
        r"|/v1/text-to-voice/(?:design|create-previews)",
        "audio": r"/v1/(?:sound-generation|audio-isolation(?:/stream)?"
        r"|music(?:/stream|/detailed)?|dubbing|forced-alignment)",
    },
    "fireworks": {
        "images": r"/(?:image_generation|workflows)/.+",
        "fine_tuning": r"/accounts/[^/]+/(?:supervised|reinforcement)FineTuningJobs",
    },
    "gemini": {
        "tools": r"/models/[^/:]+:generateAnswer",
        "decisions": r"/v1(?:beta|alpha)/decisions",
        "fine_tuning": r"/tunedModels",
        "storage": r"/fileSearchStores/[^/:]+:(?:uploadToFileSearchStore|importFile)",
    },
    "huggingface": {"predictions": r"/models/.+"},
    "jina": {"classify": r"/v1/(?:classify|train)"},
    "minimax": {
        "videos": r"/v1/video_generation",
        "speech": r"/v1/(?:t2a_async_v2|voice_clone|voice_design)",
        "audio": r"/v1/music_generation",
    },
    "mistral": {
        "ocr": r"/libraries/[^/]+/documents",
        "agents": r"/conversations/[^/]+/restart",
        "fine_tuning": r"/fine_tuning/jobs",
    },
    "novita": {"predictions": r"/v3(?:beta)?/(?:async/)?[\w.-]+"},
    "nvidia": {"predictions": r"/v1/(?:genai|cv|retrieval|vlm|biology)/.+"},
    "oci": {"tools": r"/actions/(?:generateText|summarizeText|rerankText)"},
    "ollama": {"search": r"/api/web_(?:search|fetch)"},
    "openai": {
        "realtime": r"/realtime/(?:translations/)?calls|/live/sessions",
        "agents": r"/chatkit/sessions",
    },
    "perplexity": {"agents": r"/v1/(?:agent|sonar)"},
    "replicate": {"fine_tuning": r"/versions/[^/]+/trainings"},
    "runwayml": {
        "videos": r"/v1/(?:character_performance|video_upscale)",
        "speech": r"/v1/(?:text_to_speech|speech_to_speech|voice_dubbing"
        r"|voice_isolation|sound_effect)",
    },
    "sagemaker": {"predictions": r"/endpoints/[^/]+/async-invocations"},
    "snowflake": {
        "agents": r"/cortex/(?:agent:run|analyst/message)|/agents/[^/]+:run",
        "search": r"/cortex-search-services/[^/]+:query",
    },
    "stability": {
        "images": r"/v1/generation/[^/]+/[\w-]+(?:/[\w-]+)?",
        "videos": r"/v2beta/image-to-video",
        "3d": r"/v2beta/3d/[\w-]+",
        "audio": r"/v2beta/audio/[\w-]+/[\w-]+",
    },
    "together": {
        "fine_tuning": r"/fine-tunes",
        "evals": r"/evaluation",
        "tools": r"/tci/execute",
    },
    "twelvelabs": {
        "embeddings_jobs": r"/v1\.\d/embed(?:-v2)?(?:/tasks)?",
        "videos": r"/v1\.\d/(?:tasks|indexes/[^/]+/indexed-assets)",
        "search": r"/v1\.\d/search",
        "tools": r"/v1\.\d/(?:summarize|gist)",
    },
    "vertex": {
        "predictions": r"/endpoints/[^/:]+:(?:explain|directPredict|directRawPredict"
        r"|serverStreamingPredict|streamingPredict)"
        r"|/models/[^/:]+:serverStreamingPredict",
        "batch": r"/batchPredictionJobs",
        "fine_tuning": r"/tuningJobs",
        "agents": r"/reasoningEngines/[^/:]+:(?:query|streamQuery)",
        "evals": r"/locations/[^/:]+:evaluateInstances",
    },
    "watsonx": {
        "rerank": r"/text/rerank",
        "ocr": r"/text/extractions",
        "predictions": r"/time_series/forecast",
        "agents": r"/deployments/[^/]+/ai_service(?:_stream)?",
    },
    "writer": {
        "agents": r"/v1/applications/[^/]+",
        "search": r"/v1/graphs/question",
        "tools": r"/v1/(?:tools/.+|vision|translation)",
    },
    "xai": {
        "speech": r"/v1/tts",
        "audio": r"/v1/stt",
        "search": r"/v1/documents/search",
    },
    "zai": _ZAI,
}
"""Of each provider, by operation: the ends of the paths that are posted to."""


def unread_paths(provider: str) -> tuple[Path, ...]:
    """Return the paths of a provider that are not read, to try after those that are."""
    return tuple(
        Path(f".*(?:{pattern})", UNREAD, operation)
        for operation, pattern in _PATTERNS.get(provider, {}).items()
    )
