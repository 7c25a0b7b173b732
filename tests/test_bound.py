"""What a request can use at most, read from its body."""

from __future__ import annotations

import json
import typing as t
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.bound import Bound
from flask_llm_cost.bound import read_bound


def body(**members: t.Any) -> bytes:
    return json.dumps(members).encode()


@pytest.mark.parametrize(
    "members",
    [
        {"max_tokens": 50},
        {"max_tokens": "5e1"},
        {"max_tokens": 50.0},
        {"maxTokens": 49.5},
        {"max_completion_tokens": 50},
        {"max_output_tokens": 50},
        {"maxOutputTokens": 50},
        {"generationConfig": {"maxOutputTokens": 50}},
        {"generation_config": {"max_output_tokens": "50"}},
        {"config": {"maxOutputTokens": 50}},
        {"inferenceConfig": {"maxTokens": 50}},
        {"options": {"num_predict": 50}},
        {"parameters": {"max_new_tokens": 50}},
        {"textGenerationConfig": {"maxTokenCount": 50}},
        {"max_gen_len": 50},
        {"max_tokens": 10, "max_completion_tokens": 50},
        {"max_tokens": 50, "thinking": {"budget_tokens": 49}},
        {"max_tokens": 20, "thinking": {"budget_tokens": 30}},
    ],
)
def test_a_limit_is_read_in_any_spelling(members: dict[str, t.Any]) -> None:
    assert read_bound(body(**members), "chat").output_tokens == 50


@pytest.mark.parametrize(
    ("members", "seconds", "conditions"),
    [
        ({}, 8, set()),
        ({"seconds": "12", "size": "1280x720"}, 12, {"size.1280x720"}),
        ({"duration": 5, "resolution": "720p"}, 5, {"resolution.720p"}),
        (
            {
                "parameters": {
                    "durationSeconds": 4,
                    "sampleCount": 3,
                    "resolution": "4K",
                }
            },
            12,
            {"resolution.4k"},
        ),
    ],
)
def test_a_video_is_bounded_by_its_seconds(
    members: dict[str, t.Any], seconds: int, conditions: set[str]
) -> None:
    found = read_bound(body(**members), "videos")
    assert found.units == {"video_second": seconds}
    assert found.conditions == conditions
    assert (found.input_tokens, found.output_tokens, found.rounds) == (0, 0, 1)


def test_a_video_that_is_extended_is_not_bounded() -> None:
    sent = body(instances=[{"prompt": "a", "video": {"gcsUri": "gs://a/b.mp4"}}])
    assert read_bound(sent, "videos").rounds is None


def test_an_image_in_its_original_detail_has_more_tokens() -> None:
    # https://platform.openai.com/docs/guides/images-vision: detail "original"
    image = {"url": "data:image/png;base64,AA", "detail": "high"}
    high = read_bound(body(messages=[image]), "chat").input_tokens
    image["detail"] = "original"
    original = read_bound(body(messages=[image]), "chat").input_tokens
    assert high is not None
    assert original is not None
    assert original - high == 10_000 + len("original") - len("high")


@pytest.mark.parametrize(
    "members",
    [{}, {"max_tokens": -1}, {"max_tokens": 0}, {"max_tokens": True}]
    + [{"max_tokens": "many"}, {"max_tokens": 10**12}, {"max_tokens": None}],
)
def test_a_request_without_a_limit_has_none(members: dict[str, t.Any]) -> None:
    assert read_bound(body(**members), "chat").output_tokens is None


@pytest.mark.parametrize(
    "members",
    [
        {"n": 3},
        {"n": "3"},
        {"best_of": 3, "n": 2},
        {"generationConfig": {"candidateCount": 3}},
        {"generation_config": {"candidate_count": 3.0}},
        {"num_generations": 3},
    ],
)
def test_choices_are_read_in_any_spelling(members: dict[str, t.Any]) -> None:
    assert read_bound(body(**members), "chat").choices == 3


@pytest.mark.parametrize(
    ("prompt", "answers"),
    [("a", 2), (["a", "b", "c"], 6), ([1, 2, 3], 2), ([[1], [2]], 4)],
)
def test_each_prompt_of_a_list_has_its_choices(prompt: t.Any, answers: int) -> None:
    # https://platform.openai.com/docs/api-reference/completions/create
    assert read_bound(body(prompt=prompt, n=2), "completions").choices == answers


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-le"])
def test_the_encoding_of_the_body_does_not_matter(encoding: str) -> None:
    sent = json.dumps({"max_tokens": 50}).encode(encoding)
    assert read_bound(sent, "chat").output_tokens == 50


def test_a_form_is_read_too() -> None:
    sent = (
        b'--x\r\nContent-Disposition: form-data; name="n"\r\n\r\n3\r\n'
        b'--x\r\nContent-Disposition: form-data; name="max_tokens"\r\n\r\n50\r\n--x--\r\n'
    )
    found = read_bound(sent, "images")
    assert (found.output_tokens, found.choices) == (50, 3)


@pytest.mark.parametrize("sent", [None, b"", b"{", b"[1]", b"\xff\xfe", b"[" * 99999])
def test_what_cannot_be_read_has_no_limit(sent: bytes | None) -> None:
    assert read_bound(sent, "chat") == Bound(None, None, rounds=None)


