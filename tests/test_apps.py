"""Several apps in one process: which of them a call without a context belongs to."""

from __future__ import annotations

import gc
import threading
import typing as t
import weakref
from pathlib import Path

import pytest
from flask import Flask

from flask_llm_cost import apps
from flask_llm_cost import LlmCost
from flask_llm_cost.apps import active


def _app(folder: Path, llm_cost: LlmCost | None = None, **config: t.Any) -> Flask:
    app = Flask("host", instance_path=str(folder / "instance"))
    app.config.update({f"LLM_COST_{key}": value for key, value in config.items()})
    (llm_cost or LlmCost()).init_app(app)
    return app


def _with_a_view(app: Flask) -> Flask:
    app.add_url_rule("/", view_func=lambda: app.name)  # the app refers to itself
    return app


def _close(*made: Flask) -> None:
    for app in made:
        app.extensions["llm_cost"].close()


def _track(llm_cost: LlmCost) -> None:
    llm_cost.track(provider="openai", model="gpt-4o", input_tokens=1)


def _count(app: Flask) -> int:
    llm_cost: LlmCost = app.extensions["llm_cost"].extension
    with app.app_context():
        assert llm_cost.flush(60)
        return llm_cost.calls.count()


def test_tasks_that_make_their_app_lose_no_call_of_their_threads(
    tmp_path: Path,
) -> None:
    llm_cost = LlmCost()
    made: list[Flask] = []

    def task() -> None:
        made.append(_app(tmp_path, llm_cost, DEFAULT_TAGS=lambda: {"a": 1}))
        with made[-1].app_context():
            thread = threading.Thread(target=_track, args=[llm_cost])
            thread.start()
            thread.join()

    for _ in range(12):
        task()
    assert llm_cost.flush(60)  # without a context: that of each app
    assert _count(made[0]) == 12
    _close(*made)


@pytest.mark.parametrize(
    "other",
    [
        {"DATABASE_URI": "sqlite:///other.db"},
        {"PRICE_OVERRIDES": {"openai/gpt-4o": {"input": 1}}},
        {"MODEL_ALIASES": {"a": "openai/gpt-4o"}},
        {"STORAGE": "jsonl"},
        {"STORAGE": "log"},
        {"ENABLED": False},
    ],
)
def test_apps_with_another_ledger_or_other_prices_are_ambiguous(
    other: dict[str, t.Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    llm_cost = LlmCost()
    made = [_app(tmp_path, llm_cost), _app(tmp_path, llm_cost, **other)]
    for _ in range(10):
        _track(llm_cost)
    first, tenth = caplog.messages
    assert "different ledgers or prices. Use app.app_context()" in first
    assert tenth.endswith("(10 times so far)")
    _close(made[1])
    _track(llm_cost)
    assert _count(made[0]) == 1
    _close(made[0])


@pytest.mark.parametrize("shared", [True, False])
def test_an_app_that_was_dropped_without_close_does_not_count(
    shared: bool, tmp_path: Path
) -> None:
    gc.collect()
    before = active()
    assert not before
    gc.disable()
    try:
        llm_cost = LlmCost()
        dropped = weakref.ref(_with_a_view(_app(tmp_path / "one", llm_cost)))
        app = _app(tmp_path / "two", llm_cost)
        assert dropped() is not None
        found = llm_cost._apps.find_or_drop(shared=shared)
        assert found is app.extensions["llm_cost"]
    finally:
        gc.enable()
    _close(app)


def test_memory_is_searched_once_for_each_new_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[None] = []
    monkeypatch.setattr(apps.gc, "collect", lambda: searched.append(None))
    llm_cost = LlmCost()
    made = [_app(tmp_path / name, llm_cost) for name in ("one", "two")]
    for _ in range(5):
        _track(llm_cost)
    assert len(searched) == 1
    made.append(_app(tmp_path / "three", llm_cost))
    _track(llm_cost)
    assert len(searched) == 2
    _close(*made)


def test_an_app_without_the_extension_is_named_as_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    llm_cost = LlmCost()
    app = _app(tmp_path, llm_cost)
    with Flask("other").app_context():
        _track(llm_cost)
    assert "the context of an app without LlmCost" in caplog.text
    _close(app)
