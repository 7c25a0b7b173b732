"""Videos, images and caches of the Gemini API and Vertex AI.

Sources: google-genai's converters ``_GenerateVideosConfig_to_vertex`` and
``_GenerateVideosOperation_from_mldev``, and its types ``CachedContent`` and
``InlinedEmbedContentResponse``; https://ai.google.dev/gemini-api/docs/pricing;
https://cloud.google.com/vertex-ai/generative-ai/docs/context-cache/context-cache-overview
(a cache's tokens are billed like input when it is created, and its storage by the hour).
"""

from __future__ import annotations

import json
import re
import typing as t
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.call import Reading
from flask_llm_cost.call import Usage
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import route
from flask_llm_cost.providers.tally import Tally
from tests.providers.quotes import cost_of
from tests.providers.quotes import priced
from tests.providers.test_cases import answer

GEMINI = "https://generativelanguage.googleapis.com/v1beta"
VERTEX = "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us"
GLOBAL = "https://aiplatform.googleapis.com/v1/projects/p/locations/global"
OPERATION = {"name": "models/veo-3.1-generate-preview/operations/o1"}


def video(
    model: str = "veo-3.1-generate-preview",
    *,
    host: str = GEMINI,
    answered: object = OPERATION,
    instance: dict[str, t.Any] | None = None,
    **parameters: t.Any,
) -> Reading:
    return answer(
        f"{host}/models/{model}:predictLongRunning",
        answered,
        instances=[{"prompt": "a cat", **(instance or {})}],
        parameters=parameters,
    )


def units(reading: Reading) -> dict[str, Decimal]:
    assert reading.usage is not None
    return dict(reading.usage.units)


@pytest.mark.parametrize(
    ("parameters", "seconds", "usd"),
    [
        ({}, 8, "3.2"),
        ({"durationSeconds": 4}, 4, "1.6"),
        ({"durationSeconds": "6", "sampleCount": 2}, 12, "4.8"),
        ({"durationSeconds": 8, "resolution": "720p"}, 8, "3.2"),
        ({"durationSeconds": 8, "resolution": "1080p"}, 8, "3.2"),
        ({"durationSeconds": 8, "resolution": "4K"}, 8, "4.8"),
    ],
)
def test_a_video_costs_the_seconds_that_were_requested(
    parameters: dict[str, t.Any], seconds: int, usd: str
) -> None:
    reading = video(**parameters)
    assert (reading.operation, reading.response_id) == ("videos", "o1")
    assert units(reading) == {"video_second": seconds}
    cost = priced(reading)
    assert (cost.total_usd, cost.complete) == (Decimal(usd), True)


def test_a_video_on_vertex_ai_has_its_models_rate() -> None:
    google = f"{GLOBAL}/publishers/google"
    fast = video("veo-3.1-fast-generate-001", host=google, resolution="1080p")
    old = video("veo-2.0-generate-001", host=google, durationSeconds=5)
    assert (priced(fast).total_usd, priced(fast).complete) == (Decimal("0.96"), True)
    assert (priced(old).total_usd, priced(old).complete) == (Decimal("2.5"), True)


def test_a_video_without_sound_has_no_rate_of_its_own() -> None:
    google = f"{GLOBAL}/publishers/google"
    reading = video("veo-3.1-generate-001", host=google, generateAudio=False)
    assert reading.flags == {"audio.off"}
    cost = priced(reading)
    assert not cost.complete
    assert "condition_fallback" in cost.flags
    assert video("veo-3.1-generate-001", host=google, generateAudio=True).flags == set()


@pytest.mark.parametrize(
    ("parameters", "instance", "seconds", "flag"),
    [
        ({}, {"video": {"gcsUri": "gs://x"}}, 7, "unread_usage"),
        ({"durationSeconds": "long"}, {}, 8, "usage_conflict"),
        ({"sampleCount": -1}, {}, 8, "usage_conflict"),
    ],
)
def test_seconds_that_are_not_certain_are_not_complete(
    parameters: dict[str, t.Any], instance: dict[str, t.Any], seconds: int, flag: str
) -> None:
    reading = video(instance=instance, **parameters)
    assert units(reading) == {"video_second": seconds}
    assert reading.flags == {flag}
    assert not priced(reading).complete


