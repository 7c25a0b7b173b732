"""Recorded exchanges with LLM APIs and the usage each means, as shared test data."""

from __future__ import annotations

import functools
import gzip
import json
import typing as t
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"

Row = dict[str, t.Any]

LINE = (
    "openai.chat",
    "openai.responses",
    "openai.completions",
    "openai.embeddings",
    "anthropic.messages",
    "gemini.generateContent",
    "gemini.streamGenerateContent",
)
"""The endpoints of the first line through the house."""


def providers() -> tuple[str, ...]:
    """Every provider that HTTP exchanges with a known meaning are recorded of."""
    return tuple(sorted({row["provider"] for row, _ in _pairs()}))


OURS = {"google": "gemini"}
"""Provider names that differ here."""


def _lines(name: str) -> list[Row]:
    path = SHARED / "corpus" / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip("no ../shared")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@functools.cache
def _pairs() -> list[tuple[Row, Row]]:
    expected = {row["id"]: row for row in _lines("expected")}
    return [
        (row, expected[row["id"]])
        for row in _lines("traffic")
        if row["method"] != "WS"
        and row["id"] in expected
        and not expected[row["id"]].get("ambiguous")
    ]


def exchanges(
    providers: tuple[str, ...], endpoints: tuple[str, ...] | None = None
) -> list[tuple[Row, Row]]:
    """HTTP rows with the usage that they mean, without the ambiguous ones."""
    return [
        (row, expected)
        for row, expected in _pairs()
        if row["provider"] in providers
        and (endpoints is None or row["endpoint_family"] in endpoints)
    ]


def body_of(row: Row) -> bytes:
    """The content-decoded body of the answer."""
    return t.cast(str, row["response_body"]).encode()


def request_of(row: Row) -> bytes:
    body = row["request_body"]
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()
