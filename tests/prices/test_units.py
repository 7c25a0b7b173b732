"""Price files that say that their rates are not in USD per million tokens."""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost import Usage
from flask_llm_cost.errors import PriceFileError
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.check import check
from flask_llm_cost.prices.conversion import in_usd
from flask_llm_cost.prices.document import models_of
from flask_llm_cost.prices.explain import all_rates
from flask_llm_cost.prices.explain import explain
from flask_llm_cost.prices.fetch import FetchResult
from flask_llm_cost.prices.sources import litellm
from flask_llm_cost.prices.sync import sync


def load(folder: Path, document: t.Any) -> PriceBook:
    path = folder / "prices.json"
    path.write_text(json.dumps(document))
    return PriceBook.load(path)


EURO = {"currency": "EUR", "usd_per_unit": "1.08", "rate_date": "2026-11-01"}
MODELS = {"openai/gpt-4.1": {"input": 2, "output": 8}}


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({"currency": "EUR"}, "metadata.currency is 'EUR'"),
        ({"currency": "usd cents"}, "metadata.currency"),
        ({"currency": "EUR", "usd_per_unit": "1.08"}, "metadata.rate_date"),
        ({"currency": "EUR", "rate_date": "2026-11-01"}, "metadata.usd_per_unit"),
        ({**EURO, "currency": "euros"}, "code such as EUR"),
        ({**EURO, "usd_per_unit": "0"}, "usd_per_unit must be above 0, not '0'"),
        ({**EURO, "usd_per_unit": "about 1"}, "metadata.usd_per_unit must be a number"),
        ({**EURO, "rate_date": "today"}, "metadata.rate_date must be a date"),
        ({**EURO, "currency": "USD"}, "does not name a currency other than USD"),
        ({"usd_per_unit": "1.08"}, "does not name a currency other than USD"),
        ({**EURO, "unit": "USD per 1M tokens"}, "metadata.unit is 'USD per 1M tokens'"),
        ({"unit": "EUR per 1M tokens"}, "metadata.unit is 'EUR per 1M tokens'"),
        ({"unit": "tokens"}, "metadata.unit is 'tokens'"),
        ({"unit": "per character"}, "1M tokens, 1K tokens or token"),
    ],
)
def test_another_currency_or_unit_that_is_not_clear_is_refused(
    tmp_path: Path, metadata: dict[str, str], named: str
) -> None:
    with pytest.raises(PriceFileError, match=named):
        load(tmp_path, {"metadata": metadata, "models": MODELS})


@pytest.mark.parametrize(
    "document",
    [
        {"currency": "EUR", "models": MODELS},
        {"metadata": {"Currency": "EUR"}, "models": MODELS},
        {"metadata": {"units": "1K tokens"}, "models": MODELS},
        {"models": {"openai/gpt-4.1": {"currency": "EUR", "input": 2}}},
        {"models": {"openai/gpt-4.1": {"_unit": "1K tokens", "input": 2}}},
        {"metadata": {"per": "token"}, "models": MODELS},
        {"metadata": {"price_unit": "cents"}, "models": MODELS},
        {"metadata": {"pricing": {"currency": "EUR"}}, "models": MODELS},
        {"pricing": {"currency": "EUR"}, "models": MODELS},
        {"models": {"openai/gpt-4.1": {"pricing": {"currency": "EUR"}, "input": 2}}},
        {"models": {"openai/gpt-4.1": {"per": "1K tokens", "input": 2}}},
    ],
)
def test_a_statement_in_another_place_is_refused(
    tmp_path: Path, document: dict[str, t.Any]
) -> None:
    """Euros were read as dollars before, without a message or with a mere warning."""
    with pytest.raises(PriceFileError, match="metadata.currency and metadata.unit"):
        load(tmp_path, document)


@pytest.mark.parametrize("name", ["per", "pricing_unit", "unitOfPrice"])
def test_usd_per_million_tokens_may_be_stated_anywhere(
    tmp_path: Path, name: str
) -> None:
    metadata = {name: "1M tokens", "pricing": {"currency": "usd"}}
    metadata |= {"persons": "unit tests", "notes": "per contract"}
    book = load(tmp_path, {"metadata": metadata, "models": MODELS})
    assert book.find("openai", "gpt-4.1") is not None


