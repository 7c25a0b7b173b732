"""What an import costs: nothing is loaded before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

CLIENTS = {"requests", "urllib3", "httpx", "httpx2", "aiohttp", "botocore"}
STORES = {"sqlalchemy", "alembic", "flask_sqlalchemy"}


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that a fresh interpreter holds after a statement."""
    show = "import sys\nprint(*{name.partition('.')[0] for name in sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", f"{statement}\n{show}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(result.stdout.split())


def test_the_package_loads_no_database_and_no_client() -> None:
    assert not loaded_by("import flask_llm_cost") & (STORES | CLIENTS)


def test_the_extension_class_loads_no_database_and_no_client() -> None:
    loaded = loaded_by("from flask_llm_cost import LlmCost")
    assert not loaded & (STORES | CLIENTS)


@pytest.mark.parametrize(
    "module",
    ["flask_llm_cost.prices", "flask_llm_cost.providers", "flask_llm_cost.call"],
)
def test_reading_and_pricing_load_no_framework(module: str) -> None:
    loaded = loaded_by(f"import {module}")
    assert not loaded & (STORES | CLIENTS | {"flask", "wtforms", "werkzeug"})


def test_pricing_works_without_a_framework() -> None:
    loaded = loaded_by(
        "from flask_llm_cost.call import Usage\n"
        "from flask_llm_cost.prices import PriceBook\n"
        "PriceBook.bundled().cost('openai', 'gpt-4o', Usage(input_tokens=1))"
    )
    assert not loaded & (STORES | CLIENTS | {"flask", "wtforms", "werkzeug"})


@pytest.mark.parametrize("module", ["ledger.spool", "jsonl"])
def test_the_spool_is_written_without_a_database(module: str) -> None:
    loaded = loaded_by(f"import flask_llm_cost.{module}")
    assert not loaded & (STORES | CLIENTS)
