"""Fees for grounding on the Gemini API and Vertex AI.

Sources: https://ai.google.dev/gemini-api/docs/pricing (per prompt up to Gemini 2.5, per query
from Gemini 3 on), google-genai's types ``GroundingMetadata`` and ``GroundingToolCount``.
"""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.providers import read_exchange

GEMINI = "https://generativelanguage.googleapis.com/v1beta"
VERTEX = "aiplatform.googleapis.com/v1/projects/p/locations/L/publishers/google/models"
AT = dt.datetime(2026, 11, 29, 12, tzinfo=dt.UTC)
COUNTS = {"promptTokenCount": 20, "candidatesTokenCount": 200, "totalTokenCount": 220}


def read(url: str, body: bytes) -> Reading:
    reading = read_exchange(
        method="POST", url=url, request_body=None, status=200, headers={}, body=body
    )
    assert reading is not None
    return reading


def grounded(model: str, *metadata: object, host: str = GEMINI) -> Reading:
    """An answer with one event for each grounding metadata."""
    events = [
        {
            "candidates": [{"groundingMetadata": each, "finishReason": "STOP"}],
            "usageMetadata": COUNTS,
            "modelVersion": model,
        }
        for each in metadata
    ]
    body = b"".join(b"data: " + json.dumps(e).encode() + b"\n\n" for e in events)
    return read(f"{host}/models/{model}:streamGenerateContent", body)


def units(reading: Reading) -> dict[str, int]:
    assert reading.usage is not None
    return {name: int(n) for name, n in reading.usage.units.items()}


def cost(reading: Reading) -> Decimal:
    assert reading.model is not None
    quote = PriceBook.bundled().quote(
        reading.provider, reading.model, reading.usage, at=AT, flags=reading.flags
    )
    assert quote.cost is not None
    assert quote.cost.complete
    return quote.cost.total_usd


QUERIES = {"webSearchQueries": ["q1", "q2", "q1"]}


@pytest.mark.parametrize(
    ("model", "fee"),
    [
        ("gemini-2.5-flash", "0.035"),
        ("gemini-2.5-pro", "0.035"),
        ("gemini-3-flash-preview", "0.028"),
        ("gemini-flash-latest", "0.028"),
    ],
)
def test_a_search_is_billed_per_prompt_or_per_distinct_query(
    model: str, fee: str
) -> None:
    reading = grounded(model, QUERIES, QUERIES)
    assert units(reading) == {"grounding": 2}
    assert cost(reading) - cost(grounded(model, {})) == Decimal(fee)


def test_image_searches_are_queries_too() -> None:
    found = {"webSearchQueries": ["q"], "imageSearchQueries": ["q", "r"]}
    assert units(grounded("gemini-3.1-flash-image", found)) == {"grounding": 3}


def test_a_grounded_answer_without_queries_has_one_fee() -> None:
    chunks = {"groundingChunks": [{"web": {"uri": "https://x.example"}}]}
    assert units(grounded("gemini-2.5-flash", chunks)) == {"grounding": 1}


@pytest.mark.parametrize(
    "metadata",
    [
        {"groundingChunks": [{"maps": {"placeId": "places/A"}}] * 3},
        {"googleMapsWidgetContextToken": "token"},
    ],
)
def test_maps_are_billed_per_grounded_prompt(metadata: dict[str, t.Any]) -> None:
    reading = grounded("gemini-2.5-pro", metadata)
    assert units(reading) == {"maps_grounding": 1}
    assert cost(reading) == Decimal("0.027025")


def test_search_and_maps_have_a_fee_each() -> None:
    both = {**QUERIES, "groundingChunks": [{"maps": {"placeId": "places/A"}}]}
    assert units(grounded("gemini-2.5-pro", both)) == {
        "grounding": 2,
        "maps_grounding": 1,
    }


@pytest.mark.parametrize("where", ["gemini", "vertex"])
def test_retrieval_is_billed_per_request_on_vertex_only(where: str) -> None:
    host = GEMINI if where == "gemini" else f"https://{VERTEX.partition('/models')[0]}"
    chunks = {"groundingChunks": [{"retrievedContext": {"uri": "gs://b/o"}}]}
    found = units(grounded("gemini-2.5-pro", chunks, host=host))
    assert found == ({"retrieval_grounding": 1} if where == "vertex" else {})


def test_an_answer_that_is_too_long_to_keep_still_shows_its_grounding() -> None:
    image = "A" * 3_000_000
    body = {
        "candidates": [
            {
                "content": {"parts": [{"inlineData": {"data": image}}]},
                "groundingMetadata": {
                    "imageSearchQueries": ["a", "b"],
                    "groundingChunks": [{"maps": {"placeId": "places/A"}}],
                },
            }
        ],
        "usageMetadata": COUNTS,
        "modelVersion": "gemini-3.1-flash-image",
    }
    reading = read(
        f"{GEMINI}/models/gemini-3.1-flash-image:generateContent",
        json.dumps(body).encode(),
    )
    assert units(reading) == {"grounding": 2, "maps_grounding": 1}


def test_an_interaction_counts_each_of_its_tools() -> None:
    counts = [
        {"type": "google_search", "count": 3},
        {"type": "google_maps", "count": 1},
        {"type": "google_search", "count": 2},
    ]
    body = {
        "id": "int_1",
        "model": "gemini-3-flash-preview",
        "usage": {"total_input_tokens": 1, "grounding_tool_count": counts},
    }
    reading = read(f"{GEMINI}/interactions", json.dumps(body).encode())
    assert units(reading) == {"grounding": 5, "maps_grounding": 1}


@pytest.mark.parametrize(
    ("host", "regional"),
    [
        ("https://aiplatform.googleapis.com", False),
        ("https://us-east5-aiplatform.googleapis.com", True),
        ("https://aiplatform.eu.rep.googleapis.com", True),
    ],
)
def test_regional_and_multi_region_endpoints_cost_more(
    host: str, regional: bool
) -> None:
    # https://cloud.google.com/vertex-ai/generative-ai/pricing: 10 % above global
    path = "v1/projects/p/locations/L/publishers/anthropic/models/claude-opus-5"
    body = {
        "id": "msg_1",
        "type": "message",
        "model": "claude-opus-5",
        "usage": {"input_tokens": 1000, "output_tokens": 100},
    }
    reading = read(f"{host}/{path}:rawPredict", json.dumps(body).encode())
    assert cost(reading) == Decimal("0.00825" if regional else "0.0075")


@pytest.mark.parametrize(
    ("model", "flags"),
    [
        ("gemini-2.5-pro", set()),
        ("gemini-2.0-flash-001", set()),
        ("gemini-live-2.5-flash", set()),
        ("gemini-3-flash-preview", {"unread_usage"}),
        ("gemini-flash-latest", {"unread_usage"}),
    ],
)
def test_queries_to_maps_that_are_not_listed_are_flagged(
    model: str, flags: set[str]
) -> None:
    places = {"groundingChunks": [{"maps": {"placeId": "places/A"}}]}
    assert grounded(model, places).flags == flags
