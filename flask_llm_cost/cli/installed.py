"""Which clients and SDKs are installed here, and is what they send captured?"""

from __future__ import annotations

import importlib.metadata
import re
import typing as t
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass

from ..capture.clients import WRAP_OF
from ..config import INSTRUMENTS


@dataclass(frozen=True, slots=True)
class Sdk:
    """A package that calls LLMs, and what it sends through."""

    name: str
    """As it is installed."""
    tested: str
    """With this version; empty where it cannot be captured."""
    provider: str = ""
    """Whom it calls; empty where that is anyone."""
    libraries: tuple[str, ...] = ()
    """What it may send through: the first one that it requires, as it says itself."""
    also: tuple[str, ...] = ()
    """What it sends through, too, where that is installed."""
    general: bool = False
    """Many apps have it for something else."""
    package: str = ""
    """As it is imported, if that is another name."""
    instead: str = ""
    """Why it cannot be captured, and what to do."""


_GRPC: t.Final = "It speaks gRPC, which is not captured"

LIBRARIES: t.Final[Mapping[str, str]] = {
    "requests": "2.34.2",
    "httpx": "0.28.1",
    "httpx2": "2.16.2",
    "aiohttp": "3.14.5",
    "botocore": "1.44.8",
}
"""Each library that can be captured, with the version that it was tested with."""

SDKS: t.Final = (
    Sdk("openai", "3.57.0 and 2.54.0", "openai", ("httpx2", "httpx")),
    Sdk("anthropic", "2.14.0", "anthropic", ("httpx2", "httpx")),
    Sdk(
        "google-genai",
        "3.6.1",
        "gemini",
        ("httpx2", "httpx"),
        ("aiohttp",),
        package="google",
    ),
    Sdk("mistralai", "3.7.0", "mistral", ("httpx2", "httpx")),
    Sdk("cohere", "7.3.1", "cohere", ("httpx",)),
    Sdk("groq", "1.7.0", "groq", ("httpx",)),
    Sdk("ollama", "0.6.3", "ollama", ("httpx",)),
    Sdk("litellm", "1.110.2", "", ("httpx",), ("aiohttp",)),
    Sdk("boto3", "1.44.8", "bedrock", ("botocore",), general=True),
    Sdk(
        "google-generativeai",
        "",
        "gemini",
        instead=f"{_GRPC}. Use google-genai, which took its place.",
    ),
    Sdk(
        "xai-sdk",
        "",
        "xai",
        instead=f"{_GRPC}. Use openai with base_url='https://api.x.ai/v1', or report its"
        " calls with llm_cost.track().",
    ),
    Sdk(
        "google-cloud-aiplatform",
        "",
        "vertex",
        general=True,
        instead=f"{_GRPC}. If the app asks models through it, use google-genai with"
        " vertexai=True, or report its calls with llm_cost.track().",
    ),
)


class Look(t.NamedTuple):
    """What was found of one package."""

    status: t.Literal["ok", "warn", "error"]
    name: str
    message: str


def look(ways: Mapping[str, Collection[str]], seen: Collection[str]) -> Iterator[Look]:
    """Every package that is installed, and what becomes of its calls.

    :param ways: How each library is captured in this process.
    :param seen: Providers whose calls the ledger has.
    """
    for name in INSTRUMENTS:
        version = version_of(name)
        if version is not None:
            how = ", ".join(sorted(ways.get(name, ()))) or "not captured here"
            yield Look(
                "ok",
                f"client {name}",
                f"{version} (tested with {LIBRARIES[name]}): {how}.",
            )
    for sdk in SDKS:
        version = version_of(sdk.name)
        if version is not None:
            yield _judged(sdk, version, ways, seen)


def _judged(
    sdk: Sdk,
    version: str,
    ways: Mapping[str, Collection[str]],
    seen: Collection[str],
) -> Look:
    name = f"SDK {sdk.name}"
    if sdk.instead:
        status: t.Literal["warn", "error"] = "warn" if sdk.general else "error"
        return Look(status, name, f"{version}. {sdk.instead}")
    through = libraries_of(sdk)
    said = f"{version} (tested with {sdk.tested}) sends through {_and(through)}"
    missing = [library for library in through if not ways.get(library)]
    if not missing:
        how = sorted({way for library in through for way in ways[library]})
        if _of_others(sdk, how):
            return Look(
                "warn",
                name,
                f"{said}, where nothing is captured but by {_and(how)}: wrap its client,"
                " too, where it is made, or set LLM_COST_INSTRUMENT = True.",
            )
        return Look("ok", name, f"{said}, captured by {_and(how)}.")
    fix = (
        f"{said}, and nothing captures {_and(missing)} in this process. Set"
        " LLM_COST_INSTRUMENT = True, or wrap its client, llm_cost.wrap(client), where the"
        " app is made."
    )
    if sdk.provider in seen:
        return Look(
            "warn",
            name,
            f"{fix} The ledger has calls of {sdk.provider}: if they are made with it, its"
            " client is captured when it is made, and all is well.",
        )
    if sdk.general:
        return Look("warn", name, f"{fix} Only matters if it calls an LLM.")
    return Look("error", name, fix)


def _of_others(sdk: Sdk, how: Collection[str]) -> bool:
    """Whether it was the clients of other SDKs that were wrapped, and no more."""
    others = {f"{WRAP_OF}{other.package or other.name}" for other in SDKS}
    return set(how) <= others - {f"{WRAP_OF}{sdk.package or sdk.name}"}


def libraries_of(sdk: Sdk) -> list[str]:
    """What an installed SDK sends through: what it requires of those it may use."""
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
