"""The examples on the page about prices are correct."""

from __future__ import annotations

import doctest
import json
import re
import textwrap
from decimal import Decimal
from pathlib import Path

import pytest

from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.meters import MODES
from flask_llm_cost.prices.meters import parse_key

PAGE = Path(__file__).resolve().parents[2] / "docs" / "prices.rst"


def block(language: str) -> str:
    found = re.search(
        rf"\.\. code-block:: {language}\n\n((?:    .*\n|\n)+)", PAGE.read_text("utf-8")
    )
    assert found is not None
    return textwrap.dedent(found[1])


def test_the_session_runs_as_shown() -> None:
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted
    assert result.failed == 0


@pytest.mark.parametrize("language", ["json", "yaml"])
def test_the_example_file_is_a_price_file(
    tmp_path: Path, language: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"prices.{language}"
    path.write_text(block(language))
    found = PriceBook.load(path).find("openai", "gpt-4o")
    assert found is not None
    assert caplog.records == []
    if language == "json":
        assert found.factor == Decimal("0.93")
        assert json.loads(block(language))["metadata"]


def test_every_rate_in_the_table_is_valid() -> None:
    table = (
        PAGE.read_text("utf-8").partition("A **rate** is")[2].partition("and in USD")[0]
    )
    names = set(re.findall(r"``([a-z_0-9]+k?)``", table))
    assert {name for name in names if parse_key(name) is None} <= set(MODES)
    assert set(MODES) <= names
