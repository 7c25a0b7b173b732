"""The quickstart runs as it is printed, and ends with a priced call on the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docs" / "quickstart.py"


def test_the_readme_shows_the_file_of_the_docs() -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M
    )
    assert blocks == [FILE.read_text("utf-8")]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The quickstart, started with the command of the docs in an empty folder."""
    (tmp_path / "quickstart.py").write_text(FILE.read_text("utf-8"), "utf-8")
    keyless = {k: v for k, v in os.environ.items() if k != "OPENAI_API_KEY"}
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", "quickstart", "run", "-p", "0"],
            cwd=tmp_path,
            env=keyless | {"PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield found[0]
    finally:
        process.terminate()
        process.wait(20)


def test_the_quickstart_ends_with_a_priced_call(url: str) -> None:
    page = requests.get(url, timeout=30)
    assert page.status_code == 200
    assert page.url == f"{url}/llm-costs/calls"
    row = page.text[page.text.index("<tbody") : page.text.index("</tbody>")]
    assert "gpt-4o-mini" in row
    assert "quickstart" in row
    assert re.search(r"\$0\.0000\d", row)
