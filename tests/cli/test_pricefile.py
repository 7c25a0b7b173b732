"""``prices init``, ``sync`` and ``check``: keep the app's price file current."""

from __future__ import annotations

import json
import pathlib
import typing as t
from collections.abc import Callable

import pytest
from flask import Flask

from flask_llm_cost.cli.starter import _EXAMPLES
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.layers import make_layer
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
    assert "already exists" in again.stderr
    assert path.read_text() == "{}"


@pytest.mark.parametrize("name", ["p.json", "p.yaml"])
def test_a_new_file_explains_itself_and_can_be_synced(
    run: Run, app: Flask, tmp_path: pathlib.Path, name: str
) -> None:
    path = tmp_path / name
    made = run("prices", "init", str(path), app=app)
    assert made.exit_code == 0, made.output
    assert "_source: manual keeps" in path.read_text()
    assert PriceBook.load(path).entries() == {}
    done = run("prices", "sync", "--file", str(path), "--add", "openai/*", app=app)
    assert done.exit_code == 0, done.output
    assert "_source: manual keeps" in path.read_text()
    assert PriceBook.load(path).find("openai", "gpt-4o") is not None
    both = run("prices", "init", str(path), "--file", str(path), app=app)
    assert both.exit_code == 2


def test_the_examples_in_a_new_file_are_valid() -> None:
    assert make_layer("file", _EXAMPLES, "the starter").entries


def test_sync_adds_requested_models(prices: Prices, path: pathlib.Path) -> None:
    result = prices("sync", "--add", "openai/gpt-4*")
    assert result.exit_code == 0, result.output
    assert "+ openai/gpt-4o" in result.stdout
    assert result.stdout.endswith("1 model changed.\n")
    assert "openai/gpt-4o" in json.loads(path.read_text())["models"]


def test_a_preview_writes_nothing(prices: Prices, path: pathlib.Path) -> None:
    result = prices("sync", "--add", "openai/gpt-4*", "--preview")
    assert result.stdout.endswith("1 model would change.\n")
    assert not path.exists()


def test_a_missing_source_fails(
    prices: Prices, path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "litellm.json").unlink()
    result = prices("sync", "--add", "openai/gpt-4*")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert not path.exists()


def test_check_of_a_missing_file_fails(prices: Prices) -> None:
    result = prices("check", "--offline")
    assert result.exit_code == 1
    assert "does not exist" in result.stderr


def test_check_passes_after_a_sync(prices: Prices) -> None:
    prices("sync", "--add", "openai/gpt-4*")
    assert prices("check").exit_code == 0
    found = json.loads(prices("check", "--format", "json").stdout)
    assert (found["ok"], found["missing"]) == (True, [])


def test_check_fails_on_a_changed_price(prices: Prices, path: pathlib.Path) -> None:
    prices("sync", "--add", "openai/gpt-4*")
    path.write_text(path.read_text().replace("2.5", "2.4"))
    before = path.read_text()
    result = prices("check")
    assert result.exit_code == 1
    assert "~ openai/gpt-4o: input 2.4 -> 2.5" in result.stdout
    assert path.read_text() == before


def test_a_source_may_be_given_for_one_run(
    prices: Prices, tmp_path: pathlib.Path
) -> None:
    other = tmp_path / "other.json"
    dear = {**SOURCE["gpt-4o"], "input_cost_per_token": 3e-06}
    other.write_text(json.dumps({"gpt-4o": dear}))
    prices("sync", "--add", "openai/gpt-4*")
    again = prices("sync", "--source", f"litellm={other}")
    assert "~ openai/gpt-4o: input 2.5 -> 3" in again.stdout
    assert prices("check", "--source", f"litellm={other}").exit_code == 0
    assert prices("check").exit_code == 1
    assert prices("sync", "--source", "litellm").exit_code == 2
    assert prices("sync", "--source", "nobody=x.json").exit_code == 1


def test_check_prices_recent_calls_at_the_sources_prices(
    make_app: MakeApp, run: Run, tmp_path: pathlib.Path
) -> None:
    path, source = tmp_path / "p.json", tmp_path / "litellm.json"
    path.write_text(json.dumps({"openai/writer": {"input": 2, "output": 8}}))
    entry = {
        "litellm_provider": "openai",
        "mode": "chat",
        "input_cost_per_token": 3e-06,
        "output_cost_per_token": 8e-06,
    }
    source.write_text(json.dumps({"writer": entry}))
    app = make_app(
        LLM_COST_PRICES_FILE=str(path), LLM_COST_PRICE_SOURCES={"litellm": str(source)}
    )
    track = app.extensions["llm_cost"].extension.track
    with app.app_context():
        for _ in range(3):
            track(
                provider="openai", model="writer", input_tokens=1000, output_tokens=100
            )
        track(provider="openai", model="writer", input_tokens=9, reported_cost="0.5")
    text = run("prices", "check", app=app)
    assert text.exit_code == 1
    assert (
        "$ openai/writer: 3 recent calls: $0.0084 at the prices in force,"
        " $0.0114 at the sources' prices" in text.stdout
    )
    found = json.loads(run("prices", "check", "--format", "json", app=app).stdout)
    assert found["impact"] == [
        {
            "model": "openai/writer",
            "calls": 3,
            "before_usd": "0.0084",
            "after_usd": "0.0114",
        }
    ]


def test_check_fails_on_a_file_that_broke_since(
    make_app: MakeApp, run: Run, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"openai/writer": {"input": 2}}')
    app = make_app(LLM_COST_PRICES_FILE=str(path))
    assert app.extensions["llm_cost"].book.find("openai", "writer") is not None
    path.write_text("{oops")
    result = run("prices", "check", "--offline", app=app)
    assert result.exit_code == 1
    assert "is not valid JSON" in result.output


def test_check_fails_on_a_model_in_use_without_a_price(run: Run) -> None:
    result = run("prices", "check", "--offline")
    assert result.exit_code == 1
    assert "! openai/mystery: in use, but no price is known" in result.stdout


def test_without_a_file_the_error_shows_how_to_name_one(run: Run, app: Flask) -> None:
    for command in ("init", "sync"):
        result = run("prices", command, app=app)
        assert result.exit_code == 2
        assert "--file PATH" in result.stderr


def test_a_file_that_broke_since_is_reported_everywhere(
    make_app: MakeApp, run: Run, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"openai/writer": {"input": 2}}')
    app = make_app(LLM_COST_PRICES_FILE=str(path))
    state = app.extensions["llm_cost"]
    app.register_blueprint(
        state.extension.blueprint(access="public"), url_prefix="/costs"
    )
    with app.app_context():
        state.extension.track(provider="openai", model="writer", input_tokens=1)
        state.extension.flush()
    assert state.book.problem is None
    path.write_text("{oops")
    state.book._file._checked = -9.0
    assert "is not valid JSON" in run("doctor", app=app).output
    for page in ("prices", "data-quality"):
        assert "is not valid JSON" in app.test_client().get(f"/costs/{page}").text
    path.write_text('{"openai/writer": {"input": 3}}')
    state.book._file._checked = -9.0
    assert "is not valid JSON" not in run("doctor", app=app).output
    assert "is not valid JSON" not in app.test_client().get("/costs/prices").text
