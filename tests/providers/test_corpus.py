"""Recorded traffic is read as the corpus expects."""

from __future__ import annotations

import base64
import collections
import gzip
import json
import random
import re
import typing as t
import zlib
from decimal import Decimal
from urllib.parse import unquote
from urllib.parse import urlsplit

import brotli
import pytest
import zstandard

from flask_llm_cost.call import Reading
from flask_llm_cost.call import Usage
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import read_exchange
from flask_llm_cost.providers import route
from flask_llm_cost.providers.finished import whole_reading
from tests.corpus import body_of
from tests.corpus import load
from tests.corpus import NAMES
from tests.corpus import request_of
from tests.corpus import Row
from tests.corpus import SHARED
from tests.providers.frames import event_frame

pytestmark = pytest.mark.skipif(not SHARED.exists(), reason="no ../shared")


@pytest.fixture(scope="module")
def rows() -> list[tuple[Row, Row | None]]:
    expected = {row["id"]: row for row in load("expected")}
    return [(row, expected.get(row["id"])) for row in load("traffic")]


def hosts(row: Row) -> dict[str, str]:
    """The hosts that an app would have to configure."""
    if row["provider"] in ("local", "gpustack", "ollama"):
        return {urlsplit(row["url"]).netloc: row["provider"]}
    return {}


def read(row: Row) -> Reading | None:
    return read_exchange(
        method=row["method"],
        url=row["url"],
        request_body=request_of(row),
        status=row["status"],
        headers=row["response_headers"],
        body=body_of(row),
        hosts=hosts(row),
    )


def read_in_pieces(
    row: Row, pick: random.Random, largest: int, encoding: str = "identity"
) -> Reading | None:
    found = route(row["method"], row["url"], hosts=hosts(row))
    if found is None:
        return None
    exchange = Exchange(found, request_body=request_of(row))
    headers = {**row["response_headers"], "content-encoding": encoding}
    exchange.begin_response(row["status"], headers)
    body, at = ENCODINGS[encoding](body_of(row)), 0
    while at < len(body):
        size = pick.randint(1, largest)
        exchange.feed(body[at : at + size], decoded=False)
        at += size
    return whole_reading(exchange)


ENCODINGS: dict[str, t.Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda body: bytes(brotli.compress(body, quality=1)),
    "zstd": lambda body: zstandard.ZstdCompressor().compress(body),
}


def side(usage: Usage, field: str, kind: str) -> int:
    """The tokens of a modality on one side, including cached ones."""
    names = (kind, kind.replace("input_", "cache_read_", 1))
    return int(getattr(usage, field)) + sum(usage.other_tokens.get(n, 0) for n in names)


def counts(reading: Reading) -> dict[str, t.Any]:
    """A reading in the terms of the corpus."""
    usage = reading.usage or Usage()
    other = usage.other_tokens
    writes = sum(n for k, n in other.items() if k.startswith("cache_write"))
    reads = sum(n for k, n in other.items() if k.startswith("cache_read"))
    return {
        "input": usage.total_input_tokens,
        "output": usage.total_output_tokens,
        "cache_read": usage.cache_read_tokens + reads,
        "cache_write": usage.cache_write_tokens + usage.cache_write_1h_tokens + writes,
        "cache_write_1h": usage.cache_write_1h_tokens,
        "reasoning": usage.reasoning_tokens,
        "audio_in": side(usage, "input_audio_tokens", "input_audio"),
        "audio_out": usage.output_audio_tokens,
        "image_in": side(usage, "input_image_tokens", "input_image"),
        "image_out": usage.output_image_tokens,
        "web_searches": int(usage.units.get("web_search", 0)),
    }


def identity(reading: Reading, meant: Row) -> t.Iterator[tuple[str, object, object]]:
    """What an answer says about itself, if the corpus has it in a usable form."""
    if meant["model"] not in (None, "arn"):  # an ARN cut at its first colon
        yield "model", reading.model, meant["model"]
    if meant["response_id"] is not None:
        yield "response_id", reading.response_id, str(meant["response_id"])
    if isinstance(meant["service_tier"], str):  # not an enum's number
        yield "service_tier", reading.service_tier, meant["service_tier"]
    if meant["stream"]:  # Gemini's arrays are streams, too
        yield "stream", reading.stream, True


OPENS_PAGES = (
    "test_openai_responses_model_web_search_tool_with_allowed_domains.yaml#0",
    "openai-web-search-tool.1.chunks.txt#0",
)
"""Rows whose expected count includes pages that were opened or searched. OpenAI has a fee
for searches only: https://platform.openai.com/docs/guides/tools-web-search (actions)."""


INVOKED = re.compile(r"bedrock-runtime.*/model/([^/]*anthropic[^/]*)/invoke$")
"""InvokeModel bills the model or inference profile in the URL. The corpus has the vendor's
own name from the body: https://aws.amazon.com/bedrock/pricing (regional profiles)."""


def billed_searches(row: Row, meant: Row) -> int:
    """How many searches have a fee. The corpus counts items of the answer."""
    if row["id"].endswith(OPENS_PAGES):
        return 2
    # These search in every call: https://platform.openai.com/docs/pricing (web search).
    if "-search-preview" in str(meant["model"]):
        return 1
    return int(meant["web_searches"] or 0)


