"""What hosted CI runs is what the project supports, and nothing there can move by itself."""

from __future__ import annotations

import re
import tomllib
import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOX = (ROOT / "noxfile.py").read_text()


def read(path: Path) -> dict[str, t.Any]:
    found: dict[str, t.Any] = yaml.safe_load(path.read_text())
    return found


def jobs() -> dict[str, t.Any]:
    return {name: job for path in WORKFLOWS for name, job in read(path)["jobs"].items()}


def steps() -> list[dict[str, t.Any]]:
    return [step for job in jobs().values() for step in job["steps"]]


def test_each_supported_python_is_tested_and_named() -> None:
    named = [
        line.removeprefix("Programming Language :: Python :: ")
        for line in PROJECT["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", line)
    ]
    assert jobs()["tests"]["strategy"]["matrix"]["python"] == named
    listed = re.search(r"^PYTHONS = \[(.*)\]$", NOX, re.MULTILINE)
    assert listed is not None
    assert re.findall(r'"(.*?)"', listed[1]) == named
    assert PROJECT["requires-python"] == f">={named[0]}"
    docs = (ROOT / "docs/dependencies.rst").read_text()
    assert re.findall(r"^    \* - (3\.\d+)$", docs, re.MULTILINE) == named


def test_actions_are_pinned_by_commit() -> None:
    used = [step["uses"] for step in steps() if "uses" in step]
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", one)] == []


def test_sessions_and_files_that_are_run_exist() -> None:
    commands = "\n".join(step.get("run", "") for step in steps())
    sessions = set(re.findall(r'nox -s "?(\w+)', commands))
    assert sessions
    assert [name for name in sessions if f"\ndef {name}(" not in NOX] == []
    assert "bash .ci/run" in commands


def test_only_a_release_may_sign_and_no_secret_is_stored() -> None:
    for path in WORKFLOWS:
        assert "secrets." not in path.read_text()
        assert read(path)["permissions"] == {"contents": "read"}
    signing = [name for name, job in jobs().items() if "permissions" in job]
    assert signing == ["release"]


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml")),
    ids=lambda p: p.name,
)
def test_forms_ask_for_no_content(path: Path) -> None:
    assert "Never paste prompts" in path.read_text()
    ids = [part["id"] for part in read(path)["body"] if part["type"] != "markdown"]
    assert len(set(ids)) == len(ids)


def test_the_docs_are_built_as_in_ci() -> None:
    settings = read(ROOT / ".readthedocs.yaml")
    assert settings["sphinx"]["fail_on_warning"] is True
    assert (ROOT / settings["sphinx"]["configuration"]).is_file()
    for part in settings["python"]["install"]:
        assert (ROOT / part.get("requirements", ".")).exists()
