"""Which client libraries and SDKs are installed, and whether their calls are captured."""

from __future__ import annotations

import importlib.metadata
import re
import typing as t
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass

from ..capture.clients import WRAP_OF
from ..checks import INSTRUMENTS
from .findings import Finding


@dataclass(frozen=True, slots=True)
class Sdk:
    """A package that calls LLMs, and the libraries that it sends through."""

    name: str
    """Its name on the package index."""
    tested: str
    """The versions it was tested with; empty if it cannot be captured."""
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
    instead: str = ""
    """Why it cannot be captured, and what to do."""


_GRPC: t.Final = "It uses gRPC, which is not captured"

LIBRARIES: t.Final[Mapping[str, str]] = {
    "requests": "2.34.2",
    "httpx": "0.28.1",
    "httpx2": "2.16.2",
    "aiohttp": "3.14.5",
    "botocore": "1.44.8",
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
    Sdk(
        "google-generativeai",
        "",
        "gemini",
        instead=f"{_GRPC}. Use its successor google-genai.",
    ),
    Sdk(
        "xai-sdk",
        "",
        "xai",
        instead=f"{_GRPC}. Use openai with base_url='https://api.x.ai/v1', or record its"
        " calls with llm_cost.track().",
    ),
    Sdk(
        "google-cloud-aiplatform",
        "",
        "vertex",
        general=True,
        instead=f"{_GRPC}. If the app calls models through it, use google-genai with"
        " vertexai=True, or record the calls with llm_cost.track().",
    ),
)


def look(
    ways: Mapping[str, Collection[str]], seen: Collection[str]
) -> Iterator[Finding]:
    """Report every installed package, and whether its calls are captured.

    :param ways: How each library is captured in this process.
    :param seen: Providers with calls in the ledger.
    """
    for name in INSTRUMENTS:
        version = version_of(name)
        if version is not None:
            how = ", ".join(sorted(ways.get(name, ()))) or "not captured here"
            message = f"{version} (tested with {LIBRARIES[name]}): {how}."
            yield Finding("ok", f"client {name}", message)
    for sdk in SDKS:
        version = version_of(sdk.name)
        if version is not None:
            yield _check(sdk, version, ways, seen)


def _check(
    sdk: Sdk,
    version: str,
    ways: Mapping[str, Collection[str]],
    seen: Collection[str],
) -> Finding:
    name = f"SDK {sdk.name}"
    if sdk.instead:
        status: t.Literal["warn", "error"] = "warn" if sdk.general else "error"
        return Finding(status, name, f"{version}. {sdk.instead}")
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
        " LLM_COST_INSTRUMENT = True, or wrap its client with llm_cost.wrap(client) where"
        " the app is created."
    )
    if sdk.provider in seen:
        return Finding(
            "warn",
            name,
            f"{fix} The ledger has calls of {sdk.provider}: if this SDK made them, its"
            " client is wrapped when it is created, and nothing is missing.",
        )
    if sdk.general:
        return Finding("warn", name, f"{fix} This only matters if it calls an LLM.")
    return Finding("error", name, fix)


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
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _and(names: Collection[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
