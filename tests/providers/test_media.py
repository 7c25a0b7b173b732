"""Services that bill seconds, characters, images or the time that a model ran.

The fields are those of their SDKs: replicate 1.0.7 (``Prediction``), deepgram-sdk 5
(``ListenV1ResponseMetadata``), elevenlabs 2 (``SpeechToTextChunkResponseModel``), assemblyai
0.4 (``TranscriptResponse``), fal-client 0.10, runwayml 4, cloudflare 5, oci 2 (``Usage``).
"""

from __future__ import annotations

import json
import typing as t
from decimal import Decimal

import pytest

from flask_llm_cost.call import Reading
from flask_llm_cost.call import Usage
from flask_llm_cost.prices import PriceBook
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import read_exchange
from flask_llm_cost.providers import route

BOOK = PriceBook.bundled()


def read(
    url: str,
    body: t.Any,
    request: t.Any = None,
    headers: dict[str, str] | None = None,
    method: str = "POST",
    status: int = 200,
) -> Reading:
    reading = read_exchange(
        method=method,
        url=f"https://{url}",
        request_body=None if request is None else json.dumps(request).encode(),
        status=status,
        headers=headers or {},
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
    )
    assert reading is not None
    return reading


def usd(reading: Reading) -> tuple[Decimal, bool] | None:
    cost = BOOK.quote(
        reading.provider, reading.model or "", reading.usage, flags=reading.flags
    ).cost
    return None if cost is None else (cost.total_usd, cost.complete)


AUDIO = {"content-type": "audio/mpeg"}


def transcript(channels: int = 1, **more: t.Any) -> dict[str, t.Any]:
    metadata = {
        "request_id": "r",
        "created": "2026-11-01T00:00:00.000Z",
        "duration": 60.0,
        "channels": channels,
        "models": ["u"],
        "model_info": {"u": {"name": "2-general-nova", "arch": "nova-2"}},
    }
    return {"metadata": {**metadata, **more}, "results": {"channels": []}}


def test_deepgrams_transcripts_are_billed_by_the_second_of_each_channel() -> None:
    url = "api.deepgram.com/v1/listen?model=nova-2"
    one, two = read(url, transcript()), read(url, transcript(2))
    assert (one.model, one.response_id) == ("nova-2", "r")
    rate = Decimal("0.0043") / 60
    assert one.usage == Usage(units={"audio_second": Decimal(60)})
    assert two.usage == Usage(units={"audio_second": Decimal(120)})
    found = usd(one)
    assert found is not None
    assert found[1]
    assert abs(found[0] - rate * 60) < Decimal("0.0001")


def test_what_deepgram_analyzes_on_top_is_not_complete() -> None:
    found = read("api.deepgram.com/v1/listen", transcript(summary_info={"tokens": 9}))
    assert "unread_usage" in found.flags


@pytest.mark.parametrize(
    "asked",
    ["diarize=true", "redact=pci", "keyterm=x&keyterm=y", "language=multi"]
    + ["detect_entities=true", "diarize_model=latest", "mip_opt_out=true"],
)
def test_what_deepgram_is_asked_for_on_top_is_not_complete(asked: str) -> None:
    # The pricing page and the SDK's parameters; no answer repeats them.
    url = "api.deepgram.com/v1/listen?model=nova-2"
    found = usd(read(f"{url}&{asked}", transcript()))
    assert found is not None
    assert not found[1]
    plain = usd(read(f"{url}&diarize=false&language=en", transcript()))
    assert plain == (found[0], True)


def test_a_long_transcript_is_read_from_its_start() -> None:
    found = transcript()
    found["results"] = {"channels": [{"text": "x" * 2_000_000}]}
    usage = read("api.deepgram.com/v1/listen", found).usage
    assert usage == Usage(units={"audio_second": Decimal(60)})


def test_deepgrams_speech_is_billed_by_the_character() -> None:
    headers = {**AUDIO, "dg-char-count": "1000", "dg-model-name": "aura-2-thalia-en"}
    found = read("api.deepgram.com/v1/speak", b"ID3", {"text": "hi"}, headers)
    assert found.model == "aura-2"
    assert usd(found) == (Decimal("0.03"), True)
    bare = read("api.deepgram.com/v1/speak", b"ID3", {"text": "hello"}, AUDIO)
    assert bare.usage == Usage(units={"character": Decimal(5)})


@pytest.mark.parametrize(
    "path", ["", "/stream", "/with-timestamps", "/stream/with-timestamps"]
)
def test_elevenlabs_speech_is_billed_by_the_character_of_the_request(path: str) -> None:
    url = f"api.elevenlabs.io/v1/text-to-speech/v{path}?output_format=mp3"
    said = {"text": "x" * 1000, "model_id": "eleven_flash_v2_5"}
    found = read(url, b"ID3", said, {**AUDIO, "character-cost": "500"})
    assert found.model == "eleven_flash_v2_5"
    assert usd(found) == (Decimal("0.04"), True)
    default = read(url, b"ID3", {"text": "hi"}, AUDIO)
    assert default.model == "eleven_multilingual_v2"


