"""Laws that hold for any answer: truncated, damaged, of any size."""

from __future__ import annotations

import json
import tracemalloc
import typing as t
from decimal import Decimal

import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_llm_cost.call import Reading
from flask_llm_cost.call import Usage
from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import read_exchange
from flask_llm_cost.providers import route
from flask_llm_cost.providers.sparse import find_members
from flask_llm_cost.providers.sparse import head
from flask_llm_cost.providers.sparse import tail

CHAT = "https://api.openai.com/v1/chat/completions"
RESPONSES = "https://api.openai.com/v1/responses"
EMBEDDINGS = "https://api.openai.com/v1/embeddings"
MESSAGES = "https://api.anthropic.com/v1/messages"
GEMINI = "https://generativelanguage.googleapis.com/v1beta/models/m"
COHERE = "https://api.cohere.com/v2/chat"
CONVERSE = "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse-stream"

ANSWERS: list[tuple[str, bytes]] = [
    (
        CHAT,
        b'{"id":"c1","model":"m-1","choices":[{"message":{"content":"h\xc3\xa9 \\"usage\\":'
        b'{\\"prompt_tokens\\":9}"}}],"usage":{"prompt_tokens":20,"completion_tokens":5,'
        b'"total_tokens":25,"prompt_tokens_details":{"cached_tokens":8}},"x":{"usage":1}}',
    ),
    (
        CHAT,
        b'data: {"id":"c1","model":"m-1","choices":[{"delta":{"content":"\xe2\x82\xac"}}],'
        b'"usage":null}\r\n\r\n: ping\r\n\r\ndata: {"id":"c1","choices":[],"usage":'
        b'{"prompt_tokens":20,"completion_tokens":5}}\r\n\r\ndata: [DONE]\r\n\r\n',
    ),
    (
        RESPONSES,
        b'event: response.created\ndata: {"type":"response.created","response":{"id":"r1",'
        b'"model":"m-1","usage":null}}\n\ndata: {"type":"response.output_text.delta",'
        b'"delta":"a"}\n\ndata: {"type":"response.completed","response":{"id":"r1","output"'
        b':[{"type":"web_search_call"}],"usage":{"input_tokens":7,"output_tokens":5}}}\n\n',
    ),
    (
        MESSAGES,
        b'data: {"type":"message_start","message":{"id":"m","model":"c","usage":'
        b'{"input_tokens":7,"cache_creation":{"ephemeral_1h_input_tokens":3},'
        b'"cache_creation_input_tokens":3,"output_tokens":1}}}\n\ndata: {"type":'
        b'"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}'
        b'\n\ndata: {"type":"message_stop"}\n\n',
    ),
    (
        f"{GEMINI}:streamGenerateContent",
        b'[{"candidates":[{"content":"]"}],"usageMetadata":{"promptTokenCount":8,'
        b'"candidatesTokenCount":1}}\n,\r\n{"usageMetadata":{"promptTokenCount":8,'
        b'"cachedContentTokenCount":6,"candidatesTokenCount":5}}]',
    ),
    (
        COHERE,
        b'data: {"type":"message-start","id":"c"}\n\ndata: {"type":"message-end","delta":'
        b'{"usage":{"billed_units":{"input_tokens":1,"output_tokens":2}}}}\n\n',
    ),
    (
        CONVERSE,
        b'{"event":"messageStart","data":{}}\n'
        b'{"event":"metadata","data":{"usage":{"inputTokens":4,"outputTokens":5}}}\n',
    ),
]


def whole(url: str, body: bytes) -> Reading:
    reading = read_exchange(
        method="POST",
        url=url,
        request_body=None,
        status=200,
        headers={},
        body=body,
    )
    assert reading is not None
    return reading


def pieces(url: str, parts: t.Iterable[bytes]) -> Exchange:
    found = route("POST", url)
    assert found is not None
    exchange = Exchange(found, request_body=None)
    exchange.begin_response(200, {})
    for part in parts:
        exchange.feed(part, decoded=False)
    return exchange


@pytest.mark.parametrize(("url", "body"), ANSWERS)
def test_the_answers_have_usage(url: str, body: bytes) -> None:
    assert whole(url, body).usage is not None


@given(answer=st.sampled_from(ANSWERS), cut=st.integers(0, 600))
def test_two_pieces_read_the_same_as_one(answer: tuple[str, bytes], cut: int) -> None:
    url, body = answer
    exchange = pieces(url, (body[:cut], body[cut:]))
    assert exchange.reading(ended=True) == whole(url, body)


@given(answer=st.sampled_from(ANSWERS), cut=st.integers(0, 600))
def test_interim_readings_change_nothing(answer: tuple[str, bytes], cut: int) -> None:
    url, body = answer
    exchange = pieces(url, (body[:cut],))
    assert exchange.reading(ended=False) == exchange.reading(ended=False)
    exchange.feed(body[cut:], decoded=True)
    assert (
        exchange.reading(ended=True) == exchange.reading(ended=True) == whole(url, body)
    )


