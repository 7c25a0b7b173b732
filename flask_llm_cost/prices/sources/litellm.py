"""Read LiteLLM's ``model_prices_and_context_window.json`` (MIT).

Prices are USD per token. Some keys begin with the provider's name and some do not.
https://github.com/BerriAI/litellm
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping
from decimal import Decimal

from ..entry import ignore
from ..entry import read_price
from ..meters import LIMITS
from . import amount
from . import check_price
from . import litellm_variants as by_size
from . import Sheet
from . import tidy
from . import YUAN
from .bedrock_regions import price_regionally

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
"""LiteLLM's provider names that differ from ours; ``vertex_ai...`` is ``vertex``."""

_SUBSCRIPTIONS: t.Final = frozenset(
    ("chatgpt", "github_copilot", "microsoft_365_copilot", "codestral")
    + ("text-completion-codestral", "agentcore", "searxng", "duckduckgo")
)
"""Sold as a subscription or not at all: a price of 0 does not mean that calls are free."""

_EUROS: t.Final = frozenset(("ovhcloud", "scaleway"))
"""Providers whose list prices are in euros, and stand in LiteLLM's file as if in dollars:
https://www.scaleway.com/en/pricing/model-as-a-service/"""
_LOCAL: t.Final = frozenset(("ollama", "lemonade"))
_FREE: t.Final = (
    re.compile(r"openai/(omni|text)-moderation-"),
    re.compile(r"gemini/(gemma-|gemini-exp-|learnlm-)"),
    re.compile(r"zai/glm-4\.[57]-flash\Z"),
)
"""Models for which a price of 0 means free. Elsewhere, nobody has filled in the price."""

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
    ("video_generation", "output_cost_per_video_per_second"): "video_second",
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
_MILLION: t.Final = 10**6


def read(document: object) -> Sheet:
    """Read the whole file, parsed with ``parse_float=Decimal``.

    :raises ValueError: If it is not that file.
    """
    if not isinstance(document, Mapping):
        raise ValueError("LiteLLM's prices must be a JSON object")
    sheet = Sheet()
    rows: dict[str, list[_Row]] = {}
    sized: list[tuple[re.Match[str], Mapping[str, t.Any]]] = []
    for key, fields in document.items():
        if key == "sample_spec" or not isinstance(fields, Mapping):
            continue
        found = by_size.IMAGES.match(key)
        if found is not None:
            sized.append((found, fields))
        name, rank = model_name(key, fields)
        if found is not None or name is None:
            continue
        euros = fields["litellm_provider"] in _EUROS
        if euros or YUAN.match(str(fields.get("source"))):
            sheet.currencies[name] = "EUR" if euros else "CNY"
            continue
        with sheet.rejecting(name):
            entry = _Entry(sheet, name, fields).read()
            if entry is not None:
                rows.setdefault(name, []).append(_Row(name, rank, fields, entry))
    for name, found_rows in rows.items():
        _choose(sheet, name, found_rows)
    for found, fields in sized:
        name, _ = model_name(found["model"], fields)
        by_size.read_image_size(sheet, name, found, fields)
    by_size.fold_high_resolutions(sheet)
    sheet.replaced.extend(price_regionally(sheet.models))
    return sheet


class _Row:
    """One of the keys for a model."""

    def __init__(
        self, name: str, rank: int, fields: Mapping[str, t.Any], rates: dict[str, t.Any]
    ) -> None:
        theirs = str(fields.get("litellm_provider"))
        # Mantle is a regional endpoint, with a surcharge.
        own = (theirs != "bedrock_mantle") + (theirs == name.partition("/")[0])
        self.page = str(fields.get("source") or "")
        self.preference = (bool(self.page), own, rank)
        self.regional = theirs == "bedrock_mantle"
        self.rates = rates

    def surcharge(self, rates: dict[str, t.Any]) -> Decimal | None:
        """Return by how much all rates of a regional endpoint exceed the others."""
        factors = {
            tidy(self.rates[key] / rates[key])
            for key in ("input", "output")
            if self.rates.get(key) and rates.get(key)
        }
        return factors.pop() if self.regional and len(factors) == 1 else None


