"""What OpenAI's names of line items mean."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping
from decimal import Decimal

from ..money import multiply
from .line import Kind
from .rates import bundled


class Item(t.NamedTuple):
    """What a line item is for. What its name does not say is ``None``."""

    kind: Kind = "usage"
    model: str | None = None
    meter: str | None = None
    mode: str | None = None
    tier: str | None = None


# Only "priority" was met as a prefix.
_TOKENS: t.Final = re.compile(
    r"(?:(?P<mode>priority|flex|batch) \| )?(?P<model>\S+)"
    r"(?: (?P<modality>text|image|audio))?, (?P<side>[a-z_ ]+?)(?P<long>, long context)?"
)
_SIDES: t.Final[Mapping[str, str]] = {
    "input": "input",
    "input_tokens": "input",
    "output": "output",
    "output_tokens": "output",
    "cached input": "cache_read",
    "cached_input_tokens": "cache_read",
    "input_cached_tokens": "cache_read",
    "cache writes": "cache_write",
    "input_cache_write_tokens": "cache_write",
}
_OTHERS: t.Final[tuple[tuple[re.Pattern[str], Item], ...]] = (
    (re.compile(r"web search tool calls?"), Item("tool_fee", meter="web_search")),
    (re.compile(r"(.+ \| )?file search( tool calls?)?"), Item("tool_fee")),
    (
        re.compile(r"(.+ \| )?code interpreter( sessions?)?"),
        Item("tool_fee", meter="code_interpreter"),
    ),
    (re.compile(r"vector (store )?storage|file storage"), Item("storage")),
)


def parse_item(name: str) -> Item:
    """Parse the name of a line item; one that is not known is usage of nothing named."""
    match = _TOKENS.fullmatch(name)
    meter = None if match is None else _SIDES.get(match["side"])
    if match is not None and meter is not None:
        if match["modality"] in ("image", "audio"):
            meter = f"{meter}_{match['modality']}"
        tier = "long_context" if match["long"] else None
        return Item("usage", _model(match["model"]), meter, match["mode"], tier)
    lower = name.lower()
    found = (item for form, item in _OTHERS if form.fullmatch(lower))
    return next(found, Item())


def _model(name: str) -> str:
    # A fine-tuned model is called `ft:` everywhere else.
    base = name.removeprefix("ft-")
    return (
        f"ft:{base}"
        if base != name and bundled().find("openai", f"ft:{base}")
        else name
    )


_UNITS: t.Final[Mapping[str, Decimal]] = {
    "tokens": Decimal(1),
    "1000_tokens": Decimal(1000),
    "images": Decimal(1),
    "characters": Decimal(1),
    "duration_seconds": Decimal(1),
    "duration_minutes": Decimal(60),
    "duration_hours": Decimal(3600),
    "gibibyte_hours": Decimal(1),
}


def in_our_units(quantity: Decimal | None, unit: object) -> Decimal | None:
    """Convert a quantity; ``None`` if its unit is not known."""
    factor = _UNITS.get(str(unit)) if unit is not None else Decimal(1)
    if quantity is None or factor is None:
        return None
    return multiply(quantity, factor)