def test_a_request_that_starts_no_operation_costs_nothing() -> None:
    assert video(answered={"error": {"code": 3}}).usage is None


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", f"{GEMINI}/models/veo-3.1-generate-preview/operations/o1"),
        ("GET", f"{GEMINI}/operations/o1"),
        (
            "POST",
            f"{VERTEX}/publishers/google/models/veo-2.0-generate-001"
            ":fetchPredictOperation",
        ),
        ("GET", f"{GEMINI}/cachedContents/c1"),
        ("GET", f"{GEMINI}/cachedContents"),
        ("DELETE", f"{GEMINI}/cachedContents/c1"),
        ("POST", f"{GEMINI}/models/gemini-2.5-flash:batchGenerateContent"),
        ("POST", f"{GEMINI}/models/gemini-embedding-001:asyncBatchEmbedContent"),
    ],
)
def test_polls_and_the_start_of_a_batch_are_not_calls(method: str, url: str) -> None:
    assert route(method, url) is None


# Images


def feed(url: str, body: bytes, size: int, **request: t.Any) -> Reading:
    found = route("POST", url)
    assert found is not None
    exchange = Exchange(found, request_body=json.dumps(request).encode())
    exchange.begin_response(200, {})
    for at in range(0, len(body), size):
        exchange.feed(body[at : at + size], decoded=True)
    return exchange.reading(ended=True)


@pytest.mark.parametrize(
    ("url", "member", "name"),
    [
        (f"{GEMINI}/models/imagen-3.0-generate-001:predict", "predictions", "image"),
        ("https://api.openai.com/v1/images/generations", "data", "image"),
    ],
)
@pytest.mark.parametrize("size", [997, 64 * 1024, 1 << 24])
def test_each_image_of_a_long_answer_is_counted(
    url: str, member: str, name: str, size: int
) -> None:
    key = "bytesBase64Encoded" if member == "predictions" else "b64_json"
    images = [{"mimeType": "image/png", key: "A" * 700_000} for _ in range(4)]
    reading = feed(url, json.dumps({member: images}).encode(), size, model="dall-e-3")
    assert units(reading) == {name: 4}


@given(st.lists(st.integers(1, 40), max_size=60))
def test_a_tally_does_not_depend_on_where_the_bytes_are_cut(cuts: list[int]) -> None:
    body = b'{"url" : "https://a"}, {"url":"b"}, {"url":null}, {"b64_json":"AA"} ' * 3
    tally = Tally(re.compile(rb'"(?:b64_json|url)"\s*:\s*"'))
    for cut in cuts:
        piece, body = body[:cut], body[cut:]
        tally.add(piece)
    tally.add(body)
    assert tally.count == 9


def test_images_that_were_filtered_are_not_billed() -> None:
    body = {"predictions": [{"bytesBase64Encoded": "A"}, {"raiFilteredReason": "x"}]}
    reading = answer(f"{GEMINI}/models/imagen-3.0-generate-001:predict", body)
    assert units(reading) == {"image": 1}
    cost = priced(reading)
    assert (cost.total_usd, cost.complete) == (Decimal("0.04"), True)


def test_clips_of_lyria_are_counted_like_images() -> None:
    # https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/lyria-music-generation
    clip = {"audioContent": "A", "mimeType": "audio/wav"}
    url = f"{GLOBAL}/publishers/google/models/lyria-002:predict"
    reading = answer(url, {"predictions": [clip, {"bytesBase64Encoded": "A"}]})
    assert units(reading) == {"image": 2}
    assert priced(reading).total_usd == Decimal("0.12")


# Multimodal embeddings

EMBEDDINGS = f"{GLOBAL}/publishers/google/models/multimodalembedding@001:predict"
SEGMENTS = [
    {"startOffsetSec": 0, "endOffsetSec": 16, "embedding": [0.1]},
    {"startOffsetSec": 16, "endOffsetSec": 20, "embedding": [0.1]},
]


@pytest.mark.parametrize(
    ("instance", "prediction", "used", "usd"),
    [
        ({"text": "two  words\n"}, {}, {"character": 8}, "0.0000016"),
        ({"image": {"gcsUri": "gs://x"}}, {}, {"input_image_piece": 1}, "0.0001"),
        (
            {"video": {"gcsUri": "gs://x"}},
            {"videoEmbeddings": SEGMENTS},
            {"input_video_second": 20},
            "0.01",
        ),
    ],
)
def test_embeddings_of_several_kinds_are_billed_by_what_was_sent(
    instance: dict[str, t.Any],
    prediction: dict[str, t.Any],
    used: dict[str, int],
    usd: str,
) -> None:
    reading = answer(EMBEDDINGS, {"predictions": [prediction]}, instances=[instance])
    assert reading.operation == "embeddings"
    assert units(reading) == used
    cost = priced(reading)
    assert (cost.total_usd, cost.complete) == (Decimal(usd), True)


