"""Which names mean one model, and which words one way of being served?"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterable
from functools import lru_cache

from .meters import MODES

_SYNONYMS: t.Final = {
    "google": "gemini",
    "googleai": "gemini",
    "vertex_ai": "vertex",
    "google-vertex": "vertex",
    "azure_ai": "azure",
    "azure_openai": "azure",
    "aws": "bedrock",
    "amazon_bedrock": "bedrock",
    "x-ai": "xai",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "dashscope": "alibaba",
    "voyageai": "voyage",
    "moonshotai": "moonshot",
    "zhipuai": "zai",
    "z-ai": "zai",
    "mistralai": "mistral",
}
"""Other spellings of provider names, as gateways and price lists have them."""

DIRECT: t.Final = frozenset(
    "openai anthropic gemini vertex azure bedrock mistral cohere watsonx writer alibaba"
    " cerebras crusoe deepinfra deepseek fireworks groq hyperbolic jina minimax moonshot"
    " nebius novita nvidia perplexity sambanova snowflake together voyage xai zai".split()
)
"""Who bills by a list of their own. Anyone else is a gateway or one's own machine: what
a model of some name costs elsewhere says nothing of it."""

_SNAPSHOTS: t.Final = (
    re.compile(r"(.+)-(?:\d{4}-\d{2}-\d{2}|\d{8})\Z", re.ASCII),
    # As OpenAI's completions name the model that served
    re.compile(r"(.+):(?:\d{4}-\d{2}-\d{2}|\d{8})-v\d\Z", re.ASCII),
    # As Vertex AI does, and the Gemini API
    re.compile(r"(.+)@(?:\d{8}|default)\Z", re.ASCII),
    re.compile(r"((?:[^/]+/)*gemini-.+)-00\d\Z", re.ASCII),
    # A fine-tuned model of one's own is priced as `ft:` and the model that it began as.
    re.compile(r"((?:[^/]+/)?ft:[^:/]+):.*\Z"),
)
CACHED: t.Final = 4096
"""So many names are remembered. They come from outside, so it is bounded."""


_NONE: t.Final[frozenset[str]] = frozenset()


def named(name: str) -> str:
    """A key as it is compared: providers in any case and spelling, models as they are."""
    head, slash, tail = name.partition("/")
    if not slash:
        return name
    head = head.lower()
    return f"{_SYNONYMS.get(head, head)}/{tail}"


def provider_name(name: str) -> str:
    """A provider as keys have it."""
    name = name.strip().lower()
    return _SYNONYMS.get(name, name)


def names_of(provider: str, model: str) -> tuple[str, ...]:
    """The keys that mean exactly this model, the closest first."""
    names = [f"{provider}/{model}", model] if provider else [model]
    _, slash, last = model.rpartition("/")
    if slash and last:
        names += [f"{provider}/{last}", last] if provider else [last]
    return tuple(dict.fromkeys(names))


def undated(names: Iterable[str]) -> tuple[str, ...]:
    """The names without their dates, of those that have one."""
    found = (form.match(name) for name in names for form in _SNAPSHOTS)
    return tuple(match[1] for match in found if match is not None)


def split(target: str, provider: str) -> tuple[str, str]:
    """The provider and model of an alias's target; without one, the provider stays."""
    head, slash, tail = target.partition("/")
    return (provider_name(head), tail) if slash else (provider, target)


@lru_cache(maxsize=CACHED)
def is_claude(provider: str, key: str) -> bool:
    """Is caching billed as Anthropic does?"""
    return provider.lower() == "anthropic" or "claude" in key.lower()


# Modes

_STANDARD: t.Final = frozenset(
    ("", "standard", "default", "auto", "on_demand", "standard_only", "1")
    + ("traffic_type_unspecified", "unspecified", "service_tier_unspecified")
)
_SERVED: t.Final = {
    "on_demand_priority": "priority",
    "on_demand_flex": "flex",
    "on_demand_offpeak": "off_peak",
    "provisioned_throughput": "provisioned",
    # Vertex AI's enum by number, as some clients store it
    "2": "provisioned",
    "performance": "optimized",
}
_OF_PROVIDER: t.Final = {
    # A commitment that is paid per month: https://docs.anthropic.com/en/api/service-tiers
    ("anthropic", "priority"): "reserved",
}


def check_mode(mode: str | None) -> str | None:
    """A pricing mode as the book knows it; ``None`` for standard.

    :raises ValueError: If there is no such mode.
    """
    if mode is None:
        return None
    name = str(mode).strip().lower()
    if name in ("", "standard", "default"):
        return None
    if name not in MODES:
        raise ValueError(
            f"pricing_mode must be standard or one of {', '.join(MODES)}, not {mode!r}"
        )
    return name


def served_mode(provider: str, tier: str) -> tuple[str | None, frozenset[str]]:
    """The mode of a tier that a provider says it served, and flags."""
    # From outside, or a dialect of an app's own: whatever it is, it is flagged.
    name = str(tier).strip().lower().removeprefix("service_tier_")
    if name in _STANDARD:
        return None, _NONE
    mode = _OF_PROVIDER.get((provider, name)) or _SERVED.get(name, name)
    if mode not in MODES:
        return None, frozenset(("unknown_tier",))
    return mode, _NONE
