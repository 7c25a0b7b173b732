"""Find prices that have to agree with another row of the same list, and do not.

- If a page lists prices by the hour, all models that cite it have such prices. What has none
  was not updated with the others.
- A provider in China that charges six to eight times what others charge for a model has its
  price in yuan.

Plain names of Bedrock are in ``sources/bedrock_regions.py``.
"""

from __future__ import annotations

import statistics
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from decimal import Decimal

from flask_llm_cost.prices.names import spelling
from flask_llm_cost.prices.sources import Sheet
from flask_llm_cost.prices.sources.bedrock_regions import PAGE

from .conflicts import Conflict
from .conflicts import Corrections
from .conflicts import Models
from .conflicts import Prices


def regional(
    replaced: Iterable[tuple[str, str, Decimal, Decimal]],
) -> Iterator[Conflict]:
    """Report the rates of plain names that are those of a region now."""
    why = f"served in one region: {PAGE}"
    for name, key, rate, used in replaced:
        found, instead = f"{rate:f}", f"{used:f}"
        yield Conflict(name, key, "region", found, instead, "replaced", why)


def outdated(sheet: Sheet, corrections: Corrections) -> Iterator[Conflict]:
    """Drop prices without windows that cite a page whose other prices have some."""
    by_the_hour = {
        sheet.pages.get(name)
        for name, prices in sheet.models.items()
        if "windows" in prices[0]
    }
    for name in sorted(sheet.models.keys() & sheet.pages.keys()):
        prices = sheet.models[name][0]
        if sheet.pages[name] not in by_the_hour or "windows" in prices:
            continue
        if name not in corrections.prices:
            found = f"{prices.get('input')}"
            why = f"its page has prices by the hour: {sheet.pages[name]}"
            yield Conflict(name, "", "old", found, None, "dropped", why)
            del sheet.models[name]


_IN_CHINA: t.Final = frozenset(
    "alibaba bigmodel deepseek minimax moonshot qwen_ai_platform streamlake tencent"
    " volcengine xiaomi_mimo zai".split()
)
_YUAN_PER_USD: t.Final = (Decimal(6), Decimal(8))


def in_yuan(models: Models) -> Iterator[Conflict]:
    """Drop prices in yuan that stand in the list as if they were in dollars."""
    elsewhere: dict[str, list[Prices]] = {}
    for name, prices in models.items():
        if name.partition("/")[0] not in _IN_CHINA:
            elsewhere.setdefault(_last(name), []).append(prices[-1])
    for name in sorted(models):
        others = elsewhere.get(_last(name), [])
        price = models[name][-1]
        if name.partition("/")[0] in _IN_CHINA and _is_in_yuan(price, others):
            found = f"{price['input']:f}"
            why = "six to eight times what others charge, as if in yuan"
            yield Conflict(name, "", "currency", found, None, "dropped", why)
            del models[name]


def _last(name: str) -> str:
    return spelling(name).rpartition("/")[2]


def _is_in_yuan(price: Prices, others: list[Prices]) -> bool:
    low, high = _YUAN_PER_USD
    for key in ("input", "output"):
        usual = [each[key] for each in others if each.get(key)]
        if not usual or not price.get(key):
            return False
        if not low <= price[key] / statistics.median(usual) <= high:
            return False
    return True
