"""``prices sync`` and ``prices check`` against a server that works or misbehaves."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from tests.conftest import MakeApp
from tests.prices.test_sync import Reply
from tests.prices.test_sync import Source
from tests.prices.test_sync import source as source
from tests.prices.test_sync import upstream

STORED = Path(__file__).resolve().parents[3] / "shared" / "prices"
BIG = 200 * 1024 * 1024

Prices = Callable[..., Result]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"openai/gpt-4o": {"input": 2, "output": 10}}))
    return path


@pytest.fixture
def app(make_app: MakeApp, source: Source, file: Path) -> Flask:
    return make_app(
        LLM_COST_PRICES_FILE=str(file),
        LLM_COST_PRICE_SOURCES={
            "litellm": source.url("/litellm"),
            "openrouter": source.url("/openrouter"),
        },
    )


@pytest.fixture
def prices(app: Flask) -> Prices:
    return lambda *args: app.test_cli_runner().invoke(
        args=["llm-cost", "prices", *args]
    )


def serve(source: Source) -> None:
    source.says("/litellm", upstream(), etag='"1"')
    source.says("/openrouter", {"data": []}, etag='"2"')


def test_the_stored_sources_are_served_synced_and_then_current(
    prices: Prices, source: Source, file: Path
) -> None:
    if not STORED.exists():
        pytest.skip("no ../shared")
    for name in ("litellm", "openrouter"):
        body = (STORED / f"{name}.json.gz").read_bytes()
        source.replies[f"/{name}"] = (200, {"ETag": f'"{name}"'}, body)
    added = prices("sync", "--add", "anthropic/claude-*", "--add", "openai/gpt-5*")
    assert added.exit_code == 0, added.output
    assert "+ anthropic/claude-haiku-4-5" in added.stdout
    held = json.loads(file.read_text(), parse_float=Decimal)["models"]
    assert len(held) > 20
    again = prices("sync")
    assert again.exit_code == 0, again.output
    assert json.loads(file.read_text(), parse_float=Decimal)["models"] == held
    assert "0 models changed." in again.stdout
    checked = prices("check")
    assert checked.exit_code == 0, checked.output


def test_unchanged_sources_are_not_sent(
    prices: Prices, source: Source, file: Path
) -> None:
    serve(source)
    assert prices("sync").exit_code == 0
    source.asked.clear()
    assert prices("sync").exit_code == 0
    assert source.asked == [("/litellm", '"1"'), ("/openrouter", '"2"')]


FAULTS: dict[str, Reply] = {
    "500": (500, {}, b""),
    "truncated": (200, {}, json.dumps(upstream()).encode()[:60]),
    "short": (200, {"Content-Length": "900"}, b"{}"),
    "to http": (302, {"Location": "http://example.com/prices.json"}, b""),
    "html": (200, {"Content-Type": "text/html"}, b"{}"),
    "an image": (200, {"Content-Type": "image/png"}, b"\x89PNG"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_source_is_named_and_the_file_stays(
    prices: Prices, source: Source, file: Path, fault: str
) -> None:
    before = file.read_bytes()
    source.replies["/litellm"] = source.replies["/openrouter"] = FAULTS[fault]
    synced, checked = prices("sync"), prices("check")
    assert (synced.exit_code, checked.exit_code) == (1, 1)
    assert "litellm" in synced.stderr
    assert "! litellm" in checked.stdout
    assert file.read_bytes() == before


@pytest.mark.parametrize("fault", FAULTS)
def test_one_failing_source_makes_a_sync_partial(
    prices: Prices, source: Source, file: Path, fault: str
) -> None:
    serve(source)
    source.replies["/openrouter"] = FAULTS[fault]
    synced = prices("sync")
    assert synced.exit_code == 0
    assert "~ openai/gpt-4o: input 2 -> 2.5" in synced.stdout
    assert "! openrouter" in synced.stdout
    text = file.read_bytes()
    strict = prices("sync", "--strict")
    assert strict.exit_code == 1
    assert file.read_bytes() == text
    assert prices("check").exit_code == 1


def test_two_hundred_megabytes_are_not_read(
    prices: Prices, source: Source, file: Path
) -> None:
    before = file.read_bytes()
    serve(source)
    source.replies["/litellm"] = (200, {"Content-Length": str(BIG)}, bytes(BIG))
    strict = prices("sync", "--strict")
    assert strict.exit_code == 1
    assert "more than 33,554,432 bytes" in strict.stderr
    assert file.read_bytes() == before


def test_concurrent_syncs_lose_nothing(app: Flask, source: Source, file: Path) -> None:
    names = [f"gpt-{number}" for number in range(4)]
    entry = upstream()["gpt-4o"]
    source.says("/litellm", {name: entry for name in names})
    source.says("/openrouter", {"data": []})
    code = (
        "import sys; from pathlib import Path; from flask_llm_cost.prices.sync import sync;"
        "sys.stdin.readline(); sync(Path(sys.argv[1]), {'litellm': sys.argv[2]},"
        " add=[sys.argv[3]])"
    )
    args = [str(file), source.url("/litellm")]
    syncs = [
        subprocess.Popen(
            [sys.executable, "-c", code, *args, f"openai/{name}"], stdin=subprocess.PIPE
        )
        for name in names
    ]
    threads = [
        threading.Thread(target=each.communicate, args=(b"\n",)) for each in syncs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.returncode for each in syncs] == [0, 0, 0, 0]
    held = json.loads(file.read_text(), parse_float=Decimal)["models"]
    assert {f"openai/{name}" for name in names} <= set(held)


def test_a_read_only_file_is_reported(
    prices: Prices, source: Source, file: Path
) -> None:
    serve(source)
    file.chmod(0o444)
    synced = prices("sync")
    assert synced.exit_code == 1
    assert "it is read-only" in synced.stderr
    assert prices("check").exit_code == 1  # which does not write


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """Mount a disk of 64 KB, and yield whether that is permitted."""
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    try:
        yield made.returncode == 0
    finally:
        if made.returncode == 0:
            subprocess.run(["umount", str(folder)], check=True)


def _sync_within(
    path: Path, url: str, limit: int | None
) -> subprocess.CompletedProcess[str]:
    """Sync in a process of its own, with a limit to the size of files it may write."""
    code = (
        "import sys; from pathlib import Path; from flask_llm_cost.prices.sync import sync;"
        "sync(Path(sys.argv[1]), {'litellm': sys.argv[2]})"
    )

    def confine() -> None:
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-B", "-c", code, str(path), url],
        capture_output=True,
        text=True,
        preexec_fn=confine,
        check=False,
    )


@pytest.mark.parametrize("how", ["a disk", "a limit"])
def test_a_full_disk_leaves_the_file_as_it_was(
    tmp_path: Path, source: Source, how: str
) -> None:
    url = source.says("/litellm", upstream())
    folder = tmp_path / "disk"
    folder.mkdir()
    with (
        _small_disk(folder) if how == "a disk" else contextlib.nullcontext(False) as own
    ):
        path = folder / "prices.json"
        path.write_text(
            json.dumps({"openai/gpt-4o": {"input": 2, "_notes": "x" * 9000}})
        )
        before = path.read_bytes()
        if own:
            with contextlib.suppress(OSError), (folder / "full").open("wb") as full:
                while True:
                    os.write(full.fileno(), bytes(1024))
        # Without permission to mount, the limit of the process applies.
        done = _sync_within(path, url, None if own else 8000)
        assert done.returncode == 1
        assert "PriceSyncError" in done.stderr
        assert ("No space left" if own else "too large") in done.stderr
        assert path.read_bytes() == before
        names = {each.name for each in folder.iterdir()} - {"full"}
        assert names == {"prices.json", ".prices.json.lock"}
