"""What does OpenRouter's ``/api/v1/models`` say? Prices are text, USD per token.

It passes on what the makers of models charge, so that its prices check those of others.
https://openrouter.ai/docs/api-reference/list-available-models
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ..entry import read_price
from ..meters import Malformed
from . import amount
from . import never_a_price
from . import ODD
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
_EACH: t.Final = {"web_search": "gateway_search", "request": "request"}
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
"""Whose own list prices these are, too; others are served by whoever is cheapest."""


def read(document: object) -> Sheet:
    """Read the whole answer, as JSON with ``parse_float=Decimal``.

    :raises ValueError: If it is not that answer.
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
    try:
        rates = _rates(pricing if isinstance(pricing, Mapping) else {})
        read_price(ident, rates, _ignore)
    except Malformed as error:
        sheet.refused.update(dict.fromkeys(names, str(error)))
        return
    except ODD as error:
        reason = f"its entry cannot be read: {error!r}"
        sheet.refused.update(dict.fromkeys(names, reason))
        return
    zeros = tuple(key for key, rate in rates.items() if rate == 0)
    if ident.endswith(":free"):
        sheet.models[names[0]] = [rates]
        return
    for name in names:
        if zeros:
            sheet.zeros[name] = zeros
        # Its own tools have a price at OpenRouter only.
        held = {
            key: rate
            for key, rate in rates.items()
            if rate and (name == names[0] or key not in _EACH.values())
        }
        if held:
            sheet.models[name] = [dict(held)]


def _rates(pricing: Mapping[str, t.Any]) -> dict[str, t.Any]:
    rates: dict[str, t.Any] = {}
    for field, given in pricing.items():
        key = _TOKENS.get(field) or _EACH.get(field)
        if key is None:
            continue
        # -1 stands for "it depends on the model that is chosen".
        if never_a_price(given):
            raise Malformed(f"{field} is {given}, which is no price")
        number = amount(given)
        if number is not None:
            rates[key] = tidy(number * 10**6 if field in _TOKENS else number)
    return rates


def _ignore(note: str) -> None:
    """Converted keys are known; a test says so."""
