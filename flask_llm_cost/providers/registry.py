"""The known providers: their names, hosts and paths."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from . import cloud_paths
from . import media_paths
from . import paths
from .gateways import GATEWAYS
from .paths import Path
from .unread_paths import unread_paths


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider: its hosts, and the meaning of their paths."""

    name: str
    hosts: tuple[str, ...]
    """Host names, ``host:port``, or with ``*`` as in ``*.example.com``."""
    paths: tuple[Path, ...]
    region: str = ""
    """A regular expression for hosts in one region. Its group ``region`` gives the flag
    ``region.NAME``, and so does the name of another group. Without a group, all regions
    have the same prices, and the flag is ``region.endpoint``."""
    endpoints: str = ""
    """A regular expression for requested models whose names are those of prices, whatever
    the answer calls the model behind them."""
    include_usage: str = ""
    """A regular expression for URLs, with their query, whose streams report usage only
    on request, and that understand ``stream_options.include_usage``."""


def _provider(
    name: str,
    hosts: str,
    api: tuple[Path, ...] = paths.GATEWAY,
    *,
    region: str = "",
    endpoints: str = "",
    include_usage: str = "",
) -> Provider:
    known = (*api, *unread_paths(name))
    return Provider(name, tuple(hosts.split()), known, region, endpoints, include_usage)


COMPLETIONS: t.Final = r".*/completions(?:\?.*)?"
"""The URLs of streams that understand ``stream_options.include_usage``."""

_AZURE_COMPLETIONS: t.Final = (
    r".*/openai/v1/.*completions(?:\?.*)?"
    r"|.*/completions\?(?:.*&)?api-version=(?:2024-09|2024-1|202[5-9]|20[3-9]).*"
)
"""Earlier versions of Azure's API answer 400 to ``stream_options``."""

_ASSEMBLYAI: t.Final = (
    "api.assemblyai.com api.eu.assemblyai.com llm-gateway.assemblyai.com"
    " llm-gateway.eu.assemblyai.com streaming.assemblyai.com streaming.*.assemblyai.com"
    " agents.assemblyai.com agents.*.assemblyai.com sync.assemblyai.com"
)

_VOLCENGINE: t.Final = "ark.cn-beijing.volces.com ark.ap-southeast.bytepluses.com"

