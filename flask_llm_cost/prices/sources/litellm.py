"""What does LiteLLM's ``model_prices_and_context_window.json`` say? (MIT)

Its prices are USD per token; some keys begin with a provider's name and some do not.
https://github.com/BerriAI/litellm
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping

from ..entry import read_price
from ..meters import Malformed
from . import amount
from . import never_a_price
from . import ODD
from . import Sheet
from . import tidy

NAME: t.Final = "litellm"

_PROVIDERS: t.Final = {
    "azure_ai": "azure",
    "azure_text": "azure",
    "bedrock_converse": "bedrock",
    "bedrock_mantle": "bedrock",
    "cohere_chat": "cohere",
    "dashscope": "alibaba",
    "fireworks_ai": "fireworks",
    "fireworks_ai-embedding-models": "fireworks",
    "jina_ai": "jina",
    "nvidia_nim": "nvidia",
    "text-completion-openai": "openai",
    "together_ai": "together",
    "vercel_ai_gateway": "vercel",
}
"""Their names of providers, where ours differ; ``vertex_ai...`` is ``vertex``."""

_SUBSCRIPTIONS: t.Final = frozenset(
    ("chatgpt", "github_copilot", "microsoft_365_copilot", "codestral")
    + ("text-completion-codestral", "agentcore", "searxng", "duckduckgo")
)
"""Sold by the month, or not sold at all: a price of 0 there says nothing of a call."""

_LOCAL: t.Final = frozenset(("ollama", "lemonade"))
_FREE: t.Final = (
    re.compile(r"openai/(omni|text)-moderation-"),
    re.compile(r"gemini/(gemma-|gemini-exp-|learnlm-)"),
    re.compile(r"zai/glm-4\.[57]-flash\Z"),
)
"""Where a price of 0 means free. Elsewhere it is one that nobody has filled in."""

_TOKENS: t.Final = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "input_cost_per_token_cache_hit": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "cache_creation_input_token_cost_above_12hr": "cache_write_12h",
    "input_cost_per_audio_token": "input_audio",
    "output_cost_per_audio_token": "output_audio",
    "input_cost_per_image_token": "input_image",
    "output_cost_per_image_token": "output_image",
    "input_cost_per_video_token": "input_video",
    "output_cost_per_video_token": "output_video",
    "output_cost_per_reasoning_token": "reasoning",
    "cache_read_input_audio_token_cost": "cache_read_audio",
    "cache_read_input_image_token_cost": "cache_read_image",
    "cache_creation_input_audio_token_cost": "cache_write_audio",
    "citation_cost_per_token": "output_citation",
}
_UNITS: t.Final = {
    "input_cost_per_request": "request",
    "output_cost_per_image": "image",
    "ocr_cost_per_page": "page",
    "annotation_cost_per_page": "annotated_page",
    "input_cost_per_audio_per_second": "input_audio_second",
    "input_cost_per_video_per_second": "input_video_second",
    "input_cost_per_character": "character",
    "output_cost_per_character": "output_character",
    "input_cost_per_pixel": "pixel",
    "output_cost_per_pixel": "output_pixel",
    "google_maps_grounding_cost_per_query": "maps_grounding",
    "code_interpreter_cost_per_session": "code_interpreter",
}
_UNITS_BY_MODE: t.Final = {
    ("rerank", "input_cost_per_query"): "search_unit",
    ("audio_transcription", "input_cost_per_second"): "audio_second",
    ("audio_transcription", "output_cost_per_second"): "audio_second",
    ("audio_speech", "output_cost_per_second"): "output_audio_second",
    ("video_generation", "output_cost_per_second"): "video_second",
    ("image_generation", "input_cost_per_image"): "image",
    ("image_edit", "input_cost_per_image"): "image",
    ("embedding", "input_cost_per_image"): "input_image_piece",
    ("chat", "input_cost_per_image"): "input_image_piece",
}
_SUFFIX: t.Final = re.compile(
    r"(?P<field>.+?)(?:_above_(?P<above>\d+)k_tokens)?"
    r"(?:_(?P<mode>batches|flex|priority|balanced|ultrafast))?\Z"
)
_UPLIFTS: t.Final = {
    "regional_processing_uplift_multiplier_eu": "region.eu",
    "regional_processing_uplift_multiplier_us": "region.us",
    "regional_endpoint_uplift_multiplier": "region.endpoint",
}
_BEARS_PRICE: t.Final = re.compile(r"cost|_pricing\Z|uplift")
_NO_TEXT_OUT: t.Final = frozenset(
    ("embedding", "rerank", "moderation", "ocr", "search")
)
_SIZED: t.Final = re.compile(r"(\d+-x-\d+|hd|standard|low|medium|high|max-steps)/")
_MILLION: t.Final = 10**6


def read(document: object) -> Sheet:
    """Read the whole file, as JSON with ``parse_float=Decimal``.

    :raises ValueError: If it is not that file.
    """
    if not isinstance(document, Mapping):
        raise ValueError("LiteLLM's prices must be a JSON object")
    sheet = _Sheet()
    ranks: dict[str, int] = {}
    for key, value in document.items():
        if key == "sample_spec" or not isinstance(value, Mapping):
            continue
        name, rank = named(key, value)
        if name is None:
            continue
        entry = sheet.entry(name, value)
        # Of two keys that mean one model, the one that names its provider.
        if entry is not None and rank > ranks.get(name, -1):
            ranks[name] = rank
            sheet.models[name] = [entry]
    return Sheet(
        models=sheet.models,
        unread=sheet.unread,
        read=sheet.count,
        refused=sheet.refused,
        zeros=sheet.zeros,
    )


def named(key: str, value: Mapping[str, t.Any]) -> tuple[str | None, int]:
    """Our name of a model, and how surely it is meant; ``None`` for what is not priced."""
    theirs = value.get("litellm_provider")
    if not isinstance(theirs, str) or theirs in _SUBSCRIPTIONS or _SIZED.match(key):
        return None, 0
    ours = (
        "vertex" if theirs.startswith("vertex_ai") else _PROVIDERS.get(theirs, theirs)
    )
    prefixes = (f"{theirs}/", f"{ours}/", "vertex_ai/" if ours == "vertex" else "\0")
    for prefix in prefixes:
        if key.startswith(prefix):
            rest = key[len(prefix) :]
            return (None, 0) if _SIZED.match(rest) else (f"{ours}/{rest}", 2)
    # `bedrock/us-east-1/...` has provider bedrock_converse, too.
    if ours == "bedrock" and key.startswith("bedrock/"):
        return key, 1
    return f"{ours}/{key}", 1 if theirs == ours else 0


class _Sheet:
    def __init__(self) -> None:
        self.models: dict[str, list[dict[str, t.Any]]] = {}
        self.unread: dict[str, int] = {}
        self.refused: dict[str, str] = {}
        self.zeros: dict[str, tuple[str, ...]] = {}
        self.nil: list[str] = []
        self.count = 0

    def skip(self, name: str) -> None:
        self.unread[name] = self.unread.get(name, 0) + 1

    def entry(self, name: str, value: Mapping[str, t.Any]) -> dict[str, t.Any] | None:
        self.nil = []
        try:
            rates = self._entry(name, value)
            read_price(name, rates, _ignore)
        except Malformed as error:
            self.refused[name] = str(error)
            return None
        except ODD as error:
            self.refused[name] = f"its entry cannot be read: {error!r}"
            return None
        # Two fields may mean one rate, of which the other one is filled in.
        nil = tuple(key for key in self.nil if key not in rates)
        if nil:
            self.zeros[name] = nil
        if not any(key not in ("multipliers", "windows") for key in rates):
            return None
        return rates

    def _entry(self, name: str, value: Mapping[str, t.Any]) -> dict[str, t.Any]:
        rates: dict[str, t.Any] = {}
        mode = str(value.get("mode"))
        free = _is_free(name, value)
        for field, given in value.items():
            if not _BEARS_PRICE.search(field) and field != "provider_specific_entry":
                continue
            if not self._special(name, rates, field, given, value):
                self._rate(rates, mode, field, given, free=free)
        _without_repeats(rates)
        return rates

    def _rate(
        self,
        rates: dict[str, t.Any],
        mode: str,
        field: str,
        given: object,
        *,
        free: bool,
    ) -> None:
        key, scale = rate_key(field, mode)
        number = amount(given)
        if key is not None and never_a_price(given):
            raise Malformed(f"{field} is {given}, which is no price")
        if key is None or number is None:
            self.skip(field)
            return
        self.count += 1
        if number == 0 and not (free and scale == _MILLION) and not _may_be_zero(key):
            self.nil.append(key)
            return
        # Two fields may mean one rate; the field listed first in a table goes first.
        rates.setdefault(key, tidy(number * scale))

    def _special(
        self,
        name: str,
        rates: dict[str, t.Any],
        field: str,
        given: t.Any,
        value: Mapping[str, t.Any],
    ) -> bool:
        if field in _UPLIFTS:
            self._uplift(rates, _UPLIFTS[field], given)
        elif field == "search_context_cost_per_query":
            self._search(name, rates, given)
        elif field == "file_search_cost_per_1k_calls":
            number = amount(given)
            if number:
                rates["file_search"] = tidy(number / 1000)
            self.count += 1
        elif field == "tiered_pricing":
            self._tiers(rates, given)
        elif field == "off_peak_pricing":
            self._off_peak(rates, given)
        elif field == "provider_specific_entry":
            self._specific(rates, given, value)
        else:
            return False
        return True

    def _uplift(self, rates: dict[str, t.Any], name: str, given: object) -> None:
        factor = amount(given)
        if factor is None:
            self.skip(name)
            return
        self.count += 1
        rates.setdefault("multipliers", {})[name] = factor

    def _search(self, name: str, rates: dict[str, t.Any], given: object) -> None:
        sizes = given if isinstance(given, Mapping) else {}
        # Medium is the default size of OpenAI's tool; most charge one price for all.
        price = amount(sizes.get("search_context_size_medium"))
        if price is None:
            self.skip("search_context_cost_per_query")
            return
        self.count += 1
        google = name.startswith(("gemini/", "vertex/gemini"))
        if price:
            rates["grounding" if google else "web_search"] = tidy(price)

    def _tiers(self, rates: dict[str, t.Any], given: object) -> None:
        for tier in given if isinstance(given, list) else ():
            start = amount((tier.get("range") or [None])[0])
            if start is None or start % 1000:
                self.skip("tiered_pricing")
                continue
            above = f"_above_{int(start) // 1000}k" if start else ""
            for field, price in tier.items():
                meter, number = _TOKENS.get(field), amount(price)
                if field == "range":
                    continue
                if meter is None or number is None:
                    self.skip(f"tiered_pricing.{field}")
                    continue
                self.count += 1
                rates[f"{meter}{above}"] = tidy(number * _MILLION)

    def _off_peak(self, rates: dict[str, t.Any], given: t.Any) -> None:
        # Weekdays of another zone do not begin when a UTC day does.
        if not isinstance(given, Mapping) or "weekday_timezone" in given:
            self.skip("off_peak_pricing")
            return
        prices: dict[str, t.Any] = {}
        for field, price in given.items():
            key, number = _TOKENS.get(field), amount(price)
            if key is not None and number is not None:
                prices[key] = tidy(number * _MILLION)
        rates["windows"] = [
            {
                "hours": window["hours_utc"],
                "weekdays": window.get("weekdays", []),
                **prices,
            }
            for window in given.get("windows", ())
        ]
        self.count += 1

    def _specific(
        self, rates: dict[str, t.Any], given: t.Any, value: Mapping[str, t.Any]
    ) -> None:
        for name, factor in given.items() if isinstance(given, Mapping) else ():
            number = amount(factor)
            if name == "us" and number is not None:
                self._uplift(rates, "region.us", number)
            elif name == "fast" and number is not None:
                self.count += 1
                for field, meter in _TOKENS.items():
                    price = amount(value.get(field))
                    if price:
                        rates[f"fast_{meter}"] = tidy(price * number * _MILLION)
            else:
                self.skip(f"provider_specific_entry.{name}")


def rate_key(field: str, mode: str = "chat") -> tuple[str | None, int]:
    """The rate key that a field means, and the factor to its unit."""
    found = _SUFFIX.match(field)
    if found is None:
        return None, 1
    base = found["field"]
    scale = _MILLION if base in _TOKENS else 1
    meter = _TOKENS.get(base) or _UNITS.get(base) or _UNITS_BY_MODE.get((mode, base))
    if meter is None:
        return None, 1
    kind = {"batches": "batch", None: ""}.get(found["mode"], found["mode"])
    above = f"_above_{found['above']}k" if found["above"] else ""
    return f"{f'{kind}_' if kind else ''}{meter}{above}", scale


def _is_free(name: str, value: Mapping[str, t.Any]) -> bool:
    provider = name.partition("/")[0]
    if provider in _LOCAL:
        return not name.endswith("-cloud")
    return any(pattern.match(name) for pattern in _FREE)


def _may_be_zero(key: str) -> bool:
    # Some read their caches for nothing. None is known to write them for nothing:
    # there, 0 means that a write has no price apart from the input's.
    return "cache_read" in key


def _without_repeats(rates: dict[str, t.Any]) -> None:
    """Leave out reasoning rates that are those of output."""
    for key in [key for key in rates if "reasoning" in key]:
        if rates[key] == rates.get(key.replace("reasoning", "output")):
            del rates[key]
    # Only cache reads, and nothing to read: an entry that nobody has filled in.
    if not any(rates[key] for key in rates if key != "multipliers") and all(
        "cache_read" in key for key in rates if key != "multipliers"
    ):
        rates.clear()


def _ignore(note: str) -> None:
    """Converted keys are known; a test says so."""
