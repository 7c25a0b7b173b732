"""The predecessor's cases hold, with documented exceptions."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.call import Usage
from flask_llm_cost.providers import read_exchange

VECTORS = pathlib.Path(__file__).resolve().parents[3] / "shared" / "vectors"

Case: t.TypeAlias = dict[str, t.Any]


def load(name: str) -> list[t.Any]:
    if not VECTORS.exists():
        return [pytest.param({}, marks=pytest.mark.skip(reason="no ../shared"))]
    cases = json.loads((VECTORS / name).read_text(encoding="utf-8"))["vectors"]
    kinds = (None, "http_stream")
    return [
        pytest.param(case, id=case["id"]) for case in cases if case.get("kind") in kinds
    ]


def read(case: Case) -> Reading | None:
    request = case.get("request_body")
    body = case.get("response_body", case.get("body"))
    return read_exchange(
        method="POST",
        url=case["url"],
        request_body=None if request is None else request.encode(),
        status=case["status"],
        headers={},
        body=(body or "").encode(),
        hosts=case.get("config", {}).get("openai_compatible_providers"),
    )


def said(reading: Reading | None) -> Case | None:
    """A reading in the predecessor's terms, or ``None`` if it recorded nothing."""
    if reading is None:
        return None
    if reading.usage is None and not reading.stream:
        return None
    usage = reading.usage or Usage()
    written = usage.cache_write_tokens + usage.cache_write_1h_tokens
    return {
        "provider": reading.provider,
        "model": reading.model or "unknown",
        "input_tokens": usage.input_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_write_input_tokens": written,
        "output_tokens": usage.total_output_tokens,
        "hidden_output_tokens": usage.reasoning_tokens,
        "total_tokens": usage.total_tokens,
        "response_id": reading.response_id,
        "stream": reading.stream,
        "usage_source": reading.usage_source,
    }


def meant(case: Case) -> Case | None:
    expected: Case | None = case["expected"]
    if expected is None or "exception" in expected:
        return None
    return {
        name: 0 if v is None and "tokens" in name else v for name, v in expected.items()
    }


TRACKED = {
    "input_tokens": 1,
    "cache_read_input_tokens": 0,
    "cache_write_input_tokens": 0,
    "output_tokens": 1,
    "hidden_output_tokens": 0,
    "total_tokens": 2,
    "response_id": None,
    "stream": False,
    "usage_source": "response",
}

OTHERWISE: dict[str, tuple[str, Case | None]] = {
    "oa-201": (
        "better: accept any 2xx",
        {**TRACKED, "provider": "openai", "model": "gpt-4o"},
    ),
    "oa-usage-empty-object": ("better: record usage_source=unknown", None),
    "oa-cached-gt-prompt": (
        "DESIGN 2.5: buckets are disjoint; contradictions are clamped and flagged",
        {"cache_read_input_tokens": 10},
    ),
    "oa-audio-details-ignored": ("better: keep audio buckets", {"input_tokens": 20}),
    "oa-negative-tokens": (
        "better: clamp every bucket at 0 and flag",
        {"total_tokens": 3},
    ),
    "oa-images-not-matched": (
        "better: add images, audio, batches",
        {
            **TRACKED,
            "provider": "openai",
            "model": "gpt-image-1",
            "input_tokens": 10,
            "output_tokens": 20,
            "total_tokens": 30,
        },
    ),
    "azure-classic-not-matched": (
        "DESIGN 1: one dialect for each provider; Azure is one of them",
        {
            **TRACKED,
            "provider": "azure",
            "model": "gpt-4o-2024-08-06",
            "input_tokens": 9,
            "output_tokens": 9,
            "total_tokens": 18,
            "response_id": "az",
        },
    ),
    "azure-registered": (
        "issue 14: PROVIDER_HOSTS takes the synonyms that prices know",
        {"provider": "azure"},
    ),
    "ge-tuned-model": (
        "DESIGN 2.6: one HTTP attempt, one row",
        {**TRACKED, "provider": "gemini", "model": "my-tune"},
    ),
    "ge-vertex-not-matched": (
        "better: add *-aiplatform.googleapis.com",
        {**TRACKED, "provider": "vertex", "model": "gemini-2.5-flash"},
    ),
    "ge-tooluse-tokens": (
        "better: input += toolUsePromptTokenCount",
        {"input_tokens": 140},
    ),
    "bedrock-not-matched": (
        "DESIGN 1: one dialect for each provider; Bedrock is one of them",
        {**TRACKED, "provider": "bedrock", "model": "anthropic.claude-sonnet-4"},
    ),
    "oa-500": (
        "DESIGN 2.6: a 5xx is a row, too, without usage",
        {
            **dict.fromkeys(TRACKED, 0),
            "provider": "openai",
            "model": "gpt-4o",
            "response_id": None,
            "stream": True,
            "usage_source": "unknown",
        },
    ),
    "oa-bom": (
        "better: strip one leading BOM (WHATWG)",
        {
            "input_tokens": 12,
            "output_tokens": 3,
            "total_tokens": 15,
            "usage_source": "stream_final",
        },
    ),
    "oa-cr-only": (
        "better: accept CR",
        {
            "input_tokens": 12,
            "output_tokens": 3,
            "total_tokens": 15,
            "response_id": "chatcmpl_456",
            "usage_source": "stream_final",
        },
    ),
    "an-start-only": (
        "better: usage_source=stream_partial",
        {"usage_source": "stream_partial"},
    ),
    "ge-json-array-truncated": (
        "better: incremental array decode keeps the complete elements",
        {
            "input_tokens": 80,
            "output_tokens": 5,
            "total_tokens": 85,
            "usage_source": "stream_partial",
        },
    ),
}
"""Cases in which ``better`` or a decision overrides the predecessor, and which."""


@pytest.mark.parametrize("case", [*load("parsers.json"), *load("streams.json")])
def test_vector(case: Case) -> None:
    wanted = meant(case)
    if case["id"] in OTHERWISE:
        _, change = OTHERWISE[case["id"]]
        wanted = None if change is None else {**(wanted or {}), **change}
    assert said(read(case)) == wanted


@pytest.mark.parametrize("identity", ["oa-cached-gt-prompt", "oa-negative-tokens"])
def test_contradictory_counts_are_flagged(identity: str) -> None:
    cases = [c.values[0] for c in load("parsers.json") if c.values[0]]
    for case in cases:
        if case["id"] == identity:
            reading = read(case)
            assert reading is not None
            assert reading.flags == {"usage_conflict"}
            return
    pytest.skip("no ../shared")
