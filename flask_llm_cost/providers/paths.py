"""The paths of each API, and the dialect that reads the answers at each path."""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass

from . import anthropic
from . import anthropic_agents
from . import bedrock
from . import cohere
from . import copilot
from . import fireworks
from . import gemini
from . import gemini_interactions
from . import gemini_media
from . import groq
from . import meta
from . import mistral
from . import ollama
from . import openai
from . import openai_agents
from . import openai_jobs
from . import openai_media
from . import perplexity
from . import realtime
from . import reporting
from . import watsonx
from . import xai
from .deferred import deferred
from .deferred import perhaps_deferred
from .dialect import Dialect


@dataclass(frozen=True, slots=True)
class Path:
    """One kind of request: the form of its path, and how its answers are read."""

    pattern: str
    """A regular expression for the whole path. The group ``model`` captures the model,
    ``response_id`` the id of an answer, or of a file of answers, that its body does not
    contain, and ``parent_id`` :attr:`.Route.parent_id`."""
    dialect: Dialect
    operation: str
    method: str = "POST"
    stream: bool = False
    """The path itself asks for a stream."""
    poll: bool = False
    """As of a GET: the answer is a call only if it has usage."""


NOT_A_CALL: t.Final = "batches"
"""The operation of a request that is read but not recorded: it dates a batch."""

_SESSION: t.Final = r".*/agents/sessions/(?P<parent_id>[^/]+)"

OPENAI: t.Final = (
    Path(r".*/chat/completions", openai.CHAT, "chat"),
    Path(r".*/agents/completions", openai.CHAT, "chat"),
    Path(r".*/completions", openai.CHAT, "completions"),
    Path(r".*/v1/edits", openai.CHAT, "completions"),
    Path(r".*embeddings", openai.EMBEDDINGS, "embeddings"),
    Path(r".*/responses(?:/compact)?", openai.RESPONSES, "responses"),
    Path(r".*/responses/resp_[^/]+", openai.RESPONSES, "responses", method="GET"),
    Path(r".*/files/[^/]+/content", openai_jobs.BATCH, "batch", method="GET"),
    Path(r".*/images/(?:generations|edits|variations)", openai_media.IMAGES, "images"),
    Path(r".*/audio/(?:transcriptions|translations)", openai_media.AUDIO, "audio"),
    Path(r".*/audio/speech", openai_media.SPEECH, "speech"),
    Path(r".*/moderations", openai.CHAT, "moderations"),
    Path(r".*/v1/decisions", openai.RESPONSES, "decisions"),
    Path(r".*/rerank", openai.EMBEDDINGS, "rerank"),
    Path(r".*/threads(?:/thread_[^/]+)?/runs", openai.RUNS, "assistants"),
    Path(r".*/threads/[^/]+/runs/[^/]+/submit_tool_outputs", openai.RUNS, "assistants"),
    Path(r".*/threads/[^/]+/runs/[^/]+", openai.RUNS, "assistants", method="GET"),
    Path(r".*/videos(?:/edits|/[^/]+/remix)?", openai_jobs.VIDEO, "videos"),
    Path(r".*/videos/extensions", openai_jobs.EXTENSION, "videos"),
    Path(r".*/containers", openai_jobs.CONTAINER, "containers"),
    Path(r".*/vector_stores/[^/]+/search", openai_jobs.SEARCH, "search"),
    Path(
        r".*/vector_stores(?:/[^/]+/(?:files|file_batches))?",
        openai_jobs.STORE,
        "storage",
    ),
    Path(
        r".*/fine_tuning/jobs/[^/]+", openai_jobs.TRAINING, "fine_tuning", method="GET"
    ),
    Path(r".*/evals/[^/]+/runs/[^/]+", openai_jobs.EVALUATION, "evals", method="GET"),
    Path(r".*/fine_tuning/alpha/graders/run", openai_jobs.GRADING, "evals"),
    Path(r".*/agents/sessions", openai_agents.AGENTS, "agents", poll=True),
    Path(rf"{_SESSION}/events", openai_agents.AGENTS, "agents", poll=True),
    Path(rf"{_SESSION}/events", openai_agents.AGENTS, "agents", method="GET"),
    Path(
        rf"{_SESSION}(?:/subagents/[^/]+)?/turns(?:/[^/]+)?",
        openai_agents.AGENTS,
        "agents",
        method="GET",
    ),
    Path(r".*/agents/sessions/[^/]+", openai_agents.AGENTS, "agents", method="GET"),
    Path(r".*/realtime", realtime.REALTIME, "realtime", method="WS", stream=True),
    Path(
        r".*/live/sessions/[^/]+/attach",
        realtime.LIVE,
        "realtime",
        method="WS",
        stream=True,
    ),
    Path(r".*/responses", openai.RESPONSES, "responses", method="WS", stream=True),
)
"""The paths of OpenAI and of compatible APIs, under any prefix."""

