"""Writes what each SDK did in which scene, for the table in the documentation."""

from __future__ import annotations

import importlib.metadata
import json
import os
import typing as t
from pathlib import Path

import pytest

FILE: t.Final = os.environ.get("LLM_COST_MATRIX")
"""The file to append lines of JSON to; none are written if it is not set."""


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[t.Any]
) -> t.Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    values = getattr(getattr(item, "callspec", None), "params", {})
    if FILE is not None and report.when == "call" and "sdk" in values:
        name, _, kind = str(values["sdk"]).partition(" ")
        line = {
            "package": name.rstrip(":"),
            "version": _version(name.rstrip(":")),
            "kind": kind or "sync",
            "asynchronous": values["sdk"].asynchronous,
            "scene": values["name"],
            "passed": report.passed,
        }
        with Path(FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return report