@given(answer=st.sampled_from(ANSWERS), cut=st.integers(0, 600))
def test_a_truncated_stream_never_uses_more_than_the_whole(
    answer: tuple[str, bytes], cut: int
) -> None:
    url, body = answer
    exchange = pieces(url, (body[:cut],))
    part, all_of_it = exchange.reading(ended=False), whole(url, body).usage
    assert all_of_it is not None
    if part.usage is not None:
        assert part.usage.total_tokens <= all_of_it.total_tokens
        # The last event may lack only its blank line.
        if part.stream and not exchange.complete and part.usage != all_of_it:
            assert part.usage_source == "stream_partial"


@given(
    answer=st.sampled_from(ANSWERS),
    flips=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 600),
)
@settings(max_examples=300)
def test_damage_never_raises(
    answer: tuple[str, bytes], flips: list[tuple[int, int]], cut: int
) -> None:
    url, body = answer
    damaged = bytearray(body)
    for at, value in flips:
        damaged[at % len(damaged)] = value
    reading = whole(url, bytes(damaged[:cut]))
    assert "reader_error" not in reading.flags
    assert reading.usage is None or reading.usage.total_tokens >= 0


json_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
)
NAMES = [
    *("usage", "usageMetadata", "input_tokens", "output_tokens", "prompt_tokens"),
    *("completion_tokens", "total_tokens", "prompt_tokens_details", "cached_tokens"),
    *("cache_creation", "ephemeral_1h_input_tokens", "iterations", "model", "type"),
    *("promptTokenCount", "promptTokensDetails", "tokenCount", "modality", "response"),
    *("cachedContentTokenCount", "message", "delta", "choices", "meta", "billed_units"),
    *(
        "x_groq",
        "id",
        "output",
        "cost",
        "event",
        "data",
        "bytes",
        "inputTokens",
        "results",
    ),
]
json_shapes = st.recursive(
    json_scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
    ),
    max_leaves=20,
)
URLS = [
    *(CHAT, RESPONSES, MESSAGES, f"{GEMINI}:generateContent", COHERE, CONVERSE),
    "https://api.mistral.ai/v1/ocr",
    "https://api.mistral.ai/v1/conversations",
    "http://localhost:11434/api/chat",
    "https://us-south.ml.cloud.ibm.com/ml/v1/text/generation",
    "https://api.openai.com/v1/images/generations",
    "https://api.openai.com/v1/audio/transcriptions",
    "https://generativelanguage.googleapis.com/v1beta/interactions",
    "https://aiplatform.googleapis.com/v1/models/m:predict",
]


@given(
    url=st.sampled_from(URLS),
    events=st.lists(st.dictionaries(st.sampled_from(NAMES), json_shapes), max_size=3),
    stream=st.booleans(),
)
@settings(max_examples=500)
def test_any_json_value_in_any_place_is_harmless(
    url: str, events: list[dict[str, t.Any]], stream: bool
) -> None:
    if stream:
        body = b"".join(b"data: " + json.dumps(e).encode() + b"\n\n" for e in events)
    else:
        body = json.dumps(events[0] if events else {}).encode()
    reading = whole(url, body)
    assert "reader_error" not in reading.flags
    if reading.usage is not None:
        assert reading.usage.reasoning_tokens <= reading.usage.total_output_tokens


counts = st.integers(0, 1 << 40)


@given(total_in=counts, total_out=counts, cached=counts, written=counts, audio=counts)
def test_buckets_sum_to_the_total(
    total_in: int, total_out: int, cached: int, written: int, audio: int
) -> None:
    details = {
        "cached_tokens": cached,
        "cache_write_tokens": written,
        "audio_tokens": audio,
    }
    seen = {
        "prompt_tokens": total_in,
        "completion_tokens": total_out,
        "total_tokens": total_in + total_out,
        "prompt_tokens_details": details,
        "completion_tokens_details": {"audio_tokens": audio},
    }
    usage = whole(CHAT, json.dumps({"usage": seen}).encode()).usage
    assert usage is not None
    assert usage.total_input_tokens == total_in
    assert usage.total_output_tokens == total_out


@given(prompt=counts, cached=counts, tools=counts, made=counts, thought=counts)
def test_gemini_sums_to_the_total(
    prompt: int, cached: int, tools: int, made: int, thought: int
) -> None:
    seen = {
        "promptTokenCount": prompt,
        "cachedContentTokenCount": cached,
        "toolUsePromptTokenCount": tools,
        "candidatesTokenCount": made,
        "thoughtsTokenCount": thought,
        "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": cached}],
    }
    body = json.dumps({"usageMetadata": seen}).encode()
    usage = whole(f"{GEMINI}:generateContent", body).usage
    assert usage is not None
    assert usage.total_tokens == prompt + tools + made + thought


