"""What cannot be true in the sources, and what the bundle makes of it."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest

from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.layers import BUNDLED
from flask_llm_cost.prices.meters import parse_key
from flask_llm_cost.prices.names import spelling
from flask_llm_cost.prices.plausibility import doubts
from flask_llm_cost.prices.sources import Sheet
from tools import bundle_prices
from tools.conflicts import Conflict
from tools.conflicts import correct
from tools.conflicts import Corrections
from tools.conflicts import maker_names
from tools.conflicts import Outdated
from tools.conflicts import Published
from tools.conflicts import read_report
from tools.conflicts import settle

NOVEMBER = dt.datetime(2026, 11, 29, 12, tzinfo=dt.UTC)
NONE = Corrections({}, (), {})


def exact(rates: dict[str, t.Any]) -> dict[str, t.Any]:
    text = json.dumps(rates)
    return dict(json.loads(text, parse_float=Decimal, parse_int=Decimal))


def settled(
    models: dict[str, dict[str, t.Any]], corrections: Corrections = NONE
) -> tuple[dict[str, dict[str, t.Any]], list[Conflict]]:
    prices = {name: [exact(rates)] for name, rates in models.items()}
    conflicts = [*settle(prices, corrections)]
    return {name: each[0] for name, each in prices.items()}, conflicts


# What one price can be


@pytest.mark.parametrize(
    ("rates", "rule"),
    [
        ({"input": 3200, "output": 9710}, "range"),
        ({"input": 0.0000032, "output": 9.71}, "range"),
        ({"input": 100}, "range"),
        ({"image": 40}, "range"),
        ({"character": 15}, "range"),
        ({"input": 4, "output": 8, "batch_input": 2.5}, "batch"),
        ({"input": 4, "output": 8, "flex_output": 9}, "cheaper"),
        ({"input": 4, "output": 8, "cache_read": 5}, "cache_read"),
        ({"input": 4, "output": 8, "cache_write": 0.4}, "cache_write"),
        ({"input_audio": 32, "cache_write_audio": 0.4}, "cache_write"),
        ({"input": 5, "output": 0.15}, "output"),
        ({"image": 0.0011, "output_image": 120}, "image"),
        ({"image": 0.035, "output_image": 1.6}, "image"),
        ({"image": 0.134, "output_image": 120}, None),
        ({"input": 1.14285714286, "output": 4}, "digits"),
        ({"video_second": 0.143353}, "digits"),
        ({"input": 9.99999, "output": 50.00002}, None),
        ({"input": 1, "output": 8, "cache_write_above_200k": 0.1}, None),
        ({"input": 150, "output": 600, "batch_input": 75}, None),
        ({"input": 0.07, "output": 0.3, "batch_input": 0.03}, None),
        ({"input": 3, "cache_read": 0.3, "cache_write_1h": 6, "output": 15}, None),
        ({"input": 0, "output": 0, "cache_read": 0}, None),
        ({"input": 0.02}, None),
        ({"input": 2, "cache_read": 2, "batch_cache_read": 2, "output": 4}, None),
    ],
)
def test_a_rate_that_cannot_be_true_is_in_doubt(
    rates: dict[str, t.Any], rule: str | None
) -> None:
    found = doubts(
        {key: rate for name, rate in exact(rates).items() if (key := parse_key(name))}
    )
    assert {each.rule for each in found} == ({rule} if rule else set())


# What is decided


def test_the_price_of_a_read_is_moved_out_of_the_column_of_writes() -> None:
    models, conflicts = settled(
        {"x/m": {"input": 3.75, "output": 15, "cache_write": 1.875}}
    )
    assert models["x/m"] == exact({"input": 3.75, "output": 15, "cache_read": 1.875})
    assert [(each.rule, each.how) for each in conflicts] == [("cache_write", "moved")]


def test_a_batch_rate_follows_the_makers_discount() -> None:
    maker = {"input": 4, "output": 20, "batch_input": 2}
    cloud = {"input": 4.4, "output": 22, "batch_input": 2.75}
    models, conflicts = settled(
        {"anthropic/claude-x": maker, "vertex/claude-x@default": cloud}
    )
    assert models["vertex/claude-x@default"]["batch_input"] == Decimal("2.2")
    assert [each.how for each in conflicts] == ["replaced"]


def test_a_rate_off_by_a_digit_is_replaced_and_one_of_another_price_is_kept() -> None:
    maker = {"input": 4, "output": 16, "input_audio": 32, "cache_read": 0.4}
    models, conflicts = settled(
        {
            "openai/live": maker,
            "azure/live": {**maker, "cache_read": 4},
            "azure/eu/live": {**maker, "cache_read": 1},
        }
    )
    assert models["azure/live"]["cache_read"] == Decimal("0.4")
    assert models["azure/eu/live"]["cache_read"] == 1
    assert sorted(each.how for each in conflicts) == ["kept", "replaced"]


def test_without_anything_better_a_rate_is_dropped() -> None:
    models, conflicts = settled(
        {"x/m": {"input": 3200, "output": 9.7}, "x/n": {"image": 40}}
    )
    assert models == {"x/m": exact({"output": 9.7})}
    assert [each.used for each in conflicts] == [None, None]


def test_what_a_provider_publishes_is_kept() -> None:
    published = Published("xai/*", "batch_*", "a batch costs 80 %")
    rates = {"input": 2, "output": 6, "batch_input": 1.6, "batch_output": 4.8}
    models, conflicts = settled({"xai/grok": rates}, Corrections({}, (published,), {}))
    assert models["xai/grok"] == exact(rates)
    assert {each.identity for each in conflicts} == {("xai/*", "batch_*", "batch", "")}


def correction(**instead: str) -> Corrections:
    entry = {
        "rule": "scale",
        "instead_of": exact({k: Decimal(v).__int__() for k, v in instead.items()}),
        "rates": exact({"input": 3.2}),
        "published": "https://example.com/prices",
    }
    return Corrections(
        {"x/m": entry if instead else {**entry, "instead_of": {}}}, (), {}
    )


def test_a_correction_replaces_what_the_source_has() -> None:
    models = {"x/m": [exact({"input": 3200, "output": 9})]}
    (conflict,) = correct(models, correction(input="3200"))
    assert (conflict.found, conflict.used) == ("3200", "3.2")
    (price,) = models["x/m"]
    assert (price["input"], price["output"]) == (Decimal("3.2"), 9)
    assert (price["_source"], price["_notes"]) == (
        "manual",
        "https://example.com/prices",
    )


@pytest.mark.parametrize("found", [{}, {"input": 3}])
def test_a_correction_that_no_longer_fits_is_an_error(found: dict[str, int]) -> None:
    models = {"x/m": [exact(found)]} if found else {}
    with pytest.raises(Outdated, match="x/m"):
        list(correct(models, correction(input="3200")))


def test_an_entry_that_a_source_has_in_the_meantime_is_looked_at_again() -> None:
    with pytest.raises(Outdated, match="x/m is corrected, but the sources have"):
        list(correct({"x/m": [exact({"input": 3})]}, correction()))


def test_the_maker_of_a_clouds_model_is_known() -> None:
    assert "openai/gpt-4o" in [*maker_names("azure/eu/gpt-4o")]
    assert "anthropic/claude-opus-4-5" in [
        *maker_names("bedrock/us.anthropic.claude-opus-4-5-20251101-v1:0")
    ]
    assert "gemini/gemini-2.5-pro" in [*maker_names("vertex/gemini-2.5-pro")]


# Two sources


def combined(
    current: dict[str, dict[str, t.Any]], past: dict[str, list[dict[str, t.Any]]]
) -> bundle_prices.Bundle:
    sheets = [
        Sheet(models={name: [exact(each)] for name, each in current.items()}),
        Sheet(models={n: [_dated(each) for each in p] for n, p in past.items()}),
    ]
    return bundle_prices.combine(
        *sheets,
        NONE,
        current_date=dt.date(2026, 11, 22),
        past_date=dt.date(2026, 8, 21),
    )


def _dated(rates: dict[str, t.Any]) -> dict[str, t.Any]:
    since = {"valid_from": rates["valid_from"]} if "valid_from" in rates else {}
    return {**since, **exact({k: v for k, v in rates.items() if k != "valid_from"})}


def test_two_spellings_of_a_model_get_one_price() -> None:
    bundle = combined(
        {
            "azure/Phi-4": {"input": 0.125, "output": 0.5},
            "bedrock/anthropic.claude-opus-4-7": {"input": 5, "output": 25},
            "bedrock/anthropic.claude-opus-4-5-20251101-v1:0": {"output": 25},
        },
        {
            "azure/phi-4": [{"input": 0.07, "output": 0.14}],
            "bedrock/anthropic.claude-opus-4-7-v1:0": [{"input": 5.5, "output": 27.5}],
            "bedrock/anthropic.claude-opus-4-5-v1:0": [{"output": 27.5}],
        },
    )
    assert len(bundle.models) == 3
    assert bundle.aliases == {
        "azure/phi-4": "azure/Phi-4",
        "bedrock/anthropic.claude-opus-4-7-v1:0": "bedrock/anthropic.claude-opus-4-7",
        "bedrock/anthropic.claude-opus-4-5-v1:0": (
            "bedrock/anthropic.claude-opus-4-5-20251101-v1:0"
        ),
    }
    assert {each.rule for each in bundle.conflicts} == {"sources"}


def test_a_rise_that_was_announced_and_taken_back_is_dropped() -> None:
    before, after = {"input": 2, "output": 10}, {"input": 3, "output": 15}
    bundle = combined(
        {"anthropic/claude-sonnet-5": before},
        {
            "anthropic/claude-sonnet-5": [
                before,
                {"valid_from": "2026-09-01", **after},
            ],
            "openrouter/anthropic/claude-sonnet-5": [
                before,
                {"valid_from": "2026-09-01", **after},
            ],
        },
    )
    for prices in bundle.models.values():
        assert [price["input"] for price in prices] == [2]
    assert {each.rule for each in bundle.conflicts} == {"announced"}


# The report, and what is bundled


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook.bundled()


@pytest.fixture
def copies() -> list[str]:
    shared = Path(__file__).resolve().parents[3] / "shared" / "prices"
    if not shared.exists():
        pytest.skip("no ../shared")
    return [
        f"--litellm={shared / 'litellm.json.gz'}",
        f"--genai={shared / 'genai-prices.json.gz'}",
    ]


def test_the_bundled_file_is_plausible(capsys: pytest.CaptureFixture[str]) -> None:
    assert bundle_prices.main(["--check"]) == 0
    assert "0 of them not in price_conflicts.json" in capsys.readouterr().out


def test_the_stored_copies_have_no_conflict_that_is_not_in_the_report(
    copies: list[str],
) -> None:
    assert bundle_prices.main(["--check", *copies]) == 0


def test_a_new_implausible_price_fails_the_check(
    copies: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(copies[0].partition("=")[2])
    document = json.loads(gzip.decompress(path.read_bytes()))
    document["gpt-4o"]["input_cost_per_token"] = 0.0025
    changed = tmp_path / "litellm.json"
    changed.write_text(json.dumps(document))
    arguments = ["--check", f"--litellm={changed}", copies[1]]
    assert bundle_prices.main(arguments) == 1
    assert "openai/gpt-4o: input 2500: range" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("openai/gpt-4o", {"input": "2500"}),
        ("openai/gpt-4o", {"max_output_tokens": 20_000_000}),
        ("gemini/gemini-3-pro-image", {"image": "0.0011"}),
        ("zai/glm-5.3", {"input": "0.571428571429"}),
        ("zai/glm-4.6", {"input": "4", "output": "14"}),
        ("bedrock/anthropic.claude-opus-4-7", {"input": "5", "output": "25"}),
        ("openai/dall-e-3", {"variants": {"quality.hd": {"image": "80"}}}),
        (
            "deepseek/deepseek-v4-pro",
            {"windows": [{"hours": "1:00-2:00", "input": "600"}]},
        ),
    ],
)
def test_an_implausible_price_in_the_file_fails_the_check(
    name: str, changed: dict[str, t.Any], tmp_path: Path
) -> None:
    document = json.loads(BUNDLED.read_bytes())
    entry = document["models"][name]
    (entry[-1] if isinstance(entry, list) else entry).update(changed)
    path = tmp_path / "bundled.json"
    path.write_text(json.dumps(document))
    assert bundle_prices.main(["--check", "--output", str(path)]) == 1


def test_copies_are_given_both_or_none(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--check", "--litellm=x"]):
        with pytest.raises(SystemExit):
            bundle_prices.main(arguments)
    assert "give copies of both sources" in capsys.readouterr().err


def test_the_report_names_what_was_wrong() -> None:
    known = {(model, rate) for model, rate, _, _ in read_report()}
    assert ("azure/jais-30b-chat", "input") in known
    assert ("vertex/claude-opus-5-5", "batch_input") in known
    assert ("openrouter/anthropic/claude-sonnet-5", "input") in known


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("azure/jais-30b-chat", {"input": "3.2", "output": "9.71"}),
        ("watsonx/core42/jais-13b-chat", {"input": "1.8", "output": "1.8"}),
        ("cohere/embed-multilingual-light-v3.0", {"input": "0.1"}),
        ("vertex/claude-opus-5-5", {"batch_input": "2", "batch_output": "10"}),
        ("openai/ft:gpt-4o-2024-11-20", {"cache_read": "1.875"}),
        ("openrouter/anthropic/claude-sonnet-5", {"input": "2", "output": "10"}),
        ("bedrock/anthropic.claude-opus-4-7-v1:0", {"input": "5.5", "output": "27.5"}),
        ("bedrock/anthropic.claude-opus-4-7", {"input": "5.5", "output": "27.5"}),
        ("bedrock/anthropic.claude-opus-4-5-v1:0", {"input": "5.5", "output": "27.5"}),
        ("bedrock/global.anthropic.claude-opus-4-7", {"input": "5", "output": "25"}),
        ("bedrock/amazon.nova-2-lite-v1:0", {"input": "0.33", "output": "2.75"}),
        ("gemini/gemini-3-pro-image", {"image": "0.134", "output_image": "120"}),
        ("gemini/gemini-3.1-flash-image", {"image": "0.0672"}),
        ("zai/glm-4.7", {"input": "0.6", "output": "2.2"}),
        ("zai/GLM-5.2", {"input": "1.4", "output": "4.4"}),
        ("azure/phi-4", {"input": "0.125", "output": "0.5"}),
        ("openai/gpt-realtime", {"cache_read_audio": "0.4"}),
        ("vertex/gemini-2.5-flash-lite", {"batch_input_audio": "0.15"}),
        ("mistral/ministral-8b", {"output": "0.1"}),
        ("azure/gpt-5.5", {"batch_input": "2.5", "priority_input": "12.5"}),
    ],
)
def test_what_was_wrong_is_right(
    book: PriceBook, name: str, rates: dict[str, str]
) -> None:
    provider, _, model = name.partition("/")
    found = book.find(provider, model, at=NOVEMBER)
    assert found is not None
    listed = {str(key): rate for key, rate in found.price.rates.items()}
    assert {key: f"{listed[key].normalize():f}" for key in rates} == rates


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-oss-120b"),
        ("deepseek", "deepseek-v3.1-terminus"),
        ("zai", "GLM-4-Plus"),
        ("scaleway", "glm-5.2"),
        ("bigmodel", "glm-5.3"),
        ("volcengine", "doubao-seed-2-1-pro-260628"),
        ("eu_jev", "eu-jeff-latest"),
        ("fireworks", "accounts/fireworks/models/SSD-1B"),
    ],
)
def test_no_price_is_better_than_a_wrong_one(
    book: PriceBook, provider: str, model: str
) -> None:
    assert book.find(provider, model, at=NOVEMBER) is None


@pytest.mark.parametrize(
    ("at", "rates"),
    [
        ("2025-09-01T12:00Z", ("0.27", "1.1")),
        ("2025-09-01T20:00Z", ("0.135", "0.55")),
        ("2025-12-01T20:00Z", ("0.28", "0.42")),
        ("2026-06-01T20:00Z", ("0.14", "0.28")),
        ("2026-11-27T02:00Z", ("0.3", "1.2")),
        ("2026-11-29T02:00Z", ("0.15", "0.6")),
    ],
)
def test_deepseek_has_its_history_and_its_hours(
    book: PriceBook, at: str, rates: tuple[str, str]
) -> None:
    from flask_llm_cost import Usage

    usage = Usage(input_tokens=1, output_tokens=1)
    cost = book.cost(
        "deepseek", "deepseek-chat", usage, at=dt.datetime.fromisoformat(at)
    )
    assert cost is not None
    parts = cost.parts["input"].rate, cost.parts["output"].rate
    assert parts == tuple(map(Decimal, rates))


def test_no_two_bundled_keys_are_one_model() -> None:
    keys = json.loads(BUNDLED.read_bytes())["models"]
    assert len({spelling(key) for key in keys}) == len(keys)