def test_embeddings_have_no_output() -> None:
    assert read_bound(body(input="text"), "embeddings").output_tokens == 0


@given(st.text(max_size=200))
def test_text_has_at_most_a_token_for_each_byte(prompt: str) -> None:
    sent = body(messages=[{"role": "user", "content": prompt}])
    tokens = read_bound(sent, "chat").input_tokens
    assert tokens is not None
    assert tokens >= len(prompt.encode("utf-8", "surrogatepass"))


def content(*parts: dict[str, t.Any]) -> dict[str, t.Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    "members",
    [
        content({"type": "image_url", "image_url": {"url": "https://a.example/i.png"}}),
        content({"type": "input_file", "file_id": "file-1"}),
        content(
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,"}}
        ),
        content(
            {"type": "image", "source": {"type": "url", "url": "http://a.example"}}
        ),
        content(
            {
                "type": "document",
                "source": {"media_type": "application/pdf", "data": ""},
            }
        ),
        {"contents": [{"parts": [{"fileData": {"fileUri": "gs://a/b"}}]}]},
        {"contents": [{"parts": [{"inlineData": {"mimeType": "video/mp4"}}]}]},
        {"cachedContent": "cachedContents/1"},
        {"previous_response_id": "resp_1"},
        {"conversation": {"id": "conv_1"}},
        {"prompt": {"id": "pmpt_1"}},
        content({"video": {"s3Location": {"uri": "s3://a/b"}}}),
    ],
)
def test_input_that_is_only_referred_to_has_no_limit(members: dict[str, t.Any]) -> None:
    assert read_bound(body(max_tokens=9, **members), "chat").input_tokens is None


def test_a_url_in_the_text_or_in_the_call_of_a_tool_is_text() -> None:
    call = {"type": "tool_use", "name": "get", "input": {"url": "https://a.example"}}
    text = {"type": "text", "text": "see https://a.example"}
    assert read_bound(body(**content(text, call)), "chat").input_tokens is not None


def test_an_image_may_have_more_tokens_than_bytes() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    sent = body(model="gpt-4o", **content(image, image))
    assert (read_bound(sent, "chat").input_tokens or 0) >= len(sent) + 2 * 5_000
    # https://platform.openai.com/docs/guides/images-vision: 2,833 + 8 * 5,667
    mini = body(model="gpt-4o-mini", **content(image))
    assert (read_bound(mini, "chat").input_tokens or 0) >= 48_169


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "function", "function": {"name": "f"}},
        {"type": "custom", "name": "f"},
        {"name": "f", "input_schema": {}, "description": "d"},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "e"},
        {"functionDeclarations": [{"name": "f"}]},
        {"toolSpec": {"name": "f"}},
    ],
)
def test_tools_that_the_app_runs_need_no_further_round(tool: dict[str, t.Any]) -> None:
    assert read_bound(body(tools=[tool]), "chat").rounds == 1


@pytest.mark.parametrize(
    "members",
    [
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]},
        {"tools": [{"type": "mcp", "server_url": "https://a.example"}]},
        {"tools": [{"googleSearch": {}}]},
        {"tools": [{"google_maps": {}}]},
        {"tools": [{"codeExecution": {}}]},
        {"web_search_options": {}, "model": "gpt-4o-search-preview"},
        {"model": "sonar-pro"},
        {"plugins": [{"id": "web"}]},
        {"mcp_servers": [{"url": "https://a.example"}]},
        {"search_parameters": {"mode": "on"}},
        {"models": ["a", "b"]},
    ],
)
def test_tools_of_the_provider_may_run_the_model_again(
    members: dict[str, t.Any],
) -> None:
    assert read_bound(body(**members), "chat").rounds is None


def test_a_request_may_limit_the_tools_of_the_provider() -> None:
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
    fetch = {"type": "web_fetch_20250910", "name": "web_fetch", "max_uses": 2}
    found = read_bound(body(tools=[search, fetch]), "chat")
    assert (found.rounds, found.units) == (6, {"web_search": Decimal(3)})
    found = read_bound(body(tools=[{"type": "web_search"}], max_tool_calls=4), "x")
    assert (found.rounds, found.units) == (5, {"web_search": Decimal(4)})


@pytest.mark.parametrize(
    ("members", "tier"),
    [
        ({"speed": "fast", "service_tier": "auto"}, "fast"),
        ({"speed": "standard"}, None),
        ({"serviceTier": {"type": "priority"}}, "priority"),
        ({"performanceConfig": {"latency": "optimized"}}, "optimized"),
        ({"performanceConfig": {"latency": "standard"}}, None),
    ],
)
def test_a_mode_is_read_in_any_spelling(
    members: dict[str, t.Any], tier: str | None
) -> None:
    assert read_bound(body(**members), "chat").service_tier == tier


def test_a_region_that_is_asked_for_is_a_condition() -> None:
    assert read_bound(body(inference_geo="us"), "chat").conditions == {"region.us"}
    assert not read_bound(body(inference_geo="global"), "chat").conditions


@pytest.mark.parametrize(
    "setting",
    [
        {"edits": [{"type": "compact_20260112"}, {"type": "clear_tool_uses_20250919"}]},
        [{"type": "compaction", "compact_threshold": 1000}],
    ],
)
def test_a_compaction_is_one_more_round(setting: object) -> None:
    assert read_bound(body(context_management=setting), "chat").rounds == 2