ANTHROPIC: t.Final = (
    Path(r".*/v1/messages", anthropic.MESSAGES, "chat"),
    Path(r".*/v1/complete", anthropic.MESSAGES, "completions"),
    Path(
        r".*/v1/messages/batches/(?P<parent_id>[^/]+)/results",
        anthropic.BATCH,
        "batch",
        method="GET",
    ),
    Path(
        r".*/v1/messages/batches/[^/]+",
        anthropic.BATCH_STATE,
        NOT_A_CALL,
        method="GET",
    ),
    Path(r".*/v1/sessions", anthropic_agents.AGENTS, "agents", poll=True),
    Path(r".*/v1/sessions/[^/]+/archive", anthropic_agents.AGENTS, "agents", poll=True),
    Path(
        r".*/v1/sessions/[^/]+(?:/threads/[^/]+)?",
        anthropic_agents.AGENTS,
        "agents",
        method="GET",
    ),
    Path(
        r".*/v1/sessions/(?:[^/]+/threads/)?(?P<parent_id>[^/]+)/(?:events/)?"
        r"(?:events|stream)",
        anthropic_agents.AGENTS,
        "agents",
        method="GET",
    ),
    Path(r".*/v1/dreams/[^/]+", anthropic_agents.DREAM, "agents", method="GET"),
)

_MODEL: t.Final = r".*/(?:models|endpoints|tunedModels)/(?P<model>[^/:]+)"

_SERVICE: t.Final = r"/google\.[a-z.0-9]+\.(?:GenerativeService|PredictionService)"
"""Of the Gemini API and of Vertex AI, over gRPC."""

GEMINI: t.Final = (
    Path(
        r".*/models/(?P<model>(?:imag|virtual-try-on|lyria)[^/:]*):predict",
        gemini_media.IMAGES,
        "images",
    ),
    Path(rf"{_MODEL}:predictLongRunning", gemini_media.VIDEOS, "videos"),
    Path(r".*/cachedContents", gemini_media.CACHES, "caches"),
    Path(r".*/cachedContents/[^/:]+", gemini_media.RENEWALS, "caches", method="PATCH"),
    Path(rf"{_MODEL}:generateContent", gemini.GENERATE, "chat"),
    Path(rf"{_MODEL}:streamGenerateContent", gemini.GENERATE, "chat", stream=True),
    Path(
        rf"{_MODEL}:(?:embedContent|batchEmbedContents)", gemini.GENERATE, "embeddings"
    ),
    Path(
        r".*/files/(?P<response_id>[^/:]+):download",
        gemini.BATCH,
        "batch",
        method="GET",
    ),
    Path(r".*/v1(?:beta|alpha)?/batches/[^/:]+", gemini.BATCH, "batch", method="GET"),
    Path(
        r".*/ws/google\..*BidiGenerateContent(?:Constrained)?",
        realtime.REALTIME,
        "realtime",
        method="WS",
        stream=True,
    ),
    Path(rf"{_SERVICE}/GenerateContent", gemini.GENERATE, "chat", method="GRPC"),
    Path(
        rf"{_SERVICE}/StreamGenerateContent",
        gemini.GENERATE,
        "chat",
        method="GRPC",
        stream=True,
    ),
    Path(r".*/interactions", gemini_interactions.INTERACTIONS, "responses"),
    Path(
        r".*/interactions/[^/:]+",
        gemini_interactions.INTERACTIONS,
        "responses",
        method="GET",
    ),
)

GOOGLE: t.Final = (
    Path(
        rf"{_SERVICE}/(?:Batch)?EmbedContents?",
        gemini.GENERATE,
        "embeddings",
        method="GRPC",
    ),
    Path(r".*/openai/chat/completions", openai.HIDDEN_THINKING, "chat"),
    Path(r".*/endpoints/[^/]+/chat/completions", openai.HIDDEN_THINKING, "chat"),
)
"""The paths of its own hosts only."""

