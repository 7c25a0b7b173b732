"""Recorded exchanges with LLM APIs and the usage that each means, as shared test data."""

from __future__ import annotations

import functools
import gzip
import json
import typing as t
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"

Row = dict[str, t.Any]

FIRST_ENDPOINTS = (
    "openai.chat",
    "openai.responses",
    "openai.completions",
    "openai.embeddings",
    "anthropic.messages",
    "gemini.generateContent",
    "gemini.streamGenerateContent",
)
"""The endpoints of the most used providers."""

NAMES = {"google": "gemini"}
"""Providers with another name in the corpus."""


def load(name: str) -> list[Row]:
    """Load a file of the corpus, or skip the test if there is none."""
    path = SHARED / "corpus" / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip("no ../shared")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def providers() -> tuple[str, ...]:
    """Every provider with a recorded HTTP exchange of known usage."""
    return tuple(sorted({row["provider"] for row, _ in _pairs()}))


@functools.cache
def _pairs() -> list[tuple[Row, Row]]:
    expected = {row["id"]: row for row in load("expected")}
    return [
        (row, expected[row["id"]])
        for row in load("traffic")
        if row["method"] != "WS"
        and row["id"] in expected
        and not expected[row["id"]].get("ambiguous")
    ]


def exchanges(
    providers: tuple[str, ...], endpoints: tuple[str, ...] | None = None
) -> list[tuple[Row, Row]]:
    """Unambiguous HTTP exchanges, each with its expected usage."""
    return [
        (row, expected)
        for row, expected in _pairs()
        if row["provider"] in providers
        and (endpoints is None or row["endpoint_family"] in endpoints)
    ]


def body_of(row: Row) -> bytes:
    """The answer's body, with its content encoding undone."""
    return t.cast(str, row["response_body"]).encode()


def request_of(row: Row) -> bytes:
    """The request's body."""
    body = row["request_body"]
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()