def _choose(sheet: Sheet, name: str, rows: list[_Row]) -> None:
    """Choose between keys for one model.

    Prefer the key that cites a price list, then that of the provider itself rather than of
    a part of it, then the one that names the provider. Keys that agree on input and output
    add to each other. The largest limit applies.
    """
    rows.sort(key=lambda row: row.preference, reverse=True)
    limits = {
        name: max(found)
        for name in LIMITS
        if (found := [row.rates.pop(name) for row in rows if name in row.rates])
    }
    chosen = dict(rows[0].rates)
    for row in rows[1:]:
        factor = row.surcharge(chosen)
        if factor is not None and factor != 1:
            chosen["multipliers"] = {"region.endpoint": factor}
            continue
        shared = [rate for rate in chosen if rate in row.rates]
        if any(chosen[rate] != row.rates[rate] for rate in shared):
            sheet.contradicted.setdefault(name, []).append(row.rates)
        if all(chosen[r] == row.rates[r] for r in shared if r in ("input", "output")):
            chosen = {**row.rates, **chosen}
    sheet.models[name] = [chosen | limits]
    if rows[0].page:
        sheet.pages[name] = rows[0].page


def model_name(key: str, fields: Mapping[str, t.Any]) -> tuple[str | None, int]:
    """Return our name of a model, and how explicit the key is.

    The name is ``None`` if the model has no price per call.
    """
    theirs = fields.get("litellm_provider")
    if not isinstance(theirs, str) or theirs in _SUBSCRIPTIONS:
        return None, 0
    ours = (
        "vertex" if theirs.startswith("vertex_ai") else _PROVIDERS.get(theirs, theirs)
    )
    prefixes = (f"{theirs}/", f"{ours}/", "vertex_ai/" if ours == "vertex" else "\0")
    for prefix in prefixes:
        if key.startswith(prefix):
            return f"{ours}/{key[len(prefix) :]}", 2
    # `bedrock/us-east-1/...` has provider bedrock_converse, too.
    if ours == "bedrock" and key.startswith("bedrock/"):
        return key, 1
    return f"{ours}/{key}", 1 if theirs == ours else 0


