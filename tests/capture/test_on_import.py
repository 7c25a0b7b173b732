"""A library that is imported later is captured then, and one that never is costs nothing."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_llm_cost.capture.on_import import _finder
from flask_llm_cost.capture.on_import import forget
from flask_llm_cost.capture.on_import import when_imported


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "client_of_theirs.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "client_of_theirs"
    forget("client_of_theirs")
    sys.modules.pop("client_of_theirs", None)


def test_it_is_called_once_when_the_module_is_complete(module: str) -> None:
    seen = []
    when_imported(module, lambda: seen.append(sys.modules[module].VALUE))
    assert _finder in sys.meta_path
    assert importlib.util.find_spec(module) is not None
    assert not seen
    imported = importlib.import_module(module)
    assert seen == [1]
    assert _finder not in sys.meta_path
    importlib.reload(imported)
    assert seen == [1]


def test_a_module_looks_as_if_nobody_had_waited(module: str) -> None:
    plain = importlib.import_module(module)
    del sys.modules[module]
    when_imported(module, lambda: None)
    waited = importlib.import_module(module)
    assert type(waited.__loader__) is type(plain.__loader__)
    assert vars(waited.__loader__) == vars(plain.__loader__)
    assert waited.__spec__ is not None
    assert waited.__spec__.loader is waited.__loader__


def test_what_is_forgotten_is_not_called(module: str) -> None:
    seen: list[int] = []
    when_imported(module, lambda: seen.append(1))
    spec = importlib.util.find_spec(module)
    forget(module)
    assert _finder not in sys.meta_path
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert not seen


def test_an_error_of_ours_does_not_stop_an_import(
    module: str, caplog: pytest.LogCaptureFixture
) -> None:
    when_imported(module, lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    assert importlib.import_module(module).VALUE == 1
    assert "ZeroDivisionError" in caplog.text


def test_an_error_of_theirs_is_theirs(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text("raise RuntimeError('theirs')\n")
    when_imported(module, lambda: None)
    with pytest.raises(RuntimeError, match="theirs"):
        importlib.import_module(module)


def test_instrument_imports_no_library_and_captures_it_later() -> None:
    pytest.importorskip("httpx")
    pytest.importorskip("httpx2")
    code = """
import sys
import typing as t
from flask_llm_cost.capture import clients
from flask_llm_cost.capture.tap import Tap
from tests.capture.conftest import Book

for name in [name for name in sys.modules if name.partition(".")[0] in ("httpx",)]:
    del sys.modules[name]
before = set(sys.modules)
clients.instrument(Tap(Book()), ["httpx", "httpx2", "aiohttp", "botocore"])
assert "httpx" in clients.ways()
new = {name.partition(".")[0] for name in set(sys.modules) - before}
assert not new & {"httpx", "httpx2", "aiohttp", "botocore"}, new
import httpx
assert hasattr(httpx.HTTPTransport.handle_request, "__wrapped__")
clients.uninstrument()
assert not hasattr(httpx.HTTPTransport.handle_request, "__wrapped__")
import httpx2
assert not hasattr(httpx2.HTTPTransport.handle_request, "__wrapped__")
assert not any("llm_cost" in type(f).__module__ for f in sys.meta_path)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_library_that_our_own_module_imports_first_is_captured() -> None:
    code = """
import importlib, os, sys
from flask_llm_cost.capture import clients
from flask_llm_cost.capture.tap import Tap

class Book:
    unlisted_hosts = "count"

def check(first):
    clients.instrument(Tap(Book()))
    importlib.import_module("flask_llm_cost.capture." + first)
    for library in clients._LIBRARIES.values():
        for module in library.modules:
            if module in sys.modules or library.transport == first:
                if clients._is_installed(module):
                    importlib.import_module(module)
                    assert all(patch.tap for patch in clients._patches[module]), module
    assert clients._patches and not clients.unsupported(), clients.unsupported()
    clients.uninstrument()
    assert not any("llm_cost" in type(f).__module__ for f in sys.meta_path)

others = {"requests", "urllib3", "botocore.httpsession", "aiohttp", "grpc"}
assert not others & set(sys.modules)
for first in ("requests_adapter", "urllib3_body", "urllib3_connection",
              "botocore_session", "aiohttp_websocket", "grpc_channel"):
    child = os.fork()
    if not child:
        try:
            check(first)
        except BaseException as error:
            print(first, repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_adapter_that_imports_requests_leaves_it_captured(tmp_path: Path) -> None:
    code = """
import sys
from flask import Flask
from flask_llm_cost import LlmCost

app = Flask("late", instance_path=sys.argv[1])
app.config["LLM_COST_STORAGE"] = "log"
llm_cost = LlmCost(app)
llm_cost.instrument()
assert "requests" not in sys.modules
llm_cost.adapter()
import requests.adapters
assert hasattr(requests.adapters.HTTPAdapter.send, "__wrapped__")
"""
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, timeout=60)


def test_the_hook_of_another_tool_stays(module: str) -> None:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    seen: list[str] = []
    loader = t.cast(t.Any, spec.loader)
    run = loader.exec_module

    def exec_module(imported: t.Any) -> None:
        seen.append("theirs")
        run(imported)

    loader.exec_module = exec_module

    class Finder:
        def find_spec(self, name: str, *args: t.Any) -> t.Any:
            return spec if name == module else None

    sys.meta_path.insert(0, t.cast(t.Any, Finder()))
    try:
        when_imported(module, lambda: seen.append("ours"))
        importlib.import_module(module)
    finally:
        del sys.meta_path[0]
    assert seen == ["theirs", "ours"]
