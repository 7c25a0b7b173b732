from __future__ import annotations

import datetime as dt
import json
import logging
import os
import threading
import time
import typing as t
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from flask_llm_cost import PriceFileError
from flask_llm_cost import PriceSyncError
from flask_llm_cost import Usage
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.prices.check import check
from flask_llm_cost.prices.document import digest
from flask_llm_cost.prices.document import written
from flask_llm_cost.prices.fetch import fetch
from flask_llm_cost.prices.fetch import FetchResult
from flask_llm_cost.prices.layers import bundled_layer
from flask_llm_cost.prices.meters import RateKey
from flask_llm_cost.prices.sync import fetch_all
from flask_llm_cost.prices.sync import read_document
from flask_llm_cost.prices.sync import sync

NOW = dt.datetime(2026, 11, 22, 6, 30, tzinfo=dt.UTC)
Reply = tuple[int, dict[str, str], bytes]


class Source:
    """A price source on loopback, with replies that a test sets."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.delay = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.headers.get("If-None-Match")
                outer.asked.append((self.path, known))
                status, headers, body = outer.replies[self.path]
                if known is not None and known == headers.get("ETag"):
                    status, body = 304, b""
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                time.sleep(outer.delay)
                try:
                    self.wfile.write(body)
                except OSError:
                    logging.getLogger(__name__).debug("the client is gone")

            def log_message(self, format: str, *args: object) -> None:
                logging.getLogger(__name__).debug(format, *args)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def says(self, path: str, document: object, etag: str | None = None) -> str:
        headers = {"Content-Type": "application/json"}
        if etag is not None:
            headers["ETag"] = etag
        self.replies[path] = (200, headers, json.dumps(document).encode())
        return self.url(path)

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def source() -> Iterator[Source]:
    server = Source()
    yield server
    server.close()


def upstream(input_cost: object = 2.5e-06, **fields: object) -> dict[str, t.Any]:
    entry = {
        "litellm_provider": "openai",
        "mode": "chat",
        "input_cost_per_token": input_cost,
        "output_cost_per_token": 1e-05,
    }
    return {"gpt-4o": {**entry, **fields}}


def write(path: Path, models: dict[str, t.Any]) -> Path:
    path.write_text(json.dumps({"metadata": {"mine": 1}, "models": models}))
    return path


def models(path: Path) -> dict[str, t.Any]:
    return t.cast(
        "dict[str, t.Any]",
        json.loads(path.read_bytes(), parse_float=Decimal)["models"],
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(
        tmp_path / "prices.json", {"openai/gpt-4o": {"input": 2, "output": 10}}
    )


def test_a_changed_rate_becomes_a_dated_one_and_the_old_stays(
    path: Path, source: Source
) -> None:
    made = sync(path, {"litellm": source.says("/l", upstream(), "v1")}, now=NOW)
    old, new = models(path)["openai/gpt-4o"]
    assert old == {"input": 2, "output": 10}
    assert (new["input"], new["valid_from"]) == (Decimal("2.5"), "2026-11-22T06:30:00Z")
    assert (new["_source"], new["_source_version"]) == ("litellm", "v1")
    assert made.lines == ("~ openai/gpt-4o: input 2 -> 2.5",)


def test_what_a_sync_wrote_is_a_price_file(path: Path, source: Source) -> None:
    sync(path, {"litellm": source.says("/l", upstream())}, now=NOW)
    book = PriceBook.load(path)
    usage = Usage(input_tokens=1_000_000)
    costs = [
        book.cost("openai", "gpt-4o", usage, at=NOW + dt.timedelta(minutes=n))
        for n in (-1, 0)
    ]
    assert [cost and cost.total_usd for cost in costs] == [2, Decimal("2.5")]
    assert book.updated_at == NOW.date()


def test_the_previous_version_is_kept(path: Path, source: Source) -> None:
    before = path.read_bytes()
    sync(path, {"litellm": source.says("/l", upstream())}, now=NOW)
    assert path.with_name("prices.json.bak").read_bytes() == before


def test_a_preview_writes_nothing(path: Path, source: Source) -> None:
    before = path.read_bytes()
    made = sync(path, {"litellm": source.says("/l", upstream())}, preview=True)
    assert made.changes
    assert path.read_bytes() == before


def test_gaps_are_filled_in_place(path: Path, source: Source) -> None:
    document = upstream(2e-06, cache_read_input_token_cost=1e-06)
    sync(path, {"litellm": source.says("/l", document)}, now=NOW)
    entry = models(path)["openai/gpt-4o"]
    assert (entry["input"], entry["cache_read"]) == (2, 1)


def test_the_files_own_spelling_and_keys_stay(tmp_path: Path, source: Source) -> None:
    mine = {
        "input": 2.5,
        "output": 10,
        "cached_input": 1,
        "web_search": 9,
        "_notes": "x",
    }
    path = write(tmp_path / "p.json", {"gpt-4o": mine})
    document = upstream(cache_read_input_token_cost=1.25e-06)
    sync(path, {"litellm": source.says("/l", document)}, now=NOW)
    new = models(path)["gpt-4o"][1]
    assert (new["cached_input"], new["web_search"], new["_notes"]) == (
        Decimal("1.25"),
        9,
        "x",
    )
    assert "cache_read" not in new


def test_manual_entries_and_wildcards_are_untouched(
    tmp_path: Path, source: Source
) -> None:
    entries = {
        "openai/gpt-4o": {"input": 1, "_source": "manual"},
        "openai/*": {"multiplier": 0.5},
    }
    path = write(tmp_path / "p.json", entries)
    made = sync(path, {"litellm": source.says("/l", upstream())}, now=NOW)
    assert made.up_to_date
    assert models(path) == {
        "openai/*": {"multiplier": Decimal("0.5")},
        "openai/gpt-4o": {"input": 1, "_source": "manual"},
    }


OFF_PEAK = {
    "windows": [
        {"hours_utc": ["16:30-00:30"], "weekdays": [1, 2, 3]},
        {"hours_utc": ["00:00-24:00"], "weekdays": [6, 7]},
    ],
    "input_cost_per_token": 1e-06,
}


def test_a_changed_multiplier_is_updated_and_custom_ones_stay(
    tmp_path: Path, source: Source
) -> None:
    entry = {"input": 2.5, "output": 10, "multipliers": {"region.us": 1.1, "mine": 2}}
    path = write(tmp_path / "p.json", {"openai/gpt-4o": entry})
    url = source.says("/l", upstream(regional_processing_uplift_multiplier_us=1.2))
    made = sync(path, {"litellm": url}, now=NOW)
    assert made.lines == ("~ openai/gpt-4o: multipliers.region.us 1.1 -> 1.2",)
    old, new = models(path)["openai/gpt-4o"]
    assert old["multipliers"] == {"region.us": Decimal("1.1"), "mine": 2}
    assert new["multipliers"] == {"region.us": Decimal("1.2"), "mine": 2}
    assert new["valid_from"] == "2026-11-22T06:30:00Z"
    assert sync(path, {"litellm": url}, now=NOW).changes == ()


def test_a_multiplier_is_held_back_and_rejected_like_a_rate(
    tmp_path: Path, source: Source
) -> None:
    entry = {"input": 2.5, "output": 10, "multipliers": {"region.us": 1.1}}
    path = write(tmp_path / "p.json", {"openai/gpt-4o": entry})
    for factor, line in (
        (11, "held back, multipliers.region.us changes from 1.1 to 11"),
        (0, "rejected, multipliers.region.us falls to 0"),
    ):
        says = upstream(regional_processing_uplift_multiplier_us=factor)
        made = sync(path, {"litellm": source.says("/l", says)}, now=NOW)
        assert line in made.lines[0]
        assert models(path)["openai/gpt-4o"]["multipliers"]["region.us"] == Decimal(
            "1.1"
        )


def test_windows_are_replaced_by_the_sources(path: Path, source: Source) -> None:
    sources = {"litellm": source.says("/l", upstream(2e-06, off_peak_pricing=OFF_PEAK))}
    made = sync(path, sources, now=NOW)
    first = "input at 16:30-00:30 on 1,2,3"
    assert made.lines == (
        "~ openai/gpt-4o: input at 00:00-24:00 on 6,7 none -> 1",
        f"~ openai/gpt-4o: {first} none -> 1",
    )
    # Until now, the standard rate applied at these hours, too.
    before, since = models(path)["openai/gpt-4o"]
    assert before == {"input": 2, "output": 10}
    assert [each["input"] for each in since["windows"]] == [1, 1]
    assert sync(path, sources, now=NOW).changes == ()
    only = {**OFF_PEAK, "windows": OFF_PEAK["windows"][1:]}  # type: ignore[index]
    source.says("/l", upstream(2e-06, off_peak_pricing=only))
    made = sync(path, sources, now=NOW + dt.timedelta(days=1))
    assert made.lines == (f"~ openai/gpt-4o: {first} 1 -> none",)
    assert len(models(path)["openai/gpt-4o"][-1]["windows"]) == 1


def test_windows_written_differently_are_no_change(
    tmp_path: Path, source: Source
) -> None:
    windows = [
        {"hours": "16:30-0:30", "weekdays": ["3", "2", "1"], "input": "1.00"},
        {"hours": ["0:00-24:00"], "weekdays": [7, 6], "input": 1},
    ]
    entry = {"input": 2, "output": 10, "windows": windows}
    path = write(tmp_path / "p.json", {"openai/gpt-4o": entry})
    says = upstream(2e-06, off_peak_pricing=OFF_PEAK)
    made = sync(path, {"litellm": source.says("/l", says)}, now=NOW)
    assert made.changes == ()
    assert models(path) == {"openai/gpt-4o": {**entry, "windows": windows}}


def test_float_noise_is_no_change(tmp_path: Path, source: Source) -> None:
    path = write(tmp_path / "p.json", {"openai/gpt-4o": {"input": 0.1, "output": 10}})
    document = upstream(1.0000000000000001e-07)
    assert sync(path, {"litellm": source.says("/l", document)}, now=NOW).up_to_date


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"input_cost_per_token": -1}, "is -1, which is not a valid price"),
        ({"input_cost_per_token": "free"}, "is free, which is not a valid price"),
        ({"input_cost_per_token": 0}, "input falls to 0"),
        ({"input_cost_per_token_batches": 3e-06}, "above the standard"),
        ({"input_cost_per_token": 1}, "more than 5000 USD"),
    ],
)
def test_an_invalid_price_is_rejected_with_a_reason(
    path: Path, source: Source, fields: dict[str, t.Any], reason: str
) -> None:
    before = models(path)
    document = (
        upstream(**fields)
        if "input_cost_per_token" not in fields
        else {"gpt-4o": {**upstream()["gpt-4o"], **fields}}
    )
    made = sync(path, {"litellm": source.says("/l", document)}, now=NOW)
    assert reason in made.rejected["openai/gpt-4o"]
    assert models(path) == before
    assert not made.up_to_date


def test_one_bad_entry_does_not_stop_the_others(tmp_path: Path, source: Source) -> None:
    entries = {"openai/gpt-4o": {"input": 2, "output": 10}, "openai/bad": {"input": 1}}
    path = write(tmp_path / "p.json", entries)
    bad = {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": -5}
    document = {**upstream(), "bad": bad}
    made = sync(path, {"litellm": source.says("/l", document)}, now=NOW)
    assert list(made.rejected) == ["openai/bad"]
    assert {change.model for change in made.changes} == {"openai/gpt-4o"}


def test_a_jump_is_held_back_until_it_is_accepted(path: Path, source: Source) -> None:
    url = source.says("/l", upstream(7e-06), "v1")
    made = sync(path, {"litellm": url}, now=NOW)
    assert "more than threefold" in made.held_back["openai/gpt-4o"]
    assert sync(path, {"litellm": url}, now=NOW).held_back
    accepted = sync(path, {"litellm": url}, now=NOW, accept=["openai/gpt-4o"])
    assert accepted.changes
    assert models(path)["openai/gpt-4o"][1]["input"] == 7


def test_strict_writes_nothing_if_anything_is_wrong(path: Path, source: Source) -> None:
    before = path.read_bytes()
    with pytest.raises(PriceSyncError, match="openai/gpt-4o was held back"):
        sync(path, {"litellm": source.says("/l", upstream(7e-06))}, strict=True)
    assert path.read_bytes() == before


def test_models_that_no_source_lists_any_more_stay(
    tmp_path: Path, source: Source
) -> None:
    path = write(tmp_path / "p.json", {"openai/gone": {"input": 1}})
    made = sync(path, {"litellm": source.says("/l", upstream())}, now=NOW)
    assert made.orphaned == ("openai/gone",)
    assert models(path) == {"openai/gone": {"input": 1}}


def test_models_are_added_by_glob(tmp_path: Path, source: Source) -> None:
    path = tmp_path / "new.json"
    url = source.says("/l", upstream())
    made = sync(path, {"litellm": url}, now=NOW, add=["openai/*", "groq/*"])
    assert made.added == ("openai/gpt-4o",)
    assert models(path)["openai/gpt-4o"]["input"] == Decimal("2.5")


def test_an_unchanged_source_sends_nothing(path: Path, source: Source) -> None:
    url = source.says("/l", upstream(), "v1")
    sync(path, {"litellm": url}, now=NOW)
    again = sync(path, {"litellm": url}, now=NOW + dt.timedelta(days=1))
    assert source.asked == [("/l", None), ("/l", "v1")]
    assert again.up_to_date
    assert PriceBook.load(path).updated_at == dt.date(2026, 11, 23)


def test_an_edited_file_is_compared_again(path: Path, source: Source) -> None:
    url = source.says("/l", upstream(), "v1")
    sync(path, {"litellm": url}, now=NOW)
    document = json.loads(path.read_bytes())
    document["models"]["gpt-4o"] = {"input": 2}
    path.write_text(json.dumps(document))
    assert sync(path, {"litellm": url}, now=NOW).changes
    assert source.asked[-1] == ("/l", None)


def test_the_second_source_fills_gaps_and_shows_discrepancies(
    path: Path, source: Source
) -> None:
    pricing = {"prompt": "0.000003", "completion": "0.00001"}
    pricing["input_cache_read"] = "0.00000125"
    router = {"data": [{"id": "openai/gpt-4o", "pricing": pricing}]}
    made = sync(
        path,
        {
            "openrouter": source.says("/o", router),
            "litellm": source.says("/l", upstream()),
        },
        now=NOW,
    )
    new = models(path)["openai/gpt-4o"][1]
    assert (new["input"], new["cache_read"]) == (Decimal("2.5"), Decimal("1.25"))
    assert [each.rate for each in made.discrepancies] == ["input"]


def test_one_source_may_fail(path: Path, source: Source) -> None:
    source.replies["/o"] = (500, {}, b"no")
    sources = {"litellm": source.says("/l", upstream()), "openrouter": source.url("/o")}
    made = sync(path, sources, now=NOW)
    assert "500" in made.failed["openrouter"]
    assert made.changes
    assert not made.up_to_date


def test_a_model_waits_for_the_source_that_it_follows(
    tmp_path: Path, source: Source
) -> None:
    entry = {"input": 2.5, "output": 10, "_source": "litellm"}
    path = write(tmp_path / "p.json", {"openai/gpt-4o": entry})
    pricing = {"prompt": "0.000003", "completion": "0.00001"}
    router = {"data": [{"id": "openai/gpt-4o", "pricing": pricing}]}
    source.replies["/l"] = (500, {}, b"")
    sources = {"litellm": source.url("/l"), "openrouter": source.says("/o", router)}
    assert sync(path, sources, now=NOW).changes == ()


def test_all_sources_failing_is_an_error_and_changes_nothing(
    path: Path, source: Source
) -> None:
    before = path.read_bytes()
    source.replies["/l"] = (503, {}, b"")
    with pytest.raises(PriceSyncError, match="litellm responded with 503"):
        sync(path, {"litellm": source.url("/l")}, now=NOW)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((500, {}, b""), "responded with 500"),
        (
            (200, {"Content-Type": "text/html"}, b"<html>"),
            "text/html instead of a price list",
        ),
        ((200, {}, b'{"gpt-4o": {"inp'), "cannot be read"),
        ((200, {}, b"[1]"), "must be a JSON object"),
        ((200, {"Content-Length": "99"}, b"{}"), "99"),
        ((200, {}, b"\x1f\x8bnot gzip"), "not valid gzip"),
        ((302, {"Location": "http://example.com/"}, b""), "must be https"),
        ((302, {"Location": "file:///etc/passwd"}, b""), "is not allowed"),
        ((200, {}, b" " * 3000), "more than 2,000 bytes"),
    ],
)
def test_a_failing_source_has_an_error(
    source: Source, reply: Reply, reason: str
) -> None:
    source.replies["/l"] = reply
    answer = fetch("litellm", source.url("/l"), max_bytes=2000, timeout=5)
    assert answer.sheet is None
    assert reason in str(answer.error)


def test_a_slow_source_times_out(source: Source) -> None:
    source.says("/l", upstream())
    source.delay = 1.0
    answer = fetch("litellm", source.url("/l"), timeout=0.2)
    assert "timed out" in str(answer.error)


def test_a_huge_body_is_not_read_to_its_end(source: Source) -> None:
    source.replies["/l"] = (200, {}, b"x" * 50_000_000)
    seen: list[int] = []
    answer = fetch(
        "litellm",
        source.url("/l"),
        max_bytes=1_000_000,
        progress=lambda name, size: seen.append(size),
    )
    assert "more than 1,000,000 bytes" in str(answer.error)
    assert max(seen, default=0) <= 1_000_000


def test_a_redirect_on_loopback_is_followed(source: Source) -> None:
    source.replies["/l"] = (302, {"Location": source.says("/m", upstream())}, b"")
    assert fetch("litellm", source.url("/l")).sheet is not None


@pytest.mark.parametrize("where", ["http://example.com/x", "ftp://127.0.0.1/x"])
def test_only_https_leaves_the_machine(where: str) -> None:
    assert "must be https" in str(fetch("litellm", where).error)


def test_a_source_may_be_a_path(tmp_path: Path) -> None:
    (tmp_path / "l.json").write_text(json.dumps(upstream()))
    assert fetch("litellm", str(tmp_path / "l.json")).sheet is not None
    missing = fetch("litellm", str(tmp_path / "none.json"))
    assert missing.error == "cannot be read: No such file or directory"


def test_an_unknown_source_is_named() -> None:
    assert "is not a known source; known sources: litellm" in str(
        fetch("prices.example", "x").error
    )


def test_syncs_of_one_file_wait_for_each_other(path: Path, source: Source) -> None:
    sources = {"litellm": source.says("/l", upstream())}
    source.delay = 0.05
    made: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: made.append(len(sync(path, sources, now=NOW).changes))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [0, 0, 0, 1]
    assert len(models(path)["openai/gpt-4o"]) == 2


def test_a_read_only_file_is_left_alone(path: Path, source: Source) -> None:
    before = path.read_bytes()
    path.chmod(0o444)
    with pytest.raises(PriceSyncError, match="cannot be written: it is read-only"):
        sync(path, {"litellm": source.says("/l", upstream())}, now=NOW)
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_old_file(
    path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PriceSyncError, match="No space left"):
        sync(path, {"litellm": source.says("/l", upstream())}, now=NOW)
    assert path.read_bytes() == before
    names = {each.name for each in path.parent.iterdir()}
    assert names == {"prices.json", ".prices.json.lock"}


def test_a_broken_file_is_an_error_before_any_source_is_fetched(
    tmp_path: Path, source: Source
) -> None:
    (tmp_path / "p.json").write_text("{oops")
    with pytest.raises(PriceFileError, match="is not valid JSON"):
        sync(tmp_path / "p.json", {"litellm": source.url("/l")})
    assert source.asked == []


YAML = """\
# Prices of the shop. Ask Ada before changing them.
metadata:
  owner: ada   # since May
