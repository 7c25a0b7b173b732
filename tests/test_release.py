"""What a release promises: the same bytes each time, listed dependencies, no network."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
import typing as t
from pathlib import Path

import pytest
from flit_core import buildapi

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

SOURCES = ("flask_llm_cost", "docs", "tests", "instance_example", "benchmarks", "tools")
FILES = ("pyproject.toml", "setup.cfg", "README.md", "LICENSE", "CHANGES.rst") + (
    "CONTRIBUTING.md",
    "SECURITY.md",
    "noxfile.py",
)


def checkout(folder: Path) -> Path:
    """A copy of what a release is built from, as another machine would have it."""
    folder.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "_build", "*.pyc")
    for name in SOURCES:
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in FILES:
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def digests(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(folder)
    (folder / "dist").mkdir()
    names = [buildapi.build_wheel("dist"), buildapi.build_sdist("dist")]
    return {
        name: hashlib.sha256((folder / "dist" / name).read_bytes()).hexdigest()
        for name in names
    }


def test_two_builds_are_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    one = digests(checkout(tmp_path / "one"), monkeypatch)
    other = checkout(tmp_path / "other")
    for path in other.rglob("*.py"):
        path.touch()
        path.chmod(0o600)
    assert digests(other, monkeypatch) == one


def names(requirements: t.Iterable[str]) -> set[str]:
    return {re.split(r"[\[<>=!~; ]", each, maxsplit=1)[0] for each in requirements}


def test_each_dependency_has_its_reason_in_the_docs() -> None:
    listed = re.findall(
        r"^    \* - ([a-z0-9-]+)$", (ROOT / "docs/dependencies.rst").read_text(), re.M
    )
    extras = PROJECT["optional-dependencies"].values()
    required = names(PROJECT["dependencies"]).union(*map(names, extras))
    assert set(listed) == required


def test_dependencies_have_no_upper_bounds() -> None:
    for each in PROJECT["dependencies"]:
        assert re.fullmatch(r"[a-z0-9-]+>=[0-9.]+", each), each


NO_NETWORK = """
import socket, sys

def refuse(*args, **options):
    raise AssertionError("it went to the network")

socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
import importlib, pkgutil
import flask_llm_cost
for module in pkgutil.walk_packages(flask_llm_cost.__path__, "flask_llm_cost."):
    if not module.name.endswith((".__main__", ".env")):
        importlib.import_module(module.name)
from flask import Flask
app = Flask(__name__)
flask_llm_cost.LlmCost(app)
app.test_cli_runner().invoke(args=["llm-cost", "prices", "list"])
"""


def test_nothing_connects_when_it_is_imported_or_set_up(tmp_path: Path) -> None:
    for client in ("aiohttp", "botocore", "httpx", "httpx2"):
        pytest.importorskip(client)
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not (ROOT / ".ci").exists(), reason="not a checkout")
def test_the_tools_of_ci_are_pinned_with_hashes() -> None:
    lines = (ROOT / ".ci/tools.txt").read_text().splitlines()
    pinned = [line for line in lines if re.match(r"[a-zA-Z0-9]", line)]
    assert {"ruff", "mypy", "pyright", "sphinx", "towncrier", "codespell"} <= names(
        pinned
    )
    assert all("==" in line for line in pinned)
    assert sum("--hash=sha256:" in line for line in lines) >= len(pinned)
