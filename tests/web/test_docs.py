"""Every page, parameter and header is documented."""

from __future__ import annotations

import pathlib

import pytest

from flask_llm_cost.call import OUTCOMES
from flask_llm_cost.call import USAGE_SOURCES
from flask_llm_cost.web.forms import CALL_SORTS
from flask_llm_cost.web.forms import CallsForm
from flask_llm_cost.web.forms import MODEL_SORTS
from flask_llm_cost.web.headers import HEADERS
from flask_llm_cost.web.views import PAGES

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "dashboard.rst"

WORDS = [*CALL_SORTS, *MODEL_SORTS, *OUTCOMES, *USAGE_SOURCES]
# Cursors are internal.
PARAMETERS = {field.name for field in CallsForm()} - {"after", "before"} | {"tag", "q"}


@pytest.mark.parametrize("name", [page.rule for page in PAGES])
def test_every_page_is_documented(name: str) -> None:
    assert f"``{name}``" in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted({*WORDS, *PARAMETERS}))
def test_every_parameter_and_its_words_are_documented(name: str) -> None:
    assert f"``{name}``" in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", HEADERS)
def test_every_header_is_documented(name: str) -> None:
    assert name in DOCS.read_text(encoding="utf-8")
