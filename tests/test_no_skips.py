"""Where everything is there, a skipped test fails the run."""

from __future__ import annotations

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
    result = run(tmp_path, "-n", processes)
    assert result.returncode == status, result.stdout
    assert ("no server" in result.stdout) == bool(status)


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "tests.no_skips", "--rootdir"]
    return subprocess.run(
        [
            *command,
            folder,
            "-c",
            "/dev/null",
            "-p",
            "no:cacheprovider",
            *options,
            folder,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
