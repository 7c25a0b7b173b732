"""Prices that depend on a size, a quality, a resolution or a search context."""

from __future__ import annotations

import json
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest

from flask_llm_cost import Cost
from flask_llm_cost import PriceFileError
from flask_llm_cost import Usage
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.explain import all_rates
from flask_llm_cost.prices.sources import litellm

DRAWING = {
    "image": 0.04,
    "variants": {
        "size.1024x1024": {"image": 0.04},
        "size.1792x1024": {"image": 0.08},
        "quality.hd size.1792x1024": {"image": 0.12},
    },
}


def cost(book: PriceBook, name: str, units: dict[str, str], *flags: str) -> Cost | None:
    provider, _, model = name.partition("/")
    usage = Usage(units={unit: Decimal(count) for unit, count in units.items()})
    return book.quote(provider, model, usage, flags=flags).cost


def usd(book: PriceBook, name: str, units: dict[str, str], *flags: str) -> str | None:
    found = cost(book, name, units, *flags)
    return None if found is None else f"{found.total_usd.normalize():f}"


@pytest.mark.parametrize(
    ("flags", "total"),
    [
        ((), "0.08"),
        (("size.1024x1024",), "0.08"),
        (("size.1792x1024",), "0.16"),
        (("size.1792x1024", "quality.hd"), "0.24"),
        (("size.1792x1024", "repeated", "region.us"), "0.16"),
    ],
)
def test_the_flags_of_a_call_choose_the_variant(
    flags: tuple[str, ...], total: str
) -> None:
    book = PriceBook.layered({"x/draw": DRAWING})
    assert usd(book, "x/draw", {"image": "2"}, *flags) == total


@pytest.mark.parametrize(
    "flags", [("size.9x9",), ("quality.hd",), ("size.1024x1024", "quality.hd")]
)
def test_an_unknown_variant_has_no_price(flags: tuple[str, ...]) -> None:
    book = PriceBook.layered({"x/draw": {**DRAWING, "request": 1}})
    found = cost(book, "x/draw", {"image": "2"}, *flags)
    assert found is not None
    assert (found.total_usd, found.complete) == (Decimal(1), False)
    assert (
        cost(PriceBook.layered({"x/draw": DRAWING}), "x/draw", {"image": "1"}, *flags)
        is None
    )


def test_multipliers_apply_to_variants_and_other_rates_stay() -> None:
    entry = {**DRAWING, "page": 2, "multipliers": {"region.us": 1.5}}
    book = PriceBook.layered({"x/draw": entry})
    units = {"image": "1", "page": "1"}
    assert usd(book, "x/draw", units, "size.1792x1024", "region.us") == "3.12"


def test_a_variant_has_rates_of_modes() -> None:
    rates = {"image": 2, "batch_image": 1}
    book = PriceBook.layered({"x/draw": {**DRAWING, "variants": {"size.1x1": rates}}})
    usage = Usage(units={"image": Decimal(1)})
    quote = book.quote("x", "draw", usage, mode="batch", flags=("size.1x1",))
    assert quote.cost is not None
    assert quote.cost.total_usd == 1


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ([], "variants must map conditions such as size.1024x1024 to rates"),
        ({"1024x1024": {"image": 1}}, "must name conditions, separated by spaces"),
        ({"size.": {"image": 1}}, "must name conditions"),
        ({"size.1x1": 0.04}, r"variants.size.1x1 must map to rates"),
        ({"size.1x1": {"image": -1}}, "image must be 0 or more"),
    ],
)
def test_invalid_variants_are_named(variants: object, message: str) -> None:
    with pytest.raises(PriceFileError, match=message):
        PriceBook.layered({"x/draw": {"variants": variants}})


def test_variants_are_listed_with_the_rates() -> None:
    found = PriceBook.layered({"x/draw": DRAWING}).find("x", "draw")
    assert found is not None
    rates = all_rates(found.price)
    assert rates["image if quality.hd size.1792x1024"] == Decimal("0.12")


# What sources know


def read(**document: dict[str, t.Any]) -> dict[str, t.Any]:
    text = json.dumps(
        {name.replace("__", "/"): each for name, each in document.items()}
    )
    sheet = litellm.read(json.loads(text, parse_float=Decimal))
    return {name: prices[0] for name, prices in sheet.models.items()}