_ANTHROPIC_ON_VERTEX: t.Final = (
    r".*/publishers/anthropic/models/(?P<model>(?!count-tokens:)[^/:]+)"
)

_MODEL_ON_VERTEX: t.Final = (
    r".*/(?:models|endpoints)/(?P<model>(?!count-tokens:)[^/:]+)"
)

VERTEX: t.Final = (
    *GEMINI,
    *GOOGLE,
    Path(rf"{_ANTHROPIC_ON_VERTEX}:rawPredict", anthropic.MESSAGES, "chat"),
    Path(
        rf"{_ANTHROPIC_ON_VERTEX}:streamRawPredict",
        anthropic.MESSAGES,
        "chat",
        stream=True,
    ),
    Path(r".*/models/(?P<model>mistral-ocr[^/:]*):rawPredict", mistral.OCR, "ocr"),
    Path(rf"{_MODEL_ON_VERTEX}:rawPredict", openai.CHAT, "chat"),
    Path(rf"{_MODEL_ON_VERTEX}:streamRawPredict", openai.CHAT, "chat", stream=True),
    Path(
        r".*/models/(?P<model>multimodalembedding[^/:]*):predict",
        gemini_media.EMBEDDINGS,
        "embeddings",
    ),
    Path(rf"{_MODEL}:predict", gemini.PREDICT, "embeddings"),
)

AZURE: t.Final = (
    # Models of other vendors
    Path(r".*/ocr", mistral.OCR, "ocr"),
    Path(r".*/rerank", cohere.COHERE, "rerank"),
    *(
        dataclasses.replace(
            path,
            pattern=path.pattern.replace(".*", ".*/deployments/(?P<model>[^/]+)", 1),
        )
        for path in OPENAI
        if path.method == "POST"
    ),
    *OPENAI,
    *ANTHROPIC,
)

# SDKs encode the slash of an ARN. Other clients may not.
_ON_BEDROCK: t.Final = r".*/model/(?P<model>arn:[^?]+|[^/]+)"

_BEDROCK: t.Final = (
    Path(rf"{_ON_BEDROCK}/converse", bedrock.CONVERSE, "chat"),
    Path(rf"{_ON_BEDROCK}/converse-stream", bedrock.CONVERSE, "chat", stream=True),
    Path(r".*/model/(?P<model>[^/]*embed[^/]*)/invoke", bedrock.INVOKE, "embeddings"),
    Path(r".*/model/(?P<model>[^/]*rerank[^/]*)/invoke", bedrock.INVOKE, "rerank"),
    Path(rf"{_ON_BEDROCK}/invoke", bedrock.INVOKE, "chat"),
    Path(
        rf"{_ON_BEDROCK}/invoke-with-response-stream",
        bedrock.INVOKE,
        "chat",
        stream=True,
    ),
)

BEDROCK: t.Final = (*_BEDROCK, *OPENAI, *ANTHROPIC)

COHERE: t.Final = (
    Path(r".*/v[12]/(?:chat|generate)", cohere.COHERE, "chat"),
    Path(r".*/v[12]/embed", cohere.COHERE, "embeddings"),
    Path(r".*/v[12]/rerank", cohere.COHERE, "rerank"),
    Path(r".*/v1/classify", cohere.COHERE, "classify"),
    *OPENAI,
)

_OLLAMA: t.Final = (
    Path(r".*/api/chat", ollama.OLLAMA, "chat"),
    Path(r".*/api/generate", ollama.OLLAMA, "completions"),
    Path(r".*/api/(?:embed|embeddings)", ollama.OLLAMA, "embeddings"),
)

OLLAMA: t.Final = (*_OLLAMA, *OPENAI, *ANTHROPIC)

MISTRAL: t.Final = (
    *OPENAI,
    Path(r".*/ocr", mistral.OCR, "ocr"),
    Path(r".*/conversations(?:/[^/]+)?", mistral.CONVERSATION, "chat"),
    Path(r".*/classifications", openai.CHAT, "classify"),
)

WATSONX: t.Final = (
    Path(r".*/text/generation", watsonx.WATSONX, "completions"),
    Path(r".*/text/generation_stream", watsonx.WATSONX, "completions", stream=True),
    Path(r".*/text/embeddings", watsonx.WATSONX, "embeddings"),
    Path(r".*/text/chat", openai.CHAT, "chat"),
    Path(r".*/text/chat_stream", openai.CHAT, "chat", stream=True),
)

