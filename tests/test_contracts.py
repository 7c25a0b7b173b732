"""The rooms know each other as setup.cfg says, and a violation is noticed."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter")

ROOT = Path(__file__).resolve().parents[1]
HOUSE = ROOT / "flask_llm_cost"


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "COLUMNS": "500"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the house that a test may spoil."""
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    ignore = shutil.ignore_patterns("__pycache__", "static", "templates")
    shutil.copytree(HOUSE, tmp_path / "flask_llm_cost", ignore=ignore)
    return tmp_path


def contract(name: str) -> configparser.SectionProxy:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return setup[f"importlinter:contract:{name}"]


def test_the_house_keeps_its_contracts() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout


def test_an_untouched_copy_keeps_them_too(copy: Path) -> None:
    result = lint(copy)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("web/__init__.py", "from ..ledger import store", "web"),
        ("web/__init__.py", "from ..rollups import measures", "web"),
        ("files/monthly.py", "from ..ledger import store", "layers"),
        ("ledger/store.py", "from ..files import index", "layers"),
        ("budgets/counters.py", "from ..ledger import store", "layers"),
        ("rollups/build.py", "from ..budgets import counters", "layers"),
        ("db/rows.py", "from ..rollups import measures", "layers"),
        ("providers/openai.py", "import flask", "reading"),
        ("providers/openai.py", "from . import anthropic", "dialects"),
        ("providers/openai.py", "from ..capture import meter", "layers"),
        ("prices/book.py", "from ..ledger import store", "layers"),
        ("prices/book.py", "import sqlalchemy", "pricing"),
        ("prices/price.py", "import requests", "arithmetic"),
        ("bound.py", "import sqlalchemy", "reading"),
        ("files/index.py", "from ..query import totals", "layers"),
        ("query/host.py", "from ..web import make_blueprint", "layers"),
        ("cli/__init__.py", "from ..extension import LlmCost", "layers"),
        ("cli/doctor.py", "from ..db import tables", "cli"),
        ("cli/verify.py", "from ..ledger import spool", "cli"),
        ("cli/tags.py", "from ..rollups import tag_rollups", "cli"),
        ("cli/calls.py", "from ..files import clacky", "cli"),
        ("capture/meter.py", "from . import requests_adapter", "captures"),
        (
            "capture/meter.py",
            "def lazily():\n    from ..extension import LlmCost",
            "layers",
        ),
    ],
)
def test_a_violation_breaks_its_contract(
    copy: Path, module: str, line: str, broken: str
) -> None:
    path = copy / "flask_llm_cost" / module
    path.write_text(f"{path.read_text()}\n\n{line}\n")
    result = lint(copy)
    assert result.returncode == 1
    assert f"{contract(broken)['name']} BROKEN" in result.stdout


@pytest.mark.parametrize(
    ("module", "broken"),
    [
        ("helpers.py", "layers"),
        ("providers/newcomer.py", "dialects"),
        ("capture/newcomer.py", "captures"),
    ],
)
def test_a_module_without_a_place_is_noticed(
    copy: Path, module: str, broken: str
) -> None:
    (copy / "flask_llm_cost" / module).write_text("")
    result = lint(copy)
    assert result.returncode == 1
    assert f"{contract(broken)['name']} BROKEN" in result.stdout
