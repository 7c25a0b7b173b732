"""What apps use in their own tests."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path

import pytest
from flask import Flask

from flask_llm_cost import LlmCost
from flask_llm_cost.errors import LlmCostError
from flask_llm_cost.testing import record_calls
from tests.conftest import MakeApp


def _track(app: Flask) -> None:
    with app.app_context():
        app.extensions["llm_cost"].extension.track(provider="openai", model="gpt-4o")


def _files(tmp_path: Path) -> list[Path]:
    return [path for path in tmp_path.rglob("*") if path.is_file()]


def test_calls_of_every_app_are_collected(make_app: MakeApp, tmp_path: Path) -> None:
    before = make_app()
    with record_calls() as calls:
        inside = make_app()
        for app in (before, inside):
            _track(app)
        with record_calls(inside) as own:
            _track(inside)
        _track(inside)
    assert (len(calls), len(own)) == (3, 1)
    assert _files(tmp_path) == []
    _track(inside)
    assert len(calls) == 3
    assert _files(tmp_path) != []


def test_collecting_nests(make_app: MakeApp) -> None:
    with record_calls() as outer:
        with record_calls() as inner:
            app = make_app()
            _track(app)
        _track(app)
    assert (len(inner), len(outer)) == (1, 1)
    assert app.extensions["llm_cost"].collected is None


def test_an_app_without_the_extension_cannot_be_collected() -> None:
    with (
        pytest.raises(LlmCostError, match="LlmCost\\(app\\)"),
        record_calls(Flask("x")),
    ):
        pass


def test_collecting_keeps_no_app_alive(tmp_path: Path) -> None:
    with record_calls():
        app = Flask("host", instance_path=str(tmp_path))
        LlmCost(app)
        reference = weakref.ref(app)
        del app
        gc.collect()
        assert reference() is None


SUITE = """
    import pytest
    from flask import Flask
    from flask_llm_cost import LlmCost

    def make(path):
        app = Flask("host", instance_path=path)
        LlmCost(app)
        return app

    def track(app):
        with app.app_context():
            app.extensions["llm_cost"].extension.track(provider="openai", model="gpt-4o")

    AT_IMPORT = make(INSTANCE)

    @pytest.fixture(scope="session")
    def shared():
        app = make(INSTANCE)
        track(app)
        return app

    def test_one(shared, llm_calls):
        track(shared)
        track(AT_IMPORT)
        assert len(llm_calls) == 2

    def test_another(shared, llm_calls):
        track(shared)
        track(make(INSTANCE))
        assert len(llm_calls) == 2
"""


def test_the_plugin_keeps_a_suite_out_of_its_ledger(tmp_path: Path) -> None:
    instance = tmp_path / "instance"
    suite = tmp_path / "suite"
    suite.mkdir()
    source = textwrap.dedent(SUITE).replace("INSTANCE", repr(str(instance)))
    (suite / "test_shop.py").write_text(source)
    plugin = 'pytest_plugins = ["flask_llm_cost.pytest_plugin"]\n'
    (suite / "conftest.py").write_text(plugin)
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(suite)],
        capture_output=True,
        text=True,
        cwd=suite,
    )
    assert "2 passed" in found.stdout, found.stdout
    assert not instance.exists()