def test_video_that_is_embedded_finely_has_an_unknown_rate() -> None:
    video = {"gcsUri": "gs://x", "videoSegmentConfig": {"intervalSec": 4}}
    body = {"predictions": [{"videoEmbeddings": SEGMENTS}]}
    reading = answer(EMBEDDINGS, body, instances=[{"video": video}, None])
    assert reading.flags == {"unread_usage"}
    assert not priced(reading).complete


# Caches


def cache(**members: t.Any) -> dict[str, t.Any]:
    # As in crmne/ruby_llm's cassette of an explicit cache
    return {
        "name": "cachedContents/1e9odc8cm11a",
        "model": "models/gemini-2.5-flash",
        "createTime": "2026-08-19T14:34:12.817004Z",
        "usageMetadata": {"totalTokenCount": 9609},
        **members,
    }


@pytest.mark.parametrize(
    ("host", "model"),
    [
        (GEMINI, "models/gemini-2.5-flash"),
        (GLOBAL, "projects/p/locations/l/publishers/google/models/gemini-2.5-flash"),
    ],
)
def test_creating_a_cache_costs_its_input_and_its_storage(
    host: str, model: str
) -> None:
    body = cache(model=model)
    reading = answer(f"{host}/cachedContents", body, model=model, ttl="300s")
    assert reading.usage == Usage(cache_write_tokens=9609)
    assert (reading.model, reading.operation) == ("gemini-2.5-flash", "caches")
    assert reading.flags == {"session_fee"}
    cost = priced(reading)
    assert cost.total_usd == Decimal(9609) * Decimal("0.3") / 1_000_000
    assert not cost.complete


def test_a_cache_that_lives_longer_costs_only_storage() -> None:
    url = f"{GEMINI}/cachedContents/1e9odc8cm11a"
    reading = answer(url, cache(), method="PATCH", ttl="600s")
    assert reading.usage == Usage()
    cost = priced(reading)
    assert (cost.total_usd, cost.complete) == (0, False)


# Batches of embeddings


def batch(*lines: object) -> dict[str, t.Any]:
    return {
        "name": "batches/b1",
        "metadata": {
            "model": "models/gemini-embedding-001",
            "createTime": "2026-08-19T14:34:12Z",
            "output": {
                "inlinedEmbedContentResponses": {"inlinedResponses": list(lines)}
            },
        },
    }


def results(url: str, *documents: object) -> list[Reading]:
    found = route("GET", url)
    assert found is not None
    exchange = Exchange(found, request_body=None)
    exchange.begin_response(200, {})
    body = b"\n".join(json.dumps(each).encode() for each in documents)
    exchange.feed(body, decoded=True)
    exchange.reading(ended=True)
    return exchange.take_results()


def embedding(tokens: object) -> dict[str, t.Any]:
    return {"response": {"tokenCount": tokens, "embedding": {"values": [0.1]}}}


def test_each_embedding_of_a_batch_is_a_call() -> None:
    lines = (embedding("4000"), {"error": {"code": 3}}, embedding(6000))
    found = results(f"{GEMINI}/batches/b1", batch(*lines))
    assert [each.usage for each in found] == [
        Usage(input_tokens=4000),
        Usage(input_tokens=6000),
    ]
    assert [each.response_id for each in found] == ["batches/b1/0", "batches/b1/2"]
    assert {each.operation for each in found} == {"embeddings"}
    assert {each.created_at is None for each in found} == {False}
    # Batches cost half.
    assert sum(priced(each).total_usd for each in found) == Decimal("0.00075")


def test_a_file_of_embeddings_names_neither_model_nor_price() -> None:
    lines = [{"key": f"k{n}", **embedding(100)} for n in (1, 2)]
    found = results(f"{GEMINI}/files/f1:download", *lines)
    assert [each.response_id for each in found] == ["f1/k1", "f1/k2"]
    assert [cost_of(each) for each in found] == [None, None]