def differences(reading: Reading | None, row: Row, meant: Row) -> list[str]:
    if reading is None or reading.usage is None:
        return ["no usage"]
    name = NAMES.get(row["provider"], row["provider"])
    meant = {**meant, "web_searches": billed_searches(row, meant)}
    invoked = INVOKED.search(row["url"])
    if invoked is not None:
        meant = {**meant, "model": unquote(invoked[1])}
    compared: list[tuple[str, object, object]] = [
        ("provider", reading.provider, name),
        *((n, count, int(meant[n] or 0)) for n, count in counts(reading).items()),
        *identity(reading, meant),
    ]
    return [f"{n}: {is_!r}, not {was!r}" for n, is_, was in compared if is_ != was]


def flaws(reading: Reading | None) -> list[str]:
    """Find what no reading may have, whatever the answer is."""
    if reading is None or reading.usage is None:
        return []
    found = ["reader_error"] if "reader_error" in reading.flags else []
    if reading.usage_source == "unknown":
        found.append("usage from nowhere")
    if reading.usage.reasoning_tokens > reading.usage.total_output_tokens:
        found.append("reasoning beyond output")
    return found


def test_every_exchange_is_read_as_expected(
    rows: list[tuple[Row, Row | None]],
) -> None:
    wrong, checked = {}, 0
    for row, meant in rows:
        reading = read(row)
        found = flaws(reading)
        if meant is not None and not meant.get("ambiguous"):
            checked += 1
            found += differences(reading, row, meant)
        if found:
            wrong[row["id"]] = found
    print(f"\n{checked} exchanges of {len(rows)} checked")  # noqa: T201
    assert checked > 2000
    assert not wrong


def test_reported_costs_are_the_billed_ones(
    rows: list[tuple[Row, Row | None]],
) -> None:
    by_id = {row["id"]: row for row, _ in rows}
    checked = 0
    for truth in load("cost_truth"):
        row = by_id.get(truth["source"])
        if row is not None and truth["kind"] == "provider-reported":
            reading = read(row)
            assert reading is not None
            billed = Decimal(str(truth["expected_cost_usd"]))
            assert reading.reported_cost == billed, row["id"]
            checked += 1
    assert checked > 50


@pytest.mark.parametrize(("seed", "largest"), [(1, 2000), (2, 90)])
def test_any_chunks_read_the_same(
    rows: list[tuple[Row, Row | None]], seed: int, largest: int
) -> None:
    pick = random.Random(seed)
    wrong = [
        row["id"]
        for row, meant in rows
        if meant is not None and read_in_pieces(row, pick, largest) != read(row)
    ]
    assert not wrong


def test_byte_by_byte_reads_the_same(rows: list[tuple[Row, Row | None]]) -> None:
    """Some of each kind; all of them are in the stress test below."""
    pick = random.Random(3)
    kinds = collections.defaultdict(list)
    for row, meant in rows:
        if meant is not None and len(row["response_body"]) < 20_000:
            kinds[row["provider"], row["endpoint_family"], meant["stream"]].append(row)
    wrong = [
        row["id"]
        for alike in kinds.values()
        for row in pick.sample(alike, min(len(alike), 12))
        if read_in_pieces(row, pick, 1) != read(row)
    ]
    assert len(kinds) > 30
    assert not wrong


def wire(row: Row) -> bytes:
    """Rebuild the frames of a recorded event stream."""
    frames = b""
    for line in row["response_body"].splitlines():
        event = json.loads(line)
        payload = json.dumps(event["data"]).encode()
        if event["event"] == "chunk" and "bytes" not in event["data"]:
            payload = json.dumps({"bytes": base64.b64encode(payload).decode()}).encode()
        frames += event_frame(event["event"], payload)
    return frames


def test_event_streams_read_the_same_in_their_frames(
    rows: list[tuple[Row, Row | None]],
) -> None:
    pick, checked = random.Random(4), 0
    for row, meant in rows:
        if meant is None or row["body_encoding"] != "aws-eventstream-decoded-jsonl":
            continue
        found = route(row["method"], row["url"])
        assert found is not None
        exchange = Exchange(found, request_body=None)
        exchange.begin_response(200, row["response_headers"])
        body, at = wire(row), 0
        while at < len(body):
            size = pick.randint(1, 400)
            exchange.feed(body[at : at + size], decoded=True)
            at += size
        assert exchange.reading(ended=True) == read(row), row["id"]
        checked += 1
    assert checked > 20


@pytest.mark.stress
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("largest", [1, 17, 300, 5000, 1 << 20])
def test_any_encoding_in_any_pieces_reads_the_same(
    rows: list[tuple[Row, Row | None]], encoding: str, largest: int
) -> None:
    pick = random.Random(largest)
    wrong = [
        row["id"]
        for row, meant in rows
        if meant is not None
        and (largest > 1 or len(row["response_body"]) < 20_000)
        and read_in_pieces(row, pick, largest, encoding) != read(row)
    ]
    assert not wrong


def damaged(row: Row, pick: random.Random) -> bytes:
    body = bytearray(body_of(row))
    for _ in range(pick.randint(0, 4)):
        body[pick.randrange(len(body))] = pick.randrange(256)
    return bytes(body[: pick.randint(0, len(body))])


@pytest.mark.parametrize(
    "seed", [pytest.param(5), pytest.param(6, marks=pytest.mark.stress)]
)
def test_damaged_traffic_raises_no_error(
    rows: list[tuple[Row, Row | None]], seed: int
) -> None:
    pick = random.Random(seed)
    for row, meant in rows:
        if meant is None or not row["response_body"]:
            continue
        reading = read_exchange(
            method=row["method"],
            url=row["url"],
            request_body=request_of(row),
            status=200,
            headers={},
            body=damaged(row, pick),
            hosts=hosts(row),
        )
        assert reading is not None
        assert "reader_error" not in reading.flags
        assert reading.usage is None or reading.usage.total_tokens >= 0