def test_keys_by_size_are_read_as_one_model() -> None:
    def row(pixel: float) -> dict[str, t.Any]:
        return {
            "litellm_provider": "azure",
            "mode": "image_generation",
            "input_cost_per_pixel": pixel,
        }

    models = read(
        **{
            "azure__standard__1024-x-1024__dall-e-3": row(4.19617e-08),
            "azure__hd__1024-x-1792__dall-e-3": row(7.19343e-08),
        }
    )
    price = {"image": Decimal("0.044")}
    assert models == {
        "azure/dall-e-3": {
            **price,
            "variants": {
                "quality.standard size.1024x1024": price,
                "size.1024x1024": price,
                "quality.standard": price,
                "quality.hd size.1024x1792": {"image": Decimal("0.132")},
            },
        }
    }


def test_sizes_of_a_model_that_is_billed_by_token_are_estimates() -> None:
    row = {"litellm_provider": "openai", "mode": "image_generation"}
    models = read(
        **{
            "low__1024-x-1024__gpt-image-1": {**row, "input_cost_per_image": 0.011},
            "gpt-image-1": {**row, "output_cost_per_image_token": 4e-05},
        }
    )
    assert models == {"openai/gpt-image-1": {"output_image": Decimal(40)}}


def test_a_resolution_without_a_field_costs_the_base_rate() -> None:
    row = {
        "litellm_provider": "gemini",
        "mode": "video_generation",
        "output_cost_per_second": 0.4,
        "output_cost_per_second_4k": 0.6,
    }
    base = {"video_second": Decimal("0.4")}
    assert read(gemini__veo=row)["gemini/veo"]["variants"] == {
        "resolution.720p": base,
        "resolution.1080p": base,
        "resolution.4k": {"video_second": Decimal("0.6")},
    }


# The bundled prices


@pytest.mark.parametrize(
    ("name", "units", "flags", "total"),
    [
        ("openai/dall-e-3", {"image": "1"}, "size.1024x1024", "0.04"),
        ("openai/dall-e-3", {"image": "1"}, "size.1024x1024 quality.hd", "0.08"),
        ("openai/dall-e-3", {"image": "1"}, "size.1792x1024", "0.08"),
        ("openai/dall-e-3", {"image": "1"}, "size.1024x1792 quality.hd", "0.12"),
        ("openai/dall-e-3", {"image": "1"}, "", "0.04"),
        ("openai/dall-e-3", {"image": "1"}, "size.512x512", None),
        ("openai/dall-e-2", {"image": "2"}, "size.256x256", "0.032"),
        ("openai/dall-e-2", {"image": "1"}, "size.512x512", "0.018"),
        ("azure/dall-e-3", {"image": "1"}, "size.1792x1024 quality.hd", "0.132"),
        ("openai/sora-2-pro", {"video_second": "4"}, "size.1792x1024", "2"),
        ("openai/sora-2-pro", {"video_second": "4"}, "size.1280x720", "1.2"),
        ("gemini/veo-3.1-generate-preview", {"video_second": "8"}, "", "3.2"),
        (
            "vertex/veo-3.1-fast-generate-001",
            {"video_second": "8"},
            "resolution.1080p",
            "0.96",
        ),
        ("perplexity/sonar", {}, "", "0.005"),
        ("perplexity/sonar", {}, "search_context.medium", "0.008"),
        ("perplexity/sonar-pro", {}, "search_context.high", "0.014"),
    ],
)
def test_bundled_prices_by_size(
    name: str, units: dict[str, str], flags: str, total: str | None
) -> None:
    assert usd(PriceBook.bundled(), name, units, *flags.split()) == total


def test_a_sync_replaces_variants_as_a_whole(tmp_path: Path) -> None:
    from flask_llm_cost.prices.sync import sync

    path, source = tmp_path / "prices.json", tmp_path / "litellm.json"
    source.write_text(
        json.dumps(
            {
                "gemini/veo": {
                    "litellm_provider": "gemini",
                    "mode": "video_generation",
                    "output_cost_per_second": 0.4,
                    "output_cost_per_second_4k": 0.6,
                }
            }
        )
    )
    old = {"video_second": 0.4, "variants": {"resolution.8k": {"video_second": 2}}}
    path.write_text(json.dumps({"models": {"gemini/veo": old}}))
    plan = sync(path, {"litellm": str(source)})
    assert "gemini/veo: video_second if resolution.8k 2 -> none" in str(plan.lines)
    book = PriceBook.load(path)
    units = {"video_second": "1"}
    assert usd(book, "gemini/veo", units, "resolution.4k") == "0.6"
    assert usd(book, "gemini/veo", units, "resolution.8k") is None
