"""Which provider, operation and dialect does a URL stand for?"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import re
import typing as t
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote
from urllib.parse import urlsplit

from . import anthropic
from . import bedrock
from . import cohere
from . import gemini
from . import groq
from . import mistral
from . import ollama
from . import openai
from . import perplexity
from . import realtime
from . import watsonx
from . import xai
from .dialect import Dialect


@dataclass(frozen=True, slots=True)
class Path:
    """Requests of one kind: what their path looks like and how answers are read."""

    pattern: str
    """A regular expression for the whole path; ``(?P<model>...)`` names the model,
    ``(?P<answer>...)`` the id of an answer that does not say it itself."""
    dialect: Dialect
    operation: str
    method: str = "POST"
    stream: bool = False
    """The path itself asks for a stream."""


@dataclass(frozen=True, slots=True)
class Provider:
    """Who answers at some hosts, and what its paths mean."""

    name: str
    hosts: tuple[str, ...]
    """Host names, ``host:port``, or with ``*`` as in ``*.example.com``."""
    paths: tuple[Path, ...]
    region: str = ""
    """A regular expression for a host that binds to a place; ``(?P<region>...)``."""
    include_usage: str = ""
    """A regular expression for URLs, with their query, whose streams say what they used
    only if they are asked to, and that understand ``stream_options.include_usage``."""


@dataclass(frozen=True, slots=True)
class Route:
    """What a URL says of the call behind it."""

    provider: str
    operation: str
    dialect: Dialect
    model: str | None = None
    """The model, where the URL names it."""
    stream: bool = False
    """The URL asks for a stream."""
    poll: bool = False
    """A GET: a call of its own only if it brings usage that its create did not carry.

    A reading with the flag ``repeated`` does not. A file of batch results brings none, but
    :meth:`Exchange.results`, each a call.
    """
    answer: str | None = None
    """The id of the answer, where the URL names it."""
    batch: str | None = None
    """The batch whose results it asks for, where they have no dates of their own."""
    flags: frozenset[str] = frozenset()
    """What the host says of the price: ``region.eu``."""
    include_usage: str = ""
    """As :attr:`Provider.include_usage`; empty where it is no matter of this path."""


NO_CALL: t.Final = "batches"
"""The operation of what is looked at and is no call: when a batch was made."""

OPENAI_PATHS: t.Final = (
    Path(r".*/chat/completions", openai.CHAT, "chat"),
    Path(r".*/agents/completions", openai.CHAT, "chat"),
    Path(r".*/completions", openai.CHAT, "completions"),
    Path(r".*/v1/edits", openai.CHAT, "completions"),
    Path(r".*embeddings", openai.EMBEDDINGS, "embeddings"),
    Path(r".*/responses(?:/compact)?", openai.RESPONSES, "responses"),
    Path(r".*/responses/resp_[^/]+", openai.RESPONSES, "responses", method="GET"),
    Path(r".*/files/[^/]+/content", openai.BATCH, "batch", method="GET"),
    Path(r".*/images/(?:generations|edits|variations)", openai.IMAGES, "images"),
    Path(r".*/audio/(?:transcriptions|translations)", openai.AUDIO, "audio"),
    Path(r".*/audio/speech", openai.AUDIO, "speech"),
    Path(r".*/moderations", openai.CHAT, "moderations"),
    Path(r".*/v1/decisions", openai.RESPONSES, "decisions"),
    Path(r".*/rerank", openai.EMBEDDINGS, "rerank"),
    Path(r".*/threads(?:/thread_[^/]+)?/runs", openai.RUNS, "assistants"),
    Path(r".*/threads/[^/]+/runs/[^/]+/submit_tool_outputs", openai.RUNS, "assistants"),
    Path(r".*/threads/[^/]+/runs/[^/]+", openai.RUNS, "assistants", method="GET"),
    Path(r".*/realtime", realtime.REALTIME, "realtime", method="WS", stream=True),
)
"""Where OpenAI and those who speak like it answer, whatever stands before."""

ANTHROPIC_PATHS: t.Final = (
    Path(r".*/v1/messages", anthropic.MESSAGES, "chat"),
    Path(r".*/v1/complete", anthropic.MESSAGES, "completions"),
    Path(
        r".*/v1/messages/batches/(?P<batch>[^/]+)/results",
        anthropic.BATCH,
        "batch",
        method="GET",
    ),
    Path(
        r".*/v1/messages/batches/[^/]+",
        anthropic.BATCH_STATE,
        NO_CALL,
        method="GET",
    ),
)

_MODEL: t.Final = r".*/(?:models|endpoints|tunedModels)/(?P<model>[^/:]+)"

GEMINI_PATHS: t.Final = (
    Path(r".*/models/(?P<model>imagen[^/:]*):predict", gemini.IMAGES, "images"),
    Path(rf"{_MODEL}:generateContent", gemini.GENERATE, "chat"),
    Path(rf"{_MODEL}:streamGenerateContent", gemini.GENERATE, "chat", stream=True),
    Path(
        rf"{_MODEL}:(?:embedContent|batchEmbedContents)", gemini.GENERATE, "embeddings"
    ),
    Path(r".*/files/[^/:]+:download", gemini.BATCH, "batch", method="GET"),
    Path(r".*/v1(?:beta|alpha)?/batches/[^/:]+", gemini.BATCH, "batch", method="GET"),
    Path(r".*/interactions", gemini.INTERACTIONS, "responses"),
    Path(r".*/interactions/[^/:]+", gemini.INTERACTIONS, "responses", method="GET"),
)

_COMPATIBLE_GOOGLE: t.Final = (
    Path(r".*/openai/chat/completions", openai.HIDDEN_THINKING, "chat"),
    Path(r".*/endpoints/[^/]+/chat/completions", openai.HIDDEN_THINKING, "chat"),
)

_ANTHROPIC_ON_VERTEX: t.Final = (
    r".*/publishers/anthropic/models/(?P<model>(?!count-tokens:)[^/:]+)"
)

_MODEL_ON_VERTEX: t.Final = (
    r".*/(?:models|endpoints)/(?P<model>(?!count-tokens:)[^/:]+)"
)

VERTEX_PATHS: t.Final = (
    *GEMINI_PATHS,
    *_COMPATIBLE_GOOGLE,
    Path(rf"{_ANTHROPIC_ON_VERTEX}:rawPredict", anthropic.MESSAGES, "chat"),
    Path(
        rf"{_ANTHROPIC_ON_VERTEX}:streamRawPredict",
        anthropic.MESSAGES,
        "chat",
        stream=True,
    ),
    Path(rf"{_MODEL_ON_VERTEX}:rawPredict", openai.CHAT, "chat"),
    Path(rf"{_MODEL_ON_VERTEX}:streamRawPredict", openai.CHAT, "chat", stream=True),
    Path(rf"{_MODEL}:predict", gemini.PREDICT, "embeddings"),
)

AZURE_PATHS: t.Final = (
    *(
        dataclasses.replace(
            path,
            pattern=path.pattern.replace(".*", ".*/deployments/(?P<model>[^/]+)", 1),
        )
        for path in OPENAI_PATHS
        if path.method == "POST"
    ),
    *OPENAI_PATHS,
    *ANTHROPIC_PATHS,
)

_ON_BEDROCK: t.Final = r".*/model/(?P<model>[^/]+)"

_BEDROCK_PATHS: t.Final = (
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

BEDROCK_PATHS: t.Final = (*_BEDROCK_PATHS, *OPENAI_PATHS, *ANTHROPIC_PATHS)

COHERE_PATHS: t.Final = (
    Path(r".*/v[12]/(?:chat|generate)", cohere.COHERE, "chat"),
    Path(r".*/v[12]/embed", cohere.COHERE, "embeddings"),
    Path(r".*/v[12]/rerank", cohere.COHERE, "rerank"),
    Path(r".*/v1/classify", cohere.COHERE, "classify"),
    *OPENAI_PATHS,
)

_OLLAMA_PATHS: t.Final = (
    Path(r".*/api/chat", ollama.OLLAMA, "chat"),
    Path(r".*/api/generate", ollama.OLLAMA, "completions"),
    Path(r".*/api/(?:embed|embeddings)", ollama.OLLAMA, "embeddings"),
)

OLLAMA_PATHS: t.Final = (*_OLLAMA_PATHS, *OPENAI_PATHS, *ANTHROPIC_PATHS)

MISTRAL_PATHS: t.Final = (
    *OPENAI_PATHS,
    Path(r".*/ocr", mistral.OCR, "ocr"),
    Path(r".*/conversations(?:/[^/]+)?", mistral.CONVERSATION, "chat"),
    Path(r".*/classifications", openai.CHAT, "classify"),
)

WATSONX_PATHS: t.Final = (
    Path(r".*/text/generation", watsonx.WATSONX, "completions"),
    Path(r".*/text/generation_stream", watsonx.WATSONX, "completions", stream=True),
    Path(r".*/text/embeddings", watsonx.WATSONX, "embeddings"),
    Path(r".*/text/chat", openai.CHAT, "chat"),
    Path(r".*/text/chat_stream", openai.CHAT, "chat", stream=True),
)

GATEWAY_PATHS: t.Final = (
    *OPENAI_PATHS,
    *_OLLAMA_PATHS,
    *ANTHROPIC_PATHS,
    *GEMINI_PATHS,
    *_BEDROCK_PATHS,
    Path(r".*/v2/chat", cohere.COHERE, "chat"),
)
"""A gateway speaks like OpenAI, and passes on what others say at paths of theirs."""

_ANY_VERSION: t.Final = r".*/completions(?:\?.*)?"
_AZURE_VERSIONS: t.Final = (
    r".*/openai/v1/.*completions(?:\?.*)?"
    r"|.*/completions\?(?:.*&)?api-version=(?:2024-09|2024-1|202[5-9]|20[3-9]).*"
)
"""Earlier versions of its API answer 400 to ``stream_options``."""

_SAY_IF_ASKED: t.Final = frozenset(
    (
        "deepinfra",
        "deepseek",
        "github",
        "huggingface",
        "nebius",
        "novita",
        "nvidia",
        "sambanova",
    )
)
"""The others here say what a stream used in any case, or do not say if they can."""

PROVIDERS: t.Final = (
    Provider(
        "openai",
        ("api.openai.com", "*.api.openai.com"),
        OPENAI_PATHS,
        region=r"(?P<region>[a-z]{2})\.api\.openai\.com",
        include_usage=_ANY_VERSION,
    ),
    Provider(
        "anthropic",
        ("api.anthropic.com",),
        (*ANTHROPIC_PATHS, *OPENAI_PATHS),
        include_usage=_ANY_VERSION,
    ),
    Provider(
        "gemini",
        ("generativelanguage.googleapis.com",),
        (*_COMPATIBLE_GOOGLE, *GEMINI_PATHS, *OPENAI_PATHS),
        include_usage=_ANY_VERSION,
    ),
    Provider(
        "vertex",
        ("aiplatform.googleapis.com", "*-aiplatform.googleapis.com")
        + ("aiplatform.*.rep.googleapis.com",),
        VERTEX_PATHS,
    ),
    Provider(
        "azure",
        (
            "*.openai.azure.com",
            "*.openai.azure.us",
            "*.services.ai.azure.com",
            "*.cognitiveservices.azure.com",
            "*.models.ai.azure.com",
            "models.inference.ai.azure.com",
        ),
        AZURE_PATHS,
        include_usage=_AZURE_VERSIONS,
    ),
    Provider(
        "bedrock",
        (
            "bedrock-runtime*.amazonaws.com",
            "bedrock-runtime*.api.aws",
            "bedrock-runtime*.amazonaws.com.cn",
            "*.bedrock-runtime.*.vpce.amazonaws.com",
            "bedrock-mantle.*.api.aws",
        ),
        BEDROCK_PATHS,
    ),
    Provider("mistral", ("api.mistral.ai", "*.mistral.ai"), MISTRAL_PATHS),
    Provider("cohere", ("api.cohere.com", "api.cohere.ai"), COHERE_PATHS),
    Provider(
        "ollama",
        ("ollama.com", "localhost:11434", "127.0.0.1:11434", "[::1]:11434"),
        OLLAMA_PATHS,
        include_usage=_ANY_VERSION,
    ),
    Provider("watsonx", ("*.ml.cloud.ibm.com",), WATSONX_PATHS),
    Provider(
        "writer",
        ("api.writer.com",),
        (Path(r".*/v1/chat", openai.CHAT, "chat"), *OPENAI_PATHS),
    ),
    Provider(
        "snowflake",
        ("*.snowflakecomputing.com",),
        (
            Path(r".*/cortex/inference:complete", openai.CHAT, "chat"),
            Path(r".*/cortex/inference:embed", openai.EMBEDDINGS, "embeddings"),
            *GATEWAY_PATHS,
        ),
    ),
    Provider(
        "alibaba",
        (
            "dashscope.aliyuncs.com",
            "dashscope-intl.aliyuncs.com",
            "dashscope-us.aliyuncs.com",
        ),
        (
            Path(r".*/services/aigc/[a-z-]+/generation", openai.CHAT, "chat"),
            Path(r".*/services/embeddings/.*", openai.EMBEDDINGS, "embeddings"),
            Path(r".*/services/rerank/.*", openai.EMBEDDINGS, "rerank"),
            *GATEWAY_PATHS,
        ),
        include_usage=_ANY_VERSION,
    ),
    Provider(
        "databricks",
        ("*.cloud.databricks.com", "*.azuredatabricks.net"),
        (
            Path(
                r".*/serving-endpoints/(?P<model>[^/]+)/invocations",
                openai.CHAT,
                "chat",
            ),
            *GATEWAY_PATHS,
        ),
    ),
    Provider(
        "groq",
        ("api.groq.com",),
        (Path(r".*/chat/completions", groq.CHAT, "chat"), *GATEWAY_PATHS),
    ),
    Provider(
        "perplexity",
        ("api.perplexity.ai",),
        (Path(r".*/chat/completions", perplexity.CHAT, "chat"), *GATEWAY_PATHS),
    ),
    Provider(
        "xai",
        ("api.x.ai", "*.api.x.ai"),
        (
            *GATEWAY_PATHS,
            Path(r".*/videos/(?:generations|edits)", xai.VIDEO, "videos"),
            Path(r".*/videos/(?P<answer>[^/]+)", xai.VIDEO, "videos", method="GET"),
        ),
    ),
    *(
        Provider(
            name,
            tuple(hosts.split()),
            GATEWAY_PATHS,
            include_usage=_ANY_VERSION if name in _SAY_IF_ASKED else "",
        )
        for name, hosts in {
            "cerebras": "api.cerebras.ai",
            "crusoe": "api.inference.crusoecloud.com",
            "deepinfra": "api.deepinfra.com",
            "deepseek": "api.deepseek.com",
            "fireworks": "api.fireworks.ai",
            "github": "models.github.ai",
            "huggingface": "router.huggingface.co api-inference.huggingface.co",
            "hyperbolic": "api.hyperbolic.xyz",
            "jina": "api.jina.ai",
            "minimax": "api.minimax.io api.minimaxi.com",
            "moonshot": "api.moonshot.ai api.moonshot.cn",
            "nebius": "api.studio.nebius.ai api.studio.nebius.com",
            "novita": "api.novita.ai",
            "nvidia": "integrate.api.nvidia.com ai.api.nvidia.com",
            "openrouter": "openrouter.ai",
            "portkey": "api.portkey.ai",
            "pydantic-gateway": "gateway.pydantic.dev",
            "sambanova": "api.sambanova.ai",
            "together": "api.together.ai api.together.xyz",
            "vercel": "ai-gateway.vercel.sh",
            "voyage": "api.voyageai.com",
            "zai": "api.z.ai open.bigmodel.cn",
        }.items()
    ),
)
"""Everyone who is known, by the name that calls and prices have."""


def route(
    method: str,
    url: str,
    *,
    hosts: Mapping[str, str] | None = None,
    providers: Sequence[Provider] = (),
) -> Route | None:
    """Find what a request is, or ``None`` if it is no call of an LLM.

    :param hosts: More hosts, or ``host:port``, with the provider that answers there.
    :param providers: An app's own; they come before the built-in ones.
    """
    # The query is left out of the cache: it may hold a key.
    where = url.partition("?")[0]
    if not hosts and not providers:
        return _route(method, where, (), ())
    return _route(method, where, tuple((hosts or {}).items()), tuple(providers))


def route_to(provider: str, *, providers: Sequence[Provider] = ()) -> Route:
    """How a provider's chat is read where no URL is at hand.

    A name that is not known speaks like OpenAI.
    """
    for known in (*providers, *PROVIDERS):
        if known.name == provider:
            for path in known.paths:
                if path.operation == "chat":
                    return Route(provider, path.operation, path.dialect, stream=True)
    return Route(provider, "chat", openai.CHAT, stream=True)


@functools.lru_cache(maxsize=1024)
def _route(
    method: str,
    url: str,
    hosts: tuple[tuple[str, str], ...],
    providers: tuple[Provider, ...],
) -> Route | None:
    try:
        parts = urlsplit(url)
        # A name may end with a dot: that of the root.
        host = (parts.hostname or "").lower().rstrip(".")
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    provider = _named(host, port, hosts, providers) or _known(host, port, providers)
    if provider is None:
        return None
    where = parts.path.rstrip("/")
    for path in provider.paths:
        found = re.fullmatch(path.pattern, where)
        if found is not None and path.method == method.upper():
            named = found.groupdict()
            model = named.get("model")
            return Route(
                provider=provider.name,
                operation=path.operation,
                dialect=path.dialect,
                model=None if model is None else bedrock.last_segment(unquote(model)),
                stream=path.stream,
                poll=path.method == "GET",
                answer=named.get("answer"),
                batch=named.get("batch"),
                flags=_flags(provider, host),
                include_usage=(
                    provider.include_usage if path.operation in _ASKABLE else ""
                ),
            )
    return None


_PORTS: t.Final = {"https": 443, "http": 80}

_ASKABLE: t.Final = ("chat", "completions")


def _flags(provider: Provider, host: str) -> frozenset[str]:
    found = re.fullmatch(provider.region, host) if provider.region else None
    return frozenset() if found is None else frozenset((f"region.{found['region']}",))


def _named(
    host: str,
    port: int | None,
    hosts: tuple[tuple[str, str], ...],
    providers: tuple[Provider, ...],
) -> Provider | None:
    for pattern, name in hosts:
        if pattern.lower() in (host, _with_port(host, port)):
            for provider in (*providers, *PROVIDERS):
                if provider.name == name:
                    return provider
            # The app says itself that it speaks like OpenAI.
            return Provider(name, (), GATEWAY_PATHS, include_usage=_ANY_VERSION)
    return None


def _known(
    host: str, port: int | None, providers: tuple[Provider, ...]
) -> Provider | None:
    for provider in (*providers, *PROVIDERS):
        for pattern in provider.hosts:
            if fnmatch.fnmatchcase(host, pattern) or pattern == _with_port(host, port):
                return provider
    return None


def _with_port(host: str, port: int | None) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
