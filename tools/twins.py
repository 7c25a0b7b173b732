"""Find prices that have to agree with another row of the same list, and do not.

If a page lists prices by the hour, all models that cite it have such prices. What has none was
not updated with the others. Plain names of Bedrock are in ``sources/bedrock_regions.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from decimal import Decimal

from flask_llm_cost.prices.sources import Sheet
from flask_llm_cost.prices.sources.bedrock_regions import PAGE

from .conflicts import Conflict
from .conflicts import Corrections


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
