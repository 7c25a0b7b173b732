"""The docs list the apps that the session installs, and each has its module."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_docs_list_each_app() -> None:
    page, _, _ = (ROOT / "docs/apps.rst").read_text().partition("Apps with versions")
    listed = re.findall(r"^    \* - ([a-z][\w-]+)$", page, re.M)
    source = (ROOT / "noxfile.py").read_text()
    block = source[source.index("APPS = {") :]
    apps: dict[str, str] = ast.literal_eval(
        block[len("APPS = ") : block.index("}") + 1]
    )
    modules = {path.stem for path in (ROOT / "tests/apps/hosts").glob("*.py")}
    assert {package.partition("[")[0] for package in apps.values()} == set(listed)
    assert set(apps) | {"host"} == modules
