"""Read genai-prices' ``data.json`` (MIT), which has history and retired models.

https://github.com/pydantic/genai-prices
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from decimal import Decimal

from ..entry import ignore
from ..entry import read_prices
from . import amount
from . import Sheet
from . import tidy
from . import YUAN

NAME: t.Final = "genai-prices"

_PROVIDERS: t.Final = {
    "aws": "bedrock",
    "google": "gemini",
    "moonshotai": "moonshot",
    "voyageai": "voyage",
    "x-ai": "xai",
}
_TOKENS: t.Final = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "output_audio_mtok": "output_audio",
    "input_image_mtok": "input_image",
    "output_image_mtok": "output_image",
    "input_video_mtok": "input_video",
    "output_video_mtok": "output_video",
    "cache_audio_read_mtok": "cache_read_audio",
    "cache_image_read_mtok": "cache_read_image",
    "output_reasoning_mtok": "reasoning",
    "output_citation_mtok": "output_citation",
}
_THOUSANDS: t.Final = {
    "requests_kcount": "request",
    "web_searches_kcount": "web_search",
}


def read(document: object) -> Sheet:
    """Read the whole file, parsed with ``parse_float=Decimal``.

    :raises ValueError: If it is not that file.
    """
    if not isinstance(document, list):
        raise ValueError("genai-prices' data must be a JSON list of providers")
    sheet = Sheet()
    for provider in document:
        if not isinstance(provider, Mapping):
            continue
        # Hugging Face passes calls on, and the name does not say which provider served.
        # Zhipu bills in yuan, with tiers, of which the list has the lowest in dollars.
        if str(provider.get("id", "")).startswith(("huggingface", "zhipuai")):
            continue
        if any(YUAN.match(str(page)) for page in provider.get("pricing_urls") or ()):
            continue
        for model in provider.get("models", ()):
            name = model.get("id") if isinstance(model, Mapping) else model
            with sheet.rejecting(f"{provider.get('id')}/{name}"):
                _read_model(sheet, str(provider["id"]), model)
    for alias in [alias for alias in sheet.aliases if alias in sheet.models]:
        del sheet.aliases[alias]
    return sheet


def _read_model(sheet: Sheet, theirs: str, model: Mapping[str, t.Any]) -> None:
    ident = str(model["id"])
    ours = _provider(theirs, ident)
    # `regional.`: served in one region, which is what Bedrock's plain names mean.
    ident = ident.removeprefix("regional.")
    name = f"{ours}/{ident}"
    prices = _prices(sheet, name, model.get("prices"))
    if not prices:
        return
    with sheet.rejecting(name):
        read_prices(name, prices, ignore)
        sheet.models[name] = prices
        for other in _other_names(model.get("match")):
            sheet.aliases.setdefault(f"{ours}/{other}", name)


def _provider(theirs: str, ident: str) -> str:
    # Google sells Anthropic's models through Vertex AI only.
    if theirs == "google" and ident.startswith("claude"):
        return "vertex"
    return _PROVIDERS.get(theirs, theirs)


def _prices(sheet: Sheet, name: str, given: object) -> list[dict[str, t.Any]]:
    listed: list[t.Any] = given if isinstance(given, list) else [{"prices": given}]
    prices: list[dict[str, t.Any]] = []
    for each in listed:
        constraint = each.get("constraint") or {}
        rates = _rates(sheet, name, each.get("prices") or {})
        # 0 for everything means that nobody has filled in the prices.
        if not any(rates.values()):
            continue
        if "start_time" in constraint and prices:
            prices[-1].setdefault("windows", []).append(
                {"hours": _hours(constraint), **rates}
            )
        elif "start_date" in constraint:
            prices.append({"valid_from": str(constraint["start_date"]), **rates})
        elif not constraint:
            prices.append(rates)
        else:
            sheet.skip(f"constraint {sorted(constraint)}")
    return prices


def _hours(constraint: Mapping[str, t.Any]) -> str:
    return f"{constraint['start_time'][:5]}-{constraint['end_time'][:5]}"


def _rates(sheet: Sheet, name: str, given: Mapping[str, t.Any]) -> dict[str, t.Any]:
    rates: dict[str, t.Any] = {}
    for field, price in given.items():
        for key, number in _values(name, field, price):
            if key is None or number is None:
                sheet.skip(field)
                continue
            rates[key] = number
    return rates


def _values(
    name: str, field: str, price: t.Any
) -> Iterator[tuple[str | None, Decimal | None]]:
    meter = _TOKENS.get(field)
    if meter is None:
        unit = _THOUSANDS.get(field)
        number = amount(price)
        if unit == "web_search" and name.startswith("gemini/"):
            old = name.startswith(("gemini/gemini-1", "gemini/gemini-2"))
            unit = "grounded_prompt" if old else "grounding"
        yield unit, None if number is None else tidy(number / 1000)
    elif isinstance(price, Mapping):
        yield meter, amount(price.get("base"))
        for tier in price.get("tiers", ()):
            start = amount(tier.get("start"))
            # xAI's tiers begin at 200,000 tokens, which is above 199,999 in our terms.
            if start is not None and start % 1000 == 999:
                start += 1
            if start is None or start % 1000:
                yield None, None
            else:
                yield f"{meter}_above_{int(start) // 1000}k", amount(tier.get("price"))
    else:
        yield meter, amount(price)


def _other_names(match: object) -> Iterator[str]:
    """Yield the names that a rule matches exactly, or as a prefix."""
    if not isinstance(match, Mapping):
        return
    for how, value in match.items():
        if how in ("equals", "starts_with"):
            # A prefix such as `ft:gpt-4o-mini-2024-` is not a name by itself.
            yield str(value).rstrip("-.")
        elif how == "or":
            for rule in value:
                yield from _other_names(rule)
