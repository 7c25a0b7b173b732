"""The usage of streams that report none is estimated, if the app wants it."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import sys
import types
import typing as t
from pathlib import Path

import pytest
import tiktoken
import tiktoken.load
import tiktoken.registry
from flask import Flask

from flask_llm_cost.call import Reading
from flask_llm_cost.call import Usage
from flask_llm_cost.providers import estimate
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import route

CHAT = "https://api.openai.com/v1/chat/completions"
REQUEST = {
    "model": "gpt-4o",
    "stream": True,
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "x" * 40},
                {
                    "type": "image_url",
                    "image_url": {"url": "data:image/png;base64,AAAA"},
                },
            ],
        }
    ],
}


def chunk(**members: t.Any) -> dict[str, t.Any]:
    return {"id": "c1", "model": "gpt-4o-1", **members}


CHUNKS = [
    chunk(choices=[{"delta": {"role": "assistant", "content": ""}}]),
    *(chunk(choices=[{"delta": {"content": "four"}}]) for _ in range(9)),
    chunk(choices=[{"delta": {"tool_calls": [{"function": {"arguments": "fours"}}]}}]),
]


def follow(
    chunks: list[dict[str, t.Any]], *, estimate: bool = True, url: str = CHAT
) -> Reading:
    found = route("POST", url)
    assert found is not None
    body = json.dumps(REQUEST).encode()
    exchange = Exchange(found, request_body=body)
    if estimate:
        exchange.use_estimate()
    exchange.begin_response(200, {})
    for each in chunks:
        exchange.feed(b"data: " + json.dumps(each).encode() + b"\n\n", decoded=True)
    return exchange.reading(ended=True)


def test_four_characters_are_a_token() -> None:
    reading = follow(CHUNKS)
    assert reading.usage == Usage(input_tokens=1010, output_tokens=11)
    assert reading.usage_source == "estimated"
    assert reading.flags == {"estimated"}


def test_without_the_option_usage_is_unknown() -> None:
    reading = follow(CHUNKS, estimate=False)
    assert (reading.usage, reading.usage_source) == (None, "unknown")


def test_reported_usage_takes_precedence() -> None:
    told = chunk(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 1})
    reading = follow([*CHUNKS, told])
    assert reading.usage == Usage(input_tokens=7, output_tokens=1)
    assert (reading.usage_source, reading.flags) == ("stream_final", frozenset())


def test_responses_show_their_text_in_deltas() -> None:
    deltas = [{"type": "response.output_text.delta", "delta": "four"}] * 3
    reading = follow(deltas, url="https://api.openai.com/v1/responses")
    assert reading.usage == Usage(input_tokens=1010, output_tokens=3)


def test_nothing_is_estimated_without_visible_text() -> None:
    assert follow([]).usage is None


def test_an_encoding_that_the_app_has_loaded_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Words:
        def encode(self, text: str, **options: object) -> list[str]:
            return list(text)

    registry = types.ModuleType("tiktoken.registry")
    registry.ENCODINGS = {"o200k_base": Words()}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tiktoken.registry", registry)
    assert follow(CHUNKS).usage == Usage(input_tokens=1040, output_tokens=41)


ADDRESS = "https://encodings.invalid/tiny.tiktoken"
# Every byte is a token, and so is "four".
RANKS = [bytes([n]) for n in range(256)] + [b"fo", b"ur", b"four"]
TINY = b"".join(base64.b64encode(w) + b" %d\n" % n for n, w in enumerate(RANKS))
DIGEST = hashlib.sha256(TINY).hexdigest()


def tiny() -> dict[str, t.Any]:
    ranks = tiktoken.load.load_tiktoken_bpe(ADDRESS, expected_hash=DIGEST)
    return {
        "name": "o200k_base",
        "pat_str": r"\w+|\W",
        "mergeable_ranks": ranks,
        "special_tokens": {},
    }


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """tiktoken with a tiny encoding and without a network."""
    tiktoken.registry._find_constructors()
    monkeypatch.setitem(tiktoken.registry.ENCODING_CONSTRUCTORS, "o200k_base", tiny)
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    monkeypatch.setattr(estimate, "_FILES", {"o200k_base": (ADDRESS, DIGEST)})
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))

    def refuse(*args: object, **options: object) -> t.NoReturn:
        raise AssertionError("it went to the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tmp_path


def put(folder: Path, data: bytes) -> Path:
    path = folder / hashlib.sha1(ADDRESS.encode()).hexdigest()
    path.write_bytes(data)
    return path


def test_a_cached_encoding_is_loaded_and_used(folder: Path) -> None:
    put(folder, TINY)
    assert estimate.load_encoding() == "o200k_base"
    # 40 letters, each a token; nine times "four", and "four" with an "s".
    assert follow(CHUNKS).usage == Usage(input_tokens=1040, output_tokens=11)


@pytest.mark.parametrize("data", [None, b"", TINY[:-9]])
def test_a_missing_encoding_is_not_downloaded(folder: Path, data: bytes | None) -> None:
    path = folder / "none" if data is None else put(folder, data)
    assert estimate.load_encoding() is None
    assert follow(CHUNKS).usage == Usage(input_tokens=1010, output_tokens=11)
    assert path.exists() is (data is not None)


def test_a_long_run_of_one_letter_is_counted_in_pieces(folder: Path) -> None:
    put(folder, TINY)
    estimate.load_encoding()
    long = chunk(choices=[{"delta": {"content": "four" * 50_000}}])
    usage = follow([long]).usage
    assert usage is not None
    assert usage.output_tokens == 50_000


def test_setting_up_an_app_loads_the_encoding(
    folder: Path, make_app: t.Callable[..., Flask]
) -> None:
    put(folder, TINY)
    make_app()
    assert not tiktoken.registry.ENCODINGS
    make_app(LLM_COST_ESTIMATE_USAGE=True)
    assert "o200k_base" in tiktoken.registry.ENCODINGS


_EVENT: t.Final = b'data: {"choices":[{"delta":{"content":"word"}}]}\n\n'


def test_text_is_counted_only_when_an_estimate_is_needed() -> None:
    text = estimate.Estimate()
    for _ in range(100):
        text.feed_events(_EVENT)
    assert text._output == 0
    used = text.usage(None, None, cut=False)
    assert used is not None
    assert used.output_tokens == 100


def test_no_more_than_64_kb_wait_to_be_counted() -> None:
    text = estimate.Estimate()
    for _ in range(5000):
        text.feed_events(_EVENT)
        assert sum(map(len, text._unread)) <= 64 * 1024
    used = text.usage(None, None, cut=False)
    assert used is not None
    assert used.output_tokens == 5000
