"""Price files that say that their rates are not USD per million tokens."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest

from flask_llm_cost.errors import PriceFileError
from flask_llm_cost.prices import PriceBook


def load(folder: Path, document: t.Any) -> PriceBook:
    path = folder / "prices.json"
    path.write_text(json.dumps(document))
    return PriceBook.load(path)


MODELS = {"openai/gpt-4.1": {"input": 2, "output": 8}}


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({"currency": "EUR"}, "metadata.currency is 'EUR'"),
        ({"currency": "usd cents"}, "metadata.currency"),
        ({"unit": "per token"}, "metadata.unit is 'per token'"),
        ({"unit": "per 1K tokens"}, "metadata.unit"),
        ({"currency": "USD", "unit": "per 1,000 tokens"}, "metadata.unit"),
    ],
)
def test_another_currency_or_unit_is_refused(
    tmp_path: Path, metadata: dict[str, str], named: str
) -> None:
    with pytest.raises(PriceFileError, match=named):
        load(tmp_path, {"metadata": metadata, "models": MODELS})


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


def test_litellms_own_format_is_refused(tmp_path: Path) -> None:
    rates = {"input_cost_per_token": 2e-06, "litellm_provider": "openai"}
    with pytest.raises(PriceFileError, match="LiteLLM's format.*prices sync"):
        load(tmp_path, {"gpt-4.1": rates})


def test_an_entry_without_rates_does_not_hide_a_bundled_price() -> None:
    book = PriceBook.layered(overrides={"openai/gpt-4.1": {}})
    found = book.find("openai", "gpt-4.1")
    assert found is not None
    assert found.source == "bundled"