# A gateway without ``include_usage`` always reports the usage of a stream, or does not
# document the option.
PROVIDERS: t.Final = (
    _provider(
        "openai",
        "api.openai.com *.api.openai.com",
        paths.OPENAI,
        region=r"(?P<region>[a-z]{2})\.api\.openai\.com",
        include_usage=COMPLETIONS,
    ),
    _provider(
        "anthropic",
        # Itself, on AWS and on Google Cloud
        "api.anthropic.com aws-external-anthropic.*.api.aws claude.googleapis.com",
        (*paths.ANTHROPIC, *paths.OPENAI),
        include_usage=COMPLETIONS,
    ),
    _provider(
        "gemini",
        "generativelanguage.googleapis.com",
        (*paths.GOOGLE, *paths.GEMINI, *paths.OPENAI),
        include_usage=COMPLETIONS,
    ),
    _provider(
        "vertex",
        "aiplatform.googleapis.com *-aiplatform.googleapis.com"
        " aiplatform.*.rep.googleapis.com",
        paths.VERTEX,
        region=r"(?!global-)[a-z0-9-]+-aiplatform\.googleapis\.com"
        r"|aiplatform\.[a-z]+\.rep\.googleapis\.com",
    ),
    _provider(
        "azure",
        "*.openai.azure.com *.openai.azure.us *.services.ai.azure.com"
        " *.cognitiveservices.azure.com *.models.ai.azure.com"
        " models.inference.ai.azure.com",
        paths.AZURE,
        include_usage=_AZURE_COMPLETIONS,
    ),
    _provider(
        "bedrock",
        "bedrock-runtime*.amazonaws.com bedrock-runtime*.api.aws"
        " bedrock-runtime*.amazonaws.com.cn *.bedrock-runtime.*.vpce.amazonaws.com"
        " bedrock-mantle.*.api.aws bedrock.*.amazonaws.com"
        " bedrock-agent-runtime*.amazonaws.com bedrock-agent-runtime*.api.aws",
        paths.BEDROCK,
        # Outside of the US, many models have prices of their own.
        region=r"bedrock-mantle\.[a-z0-9-]+\.api\.aws"
        r"|bedrock-runtime\.(?P<region>(?!us-)[a-z0-9-]+)\..+",
    ),
    _provider("mistral", "api.mistral.ai *.mistral.ai", paths.MISTRAL),
    _provider("cohere", "api.cohere.com api.cohere.ai", paths.COHERE),
    _provider(
        "ollama",
        "ollama.com localhost:11434 127.0.0.1:11434 [::1]:11434",
        paths.OLLAMA,
        include_usage=COMPLETIONS,
    ),
    _provider("watsonx", "*.ml.cloud.ibm.com", paths.WATSONX),
    _provider("writer", "api.writer.com", cloud_paths.WRITER),
    _provider("snowflake", "*.snowflakecomputing.com", cloud_paths.SNOWFLAKE),
    _provider(
        "alibaba",
        "dashscope.aliyuncs.com dashscope-intl.aliyuncs.com dashscope-us.aliyuncs.com",
        cloud_paths.ALIBABA,
        region=r"(?P<cn>dashscope\.aliyuncs\.com)",
        include_usage=COMPLETIONS,
    ),
    _provider(
        "databricks",
        "*.cloud.databricks.com *.azuredatabricks.net *.gcp.databricks.com"
        " *.cloud.databricks.us *.databricks.azure.us *.databricks.azure.cn",
        cloud_paths.DATABRICKS,
        endpoints="databricks-.+",
    ),
    _provider("groq", "api.groq.com", paths.GROQ),
    _provider("perplexity", "api.perplexity.ai", paths.PERPLEXITY),
    _provider("xai", "api.x.ai *.api.x.ai", paths.XAI),
    # Z.AI at home: the same models, billed in yuan at other prices
    _provider("bigmodel", "open.bigmodel.cn", cloud_paths.ZAI),
    _provider("cerebras", "api.cerebras.ai"),
    _provider("crusoe", "api.inference.crusoecloud.com"),
    _provider(
        "deepinfra",
        "api.deepinfra.com",
        paths.DEEPINFRA,
        include_usage=COMPLETIONS,
    ),
    _provider("deepseek", "api.deepseek.com", include_usage=COMPLETIONS),
    _provider("fireworks", "api.fireworks.ai *.api.fireworks.ai", paths.FIREWORKS),
    _provider("github", "models.github.ai", include_usage=COMPLETIONS),
    _provider(
        "github_copilot",
        "api.githubcopilot.com *.githubcopilot.com copilot-api.*.ghe.com",
        paths.COPILOT,
        include_usage=COMPLETIONS,
    ),
    _provider(
        "huggingface",
        "router.huggingface.co api-inference.huggingface.co",
        include_usage=COMPLETIONS,
    ),
    _provider("hyperbolic", "api.hyperbolic.xyz"),
    _provider("jina", "api.jina.ai deepsearch.jina.ai"),
    _provider("meta", "api.meta.ai api.llama.com", paths.META),
    _provider(
        "minimax",
        "api.minimax.io api.minimaxi.com",
        cloud_paths.MINIMAX,
        region=r"(?P<cn>api\.minimaxi\.com)",
    ),
    _provider(
        "moonshot",
        "api.moonshot.ai api.moonshot.cn",
        region=r"(?P<cn>api\.moonshot\.cn)",
    ),
    _provider(
        "nebius",
        "api.studio.nebius.ai api.studio.nebius.com api.tokenfactory.nebius.com"
        " api.tokenfactory.*.nebius.com",
        include_usage=COMPLETIONS,
    ),
    _provider("novita", "api.novita.ai", include_usage=COMPLETIONS),
    _provider(
        "nvidia",
        "integrate.api.nvidia.com ai.api.nvidia.com",
        include_usage=COMPLETIONS,
    ),
    _provider("openrouter", "openrouter.ai", paths.OPENROUTER),
    _provider("portkey", "api.portkey.ai"),
    _provider("pydantic-gateway", "gateway.pydantic.dev gateway-*.pydantic.dev"),
    _provider("sambanova", "api.sambanova.ai", include_usage=COMPLETIONS),
    _provider("together", "api.together.ai api.together.xyz api-inference.together.ai"),
    _provider("vercel", "ai-gateway.vercel.sh", paths.VERCEL),
    _provider("voyage", "api.voyageai.com"),
    _provider("volcengine", _VOLCENGINE, cloud_paths.VOLCENGINE),
    _provider("zai", "api.z.ai", cloud_paths.ZAI),
    _provider("assemblyai", _ASSEMBLYAI, media_paths.ASSEMBLYAI),
    _provider("aws_polly", "polly.*.amazonaws.com", media_paths.POLLY),
    _provider("black_forest_labs", "api.bfl.ai api.*.bfl.ai", media_paths.BLACK_FOREST),
    _provider("cartesia", "api.cartesia.ai", ()),
    _provider("cloudflare", "api.cloudflare.com", cloud_paths.CLOUDFLARE),
    _provider(
        "deepgram",
        "api.deepgram.com api.eu.deepgram.com agent.deepgram.com",
        media_paths.DEEPGRAM,
    ),
    _provider(
        "elevenlabs", "api.elevenlabs.io api.*.elevenlabs.io", media_paths.ELEVENLABS
    ),
    _provider("fal_ai", "fal.run queue.fal.run ws.fal.run", media_paths.FAL),
    _provider("gladia", "api.gladia.io", media_paths.GLADIA),
    _provider("hume", "api.hume.ai", ()),
    _provider("ideogram", "api.ideogram.ai", ()),
    _provider("luma", "api.lumalabs.ai", ()),
    _provider("oci", "*.generativeai.*.oci.oraclecloud.com", cloud_paths.OCI),
    _provider("replicate", "api.replicate.com", media_paths.REPLICATE),
    _provider("runwayml", "api.dev.runwayml.com", media_paths.RUNWAY),
    _provider("sagemaker", "runtime.sagemaker.*.amazonaws.com", cloud_paths.SAGEMAKER),
    _provider(
        "soniox",
        "api.soniox.com stt-rt.soniox.com tts-rt.soniox.com",
        media_paths.SONIOX,
    ),
    _provider("stability", "api.stability.ai", media_paths.STABILITY),
    _provider("twelvelabs", "api.twelvelabs.io", media_paths.TWELVELABS),
    *(_provider(name, hosts) for name, hosts in GATEWAYS.items()),
)
"""The known providers, by the name that calls and prices use."""