class _Entry:
    """Converts the entry of one model."""

    def __init__(self, sheet: Sheet, name: str, fields: Mapping[str, t.Any]) -> None:
        self._sheet = sheet
        self._name = name
        self._fields = fields
        self._mode = str(fields.get("mode"))
        self._free = _is_free(name)
        self._rates: dict[str, t.Any] = {}
        self._zeros: list[str] = []
        self._readers: dict[str, t.Callable[[t.Any], None]] = {
            "search_context_cost_per_query": self._read_search,
            "file_search_cost_per_1k_calls": self._read_file_search,
            "tiered_pricing": self._read_tiers,
            "off_peak_pricing": self._read_off_peak,
            "provider_specific_entry": self._read_specific,
        }

    def read(self) -> dict[str, t.Any] | None:
        """Return the entry, or ``None`` if it has no rates.

        :raises Malformed: If it is invalid. An unexpected shape raises other errors, see
            :data:`~.sources.UNEXPECTED_SHAPE`.
        """
        for field, value in self._fields.items():
            if field in self._readers:
                self._readers[field](value)
            elif by_size.RESOLUTION.match(field):
                self._read_resolution(field, value)
            elif field in _UPLIFTS:
                self._read_multiplier(_UPLIFTS[field], value)
            elif _BEARS_PRICE.search(field):
                self._read_rate(field, value)
        rates = self._rates
        by_size.add_resolutions(rates)
        _drop_repeats(rates)
        read_price(self._name, rates, ignore)
        # Two fields may set the same rate, and the other one may have a value.
        zeros = tuple(key for key in self._zeros if key not in rates)
        if zeros:
            self._sheet.zeros[self._name] = zeros
        if not rates.keys() - {"multipliers", "windows"}:
            return None
        limits = {name: amount(self._fields.get(name)) for name in LIMITS}
        return rates | {name: int(limit) for name, limit in limits.items() if limit}

    def _read_rate(self, field: str, value: object) -> None:
        if field == "input_cost_per_image" and self._billed_by_token():
            # An estimate for images in the input
            self._sheet.skip(field)
            return
        key, scale = rate_key(field, self._mode)
        if key is not None:
            check_price(field, value)
        number = amount(value)
        if key is None or number is None:
            self._sheet.skip(field)
            return
        self._sheet.read += 1
        # Some providers read caches for free. None is known to write them for free: there,
        # 0 means that a write costs the same as input.
        means_free = (self._free and scale == _MILLION) or "cache_read" in key
        if number == 0 and not means_free:
            self._zeros.append(key)
            return
        # If two fields set the same rate, the first one counts.
        self._rates.setdefault(key, tidy(number * scale))

    def _billed_by_token(self) -> bool:
        fields = ("output_cost_per_token", "output_cost_per_image_token")
        return any(amount(self._fields.get(field)) for field in fields)

    def _read_multiplier(self, name: str, value: object) -> None:
        factor = amount(value)
        if factor is None:
            self._sheet.skip(name)
            return
        self._sheet.read += 1
        self._rates.setdefault("multipliers", {})[name] = factor

    def _read_search(self, value: t.Any) -> None:
        sizes = value if isinstance(value, Mapping) else {}
        prices = {
            size: amount(sizes.get(f"search_context_size_{size}"))
            for size in ("low", "medium", "high")
        }
        by_size = len(set(prices.values())) > 1
        meter, default = self._search_meter(by_size)
        price = prices[default]
        if price is None:
            self._sheet.skip("search_context_cost_per_query")
            return
        self._sheet.read += 1
        if price:
            self._rates[meter] = tidy(price)
        # Perplexity's answers state the size, whether or not it matters.
        listed = by_size or self._name.startswith("perplexity/")
        for size, each in prices.items():
            if listed and each:
                self._add_variant(f"search_context.{size}", meter, each)

    def _search_meter(self, by_size: bool) -> tuple[str, str]:
        """Return what a search is billed by, and the default size of its context."""
        if self._name.startswith(("gemini/", "vertex/gemini")):
            per_query = self._fields.get("web_search_billing_unit") == "per_query"
            return "grounding" if per_query else "grounded_prompt", "medium"
        if self._name.startswith("perplexity/") and by_size:
            # A fee per request: https://docs.perplexity.ai/getting-started/pricing
            return "request", "low"
        return "web_search", "medium"

    def _read_resolution(self, field: str, value: object) -> None:
        found, price = by_size.RESOLUTION.match(field), amount(value)
        if found is None or not price:
            self._sheet.skip(field)
            return
        self._sheet.read += 1
        self._add_variant(f"resolution.{found[1]}", "video_second", price)

    def _add_variant(self, condition: str, meter: str, price: Decimal) -> None:
        variants = self._rates.setdefault("variants", {})
        variants.setdefault(condition, {})[meter] = tidy(price)

    def _read_file_search(self, value: t.Any) -> None:
        number = amount(value)
        if number:
            self._rates["file_search"] = tidy(number / 1000)
        self._sheet.read += 1

    def _read_tiers(self, value: t.Any) -> None:
        for tier in value if isinstance(value, list) else ():
            start = amount((tier.get("range") or [None])[0])
            if start is None or start % 1000:
                self._sheet.skip("tiered_pricing")
                continue
            above = f"_above_{int(start) // 1000}k" if start else ""
            for field, price in tier.items():
                meter, number = _TOKENS.get(field), amount(price)
                if field == "range":
                    continue
                if meter is None or number is None:
                    self._sheet.skip(f"tiered_pricing.{field}")
                    continue
                self._sheet.read += 1
                self._rates[f"{meter}{above}"] = tidy(number * _MILLION)

    def _read_off_peak(self, value: t.Any) -> None:
        # Weekdays in another time zone do not begin with the UTC day.
        if not isinstance(value, Mapping) or "weekday_timezone" in value:
            self._sheet.skip("off_peak_pricing")
            return
        prices: dict[str, t.Any] = {}
        for field, price in value.items():
            key, number = _TOKENS.get(field), amount(price)
            if key is not None and number is not None:
                prices[key] = tidy(number * _MILLION)
        self._rates["windows"] = [
            {
                "hours": window["hours_utc"],
                "weekdays": window.get("weekdays", []),
                **prices,
            }
            for window in value.get("windows", ())
        ]
        self._sheet.read += 1

    def _read_specific(self, value: t.Any) -> None:
        for name, factor in value.items() if isinstance(value, Mapping) else ():
            number = amount(factor)
            if name == "us" and number is not None:
                self._read_multiplier("region.us", number)
            elif name == "fast" and number is not None:
                self._sheet.read += 1
                for field, meter in _TOKENS.items():
                    price = amount(self._fields.get(field))
                    if price:
                        self._rates[f"fast_{meter}"] = tidy(price * number * _MILLION)
            else:
                self._sheet.skip(f"provider_specific_entry.{name}")


def rate_key(field: str, mode: str = "chat") -> tuple[str | None, int]:
    """Return the rate key that a field sets, and the factor to our unit."""
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


def _is_free(name: str) -> bool:
    provider = name.partition("/")[0]
    if provider in _LOCAL:
        return not name.endswith("-cloud")
    return any(pattern.match(name) for pattern in _FREE)


def _drop_repeats(rates: dict[str, t.Any]) -> None:
    """Drop reasoning rates that equal those of output, and entries that say nothing."""
    for key in [key for key in rates if "reasoning" in key]:
        if rates[key] == rates.get(key.replace("reasoning", "output")):
            del rates[key]
    # Nothing but cache reads at 0: nobody has filled in the prices.
    keys = rates.keys() - {"multipliers"}
    if not any(rates[key] for key in keys) and all("cache_read" in key for key in keys):
        rates.clear()
