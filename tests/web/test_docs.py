"""Every page, parameter and header is documented."""

from __future__ import annotations

import pathlib

import pytest

from flask_llm_cost.call import OUTCOMES
from flask_llm_cost.call import USAGE_SOURCES
from flask_llm_cost.web.forms import CALL_SORTS
from flask_llm_cost.web.forms import CallsForm
from flask_llm_cost.web.forms import ExploreForm
from flask_llm_cost.web.forms import GRAINS
from flask_llm_cost.web.forms import TABLE_SORTS
from flask_llm_cost.web.forms import TableForm
from flask_llm_cost.web.headers import HEADERS
from flask_llm_cost.web.views import PAGES

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "dashboard.rst"

WORDS = [*CALL_SORTS, *TABLE_SORTS, *filter(None, GRAINS), *OUTCOMES, *USAGE_SOURCES]
# Cursors are internal.
FORMS = (CallsForm, ExploreForm, TableForm)
NAMES = {field.name for form in FORMS for field in form()}
PARAMETERS = NAMES - {"after", "before"} | {"tag"}


@pytest.mark.parametrize("name", [page.rule for page in PAGES])
def test_every_page_is_documented(name: str) -> None:
    assert f"``{name}``" in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted({*WORDS, *PARAMETERS}))
def test_every_parameter_and_its_words_are_documented(name: str) -> None:
    assert f"``{name}``" in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", HEADERS)
def test_every_header_is_documented(name: str) -> None:
    assert name in DOCS.read_text(encoding="utf-8")
