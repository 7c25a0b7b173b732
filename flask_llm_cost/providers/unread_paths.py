"""The paths of known providers' billed APIs whose answers are not read."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from .paths import Path
from .unread import UNREAD
from .unread import UNREAD_SESSION

_SERVICE: t.Final = r"/google\.[a-z.0-9]+\.PredictionService/"

_ZAI: t.Final = {
    "search": r"/web_search|/reader",
    "videos": r"/videos/generations",
    "ocr": r"/layout_parsing|/files/ocr",
    "speech": r"/voice/clone",
    "agents": r"/v1/agents",
    "tools": r"/v4/tools",
    "WS realtime": r"/realtime",
}

_PATTERNS: t.Final[Mapping[str, Mapping[str, str]]] = {
    "alibaba": {
        "images": r"/services/aigc/[\w-]+/[\w-]+",
        "audio": r"/services/audio/[\w/-]+",
        "agents": r"/apps/[^/]+/completion",
        "WS audio": r"/api-ws/v1/inference",
    },
    "ai21": {"agents": r"/maestro/runs|/conversational-rag"},
    "anthropic": {"tools": r"/v1/experimental/\w+_prompt"},
    "assemblyai": {
        "tools": r"/lemur/v3/generate/[\w-]+|/v1/understanding",
        "audio": r"/transcribe",
        "WS agents": r"/v1/ws",
    },
    "aws_polly": {"speech": r"/v1/synthesisTasks"},
    "azure": {
        "audio": r"/speechtotext/(?:v[\d.]+/)?transcriptions(?::transcribe|:submit)?",
        "ocr": r"/(?:documentintelligence|contentunderstanding)/\w+/[^/]+:analyze\w*",
        "moderations": r"/contentsafety/(?:text|image):\w+",
        "images": r"/providers/blackforestlabs/v1/[^/]+",
        "videos": r"/video/generations/jobs",
        "realtime": r"/realtime/calls",
    },
    "bedrock": {
        "agents": r"/agents/[^/]+(?:/agentAliases/[^/]+/sessions/[^/]+/text)?"
        r"|/flows/[^/]+/aliases/[^/]+(?:/executions)?"
        r"|/retrieveAndGenerate(?:Stream)?",
        "search": r"/knowledgebases/[^/]+/retrieve|/generateQuery",
        "tools": r"/optimize-prompt",
        "batch": r"/model-invocation-job",
        "fine_tuning": r"/model-customization-jobs",
        "videos": r"/async-invoke",
        "moderations": r"/guardrail/[^/]+/version/[^/]+/apply",
        "realtime": r"/model/[^/]+/invoke-with-bidirectional-stream",
    },
    "bigmodel": _ZAI,
    "black_forest_labs": {"fine_tuning": r"/v1/finetune"},
    "cartesia": {
        "speech": r"/(?:tts/(?:bytes|sse)|voice-changer/(?:bytes|sse)|infill/bytes)",
        "audio": r"/stt",
        "WS speech": r"/tts/websocket",
        "WS audio": r"/stt/websocket",
    },
    "cloudflare": {
        "ocr": r"/ai/tomarkdown",
        "search": r"/(?:autorag/rags|ai-search/instances)/[^/]+/(?:ai-)?search",
    },
    "cohere": {
        "tools": r"/v1/summarize",
        "ocr": r"/v[12]/parse",
        "batch": r"/v[12]/(?:embed-jobs|batches)",
        "fine_tuning": r"/v1/finetuning/finetuned-models",
    },
    "databricks": {
        "search": r"/vector-search/indexes/[^/]+/query",
        "agents": r"/genie/spaces/[^/]+/start-conversation",
    },
    "deepgram": {"tools": r"/v1/read", "WS agents": r"/v1/agent/converse"},
    "deepinfra": {"predictions": r"/v1/inference/.+"},
    "elevenlabs": {
        "speech": r"/v1/(?:text-to-dialogue|speech-to-speech/[^/]+)"
        r"(?:/stream)?(?:/with-timestamps)?"
        r"|/v1/text-to-voice/(?:design|create-previews)",
        "audio": r"/v1/(?:sound-generation|audio-isolation(?:/stream)?"
        r"|music(?:/stream|/detailed)?|dubbing|forced-alignment)",
        "agents": r"/v1/convai/(?:twilio|sip-trunk|whatsapp)/outbound-(?:call|message)",
        "WS audio": r"/v1/speech-to-text/realtime",
        "WS agents": r"/v1/convai/conversation",
    },
    "fal_ai": {"WS images": r"/[^/]+/.+"},
    "fireworks": {
        "images": r"/(?:image_generation|workflows)/.+",
        "fine_tuning": r"/accounts/[^/]+/(?:supervised|reinforcement)FineTuningJobs",
        "WS audio": r"/audio/transcriptions/streaming",
    },
    "gemini": {
        "tools": r"/models/[^/:]+:generate(?:Answer|Text)",
        "decisions": r"/v1(?:beta|alpha)/decisions",
        "fine_tuning": r"/tunedModels",
        "storage": r"/fileSearchStores/[^/:]+:(?:uploadToFileSearchStore|importFile)",
        "WS audio": r"/ws/google\..*BidiGenerateMusic",
        "WS realtime": r"/interactions/live",
    },
    "gradient_ai": {"predictions": r"/async-invoke"},
    "huggingface": {"predictions": r"/models/.+|/(?:fal-ai|wavespeed|nscale)/.+"},
    "hume": {
        "speech": r"/v0/tts(?:/file|/stream/(?:json|file))?",
        "tools": r"/v0/batch/jobs",
        "WS speech": r"/v0/tts/stream/input",
        "WS realtime": r"/v0/evi/chat",
        "WS tools": r"/v0/stream/models",
    },
    "hyperbolic": {"images": r"/image/generation", "audio": r"/audio/generation"},
    "ideogram": {
        "images": r"/(?:generate|edit|remix|reframe|replace-background|upscale)",
        "tools": r"/describe",
    },
    "jina": {"classify": r"/v1/(?:classify|train)"},
    "luma": {
        "videos": r"/generations(?:/video|/video/(?:modify|reframe)|/[^/]+/upscale)?",
        "images": r"/generations/image(?:/reframe)?",
        "audio": r"/generations/[^/]+/audio",
    },
    "minimax": {
        "videos": r"/v1/video_generation",
        "speech": r"/v1/(?:t2a_async_v2|voice_clone|voice_design)",
        "audio": r"/v1/(?:music|lyrics)_generation",
        "WS speech": r"/ws/v1/t2a_v2",
    },
    "mistral": {
        "ocr": r"/libraries/[^/]+/documents",
        "agents": r"/conversations/[^/]+/restart",
        "fine_tuning": r"/fine_tuning/jobs",
        "WS audio": r"/audio/transcriptions/realtime",
    },
    "novita": {"predictions": r"/v3(?:beta)?/(?:async/)?[\w.-]+"},
    "nvidia": {"predictions": r"/v1/(?:genai|cv|retrieval|vlm|biology)/.+"},
    "oci": {
        "tools": r"/actions/(?:generateText|summarizeText|rerankText)",
        "agents": r"/agentEndpoints/[^/]+/actions/chat",
    },
    "ollama": {"search": r"/api/web_(?:search|fetch)"},
    "openai": {
        "realtime": r"/realtime/(?:translations/)?calls|/live/sessions",
        "agents": r"/chatkit/sessions",
        "WS realtime": r"/realtime/translations",
    },
    "perplexity": {"agents": r"/v1/(?:agent|sonar)"},
    "qianfan": {"predictions": r"/wenxinworkshop/(?:chat|embeddings|text2image)/.+"},
    "recraft": {
        "images": r"/images/(?:imageToImage|inpaint|vectorize|removeBackground"
        r"|(?:crisp|creative)Upscale|(?:replace|generate)Background|eraseRegion)",
        "tools": r"/v1/styles",
    },
    "reka": {"chat": r"/v1/chat"},
    "replicate": {"fine_tuning": r"/versions/[^/]+/trainings"},
    "runwayml": {
        "videos": r"/v1/(?:character_performance|video_upscale)",
        "speech": r"/v1/(?:text_to_speech|speech_to_speech|voice_dubbing"
        r"|voice_isolation|sound_effect)",
    },
    "sagemaker": {"predictions": r"/endpoints/[^/]+/async-invocations"},
    "sarvam": {
        "audio": r"/speech-to-text(?:-translate)?",
        "speech": r"/text-to-speech",
        "tools": r"/(?:translate|transliterate)",
    },
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
    "soniox": {"speech": r"/tts", "WS speech": r"/tts-websocket"},
    # Its own API has no paths: the header X-TC-Action names the method.
    "tencent": {"chat": r"(?<!.)"},
    "together": {
        "fine_tuning": r"/fine-tunes",
        "evals": r"/evaluation",
        "tools": r"/tci/execute",
        "WS speech": r"/audio/speech/websocket",
    },
    "twelvelabs": {
        "embeddings_jobs": r"/v1\.\d/embed(?:-v2)?(?:/tasks)?",
        "videos": r"/v1\.\d/(?:tasks|indexes/[^/]+/indexed-assets)",
        "search": r"/v1\.\d/search",
        "tools": r"/v1\.\d/(?:summarize|gist|analyze/tasks)",
    },
    "vertex": {
        "predictions": r"/endpoints/[^/:]+:(?:explain|directPredict|directRawPredict"
        r"|serverStreamingPredict|streamingPredict)"
        r"|/models/[^/:]+:serverStreamingPredict",
        "batch": r"/batchPredictionJobs",
        "fine_tuning": r"/tuningJobs",
        "agents": r"/reasoningEngines/[^/:]+:(?:query|streamQuery)",
        "evals": r"/locations/[^/:]+:evaluateInstances",
        "GRPC predictions": rf"{_SERVICE}(?:Raw)?Predict",
    },
    "vercel": {"chat": r"/ai/(?:language|embedding|image)-model"},
    "volcengine": {"embeddings": r"/embeddings/multimodal"},
    "watsonx": {
        "rerank": r"/text/rerank",
        "ocr": r"/text/extractions",
        "audio": r"/audio/transcriptions",
        "predictions": r"/time_series/forecast",
        "agents": r"/deployments/[^/]+/ai_service(?:_stream)?",
    },
    "writer": {
        "agents": r"/v1/applications/[^/]+(?:/jobs)?",
        "search": r"/v1/graphs/question",
        "tools": r"/v1/(?:tools/.+|vision|translation)",
    },
    "xai": {
        "speech": r"/v1/tts",
        "audio": r"/v1/stt",
        "search": r"/v1/documents/search",
        "WS speech": r"/v1/tts",
        "WS audio": r"/v1/stt",
        "GRPC chat": r"/xai_api\.Chat/(?:StartDeferredCompletion|CompactContext)",
        "GRPC videos": r"/xai_api\.Video/(?:Generate|Extend)Video",
        "GRPC search": r"/xai_api\.Documents/Search",
    },
    "zai": _ZAI,
}
"""Of each provider, by operation: the ends of the paths that are posted to. An operation
that is not posted comes with its method."""


def unread_paths(provider: str) -> tuple[Path, ...]:
    """Return the paths of a provider that are not read, to try after those that are."""
    return tuple(
        _path(kind, pattern) for kind, pattern in _PATTERNS.get(provider, {}).items()
    )


def _path(kind: str, pattern: str) -> Path:
    method, _, operation = kind.rpartition(" ")
    session = method == "WS"
    return Path(
        f".*(?:{pattern})",
        UNREAD_SESSION if session else UNREAD,
        operation,
        method=method or "POST",
        stream=session,
    )
