"""The most tokens that a request can have: a setting of an entry, not a rate."""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest

from flask_llm_cost import PriceFileError
from flask_llm_cost import Usage
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.explain import explain
from flask_llm_cost.prices.layers import BUNDLED
from flask_llm_cost.prices.plausibility import implausible_limits
from flask_llm_cost.prices.plausibility import plausible_limits
from flask_llm_cost.prices.sources import litellm
from flask_llm_cost.prices.sync import sync
from tools.conflicts import Corrections
from tools.conflicts import settle

NOVEMBER = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
MODEL = "openai/limited"


def limits_of(book: PriceBook, name: str, at: dt.datetime = NOVEMBER) -> dict[str, int]:
    found = book.find(*name.split("/", 1), at)
    assert found is not None
    return found.price.limits


def write(path: Path, entry: t.Any, model: str = MODEL) -> Path:
    path.write_text(json.dumps({"models": {model: entry}}))
    return path


def test_an_entry_can_set_limits(tmp_path: Path) -> None:
    entry = {
        "input": 1,
        "output": 2,
        "max_input_tokens": 9000,
        "max_output_tokens": "80",
    }
    book = PriceBook.load(write(tmp_path / "p.json", entry))
    found = book.find("openai", "limited")
    assert found is not None
    assert found.price.max_input_tokens == 9000
    assert found.price.max_output_tokens == 80
    assert "max_output_tokens: 80" in str(explain(book, "openai", "limited"))


@pytest.mark.parametrize("value", [0, -1, 1.5, "many", None, True, [1], "Infinity"])
@pytest.mark.parametrize("name", ["max_input_tokens", "max_output_tokens"])
def test_a_limit_is_a_whole_number_above_0(
    name: str, value: object, tmp_path: Path
) -> None:
    path = write(tmp_path / "p.json", {"input": 1, name: value})
    with pytest.raises(PriceFileError, match=f"{MODEL}: {name} must be"):
        PriceBook.load(path)


def test_limits_alone_are_no_price(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", {"max_output_tokens": 10})
    with pytest.raises(PriceFileError, match="has no rates"):
        PriceBook.load(path)


def test_a_price_of_ones_own_keeps_the_models_limits() -> None:
    bundled = limits_of(PriceBook.bundled(), "openai/gpt-4o")
    assert bundled == {"max_input_tokens": 128000, "max_output_tokens": 16384}
    book = PriceBook.layered({"openai/gpt-4o": {"input": 1, "output": 2}})
    assert limits_of(book, "openai/gpt-4o") == bundled
    own = {"input": 1, "output": 2, "max_output_tokens": 500}
    book = PriceBook.layered({"openai/gpt-4o": own})
    assert limits_of(book, "openai/gpt-4o") == {**bundled, "max_output_tokens": 500}
    cost = book.cost("openai", "gpt-4o", Usage(input_tokens=1_000_000))
    assert cost is not None
    assert cost.total_usd == 1


def test_the_bundled_limits_can_be_true() -> None:
    models = json.loads(BUNDLED.read_bytes())["models"]
    prices = [
        price
        for entry in models.values()
        for price in (entry if isinstance(entry, list) else [entry])
    ]
    assert not [each for price in prices for each in implausible_limits(price)]
    assert sum("max_output_tokens" in price for price in prices) > 3000


def test_earlier_prices_of_a_model_have_its_limits() -> None:
    book = PriceBook.bundled()
    entry = book.entries()["openai/gpt-5.6-sol"][1]
    assert len(entry.prices) > 1
    assert len({price.max_output_tokens for price in entry.prices}) == 1


@pytest.mark.parametrize(
    ("price", "doubtful"),
    [
        ({"max_input_tokens": 8_192, "max_output_tokens": 16_384}, set()),
        ({"max_output_tokens": 16_384}, set()),
        ({"max_input_tokens": 4_000, "max_output_tokens": 50_000}, {"output"}),
        ({"max_output_tokens": 10_000_000}, {"output"}),
        ({"max_output_tokens": 0}, {"output"}),
        ({"max_input_tokens": 30_000_000}, {"input"}),
        ({"max_input_tokens": 200_000, "input_above_200k": "6"}, {"input"}),
        ({"max_input_tokens": 1_000_000, "input_above_200k": "6"}, set()),
    ],
)
def test_a_limit_that_cannot_be_true_is_dropped(
    price: dict[str, t.Any], doubtful: set[str]
) -> None:
    names = {f"max_{side}_tokens" for side in doubtful}
    assert {name for name, _ in implausible_limits(price)} == names
    assert not plausible_limits(price).keys() & names
    given = {"input": Decimal(3), "output": Decimal(15)}
    numbers = {k: Decimal(v) if "above" in k else v for k, v in price.items()}
    models = {"openai/m": [{**given, **numbers}]}
    conflicts = [*settle(models, Corrections({}, (), {}))]
    assert {each.rate for each in conflicts if each.rule == "limit"} == names
    assert not models["openai/m"][0].keys() & names


def row(**fields: object) -> dict[str, object]:
    return {
        "litellm_provider": "openai",
        "mode": "chat",
        "input_cost_per_token": Decimal("0.000002"),
        "output_cost_per_token": Decimal("0.000008"),
        **fields,
    }


def test_of_two_keys_for_a_model_the_larger_limit_applies() -> None:
    document = {
        "limited": row(max_output_tokens=100, source="https://openai.com"),
        "openai/limited": row(max_output_tokens=300, max_input_tokens=0),
    }
    sheet = litellm.read(document)
    assert sheet.models[MODEL][0]["max_output_tokens"] == 300
    assert "max_input_tokens" not in sheet.models[MODEL][0]
    assert not sheet.contradicted


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_sync_writes_and_keeps_limits(suffix: str, tmp_path: Path) -> None:
    path, source = tmp_path / f"prices.{suffix}", tmp_path / "litellm.json"
    lists: dict[str, t.Any] = {
        "limited": row(max_input_tokens=9000, max_output_tokens=80),
        "other": row(max_output_tokens=99_000_000),
    }

    def run(**options: t.Any) -> None:
        source.write_text(json.dumps(lists, default=str))
        sync(path, {"litellm": str(source)}, **options)

    run(add=["openai/*"], now=NOVEMBER)
    expected = {"max_input_tokens": 9000, "max_output_tokens": 80}
    assert limits_of(PriceBook.load(path), MODEL) == expected
    assert limits_of(PriceBook.load(path), "openai/other") == {}
    # The list has lost one of them, and raised the other.
    lists["limited"] = row(
        max_output_tokens=90, input_cost_per_token=Decimal("0.000003")
    )
    later = NOVEMBER + dt.timedelta(days=1)
    run(now=later)
    expected["max_output_tokens"] = 90
    assert limits_of(PriceBook.load(path), MODEL, later) == expected
    assert limits_of(PriceBook.load(path), MODEL)["max_output_tokens"] == 80
    if suffix == "yaml":
        assert '"max_output_tokens": 90' in path.read_text()
