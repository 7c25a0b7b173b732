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

OURS = {"google": "gemini"}
"""Provider names that differ here."""


def _lines(name: str) -> list[Row]:
    path = SHARED / "corpus" / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip("no ../shared")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@functools.cache
def exchanges(
    providers: tuple[str, ...], endpoints: tuple[str, ...]
) -> list[tuple[Row, Row]]:
    """HTTP rows with the usage that they mean, without the ambiguous ones."""
    expected = {row["id"]: row for row in _lines("expected")}
    return [
        (row, expected[row["id"]])
        for row in _lines("traffic")
        if row["provider"] in providers
        and row["endpoint_family"] in endpoints
        and row["method"] != "WS"
        and row["id"] in expected
        and not expected[row["id"]].get("ambiguous")
    ]


def body_of(row: Row) -> bytes:
    """The content-decoded body of the answer."""
    return t.cast(str, row["response_body"]).encode()


def request_of(row: Row) -> bytes:
    body = row["request_body"]
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()
