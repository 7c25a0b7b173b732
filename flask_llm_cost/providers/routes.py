"""Finds the provider, operation and dialect of a request by its URL."""

from __future__ import annotations

import fnmatch
import functools
import re
import typing as t
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote
from urllib.parse import urlsplit

from . import bedrock
from . import groq
from . import openai
from . import perplexity
from . import xai
from .dialect import Dialect
from .paths import ANTHROPIC_PATHS
from .paths import AZURE_PATHS
from .paths import BEDROCK_PATHS
from .paths import COHERE_PATHS
from .paths import GATEWAY_PATHS
from .paths import GEMINI_PATHS
from .paths import GOOGLE_OPENAI_PATHS
from .paths import MISTRAL_PATHS
from .paths import OLLAMA_PATHS
from .paths import OPENAI_PATHS
from .paths import Path
from .paths import VERTEX_PATHS
from .paths import WATSONX_PATHS


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider: its hosts, and the meaning of their paths."""

    name: str
    hosts: tuple[str, ...]
    """Host names, ``host:port``, or with ``*`` as in ``*.example.com``."""
    paths: tuple[Path, ...]
    region: str = ""
    """A regular expression for hosts in one region. Its group ``region``, or ``endpoint``
    where all regions cost the same, makes the flag ``region.NAME`` of their calls."""
    include_usage: str = ""
    """A regular expression for URLs, with their query, whose streams report usage only
    on request, and that understand ``stream_options.include_usage``."""


@dataclass(frozen=True, slots=True)
class Route:
    """What a URL says about its request."""

    provider: str
    operation: str
    dialect: Dialect
    model: str | None = None
    """The model, if the URL names it."""
    stream: bool = False
    """The URL asks for a stream."""
    poll: bool = False
    """A GET. It is a call only if it returns usage that its create request did not.

    A reading with the flag ``repeated`` has no new usage. A file of batch results has no
    reading of its own: each of :meth:`Exchange.take_results` is a call.
    """
    response_id: str | None = None
    """The id of the answer, if the URL names it."""
    batch_id: str | None = None
    """The batch whose results are requested, if these have no dates of their own."""
    flags: frozenset[str] = frozenset()
    """Conditions that the price may depend on: ``region.eu``."""
    include_usage: str = ""
    """:attr:`Provider.include_usage`, or empty if the path has no such option."""


_COMPLETIONS: t.Final = r".*/completions(?:\?.*)?"
_AZURE_COMPLETIONS: t.Final = (
    r".*/openai/v1/.*completions(?:\?.*)?"
    r"|.*/completions\?(?:.*&)?api-version=(?:2024-09|2024-1|202[5-9]|20[3-9]).*"
)
"""Earlier versions of Azure's API answer 400 to ``stream_options``."""

_USAGE_ON_REQUEST: t.Final = frozenset(
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
"""The other gateways always report a stream's usage, or do not document the option."""

PROVIDERS: t.Final = (
    Provider(
        "openai",
        ("api.openai.com", "*.api.openai.com"),
        OPENAI_PATHS,
        region=r"(?P<region>[a-z]{2})\.api\.openai\.com",
        include_usage=_COMPLETIONS,
    ),
    Provider(
        "anthropic",
        ("api.anthropic.com",),
        (*ANTHROPIC_PATHS, *OPENAI_PATHS),
        include_usage=_COMPLETIONS,
    ),
    Provider(
        "gemini",
        ("generativelanguage.googleapis.com",),
        (*GOOGLE_OPENAI_PATHS, *GEMINI_PATHS, *OPENAI_PATHS),
        include_usage=_COMPLETIONS,
    ),
    Provider(
        "vertex",
        ("aiplatform.googleapis.com", "*-aiplatform.googleapis.com")
        + ("aiplatform.*.rep.googleapis.com",),
        VERTEX_PATHS,
        region=r"(?!global-)[a-z0-9-]+-aiplatform\.googleapis\.com"
        r"|aiplatform\.[a-z]+\.rep\.googleapis\.com",
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
        include_usage=_AZURE_COMPLETIONS,
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
        include_usage=_COMPLETIONS,
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
        include_usage=_COMPLETIONS,
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
            Path(
                r".*/videos/(?P<response_id>[^/]+)", xai.VIDEO, "videos", method="GET"
            ),
        ),
    ),
    *(
        Provider(
            name,
            tuple(hosts.split()),
            GATEWAY_PATHS,
            include_usage=_COMPLETIONS if name in _USAGE_ON_REQUEST else "",
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
"""The known providers, by the name that calls and prices use."""


def route(
    method: str,
    url: str,
    *,
    hosts: Mapping[str, str] | None = None,
    providers: Sequence[Provider] = (),
) -> Route | None:
    """Find the route of a request, or ``None`` if it is not an LLM call.

    :param hosts: Additional hosts, or ``host:port``, with the name of their provider.
    :param providers: The app's own providers, which precede the built-in ones.
    """
    # The cache must not store the query, which may contain a key.
    where = url.partition("?")[0]
    if not hosts and not providers:
        return _route(method, where, (), ())
    return _route(method, where, tuple((hosts or {}).items()), tuple(providers))


def chat_route(provider: str, *, providers: Sequence[Provider] = ()) -> Route:
    """Get the route of a provider's chat streams, for use without a URL.

    An unknown provider is read like OpenAI.
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
        # A fully qualified name may end with a dot.
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
                response_id=named.get("response_id"),
                batch_id=named.get("batch_id"),
                flags=_flags(provider, host),
                include_usage=(
                    provider.include_usage
                    if path.operation in _WITH_STREAM_OPTIONS
                    else ""
                ),
            )
    return None


_PORTS: t.Final = {"https": 443, "http": 80}

_WITH_STREAM_OPTIONS: t.Final = ("chat", "completions")


def _flags(provider: Provider, host: str) -> frozenset[str]:
    found = re.fullmatch(provider.region, host) if provider.region else None
    if found is None:
        return frozenset()
    return frozenset((f"region.{found.groupdict().get('region', 'endpoint')}",))


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
            # An unknown name is a gateway that speaks like OpenAI.
            return Provider(name, (), GATEWAY_PATHS, include_usage=_COMPLETIONS)
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
