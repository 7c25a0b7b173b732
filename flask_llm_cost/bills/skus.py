"""What the words in a cloud's names of meters and SKUs mean.

Clouds spell them differently (``Inp glbl``, ``InputTokenCount_Global``), but the words are
few. What no word says stays ``None``.
"""

from __future__ import annotations

import datetime as dt
import re
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from decimal import Decimal

from ..contract import METERS
from .line import Kind
from .sums import Key
from .sums import Scope


class Sku(t.NamedTuple):
    """What a meter's or SKU's name says."""

    kind: Kind = "usage"
    model: str | None = None
    meter: str | None = None
    mode: str | None = None
    tier: str | None = None
    region: str | None = None
    cache_ttl: str | None = None

    def key(
        self, span: Span, kind: Kind, name: str, currency: str, whose: Whose
    ) -> Key:
        """Return the key of a line for this SKU.

        :param kind: What the bill calls it. Of usage, the SKU knows more.
        """
        return Key(
            *span,
            self.kind if kind == "usage" else kind,
            name,
            currency,
            whose.scope,
            whose.provider,
            self.model,
            self.meter,
            self.mode,
            self.tier,
            self.region or whose.region,
            self.cache_ttl,
        )


class Whose(t.NamedTuple):
    """Who used a SKU, and where."""

    provider: str | None
    scope: Scope
    region: str | None = None


Span: t.TypeAlias = tuple[dt.datetime, dt.datetime]

_MEANINGS: t.Final[Mapping[str, tuple[str, str]]] = {
    word: (aspect, meaning)
    for aspect, meaning, words in (
        ("side", "input", "inp input in prompt"),
        ("side", "output", "outp output out opt outpt completion response"),
        ("cache", "cache_read", "cached cchd cacheread read hits caching"),
        ("cache", "cache_write", "cachewrite write writes"),
        ("medium", "audio", "audio aud speech"),
        ("medium", "image", "image img"),
        ("medium", "video", "video"),
        ("mode", "batch", "batch btch"),
        ("mode", "flex", "flex"),
        ("mode", "priority", "priority prty"),
        ("mode", "optimized", "optimized"),
        ("region", "global", "global glbl gl"),
        ("region", "datazone", "dzone dz datazone"),
        ("region", "regional", "regional regnl rgnl"),
        ("tier", "long_context", "long longco lctx"),
        ("ttl", "1h", "1h 1hr"),
        ("ttl", "5m", "5m 5min"),
        ("kind", "commitment", "provisioned ptu reserved commitment"),
        ("kind", "storage", "storage hosting"),
        ("kind", "tool_fee", "guardrail guardrails grounding search websearch"),
        ("kind", "session_fee", "session sessions runtime"),
        ("plain", "", "token tokens text txt count units unit 1k 1m k m shortco short"),
        ("plain", "", "predictions prediction online cache million standard thinking"),
        ("plain", "", "generate content mantle cross region regn mp modality co gb"),
    )
    for word in words.split()
}
_WORDS: t.Final = re.compile(r"\d+(?:\.\d+)+|[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+[a-z]*")
_TOKENS: t.Final = frozenset(("token", "tokens"))


def split_words(name: str) -> list[str]:
    """Return a name's words in lower case, also those written in CamelCase."""
    return [word.lower() for word in _WORDS.findall(name)]


def aspect_of(word: str) -> str | None:
    """Return what a word tells about a meter: its ``side``, ``region``, ..."""
    return _MEANINGS.get(word, (None, ""))[0]


def describe(words: Iterable[str], *, tokens: bool) -> Sku:
    """Return what the words mean, except for the model.

    :param tokens: Whether the unit says that tokens are counted.
    """
    words = list(words)
    told: dict[str, str] = {}
    for word in words:
        aspect, meaning = _MEANINGS.get(word, ("", ""))
        told.setdefault(aspect, meaning)
    kind = t.cast(Kind, told.get("kind", "usage"))
    counted = tokens or not _TOKENS.isdisjoint(words)
    meter = _meter(told) if counted and kind == "usage" else None
    return Sku(
        kind,
        meter=meter,
        mode=told.get("mode"),
        tier=told.get("tier"),
        region=told.get("region"),
        cache_ttl=told.get("ttl") if meter and meter.startswith("cache_w") else None,
    )


def _meter(told: Mapping[str, str]) -> str | None:
    base = told.get("cache") or told.get("side")
    if base is None:
        return None
    if base == "cache_write" and told.get("ttl") == "1h":
        base = "cache_write_1h"
    medium = told.get("medium")
    meter = base if medium is None else f"{base}_{medium}"
    return meter if meter in METERS else None


_UNIT: t.Final = re.compile(r"\s*([\d.,]*)\s*(k|m|thousand|million)?\b\s*(.*)", re.I)
_FACTORS: t.Final = {"k": 10**3, "thousand": 10**3, "m": 10**6, "million": 10**6}


def unit_factor(unit: str) -> Decimal | None:
    """Return how many things one pricing unit is: ``1K Tokens``, ``1000000 count``."""
    match = _UNIT.fullmatch(unit)
    digits = "" if match is None else match[1].replace(",", "").strip(".")
    if match is None or not re.fullmatch(r"(\d{1,12}(\.\d{1,6})?)?", digits):
        return None
    return Decimal(digits or 1) * _FACTORS.get((match[2] or "").lower(), 1)


_FAMILIES: t.Final = (
    "gemini gemma claude llama mistral mixtral ministral codestral magistral pixtral"
    " deepseek qwen grok kimi gpt jamba command imagen veo lyria embedding embeddings"
    " palm titan nova phi glm minimax dall sora whisper tts o1 o3 o4 chirp cohere"
).split()
_FAMILY: t.Final = re.compile(rf"\b(?:{'|'.join(_FAMILIES)})", re.IGNORECASE)
_SERVICES: t.Final = re.compile(
    r"bedrock|openai|foundry models|gemini|anthropic|claude|generative language"
    r"|generative ai|mistral|cohere",
    re.IGNORECASE,
)


def is_llm(service: str, name: str) -> bool:
    """Whether a line of a cloud's bill is for LLMs, by its service or its SKU."""
    if _SERVICES.search(service):
        return True
    shared = re.search(r"vertex|foundry|ai services|cognitive", service, re.IGNORECASE)
    return shared is not None and _FAMILY.search(name) is not None


def with_model(sku: Sku, model: str) -> Sku:
    """Return a SKU with its model. Embeddings have one side only."""
    meter = "input" if sku.meter is None and "embedding" in model else sku.meter
    return sku._replace(model=model, meter=meter)


def is_family(word: str) -> bool:
    """Whether a model's name begins with this word."""
    return word in _FAMILIES