def test_elevenlabs_transcripts_are_billed_by_the_second() -> None:
    body = {"text": "hi", "words": [], "audio_duration_secs": 10.5}
    url = "api.eu.residency.elevenlabs.io/v1/speech-to-text"
    found = read(url, body, {"model_id": "scribe_v2"})
    assert (found.provider, found.model) == ("elevenlabs", "scribe_v2")
    assert found.usage == Usage(units={"audio_second": Decimal("10.5")})
    for asked in ("keyterms", "entity_detection", "transcript_edit"):
        more = read(url, body, {"model_id": "scribe_v2", asked: "x"})
        assert more.flags == {"unread_usage"}
    # Older answers do not have the duration.
    assert read(url, {"text": "hi"}, {"model_id": "scribe_v2"}).usage is None


def test_a_transcript_of_assemblyai_is_billed_when_it_is_completed() -> None:
    ordered = {"id": "t", "status": "queued", "speech_model": "best"}
    assert read("api.assemblyai.com/v2/transcript", ordered).usage is None
    done = {**ordered, "status": "completed", "audio_duration": 60, "text": "hi"}
    url = "api.assemblyai.com/v2/transcript/t"
    found = read(url, done, method="GET")
    assert found.response_id == "t"
    assert found.flags == frozenset()
    assert usd(found) == (Decimal("0.0019998"), True)
    for asked in ("sentiment_analysis", "filter_profanity", "keyterms_prompt"):
        more = read(url, {**done, asked: ["x"]}, method="GET")
        assert more.flags == {"unread_usage"}
    failed = {**done, "status": "error"}
    assert read(url, failed, method="GET").usage is None


def test_a_transcript_of_soniox_is_billed_by_the_millisecond() -> None:
    body = {"id": "t", "status": "queued", "model": "stt-async-v5"}
    assert read("api.soniox.com/v1/transcriptions", body).usage is None
    done = {**body, "status": "completed", "audio_duration_ms": 60_500}
    found = read("api.soniox.com/v1/transcriptions/t", done, method="GET")
    assert found.usage == Usage(units={"audio_second": Decimal("60.5")})
    # Its bill counts tokens, which no answer states.
    cost = usd(found)
    assert cost is not None
    assert not cost[1]


def test_pollys_speech_is_billed_by_the_character() -> None:
    headers = {**AUDIO, "x-amzn-RequestCharacters": "1000000"}
    url = "polly.us-east-1.amazonaws.com/v1/speech"
    neural = read(url, b"ID3", {"Text": "hi", "Engine": "neural"}, headers)
    assert usd(neural) == (16, True)
    assert usd(read(url, b"ID3", {"Text": "hi"}, headers)) == (4, True)


def prediction(**metrics: t.Any) -> dict[str, t.Any]:
    return {
        "id": "p",
        "model": "meta/llama",
        "status": "succeeded",
        "created_at": "2026-11-01T00:00:00.000Z",
        "completed_at": "2026-11-01T00:00:02.000Z",
        "metrics": metrics,
    }


@pytest.mark.parametrize(
    ("metrics", "usage"),
    [
        ({"predict_time": 1.5}, Usage(units={"predict_second": Decimal("1.5")})),
        ({"predict_time": 1.5, "image_count": 2}, Usage(units={"image": Decimal(2)})),
        (
            {"predict_time": 1.5, "input_token_count": 7, "output_token_count": 3},
            Usage(input_tokens=7, output_tokens=3),
        ),
        (
            {"predict_time": 9, "video_output_duration_seconds": 5},
            Usage(units={"video_second": Decimal(5)}),
        ),
    ],
)
def test_a_prediction_of_replicate_is_billed_by_what_it_made_or_its_time(
    metrics: dict[str, t.Any], usage: Usage
) -> None:
    polled = read(
        "api.replicate.com/v1/predictions/p", prediction(**metrics), method="GET"
    )
    assert polled.usage == usage
    assert (polled.model, polled.response_id) == ("meta/llama", "p")
    assert "repeated" not in polled.flags


@pytest.mark.parametrize(
    "path", ["predictions", "models/a/b/predictions", "deployments/a/b/predictions"]
)
def test_an_order_at_replicate_has_no_usage_unless_it_waits(path: str) -> None:
    url = f"api.replicate.com/v1/{path}"
    ordered = {"id": "p", "model": "a/b", "status": "starting", "metrics": {}}
    assert read(url, ordered, {"input": {}}).usage is None
    waited = read(url, prediction(predict_time=2), {"input": {}})
    assert waited.usage == Usage(units={"predict_second": Decimal(2)})