MEMBERS = st.dictionaries(
    st.sampled_from(["id", "choices", "usage", "model", "x", 'a"b', "é"]),
    json_shapes,
    max_size=6,
)


@given(members=MEMBERS, indent=st.sampled_from([None, 2]))
def test_the_first_members_are_those_before_the_content(
    members: dict[str, t.Any], indent: int | None
) -> None:
    found = head(json.dumps(members, indent=indent).encode(), frozenset({"choices"}))
    names = list(members)
    light = names[: names.index("choices")] if "choices" in names else names
    assert found == {name: members[name] for name in light}


@given(members=MEMBERS, indent=st.sampled_from([None, 2]), raw=st.booleans())
def test_the_last_members_are_those_from_the_name_on(
    members: dict[str, t.Any], indent: int | None, raw: bool
) -> None:
    body = json.dumps(members, indent=indent, ensure_ascii=not raw).encode()
    names = list(members)
    found = tail(body, "usage")
    if "usage" not in names:
        assert found is None
    elif found is not None:  # only the last few occurrences of the name are tried
        rest = names[names.index("usage") :]
        assert found == {name: members[name] for name in rest}


@given(
    members=MEMBERS,
    indent=st.sampled_from([None, 2]),
    raw=st.booleans(),
    blanks=st.sampled_from(["", "\n ", "\ufeff"]),
)
@example({"usage": {"choices": None, "usage": None}}, None, False, "")
@settings(max_examples=300)
def test_members_of_both_ends_are_members_of_the_whole(
    members: dict[str, t.Any], indent: int | None, raw: bool, blanks: str
) -> None:
    text = json.dumps(members, indent=indent, ensure_ascii=not raw)
    body = f"{blanks}{text}{blanks.strip(chr(0xFEFF))}".encode()
    found = find_members(body, body, frozenset({"choices"}), ("usage", "id"))
    assert found == {name: members[name] for name in found}
    if "choices" not in members:
        assert found.keys() == members.keys()


def test_usage_is_found_behind_megabytes_of_content() -> None:
    content = b'{"id":"c1","model":"m-1","choices":[{"message":{"content":"'
    usage = (
        b'"}}],"usage":{"prompt_tokens":9,"completion_tokens":1},"service_tier":"flex"}'
    )
    parts = (content, *(b"x" * 65536 for _ in range(100)), usage)
    reading = pieces(CHAT, parts).reading(ended=True)
    assert reading.usage == Usage(input_tokens=9, output_tokens=1)
    assert (reading.model, reading.response_id) == ("m-1", "c1")
    assert reading.service_tier == "flex"


@pytest.mark.parametrize("size", [10_000, 1_000_000, 5_000_000])
def test_usage_is_found_in_an_event_of_any_length(size: int) -> None:
    item = b'{"type":"image_generation_call","status":"completed","result":"'
    event = (
        b'event: response.completed\ndata: {"type":"response.completed","response":'
        b'{"id":"r1","model":"m-1","output":[' + item + b"A" * size + b'"}],'
        b'"usage":{"input_tokens":9,"output_tokens":1},"user":null},"sequence":4}\n\n'
    )
    start = b'data: {"type":"response.created","response":{"id":"r1"}}\n\n'
    body = start + event + b"data: [DONE]\n\n"
    parts = (body[at : at + 60_000] for at in range(0, len(body), 60_000))
    exchange = pieces(RESPONSES, parts)
    reading = exchange.reading(ended=False)
    assert exchange.complete
    assert reading.usage == Usage(
        input_tokens=9, output_tokens=1, units={"image_generation": Decimal(1)}
    )


@pytest.mark.parametrize(
    ("url", "start", "part"),
    [
        (EMBEDDINGS, b'{"data":[{"embedding":[', b"0.0123456789," * 5000),
        (CHAT, b"data: ", b"x" * 65536),
        (CHAT, b"", b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n' * 1000),
        (f"{GEMINI}:streamGenerateContent", b'[{"a":"', b"x" * 65536),
        (f"{GEMINI}:streamGenerateContent", b"[", b'{"usageMetadata":{}},' * 30),
        ("http://localhost:11434/api/chat", b'{"a":1}\n{"a":"', b"x" * 65536),
        (CHAT, b"\xff\x00", b"\x00\xfe" * 32768),
        (CHAT, b"", b" \n" * 32768),
    ],
)
def test_memory_stays_bounded(url: str, start: bytes, part: bytes) -> None:
    exchange = pieces(url, (start,))
    tracemalloc.start()
    try:
        for _ in range(300):
            exchange.feed(part, decoded=True)
        exchange.reading(ended=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6_000_000


def test_deep_nesting_is_harmless() -> None:
    for body in (b"[" * 200_000, b'{"usage":' * 100_000, b'{"a":[' * 50_000):
        assert whole(CHAT, body).usage is None