models:
  openai/gpt-4o:          # the workhorse
    input: 2
    output: 10

  # negotiated
  openai/*: {multiplier: 0.9}
  mine/own: {input: "1.50", output: 3, _source: manual}  # ours
# the end
"""


def test_in_a_yaml_file_only_changed_entries_are_replaced(
    tmp_path: Path, source: Source
) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(YAML)
    url = source.says(
        "/l", upstream(**{"cache_read_input_token_cost": 1e-06}), etag='"1"'
    )
    made = sync(path, {"litellm": url}, now=NOW)
    assert len(made.changes) == 2
    text = path.read_text()
    for line in YAML.splitlines():
        if line.strip() not in ("input: 2", "output: 10", "openai/gpt-4o:"):
            assert line.partition("openai/gpt-4o:")[0].strip() in text
    for kept in ("# Prices of the shop", "# since May", "# negotiated", "# ours"):
        assert kept in text
    book = PriceBook.layered(file=path)
    usage = Usage(input_tokens=1000000)
    before = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    old = book.cost("openai", "gpt-4o", usage, at=before)
    new = book.cost("openai", "gpt-4o", usage, at=NOW)
    assert old is not None
    assert new is not None
    assert (old.total_usd, new.total_usd) == (Decimal("1.8"), Decimal("2.25"))
    again = sync(path, {"litellm": url}, now=NOW)
    assert again.up_to_date
    assert path.read_text() == text
    assert source.asked[-1] == ("/l", '"1"')


@pytest.mark.parametrize(
    "text", ["", "models: {}\n", "models:\n", "# nothing yet\nmodels: {}\n", "{}"]
)
def test_models_are_added_to_a_yaml_file(
    tmp_path: Path, source: Source, text: str
) -> None:
    path = tmp_path / "p.yml"
    path.write_text(text)
    url = source.says("/l", upstream())
    sync(path, {"litellm": url}, now=NOW, add=["openai/*"])
    found = PriceBook.load(path).find("openai", "gpt-4o")
    assert found is not None
    assert found.price.metadata["_source"] == "litellm"
    assert ("# nothing yet" in text) is ("# nothing yet" in path.read_text())


def test_a_yaml_file_that_shares_entries_is_rejected(
    tmp_path: Path, source: Source
) -> None:
    path = tmp_path / "p.yaml"
    text = "models:\n  openai/gpt-4o: &a {input: 2}\n  mine: *a\n"
    path.write_text(text)
    with pytest.raises(PriceSyncError, match=r"entry by entry.*\.json file"):
        sync(path, {"litellm": source.says("/l", upstream())}, now=NOW)
    assert path.read_text() == text


def test_json_is_written_exactly() -> None:
    document = {"a": [Decimal("0.10"), 1, "é"], "b": {}, "c": [], "d": None}
    text = written(document)
    assert json.loads(text, parse_float=Decimal) == document
    assert "0.10" in text


def test_a_file_made_from_the_stored_sources_is_current(
    tmp_path: Path, source: Source
) -> None:
    shared = Path(__file__).resolve().parents[3] / "shared" / "prices"
    if not shared.exists():
        pytest.skip("no ../shared")
    sources = {}
    for name in ("litellm", "openrouter", "genai-prices"):
        body = (shared / f"{name}.json.gz").read_bytes()
        source.replies[f"/{name}"] = (200, {"ETag": f'"{name}"'}, body)
        sources[name] = source.url(f"/{name}")
    path = tmp_path / "p.json"
    made = sync(path, sources, now=NOW, add=["openai/*", "anthropic/*", "gemini/*"])
    assert len(made.added) > 200
    assert made.rejected == {}
    assert sync(path, sources, now=NOW).up_to_date
    book = PriceBook.layered(file=path)
    found = book.find("openai", "gpt-5-mini")
    assert found is not None
    assert found.source == "file"


# Checks


def asked(**urls: str) -> list[FetchResult]:
    return fetch_all(urls, now=NOW)


def test_a_check_passes_when_everything_is_current(path: Path, source: Source) -> None:
    url = source.says("/l", upstream(2e-06))
    sync(path, {"litellm": url}, now=NOW)
    report = check(
        PriceBook.layered(file=path),
        document=read_document(path),
        results=asked(litellm=url),
        used=[("openai", "gpt-4o")],
        now=NOW,
    )
    assert (report.ok, report.exit_code) == (True, 0)
    assert report.lines[-1] == "The prices are current."


def test_a_changed_price_fails_a_check_and_is_shown(path: Path, source: Source) -> None:
    report = check(
        PriceBook.layered(file=path),
        document=read_document(path),
        results=asked(litellm=source.says("/l", upstream())),
        now=NOW,
    )
    assert report.exit_code == 1
    assert report.lines[0] == "~ openai/gpt-4o: input 2 -> 2.5"
    assert report.as_json()["changes"] == [
        {"model": "openai/gpt-4o", "rate": "input", "before": "2", "after": "2.5"}
    ]


def test_a_changed_bundled_price_counts_if_the_model_is_in_use(source: Source) -> None:
    book = PriceBook.bundled()
    answers = asked(litellm=source.says("/l", upstream(3e-06)))
    used = check(book, results=answers, used=[("openai", "gpt-4o-2024-11-20")], now=NOW)
    other = check(book, results=answers, used=[("openai", "gpt-4.1")], now=NOW)
    assert used.ok  # the snapshot has a price of its own
    assert other.ok
    found = check(book, results=answers, used=[("openai", "gpt-4o")], now=NOW)
    assert found.exit_code == 1
    assert any("openai/gpt-4o: input 2.5 -> 3" in line for line in found.lines)
    every = check(
        book, results=answers, used=[("openai", "gpt-4.1")], now=NOW, count_all=True
    )
    assert every.exit_code == 1
    assert any("for 1 other bundled model," in line for line in other.lines)


def test_a_changed_bundled_window_counts_if_the_model_is_in_use(
    source: Source,
) -> None:
    book = PriceBook([bundled_layer()])
    name = "deepseek/deepseek-v4-pro"
    price = book.entries()[name][1].prices[-1]
    (halved,) = {w.rates[RateKey(None, "input", 0)] for w in price.windows}
    says = {
        "deepseek-v4-pro": {
            "litellm_provider": "deepseek",
            "mode": "chat",
            "input_cost_per_token": str(price.rates[RateKey(None, "input", 0)] / 10**6),
            "off_peak_pricing": {
                "windows": [{"hours_utc": ["01:00-02:00"]}],
                "input_cost_per_token": str(halved / 10**6),
            },
        }
    }
    answers = asked(litellm=source.says("/l", says))
    report = check(
        book, results=answers, used=[("deepseek", "deepseek-v4-pro")], now=NOW
    )
    assert report.exit_code == 1
    gone = [line for line in report.lines if f"~ {name}: input at" in line]
    assert gone
    assert all("-> none" in line for line in gone)
    assert (
        json.loads(json.dumps(report.as_json()))["in_use"]["changes"][0]["after"]
        is None
    )


def test_a_failed_source_fails_a_check(path: Path, source: Source) -> None:
    source.replies["/l"] = (500, {}, b"")
    report = check(
        PriceBook.layered(file=path),
        document=read_document(path),
        results=asked(litellm=source.url("/l")),
        now=NOW,
    )
    assert report.exit_code == 1
    assert "responded with 500" in report.as_json()["failed"]["litellm"]


def test_the_stored_sources_agree_with_the_bundled_prices() -> None:
    shared = Path(__file__).resolve().parents[3] / "shared" / "prices"
    if not shared.exists():
        pytest.skip("no ../shared")
    answers = asked(litellm=str(shared / "litellm.json.gz"))
    book = PriceBook.bundled()
    models = [entry.key for _, entry in book.entries().values()]
    report = check(
        book, results=answers, used=[tuple(m.split("/", 1)) for m in models if "/" in m]
    )
    assert report.in_use is not None
    assert dict(report.in_use.rejected) == {}
    assert [(c.model, c.rate) for c in report.in_use.changes] == []


def test_a_model_in_use_without_a_price_fails_a_check() -> None:
    used = [("openai", "made-up"), ("openai", "gpt-4o")]
    report = check(PriceBook.bundled(), used=used, now=NOW)
    assert report.missing == (("openai", "made-up"),)
    assert report.exit_code == 1
    assert json.loads(json.dumps(report.as_json()))["missing"] == ["openai/made-up"]


def test_old_prices_fail_an_offline_check() -> None:
    late = NOW + dt.timedelta(days=40)
    report = check(PriceBook.bundled(), now=late)
    assert report.stale
    assert "run `prices sync`" in report.lines[0]


def test_an_entry_without_rates_fails_a_check(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", {"m": {}, "n": {"input": 1}})
    document = json.loads(path.read_bytes())
    report = check(PriceBook.layered(file=path), document=document, now=NOW)
    assert report.incomplete == ("m",)
    assert not report.ok


# Hostile sources, and files with several spellings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input_cost_per_token", "1e-99999999999999999999"),
        ("input_cost_per_token", "1e400"),
        ("tiered_pricing", "[1]"),
        ("tiered_pricing", '[{"range": 5}]'),
        ("tiered_pricing", '[{"range": {"a": 1}}]'),
        ("off_peak_pricing", '{"windows": 5}'),
        ("off_peak_pricing", '{"windows": [{}]}'),
    ],
)
def test_an_entry_of_an_unexpected_shape_does_not_affect_others(
    tmp_path: Path, field: str, value: str
) -> None:
    path = write(tmp_path / "p.json", {"openai/a": {"input": 2}, "openai/b": RATES})
    upstream = tmp_path / "litellm.json"
    rates = {"input_cost_per_token", "output_cost_per_token"}
    other = max(rates - {field})
    upstream.write_text(
        '{"a": {"litellm_provider": "openai", "input_cost_per_token": 1e-6},'
        f' "b": {{"litellm_provider": "openai", "{field}": {value},'
        f' "{other}": 3e-6}}}}'
    )
    made = sync(path, {"litellm": str(upstream)}, now=NOW)
    assert made.lines[0] == "~ openai/a: input 2 -> 1"
    assert list(made.rejected) == ["openai/b"]
    assert models(path)["openai/b"] == RATES


RATES = {"input": 2, "output": 10}


def test_an_odd_model_of_genai_prices_does_not_affect_others(tmp_path: Path) -> None:
    source = tmp_path / "genai.json"
    good = {"id": "m", "prices": {"input_mtok": 1, "output_mtok": 2}}
    source.write_text(
        json.dumps([5, {"id": "openai", "models": [{"prices": {}}, 7, good]}])
    )
    answer = fetch("genai-prices", str(source), now=NOW)
    assert answer.sheet is not None, answer.error
    assert list(answer.sheet.models) == ["openai/m"]
    assert len(answer.sheet.rejected) == 2


@pytest.mark.parametrize("name", ["gpt\ud800", "gpt\x1b[2J", "gpt\n~ openai/x: input"])
def test_a_name_that_would_forge_the_diff_is_dropped(
    path: Path, source: Source, name: str
) -> None:
    said = upstream() | {name: upstream()["gpt-4o"]}
    made = sync(path, {"litellm": source.says("/l", said)}, now=NOW, add=["*"])
    assert made.added == ()
    assert list(models(path)) == ["openai/gpt-4o"]


def announced(*prices: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    """Return genai-prices' data for a model with an announced price."""
    return [{"id": "openai", "models": [{"id": "gpt-4o", "prices": list(prices)}]}]


def test_an_announced_price_is_used_once_it_is_in_force(
    path: Path, source: Source
) -> None:
    says = announced(
        {"prices": {"input_mtok": 2, "output_mtok": 10}},
        {
            "constraint": {"start_date": "2027-01-01"},
            "prices": {"input_mtok": 3, "output_mtok": 12},
        },
    )
    sources = {"genai-prices": source.says("/g", says)}
    assert sync(path, sources, now=NOW).changes == ()
    then = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
    assert sync(path, sources, now=then).lines == (
        "~ openai/gpt-4o: input 2 -> 3",
        "~ openai/gpt-4o: output 10 -> 12",
    )


def test_a_model_without_a_price_in_force_is_not_added(
    tmp_path: Path, source: Source
) -> None:
    says = announced(
        {
            "constraint": {"start_date": "2027-01-01"},
            "prices": {"input_mtok": 3, "output_mtok": 12},
        }
    )
    path = write(tmp_path / "p.json", {})
    sources = {"genai-prices": source.says("/g", says)}
    made = sync(path, sources, now=NOW, add=["openai/*"])
    assert made.lines == (
        "! openai/gpt-4o: rejected, its first price is not in force yet",
    )
    assert models(path) == {}


def test_a_cache_that_becomes_free_is_rejected_until_accepted(
    tmp_path: Path, source: Source
) -> None:
    held = {"input": 2.5, "output": 10, "cache_read": 1.25}
    path = write(tmp_path / "p.json", {"openai/gpt-4o": held})
    url = source.says("/l", upstream(cache_read_input_token_cost=0))
    made = sync(path, {"litellm": url}, now=NOW)
    assert made.rejected == {"openai/gpt-4o": "cache_read falls to 0"}
    made = sync(path, {"litellm": url}, now=NOW, accept=["openai/gpt-4o"])
    assert models(path)["openai/gpt-4o"][1]["cache_read"] == 0


def test_a_future_price_is_no_change(tmp_path: Path, source: Source) -> None:
    coming = {"valid_from": "2027-01-01", "input": 2, "output": 8}
    entry = [{"input": 2.5, "output": 10}, coming]
    path = write(tmp_path / "p.json", {"openai/gpt-4o": entry})
    made = sync(path, {"litellm": source.says("/l", upstream())}, now=NOW)
    assert made.up_to_date
    sync(path, {"litellm": source.says("/l", upstream(3e-6))}, now=NOW)
    dates = [each.get("valid_from") for each in models(path)["openai/gpt-4o"]]
    assert sorted(dates, key=str) == ["2026-11-22T06:30:00Z", "2027-01-01", None]


def test_two_changes_in_one_second_leave_a_valid_file(
    path: Path, source: Source
) -> None:
    for millis, cost in ((100, 3e-6), (900, 4e-6)):
        moment = NOW + dt.timedelta(milliseconds=millis)
        sync(path, {"litellm": source.says("/l", upstream(cost))}, now=moment)
    found = PriceBook.load(path).find("openai", "gpt-4o", NOW + dt.timedelta(seconds=1))
    assert found is not None
    assert {str(key): rate for key, rate in found.price.rates.items()}["input"] == 4


def test_a_rate_is_changed_under_each_of_its_names(
    tmp_path: Path, source: Source
) -> None:
    held = {"input": 2.5, "output": 10, "cached_input": 1.25, "cache_read_input": 1.25}
    path = write(tmp_path / "p.json", {"openai/gpt-4o": held})
    said = upstream(cache_read_input_token_cost=1e-6)
    sync(path, {"litellm": source.says("/l", said)}, now=NOW)
    new = models(path)["openai/gpt-4o"][1]
    assert (new["cached_input"], new["cache_read_input"]) == (1, 1)


def test_a_link_stays_a_link(path: Path, source: Source) -> None:
    link = path.with_name("link.json")
    link.symlink_to(path.name)
    sync(link, {"litellm": source.says("/l", upstream())}, now=NOW)
    assert link.is_symlink()
    assert models(path)["openai/gpt-4o"][1]["input"] == Decimal("2.5")


def test_a_check_of_all_shows_rejected_prices_of_other_models(source: Source) -> None:
    url = source.says("/l", upstream(-1))
    answers = fetch_all({"litellm": url}, now=NOW)
    report = check(PriceBook.bundled(), results=answers, now=NOW, count_all=True)
    assert report.exit_code == 1
    assert any(line.startswith("! openai/gpt-4o: rejected") for line in report.lines)


def test_a_check_ignores_other_models_if_a_source_failed(tmp_path: Path) -> None:
    answers = fetch_all({"litellm": str(tmp_path / "none.json")}, now=NOW)
    report = check(PriceBook.bundled(), results=answers, now=NOW)
    assert report.exit_code == 1
    assert not any("other bundled model" in line for line in report.lines)


@pytest.mark.parametrize("said", ["x", ["x"], 5, {"litellm": 5}])
def test_handwritten_metadata_does_not_stop_a_sync(
    tmp_path: Path, source: Source, said: object
) -> None:
    held = {"openai/gpt-4o": {"input": 2, "output": 10}}
    path = tmp_path / "p.json"
    metadata = {"sources": said, "synced_sha256": digest(held)}
    path.write_text(json.dumps({"metadata": metadata, "models": held}))
    made = sync(path, {"litellm": source.says("/l", upstream())}, now=NOW)
    assert made.lines == ("~ openai/gpt-4o: input 2 -> 2.5",)


@pytest.mark.parametrize("allowed", [True, 5, None, "skip", ["other"]])
def test_an_unknown_validator_override_allows_nothing(
    tmp_path: Path, source: Source, allowed: object
) -> None:
    held = {"input": 2, "output": 10, "_validator_override": allowed}
    path = write(tmp_path / "p.json", {"openai/gpt-4o": held})
    made = sync(path, {"litellm": source.says("/l", upstream(30e-6))}, now=NOW)
    assert list(made.held_back) == ["openai/gpt-4o"]