def test_fals_images_are_billed_by_their_number() -> None:
    made = {"images": [{"url": "https://x"}, {"url": "https://y"}], "seed": 1}
    found = read("fal.run/fal-ai/flux-pro/v1.1", made, {"prompt": "a"})
    assert found.model == "fal-ai/flux-pro/v1.1"
    assert found.usage == Usage(units={"image": Decimal(2)})
    assert usd(found) is not None


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        ("fal-ai/ideogram/v3", {"rendering_speed": "QUALITY"}),
        ("fal-ai/recraft/v3/text-to-image", {"style": "vector_illustration"}),
        ("fal-ai/nano-banana-pro", {"resolution": "4K"}),
        ("fal-ai/flux/dev", {"image_size": "auto_2K"}),
    ],
)
def test_an_image_of_fal_that_costs_more_is_not_complete(
    model: str, asked: dict[str, str]
) -> None:
    # The prices on the models' own pages.
    made = {"images": [{"url": "https://x"}]}
    plain, more = (usd(read(f"fal.run/{model}", made, sent)) for sent in ({}, asked))
    assert plain is not None
    assert more == (plain[0], False)


def test_fals_queue_is_billed_by_its_orders() -> None:
    order = {
        "request_id": "r",
        "status_url": "https://queue.fal.run/x/requests/r/status",
    }
    video = "queue.fal.run/bytedance/seedance-2.0/text-to-video"
    found = read(video, order, {"duration": "5", "resolution": "1080p"})
    assert found.usage == Usage(units={"video_second": Decimal(5)})
    assert found.flags == {"resolution.1080p"}
    assert usd(found) == (Decimal("3.41"), True)
    assert read(video, order, {}).usage is None
    image = read("queue.fal.run/fal-ai/flux/dev", order, {"num_images": 3})
    assert image.usage == Usage(units={"image": Decimal(3)})
    assert route("GET", "https://queue.fal.run/fal-ai/flux/requests/r") is None
    assert route("POST", "https://queue.fal.run/fal-ai/flux/requests/r/x") is None


@pytest.mark.parametrize(
    ("url", "request_", "body", "expected"),
    [
        ("api.bfl.ai/v1/flux-pro-1.1", {}, {"id": "i", "polling_url": "u"}, "0.04"),
        ("api.us1.bfl.ai/v1/flux-pro-1.1", {}, {"id": "i"}, "0.04"),
        ("api.stability.ai/v2beta/stable-image/edit/erase", {}, b"\x89PNG", "0.005"),
        ("api.stability.ai/v2beta/stable-image/generate/core", {}, b"\x89PNG", "0.03"),
        (
            "api.stability.ai/v2beta/stable-image/generate/sd3",
            {"model": "sd3.5-large"},
            b"\x89PNG",
            "0.065",
        ),
        (
            "api.dev.runwayml.com/v1/image_to_video",
            {"model": "gen4_turbo", "duration": 5, "ratio": "1280:720"},
            {"id": "i"},
            "0.25",
        ),
    ],
)
def test_studios_are_billed_by_what_was_ordered(
    url: str, request_: t.Any, body: t.Any, expected: str
) -> None:
    found = usd(read(url, body, request_))
    assert found is not None
    assert found[0] == Decimal(expected)


def test_an_image_of_black_forest_labs_says_its_cost() -> None:
    # Its megapixels are billed. The body is that of the API reference.
    body = {"id": "i", "polling_url": "u", "cost": 4.5, "output_mp": 2.0}
    found = read("api.bfl.ai/v1/flux-2-pro", body, {"width": 2048, "height": 1024})
    assert found.reported_cost == Decimal("0.045")
    assert found.usage == Usage(units={"image": Decimal(1)})


@pytest.mark.parametrize(
    ("kind", "asked", "flags"),
    [
        ("image", {"ratio": "1920:1080"}, {"resolution.1080p"}),
        ("image", {"quality": "high"}, {"quality.high"}),
        ("video", {"resolution": "2K", "ratio": "16:9"}, {"resolution.2k"}),
        ("video", {"ratio": "adaptive", "audio": False}, {"audio.off"}),
        ("video", {"outputFormat": "prores"}, {"unread_usage"}),
        ("video", {"outputFormat": "mp4", "audio": True}, set()),
    ],
)
def test_what_runways_price_depends_on_is_a_flag(
    kind: str, asked: dict[str, t.Any], flags: set[str]
) -> None:
    url = f"api.dev.runwayml.com/v1/text_to_{kind}"
    assert read(url, {"id": "i"}, {"duration": 5, **asked}).flags == flags


