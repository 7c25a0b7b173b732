"""Read OpenRouter's ``/api/v1/models``. Prices are text, in USD per token.

OpenRouter passes on what the makers of models charge, so its prices can be compared with
theirs. https://openrouter.ai/docs/api-reference/list-available-models
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ..entry import ignore
from ..entry import read_price
from . import amount
from . import check_price
from . import Sheet
from . import tidy

NAME: t.Final = "openrouter"

_TOKENS: t.Final = {
    "prompt": "input",
    "completion": "output",
    "input_cache_read": "cache_read",
    "input_cache_write": "cache_write",
    "audio": "input_audio",
    "internal_reasoning": "reasoning",
}
_UNITS: t.Final = {"web_search": "gateway_search", "request": "request"}
_MAKERS: t.Final = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "gemini",
    "mistralai": "mistral",
    "deepseek": "deepseek",
    "x-ai": "xai",
    "cohere": "cohere",
    "perplexity": "perplexity",
}
"""Vendors whose models cost here what the maker charges. Others are served by whichever
provider is cheapest."""


def read(document: object) -> Sheet:
    """Read the whole response, parsed with ``parse_float=Decimal``.

    :raises ValueError: If it is not such a response.
    """
    models = document.get("data") if isinstance(document, Mapping) else None
    if not isinstance(models, list):
        raise ValueError("OpenRouter's models must be a JSON object with a list, data")
    sheet = Sheet()
    for model in models:
        if isinstance(model, Mapping) and isinstance(model.get("id"), str):
            _read_model(sheet, model["id"], model.get("pricing"))
    return sheet


def _read_model(sheet: Sheet, ident: str, pricing: object) -> None:
    names = [f"openrouter/{ident}"]
    vendor, _, model = ident.partition("/")
    # A variant (`:extended`, `:thinking`) has a price of its own.
    if vendor in _MAKERS and ":" not in model:
        names.append(f"{_MAKERS[vendor]}/{model}")
    with sheet.rejecting(*names):
        rates = _rates(pricing if isinstance(pricing, Mapping) else {})
        read_price(ident, rates, ignore)
        if ident.endswith(":free"):
            sheet.models[names[0]] = [rates]
            return
        zeros = tuple(key for key, rate in rates.items() if rate == 0)
        for name in names:
            if zeros:
                sheet.zeros[name] = zeros
            # OpenRouter's own tools are priced at OpenRouter only.
            priced = {
                key: rate
                for key, rate in rates.items()
                if rate and (name == names[0] or key not in _UNITS.values())
            }
            if priced:
                sheet.models[name] = [priced]


def _rates(pricing: Mapping[str, t.Any]) -> dict[str, t.Any]:
    rates: dict[str, t.Any] = {}
    for field, given in pricing.items():
        key = _TOKENS.get(field) or _UNITS.get(field)
        if key is None:
            continue
        # -1 means that the price depends on the model that is chosen.
        check_price(field, given)
        number = amount(given)
        if number is not None:
            rates[key] = tidy(number * 10**6 if field in _TOKENS else number)
    return rates