PER_TOKEN = {"openai/gpt-4.1": {"input": "0.000002", "output": "0.000008"}}


def test_rates_per_token_without_a_unit_are_refused(tmp_path: Path) -> None:
    said = r'output is 0.000008, which looks like USD per token.*metadata.unit.*"token"'
    with pytest.raises(PriceFileError, match=said):
        load(tmp_path, {"models": PER_TOKEN})
    with pytest.raises(PriceFileError, match=f"LLM_COST_PRICE_OVERRIDES.*{said}"):
        PriceBook.layered(overrides=PER_TOKEN)


@pytest.mark.parametrize(("unit", "usd"), [("token", "2"), ("1M tokens", "0.000002")])
def test_a_stated_unit_says_what_small_rates_are(
    tmp_path: Path, unit: str, usd: str
) -> None:
    book = load(tmp_path, {"metadata": {"unit": unit}, "models": PER_TOKEN})
    cost = book.cost("openai", "gpt-4.1", Usage(input_tokens=1_000_000))
    assert cost is not None
    assert cost.total_usd == Decimal(usd)


@pytest.mark.parametrize(
    "entry",
    [
        {"input": 0, "output": 0},
        {"input": "0.004"},
        {"input": 0, "cache_read": "0.0005", "output": 1},
        {"web_search": "0.0005"},
    ],
)
def test_small_and_free_prices_that_can_be_true_are_read(
    tmp_path: Path, entry: dict[str, t.Any]
) -> None:
    book = load(tmp_path, {"models": {"openai/m": entry}})
    assert book.find("openai", "m") is not None


def test_dollars_may_be_stated_anywhere(tmp_path: Path) -> None:
    models = {"openai/gpt-4.1": {"currency": "USD", "input": 2}}
    assert load(tmp_path, {"currency": "USD", "models": models}).find(
        "openai", "gpt-4.1"
    )


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"currency": "USD"},
        {"currency": "usd", "unit": "1M tokens"},
        {"unit": "per 1M tokens"},
        {"unit": "USD per million tokens"},
        {"unit": "per_1m_tokens"},
    ],
)
def test_usd_per_million_may_be_stated(
    tmp_path: Path, metadata: dict[str, str]
) -> None:
    book = load(tmp_path, {"metadata": metadata, "models": MODELS})
    assert book.find("openai", "gpt-4.1") is not None


@pytest.mark.parametrize(
    ("metadata", "tokens", "each"),
    [
        (EURO, "1.08", "1.08"),
        ({**EURO, "currency": " eur "}, "1.08", "1.08"),
        ({**EURO, "unit": "EUR per 1M tokens"}, "1.08", "1.08"),
        ({"unit": "per_token"}, "1000000", "1"),
        ({"unit": "USD/token"}, "1000000", "1"),
        ({"unit": "per 1K tokens"}, "1000", "1"),
        ({"currency": "USD", "unit": "per 1,000 tokens"}, "1000", "1"),
        ({**EURO, "unit": "eur per thousand tokens"}, "1080", "1.08"),
    ],
)
def test_a_clear_statement_converts_every_rate_exactly(
    tmp_path: Path, metadata: dict[str, str], tokens: str, each: str
) -> None:
    entry = {
        "input": "0.000000123456789012345678",
        "output_above_200k": "0.1",
        "web_search": "0.01",
        "units": {"robot_hour": "1.5"},
        "multipliers": {"region.us": "1.1"},
        "windows": [{"hours": "01:00-02:00", "input": "0.2"}],
        "variants": {"size.small": {"image": "0.04"}},
        "max_output_tokens": 500,
    }
    dated = [entry, {**entry, "valid_from": "2026-11-05"}]
    file = {"metadata": metadata, "models": {"openai/m": entry, "openai/n": dated}}
    book = load(tmp_path, file)
    per_token, per_unit = Decimal(tokens), Decimal(each)
    for model in ("m", "n"):
        found = book.find("openai", model)
        assert found is not None
        rates = all_rates(found.price)
        assert rates["input"] == Decimal("0.000000123456789012345678") * per_token
        assert rates["output_above_200k"] == Decimal("0.1") * per_token
        assert rates["web_search"] == Decimal("0.01") * per_unit
        assert rates["robot_hour"] == Decimal("1.5") * per_unit
        assert rates["multipliers.region.us"] == Decimal("1.1")
        assert rates["input at 01:00-02:00"] == Decimal("0.2") * per_token
        assert rates["image if size.small"] == Decimal("0.04") * per_unit
        assert found.price.max_output_tokens == 500