def test_an_order_that_was_refused_is_not_billed() -> None:
    url = "api.stability.ai/v2beta/stable-image/generate/core"
    assert read(url, {"errors": ["no"]}, {}, status=403).usage is None
    assert read("api.bfl.ai/v1/flux-pro-1.1", {"detail": "no"}, {}).usage is None


RUN = "api.cloudflare.com/client/v4/accounts/a/ai/run/@cf/meta/llama-3.2-1b-instruct"


def test_cloudflares_own_answers_have_usage_in_their_result() -> None:
    counts = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
    result = {"response": "hi", "usage": counts}
    found = read(
        RUN, {"result": result, "success": True, "errors": []}, {"prompt": "a"}
    )
    assert (found.provider, found.model) == (
        "cloudflare",
        "@cf/meta/llama-3.2-1b-instruct",
    )
    assert found.usage == Usage(input_tokens=100, output_tokens=50)
    stream = (
        b'data: {"response":"hi"}\n\n'
        + (
            f"data: {json.dumps({'response': '', 'usage': counts})}\n\ndata: [DONE]\n\n"
        ).encode()
    )
    streamed = read(RUN, stream, {"prompt": "a", "stream": True})
    assert (streamed.usage, streamed.usage_source) == (found.usage, "stream_final")


def test_other_apis_of_cloudflare_are_no_calls() -> None:
    root = "https://api.cloudflare.com/client/v4/accounts/a"
    assert route("POST", f"{root}/containers") is None
    assert route("POST", f"{root}/vectorize/v2/indexes/embeddings") is None
    assert route("POST", f"{root}/ai/v1/embeddings") is not None


def test_oracles_usage_is_in_camel_case() -> None:
    usage = {
        "promptTokens": 100,
        "completionTokens": 50,
        "totalTokens": 150,
        "promptTokensDetails": {"cachedTokens": 40},
        "completionTokensDetails": {"reasoningTokens": 9},
    }
    url = (
        "inference.generativeai.us-chicago-1.oci.oraclecloud.com/20231130/actions/chat"
    )
    mode = {"servingType": "ON_DEMAND", "modelId": "xai.grok-4"}
    body = {"modelId": "xai.grok-4", "chatResponse": {"usage": usage}}
    found = read(url, body, {"servingMode": mode})
    assert found.model == "xai.grok-4"
    assert found.usage == Usage(
        input_tokens=60, cache_read_tokens=40, output_tokens=50, reasoning_tokens=9
    )
    assert found.flags == frozenset()
    event = f"data: {json.dumps({'usage': usage})}\n\n".encode()
    streamed = read(url, b'data: {"message": {}}\n\n' + event, {"servingMode": mode})
    assert (streamed.model, streamed.usage) == (found.model, found.usage)
    mode["servingType"] = "DEDICATED"
    assert read(url, body, {"servingMode": mode}).flags == {"session_fee"}


def test_minimaxs_speech_and_images() -> None:
    speech = {"data": {"audio": "00"}, "extra_info": {"usage_characters": 1000}}
    found = read("api.minimax.io/v1/t2a_v2", speech, {"model": "speech-02-hd"})
    assert usd(found) == (Decimal("0.1"), True)
    images = {"id": "i", "data": {}, "metadata": {"success_count": "3"}}
    found = read("api.minimax.io/v1/image_generation", images, {"model": "image-01"})
    assert found.usage == Usage(units={"image": Decimal(3)})
    chat = {"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
    found = read("api.minimax.io/v1/text/chatcompletion_v2", chat, {"model": "m"})
    assert found.usage == Usage(input_tokens=1, output_tokens=2)


def test_an_endpoint_of_sagemaker_is_a_call_only_if_it_has_usage() -> None:
    url = "https://runtime.sagemaker.us-east-1.amazonaws.com/endpoints/e/invocations"
    found = route("POST", url)
    assert found is not None
    assert found.poll
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    reading = read(url.removeprefix("https://"), {"id": "c", "usage": usage}, {})
    assert (reading.model, reading.flags) == ("e", {"session_fee"})
    assert read(url.removeprefix("https://"), {"predictions": [1]}, {}).usage is None


def test_an_analysis_of_twelvelabs_is_billed_for_its_video_too() -> None:
    body = {"id": "a", "data": "hi", "usage": {"output_tokens": 9}}
    found = read("api.twelvelabs.io/v1.3/analyze", body, {"video_id": "v"})
    assert (found.usage, found.flags) == (Usage(output_tokens=9), {"unread_usage"})


def test_media_arrive_in_pieces() -> None:
    found = route("POST", "https://api.deepgram.com/v1/listen")
    assert found is not None
    exchange = Exchange(found, request_body=None)
    exchange.begin_response(200, {})
    for byte in json.dumps(transcript()).encode():
        exchange.feed(bytes((byte,)), decoded=True)
    usage = exchange.reading(ended=True).usage
    assert usage == Usage(units={"audio_second": Decimal(60)})