GATEWAY: t.Final = (
    *OPENAI,
    *_OLLAMA,
    *ANTHROPIC,
    *GEMINI,
    *_BEDROCK,
    Path(r".*/v2/chat", cohere.COHERE, "chat"),
)
"""A gateway speaks like OpenAI, and passes on other APIs at their own paths."""


def ordered(
    orders: str, answers: Dialect, *, results: str = "", operation: str = "chat"
) -> tuple[Path, ...]:
    """Return the path of orders, and that of their results by the id of the order.

    :param results: The path of results without the id, if it is another one.
    """
    read, named = deferred(answers), rf"{results or orders}/(?P<response_id>[^/]+)"
    return (
        Path(orders, read, operation),
        Path(named, read, operation, method="GET"),
    )


COPILOT: t.Final = (
    Path(r".*/chat/completions", copilot.CHAT, "chat"),
    Path(r".*/responses(?:/compact)?", copilot.RESPONSES, "responses"),
    Path(r".*/v1/messages", copilot.MESSAGES, "chat"),
    *OPENAI,
)

META: t.Final = (Path(r".*/chat/completions", meta.CHAT, "chat"), *GATEWAY)

FIREWORKS: t.Final = (
    Path(r".*/chat/completions", fireworks.CHAT, "chat"),
    Path(r".*/completions", fireworks.CHAT, "completions"),
    *GATEWAY,
)

DEEPINFRA: t.Final = (
    Path(r".*/chat/completions", reporting.DEEPINFRA, "chat"),
    Path(r".*/completions", reporting.DEEPINFRA, "completions"),
    Path(r".*embeddings", reporting.DEEPINFRA, "embeddings"),
    *GATEWAY,
)

OPENROUTER: t.Final = (
    Path(r".*/v1/messages", reporting.OPENROUTER_MESSAGES, "chat"),
    *GATEWAY,
)

VERCEL: t.Final = (
    Path(r".*/chat/completions", reporting.VERCEL, "chat"),
    Path(r".*embeddings", reporting.VERCEL, "embeddings"),
    Path(r".*/responses", reporting.VERCEL_RESPONSES, "responses"),
    Path(r".*/v1/messages", reporting.VERCEL_MESSAGES, "chat"),
    *GATEWAY,
)

GROQ: t.Final = (
    Path(r".*/chat/completions", groq.CHAT, "chat"),
    Path(r".*/audio/(?:transcriptions|translations)", groq.AUDIO, "audio"),
    *GATEWAY,
)

PERPLEXITY: t.Final = (
    Path(r".*(?<!/async)/chat/completions", perplexity.CHAT, "chat"),
    *ordered(r".*/async/chat/completions", perplexity.CHAT),
    Path(r"/search", perplexity.SEARCH, "search"),
    *GATEWAY,
)

XAI_MESSAGES: t.Final = (
    Path(r"/xai_api\.Chat/GetCompletion", xai.MESSAGES, "chat", method="GRPC"),
    Path(
        r"/xai_api\.Chat/GetCompletionChunk",
        xai.MESSAGES,
        "chat",
        method="GRPC",
        stream=True,
    ),
    Path(r"/xai_api\.Sample/SampleText", xai.MESSAGES, "completions", method="GRPC"),
    Path(
        r"/xai_api\.Sample/SampleTextStreaming",
        xai.MESSAGES,
        "completions",
        method="GRPC",
        stream=True,
    ),
    Path(r"/xai_api\.Embedder/Embed", xai.MESSAGES, "embeddings", method="GRPC"),
    Path(r"/xai_api\.Image/GenerateImage", xai.MESSAGES, "images", method="GRPC"),
)
"""Over gRPC."""

XAI: t.Final = (
    Path(r".*/chat/completions", perhaps_deferred(openai.CHAT), "chat"),
    Path(
        r".*/chat/deferred-completion/(?P<response_id>[^/]+)",
        deferred(openai.CHAT),
        "chat",
        method="GET",
    ),
    Path(r".*/videos/(?:generations|edits)", xai.VIDEO, "videos"),
    Path(r".*/videos/(?P<response_id>[^/]+)", xai.VIDEO, "videos", method="GET"),
    *XAI_MESSAGES,
    *GATEWAY,
)
