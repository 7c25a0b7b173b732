"""Where everything is there, a skipped test fails the run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.no_skips import SKIPPED

ROOT = Path(__file__).resolve().parents[1]


ALLOWED = """
def test_that_needs_the_shared_data():
    pytest.skip("no ../shared")

def test_that_fails_as_known():
    pytest.xfail("known")

def test_that_passes():
    pass
"""
A_TEST = "def test_that_needs_a_server():\n    pytest.skip('no server')\n" + ALLOWED
A_MODULE = "pytest.skip('no server', allow_module_level=True)\n"


@pytest.mark.parametrize("processes", ["0", "1"])  # in this one, and in a worker
@pytest.mark.parametrize(
    ("source", "status"), [(ALLOWED, 0), (A_TEST, SKIPPED), (A_MODULE, SKIPPED)]
)
def test_a_skip_fails_the_run(
    tmp_path: Path, source: str, status: int, processes: str
) -> None:
    (tmp_path / "test_it.py").write_text(f"import pytest\n\n{source}")
    (tmp_path / "test_other.py").write_text("def test_that_passes():\n    pass\n")
    result = run(tmp_path, "-p", "tests.no_skips", "-n", processes)
    assert result.returncode == status, result.stdout
    assert ("no server" in result.stdout) == bool(status)


def test_a_module_that_imports_one_without_its_package_is_skipped(
    tmp_path: Path,
) -> None:
    sources = {
        "__init__": "",
        "test_a": "from no_such_package import anything\nB = 1\n",
        "test_c": "from .test_a import B\n\ndef test_it(): assert B\n",
        "test_d": "from json import no_such_name\n",
    }
    folder = tmp_path / "package"
    folder.mkdir()
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    result = run(tmp_path, "-p", "tests.absent", "--import-mode=importlib", "-n", "0")
    assert "    2 no_such_package" in result.stdout
    assert "no_such_name" in result.stdout
    # A warning about options of the run around this one may stand between them.
    assert re.search(r"2 skipped,.* 1 error", result.stdout), result.stdout


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", folder]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", *options, folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
