"""Which client libraries and SDKs are installed, and whether their calls are captured."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
import typing as t
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass

from ..capture.clients import can_be_wrapped
from ..capture.clients import WRAP_OF
from ..capture.inside import WAYS
from ..checks import INSTRUMENTS
from .findings import Finding
from .uncaptured import uncaptured


@dataclass(frozen=True, slots=True)
class Sdk:
    """A package that calls LLMs, and the libraries that it sends through."""

    name: str
    """Its name on the package index."""
    tested: str
    """The versions it was tested with."""
    provider: str = ""
    """The provider that it calls; empty if it calls any."""
    libraries: tuple[str, ...] = ()
    """Libraries that it may send through: the first that it requires is used."""
    also: tuple[str, ...] = ()
    """Libraries that it also sends through if they are installed."""
    general: bool = False
    """Whether many apps have it for other purposes."""
    package: str = ""
    """The name to import, if different."""


LIBRARIES: t.Final[Mapping[str, str]] = {
    "requests": "2.34.2",
    "httpx": "0.28.1",
    "httpx2": "2.16.2",
    "aiohttp": "3.14.5",
    "botocore": "1.44.8",
    "urllib3": "2.8.0",
    "http.client": "3.11",
    "websockets": "17.4",
    "grpc": "1.85.3",
    "niquests": "3.21.2",
    "curl_cffi": "0.17.0",
    "claude_agent_sdk": "0.2.189",
    "lm15": "1.5.0",
}
"""Each library that can be captured, with the version that it was tested with."""

_HTTPX: t.Final = ("httpx2", "httpx")

SDKS: t.Final = (
    Sdk("openai", "3.57.0 and 2.54.0", "openai", _HTTPX),
    Sdk("anthropic", "2.14.0", "anthropic", _HTTPX),
    Sdk("google-genai", "3.6.1", "gemini", _HTTPX, ("aiohttp",), package="google"),
    Sdk("mistralai", "3.7.0", "mistral", _HTTPX),
    Sdk("cohere", "7.3.1", "cohere", ("httpx",)),
    Sdk("groq", "1.7.0", "groq", ("httpx",)),
    Sdk("ollama", "0.6.3", "ollama", ("httpx",)),
    Sdk("litellm", "1.110.2", "", ("httpx",), ("aiohttp",)),
    Sdk("boto3", "1.44.8", "bedrock", ("botocore",), general=True),
    Sdk("ai21", "4.3.0", "ai21", ("httpx",)),
    Sdk("assemblyai", "1.8.2", "assemblyai", ("httpx",)),
    Sdk("azure-ai-inference", "1.0.0b9", "azure", ("requests",), package="azure"),
    Sdk("cerebras-cloud-sdk", "1.91.0", "cerebras", ("httpx",), package="cerebras"),
    Sdk("dashscope", "2.0.2", "alibaba", ("requests",), ("aiohttp",)),
    Sdk("deepgram-sdk", "7.17.0", "deepgram", ("httpx",), package="deepgram"),
    Sdk("elevenlabs", "2.78.0", "elevenlabs", ("httpx",)),
    Sdk("fal-client", "1.0.3", "fal_ai", ("httpx",), package="fal_client"),
    Sdk("fireworks-ai", "1.2.30", "fireworks", ("httpx",), package="fireworks"),
    Sdk("gradient", "3.12.2", "gradient_ai", ("httpx",)),
    Sdk(
        "huggingface-hub",
        "2.4.0",
        "huggingface",
        _HTTPX,
        general=True,
        package="huggingface_hub",
    ),
    Sdk("llama-api-client", "0.6.0", "meta", ("httpx",), package="llama_api_client"),
    Sdk("openrouter", "1.3.84", "openrouter", ("httpx",)),
    Sdk("perplexityai", "0.46.1", "perplexity", ("httpx",), package="perplexity"),
    Sdk("portkey-ai", "2.3.4", "portkey", ("httpx",), package="portkey_ai"),
    Sdk("replicate", "1.0.7", "replicate", ("httpx",)),
    Sdk("runwayml", "5.24.0", "runwayml", ("httpx",)),
    Sdk("sambanova", "1.13.0", "sambanova", ("httpx",)),
    Sdk("together", "3.1.1", "together", ("httpx",)),
    Sdk("twelvelabs", "1.3.6", "twelvelabs", ("httpx",)),
    Sdk("voyageai", "0.5.0", "voyage", ("requests",), ("aiohttp",)),
    Sdk("writer-sdk", "3.0.0", "writer", ("httpx",), package="writerai"),
    Sdk("zai-sdk", "0.2.3", "zai", ("httpx",), package="zai"),
    Sdk("google-generativeai", "0.8.6", "gemini", ("grpc",), package="google"),
    Sdk("dspy", "3.4.1", "", ("lm15",)),
    Sdk("xai-sdk", "1.21.0", "xai", ("grpc",), package="xai_sdk"),
    Sdk(
        "google-cloud-aiplatform",
        "2.7.0",
        "vertex",
        ("grpc",),
        general=True,
        package="google",
    ),
)


def look(
    ways: Mapping[str, Collection[str]],
    seen: Collection[str],
    unsupported: Mapping[str, str],
) -> Iterator[Finding]:
    """Report every installed package, and whether its calls are captured.

    :param ways: How each library is captured in this process.
    :param seen: Providers with calls in the ledger.
    :param unsupported: Why the installed version of a library cannot be captured.
    """
    for name in INSTRUMENTS:
        version = version_of(name)
        if version is not None:
            how = ", ".join(sorted(ways.get(name, ()))) or "not captured here"
            if name not in {*ways, *unsupported} and not can_be_wrapped(name):
                how += ", and only LLM_COST_INSTRUMENT captures it"
            message = f"{version} (tested with {LIBRARIES[name]}): {how}."
            if name in unsupported:
                yield Finding(
                    "warn", f"client {name}", f"{message} {unsupported[name]}"
                )
            else:
                yield Finding("ok", f"client {name}", message)
    for sdk in SDKS:
        version = version_of(sdk.name)
        if version is not None:
            yield _check(sdk, version, ways, seen)
    yield from uncaptured(version_of, seen)


def _check(
    sdk: Sdk,
    version: str,
    ways: Mapping[str, Collection[str]],
    seen: Collection[str],
) -> Finding:
    name = f"SDK {sdk.name}"
    through = libraries_of(sdk)
    sends = f"{version} (tested with {sdk.tested}) sends through {_and(through)}"
    missing = [library for library in through if not ways.get(library)]
    if not missing:
        how = sorted({way for library in through for way in ways[library]})
        if not _only_wraps_others(sdk, how):
            return Finding("ok", name, f"{sends}, captured by {_and(how)}.")
        return Finding(
            "warn",
            name,
            f"{sends}, which is captured only by {_and(how)}. Wrap this SDK's client too,"
            " where it is created, or set LLM_COST_INSTRUMENT = True.",
        )
    fix = (
        f"{sends}, but nothing captures {_and(missing)} in this process. Set"
        f" LLM_COST_INSTRUMENT = True{_or_wrap(sdk, through)}"
    )
    if sdk.provider in seen:
        return Finding(
            "warn",
            name,
            f"{fix} The ledger has calls of {sdk.provider}: if this SDK made them, its"
            " client is already wrapped, and nothing is missing.",
        )
    if sdk.general:
        return Finding("warn", name, f"{fix} This only matters if it calls an LLM.")
    return Finding("error", name, fix)


def _or_wrap(sdk: Sdk, through: Collection[str]) -> str:
    """What else captures an SDK, as the end of a sentence, or as one of its own."""
    special = WAYS.get(sdk.package or sdk.name)
    if special is not None:
        return f". Otherwise: {special}"
    if not all(map(can_be_wrapped, through)):
        return ", the only way to capture it."
    return ", or wrap its client with llm_cost.wrap(client) where the app is created."


def _only_wraps_others(sdk: Sdk, how: Collection[str]) -> bool:
    """Whether only clients of other SDKs were wrapped."""
    others = {f"{WRAP_OF}{other.package or other.name}" for other in SDKS}
    return set(how) <= others - {f"{WRAP_OF}{sdk.package or sdk.name}"}


def libraries_of(sdk: Sdk) -> list[str]:
    """The libraries that an installed SDK sends through, according to its metadata."""
    required = {
        re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower()
        for line in importlib.metadata.requires(sdk.name) or ()
        if "extra" not in line.partition(";")[2]
    }
    through = [library for library in sdk.libraries if library in required][:1]
    through = through or list(sdk.libraries[:1])
    return through + [name for name in sdk.also if version_of(name) is not None]


def version_of(name: str) -> str | None:
    """The version of a package, ``None`` if it is not installed."""
    if name.partition(".")[0] in sys.stdlib_module_names:
        return platform.python_version()
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _and(names: Collection[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
