"""Normalize the names of providers, models and service tiers."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterable
from functools import lru_cache

from ..provider_names import provider_name as provider_name
from .meters import MODES

DIRECT_PROVIDERS: t.Final = frozenset(
    "openai anthropic gemini vertex azure bedrock mistral cohere watsonx writer alibaba"
    " bigmodel cerebras crusoe deepinfra deepseek fireworks groq hyperbolic jina minimax"
    " moonshot nebius novita nvidia perplexity sambanova snowflake together voyage xai"
    " zai".split()
)
"""Providers with their own price list. Any other name is a gateway or a local server,
where what a model costs elsewhere does not apply."""

_OWN_MODELS: t.Final = frozenset(
    "openai anthropic bigmodel gemini mistral cohere deepseek jina minimax moonshot voyage"
    " writer xai zai".split()
)
"""Providers that serve their own models only."""
_SAME_VENDOR: t.Final = {"gemini": "vertex"}


def may_borrow(provider: str, lender: str) -> bool:
    """Whether the bundled price of another provider may stand in for this provider's.

    What a reseller charges is not what the maker of a model charges.

    :param lender: The provider whose price it is.
    """
    if provider in _OWN_MODELS:
        return _SAME_VENDOR.get(provider) == lender
    return provider in DIRECT_PROVIDERS


_SNAPSHOTS: t.Final = (
    re.compile(r"(.+)-(?:\d{4}-\d{2}-\d{2}|\d{8})\Z", re.ASCII),
    # How OpenAI's completions API names the served model
    re.compile(r"(.+):(?:\d{4}-\d{2}-\d{2}|\d{8})-v\d\Z", re.ASCII),
    # Vertex AI and the Gemini API
    re.compile(r"(.+)@(?:\d{8}|default)\Z", re.ASCII),
    re.compile(r"((?:[^/]+/)*gemini-.+)-00\d\Z", re.ASCII),
    # A fine-tuned model is priced as `ft:` plus its base model.
    re.compile(r"((?:[^/]+/)?ft:[^:/]+):.*\Z"),
)
CACHE_SIZE: t.Final = 4096
"""Bounds the caches that are keyed by model names, which come from outside."""

_NO_FLAGS: t.Final[frozenset[str]] = frozenset()


def normalize_key(key: str) -> str:
    """Normalize the provider's case and spelling in a key; the model stays as it is."""
    head, slash, tail = key.partition("/")
    if not slash:
        return key
    if head.startswith("arn:") or tail.startswith("arn:"):
        # An inference profile, as it is given to boto3: its URL ends with its own name.
        return f"bedrock/{tail.rpartition('/')[2]}"
    return f"{provider_name(head)}/{tail}"


def spelling(key: str) -> str:
    """Return what keys have in common that spell one model differently.

    Lists write a version as ``3.5`` or ``3-5``, and Bedrock's with or without ``-v1:0``.
    """
    provider, slash, model = normalize_key(key).partition("/")
    if not slash:
        provider, model = "", provider
    model = _POINT.sub("-", model.lower())
    if provider == "bedrock":
        model = _FIRST_VERSION.sub("", model)
    return f"{provider}{slash}{model}"


_POINT: t.Final = re.compile(r"(?<=\d)\.(?=\d)")
_FIRST_VERSION: t.Final = re.compile(r"-v1(?::0)?\Z")


def candidate_keys(provider: str, model: str) -> tuple[str, ...]:
    """Return the keys that mean exactly this model, closest first."""
    names = [f"{provider}/{model}", model] if provider else [model]
    _, slash, last = model.rpartition("/")
    if slash and last:
        names += [f"{provider}/{last}", last] if provider else [last]
    return tuple(dict.fromkeys(names))


def strip_snapshots(names: Iterable[str]) -> tuple[str, ...]:
    """Return the base names of those that carry a snapshot date or version."""
    found = (form.match(name) for name in names for form in _SNAPSHOTS)
    return tuple(match[1] for match in found if match is not None)


def split_target(target: str, provider: str) -> tuple[str, str]:
    """Split an alias's target into provider and model; the provider is optional."""
    head, slash, tail = target.partition("/")
    return (provider_name(head), tail) if slash else (provider, target)


@lru_cache(maxsize=CACHE_SIZE)
def is_claude(provider: str, key: str) -> bool:
    """Whether Anthropic's rules for cache prices apply."""
    return provider.lower() == "anthropic" or "claude" in key.lower()


def regional_names(provider: str, model: str, flags: Iterable[str]) -> tuple[str, ...]:
    """Return the names of a model in the region of AWS that served a call.

    A profile's name determines its price, and Claude costs the same in all regions.
    """
    if _PROFILE.match(model) or is_claude(provider, model):
        return ()
    regions = (_AWS_REGION.match(flag) for flag in flags)
    return tuple(f"{found[1]}/{model}" for found in regions if found is not None)


_AWS_REGION: t.Final = re.compile(r"region\.([a-z]{2}-[a-z]+-\d)\Z")
_PROFILE: t.Final = re.compile(r"(?:us|eu|apac|jp|au|ca|in|sa|global|us-gov)\.|arn:")


def is_seen_as_text(key: str) -> bool:
    """Whether images, videos and documents have the rate of text.

    Google has one rate for these, and at most another one for audio. Its live sessions have
    other rates, and its embeddings are billed by the image and the frame:
    https://ai.google.dev/gemini-api/docs/pricing.
    """
    return _SEEN_AS_TEXT.match(key.lower()) is not None


_SEEN_AS_TEXT: t.Final = re.compile(
    r"(?:gemini|vertex)/gemini-(?!.*(?:live|audio|embed))"
)


def is_router(model: str | None) -> bool:
    """Whether a model's name stands for a choice among models, made call by call."""
    last = (model or "").lower().rpartition("/")[2].partition(":")[0]
    return last in ("auto", "router") or _ROUTER.search(last) is not None


_ROUTER: t.Final = re.compile(r"(?:^|-)(?:model-router|router$)")
"""``model-router`` is Azure's, whose versions have a date behind it."""


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
    # A commitment paid by the month: https://docs.anthropic.com/en/api/service-tiers
    ("anthropic", "priority"): "reserved",
}


def check_mode(mode: str | None) -> str | None:
    """Normalize a pricing mode; ``None`` is standard.

    :raises ValueError: If the mode is unknown.
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
    """Map a provider's served tier to a mode, and flags.

    The tier comes from outside, so an unknown value is flagged and never raises.
    """
    name = str(tier).strip().lower().removeprefix("service_tier_")
    if name in _STANDARD:
        return None, _NO_FLAGS
    mode = _OF_PROVIDER.get((provider, name)) or _SERVED.get(name, name)
    if mode not in MODES:
        return None, frozenset(("unknown_tier",))
    return mode, _NO_FLAGS
