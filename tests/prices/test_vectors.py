"""The predecessor's price cases hold, except those listed with a reason."""

from __future__ import annotations

import json
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest

from flask_llm_cost import Cost
from flask_llm_cost import Usage
from flask_llm_cost.prices.book import PriceBook
from flask_llm_cost.prices.layers import make_layer

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "pricing.json"

OTHERWISE = {
    # ":free is 0."
    "colon-variant": Decimal(0),
    # "Look-up: exact ... in overrides, then file, then bundled; then dated snapshot names"
    "layer-order-override-fuzzy-beats-file-exact": Decimal(9),
    # "Modes are a closed list"; case does not matter
    "mode-case-sensitive": Decimal("1.5"),
    # "Money is exact."
    "huge": Decimal(90_000_000),
    "rounding-total-vs-parts": Decimal("1e-8"),
}
REFUSED = {
    # "All counts int >= 0"
    "negative-input": "must be a whole number >= 0",
}
NOTHING = {
    # "An ambiguous name finds nothing", and neither does an empty one
    "empty-model",
}
USAGE = {
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_write_input_tokens": "cache_write_tokens",
}
SOURCES = {"pricing_overrides": "override", "prices_file": "file", "bundled": "bundled"}


def cases() -> list[t.Any]:
    if not VECTORS.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason="no ../shared"))]
    vectors = json.loads(VECTORS.read_bytes(), parse_float=Decimal)["vectors"]
    return [pytest.param(each, id=each["id"]) for each in vectors]


def price(case: dict[str, t.Any]) -> Cost | None:
    layers = case["layers"]
    book = PriceBook(
        [
            make_layer("override", layers["overrides"], "overrides"),
            make_layer("file", layers["file"], "file"),
            make_layer("bundled", layers["bundled"], "bundled"),
        ]
    )
    usage = Usage(**{USAGE.get(k, k): n for k, n in case["usage"].items()})
    return book.cost(case["provider"], case["model"], usage, mode=case["pricing_mode"])


@pytest.mark.parametrize("case", cases())
def test_a_case_of_the_predecessor_holds(case: dict[str, t.Any]) -> None:
    name = case["id"]
    if name in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name]):
            price(case)
        return
    cost = price(case)
    expected = case["expected"].get("cost")
    if name in NOTHING or (expected is None and name not in OTHERWISE):
        assert cost is None
        return
    assert cost is not None
    total = expected["total_cost"] if expected else None
    assert cost.total_usd == OTHERWISE.get(name, total)
    match = case["expected"].get("match")
    if match is not None and name not in OTHERWISE:
        assert (cost.source, cost.price_key) == (SOURCES[match["source"]], match["key"])
