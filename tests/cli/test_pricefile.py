"""``prices init``, ``sync`` and ``check``: the app's own price file, kept current."""

from __future__ import annotations

import json
import pathlib
import typing as t
from collections.abc import Callable

import pytest
from flask import Flask

from tests.cli.conftest import Run
from tests.conftest import MakeApp

SOURCE = {
    "gpt-4o": {
        "litellm_provider": "openai",
        "mode": "chat",
        "input_cost_per_token": 2.5e-06,
        "output_cost_per_token": 1e-05,
    }
}


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "prices.json"


@pytest.fixture
def app(make_app: MakeApp, tmp_path: pathlib.Path) -> Flask:
    """An app whose only price source is a file."""
    source = tmp_path / "litellm.json"
    source.write_text(json.dumps(SOURCE))
    return make_app(LLM_COST_PRICE_SOURCES={"litellm": str(source)})


@pytest.fixture
def prices(run: Run, app: Flask, path: pathlib.Path) -> Callable[..., t.Any]:
    """Run ``flask llm-cost prices ... --file PATH``."""
    return lambda *args: run("prices", *args, "--file", str(path), app=app)


Prices = Callable[..., t.Any]


def test_init_makes_a_file_once(prices: Prices, path: pathlib.Path) -> None:
    assert prices("init").exit_code == 0
    assert json.loads(path.read_text())["models"] == {}
    path.write_text("{}")
    again = prices("init")
    assert again.exit_code == 1
    assert "is there already" in again.stderr
    assert path.read_text() == "{}"


def test_sync_adds_what_is_asked_for(prices: Prices, path: pathlib.Path) -> None:
    result = prices("sync", "--add", "openai/gpt-4*")
    assert result.exit_code == 0, result.output
    assert "+ openai/gpt-4o" in result.stdout
    assert result.stdout.endswith("1 model changed.\n")
    assert "openai/gpt-4o" in json.loads(path.read_text())["models"]


def test_a_preview_writes_nothing(prices: Prices, path: pathlib.Path) -> None:
    result = prices("sync", "--add", "openai/gpt-4*", "--preview")
    assert result.stdout.endswith("1 model would change.\n")
    assert not path.exists()


def test_a_source_that_is_away_fails(
    prices: Prices, path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "litellm.json").unlink()
    result = prices("sync", "--add", "openai/gpt-4*")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert not path.exists()


def test_check_is_content_with_what_was_synced(prices: Prices) -> None:
    prices("sync", "--add", "openai/gpt-4*")
    assert prices("check").exit_code == 0
    found = json.loads(prices("check", "--format", "json").stdout)
    assert (found["ok"], found["missing"]) == (True, [])


def test_check_fails_on_a_price_that_moved(prices: Prices, path: pathlib.Path) -> None:
    prices("sync", "--add", "openai/gpt-4*")
    path.write_text(path.read_text().replace("2.5", "2.4"))
    before = path.read_text()
    result = prices("check")
    assert result.exit_code == 1
    assert "~ openai/gpt-4o: input 2.4 -> 2.5" in result.stdout
    assert path.read_text() == before


def test_check_fails_on_a_model_in_use_without_a_price(run: Run) -> None:
    result = run("prices", "check", "--offline")
    assert result.exit_code == 1
    assert "! openai/mystery: in use, and no price is known" in result.stdout


def test_without_a_file_it_says_how_to_name_one(run: Run, app: Flask) -> None:
    for command in ("init", "sync"):
        result = run("prices", command, app=app)
        assert result.exit_code == 2
        assert "--file PATH" in result.stderr