def test_an_explanation_says_how_a_rate_was_converted(tmp_path: Path) -> None:
    book = load(tmp_path, {"metadata": {**EURO, "unit": "1K tokens"}, "models": MODELS})
    text = str(explain(book, "openai", "gpt-4.1"))
    assert "_converted: from EUR at 1.08 USD (2026-11-01), from '1K tokens'" in text
    assert "input: 2160" in text
    plain = load(tmp_path, {"metadata": {"currency": "USD"}, "models": MODELS})
    assert "_converted" not in str(explain(plain, "openai", "gpt-4.1"))


def test_a_table_of_models_with_metadata_is_converted_too(tmp_path: Path) -> None:
    book = load(tmp_path, {"metadata": EURO, "openai/m": {"input": 1}})
    found = book.find("openai", "m")
    assert found is not None
    assert all_rates(found.price) == {"input": Decimal("1.08")}


def test_an_invalid_rate_is_named_before_it_is_converted(tmp_path: Path) -> None:
    with pytest.raises(PriceFileError, match="m: input must be a number, not 'cheap'"):
        load(tmp_path, {"metadata": EURO, "models": {"m": {"input": "cheap"}}})
    with pytest.raises(PriceFileError, match="m: windows must be a list"):
        load(tmp_path, {"metadata": EURO, "models": {"m": {"windows": 5}}})


def test_a_sync_does_not_write_usd_among_euros(tmp_path: Path) -> None:
    path, source = tmp_path / "prices.json", tmp_path / "litellm.json"
    source.write_text("{}")
    path.write_text(json.dumps({"metadata": EURO, "models": MODELS}))
    with pytest.raises(PriceFileError, match="a sync writes USD per 1M tokens"):
        sync(path, {"litellm": str(source)})


def test_a_check_compares_in_usd(tmp_path: Path) -> None:
    listed = {
        "litellm_provider": "openai",
        "input_cost_per_token": Decimal("0.00000216"),
    }
    sheet = litellm.read({"gpt-4.1": listed})
    now = dt.datetime(2026, 11, 30, tzinfo=dt.UTC)
    document = {"metadata": EURO, "models": {"openai/gpt-4.1": {"input": 2}}}
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(document))
    result = FetchResult("litellm", "litellm", now, sheet=sheet)
    report = check(PriceBook.load(path), document=document, results=[result], now=now)
    assert report.plan is not None
    assert not report.plan.changes


@given(
    st.decimals(min_value="0.000001", max_value=1000, places=9),
    st.decimals(min_value="0.0001", max_value=100, places=6),
)
def test_a_converted_rate_is_the_product(rate: Decimal, usd: Decimal) -> None:
    metadata = {**EURO, "usd_per_unit": usd}
    document = {"metadata": metadata, "models": {"m": {"input": rate}}}
    assert models_of(in_usd(document))["m"]["input"] == rate * usd


def test_litellms_own_format_is_refused(tmp_path: Path) -> None:
    rates = {"input_cost_per_token": 2e-06, "litellm_provider": "openai"}
    with pytest.raises(PriceFileError, match="LiteLLM's format.*prices sync"):
        load(tmp_path, {"gpt-4.1": rates})


def test_an_entry_without_rates_does_not_hide_a_bundled_price() -> None:
    book = PriceBook.layered(overrides={"openai/gpt-4.1": {}})
    found = book.find("openai", "gpt-4.1")
    assert found is not None
    assert found.source == "bundled"
