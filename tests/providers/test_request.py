"""The model and the stream option of a request, anywhere in its body."""

from __future__ import annotations

import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import route
from flask_llm_cost.providers.request import inject_stream_usage
from flask_llm_cost.providers.request import parse_request


@pytest.mark.parametrize(
    ("body", "model", "stream"),
    [
        (b'{"model":"m","stream":true}', "m", True),
        (b'{"model":"m","messages":[{"model":"x","stream":true}]}', "m", False),
        (
            b'{"messages":[{"content":"\\"model\\":"}],"stream":true,"model":"m"}',
            "m",
            True,
        ),
        (b'{"messages":[],"metadata":{"model":"x"}}', None, False),
        (
            b'{"messages":[],"model":"m","metadata":{"model":"x","stream":true}}',
            "m",
            False,
        ),
        (b'{"stream":true,"input":"x","model":"m"}', "m", True),
        (b'{"model":7,"stream":"yes"}', None, False),
        (b"[1,2]", None, False),
        (b"", None, False),
        (b'{"model":', None, False),
        (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            b'\x00\xff\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n'
            b'whisper-1\r\n--b\r\nContent-Disposition: form-data; name="stream"\r\n\r\n'
            b"true\r\n--b--\r\n",
            "whisper-1",
            True,
        ),
    ],
)
def test_model_and_stream_are_read_from_the_request(
    body: bytes, model: str | None, stream: bool
) -> None:
    assert parse_request(body) == (model, stream)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["model", "stream", "a"]) | st.text(), inner)
    ),
    max_leaves=8,
)


@given(
    members=st.dictionaries(
        st.sampled_from(["model", "stream", "messages", "metadata", "tools", "z"]),
        json_values,
    ),
    indent=st.sampled_from([None, 1]),
)
def test_the_usage_is_what_a_parser_finds(
    members: dict[str, object], indent: int | None
) -> None:
    body = json.dumps(members, indent=indent).encode()
    model = members.get("model")
    wanted = model if isinstance(model, str) and model else None
    assert parse_request(body) == (wanted, members.get("stream") is True)


@given(st.binary(max_size=200))
def test_a_garbage_request_is_harmless(body: bytes) -> None:
    model, stream = parse_request(b'{"' + body)
    assert model is None or isinstance(model, str)
    assert stream in (True, False)


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b"{}", b'{"stream_options":{"include_usage":true}}'),
        (
            b'{"stream": true }\n',
            b'{"stream": true ,"stream_options":{"include_usage":true}}\n',
        ),
        (
            b'{"stream_options": null, "stream": true}',
            b'{"stream_options":{"include_usage":true}, "stream": true}',
        ),
        (
            b'{"stream_options": {"include_obfuscation": false}, "stream": true}',
            b'{"stream_options":{"include_usage":true,"include_obfuscation": false},'
            b' "stream": true}',
        ),
        (
            b'{"messages":[{"x":{"stream_options":{}}}],"stream_options":{}}',
            b'{"messages":[{"x":{"stream_options":{}}}],'
            b'"stream_options":{"include_usage":true}}',
        ),
        (
            b'{"messages":[{"stream_options":{"include_usage":false}}]}',
            b'{"messages":[{"stream_options":{"include_usage":false}}],'
            b'"stream_options":{"include_usage":true}}',
        ),
        (b'{"stream_options": {"include_usage": true}}', None),
        (b'{"stream_options": {"include_usage": false}}', None),
        (b'{"stream_options": {"include_usage": null}}', None),
        (b'{"stream_options": []}', None),
        (b'{"stream_options": {}', None),
        (b'{"stream_options": ]}', None),
        (b"[]", None),
        (b"", None),
    ],
)
def test_injecting_the_option_changes_nothing_else(
    body: bytes, sent: bytes | None
) -> None:
    assert inject_stream_usage(body) == sent


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text() | st.sampled_from(["stream_options", "include_usage"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(["messages", "stream_options", "model", "x"]), _JSON
    ),
    st.sampled_from([None, 1, "\t"]),
    st.booleans(),
)
def test_only_stream_options_ever_differ(
    document: dict[str, t.Any], indent: t.Any, ascii_only: bool
) -> None:
    body = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode(
        "utf-8", "surrogatepass"
    )
    changed = inject_stream_usage(body)
    options = document.get("stream_options")
    if changed is None:
        # Set already, invalid, or in a form that nobody writes: unchanged.
        assert options is not None
        return
    assert json.loads(changed) == {
        **document,
        "stream_options": {**(options or {}), "include_usage": True},
    }


@pytest.mark.parametrize(
    ("url", "hosts", "asks"),
    [
        ("https://api.openai.com/v1/chat/completions", {}, True),
        ("https://eu.api.openai.com/v1/completions", {}, True),
        ("https://api.openai.com/v1/responses", {}, False),
        ("https://api.mistral.ai/v1/chat/completions", {}, False),
        ("https://api.groq.com/openai/v1/chat/completions", {}, False),
        ("https://api.deepseek.com/chat/completions", {}, True),
        ("http://localhost:11434/v1/chat/completions", {}, True),
        ("http://localhost:11434/api/chat", {}, False),
        ("https://api.anthropic.com/v1/messages", {}, False),
        ("http://vllm:8000/v1/chat/completions", {"vllm:8000": "ours"}, True),
        ("http://vllm:8000/v1/chat/completions", {"vllm:8000": "mistral"}, False),
        (
            "https://a.openai.azure.com/openai/deployments/d/chat/completions"
            "?api-version=2024-06-01",
            {},
            False,
        ),
        (
            "https://a.openai.azure.com/openai/deployments/d/chat/completions"
            "?api-version=2024-10-21",
            {},
            True,
        ),
        ("https://a.openai.azure.com/openai/v1/chat/completions", {}, True),
        ("https://a.openai.azure.com/openai/deployments/d/completions", {}, False),
    ],
)
def test_only_hosts_that_understand_the_option_get_it(
    url: str, hosts: dict[str, str], asks: bool
) -> None:
    found = route("POST", url, hosts=hosts)
    assert found is not None
    body = b'{"model":"m","stream":true}'
    exchange = Exchange(found, request_body=body)
    assert (exchange.inject_stream_usage(url, body) is not None) is asks
    plain = b'{"model":"m"}'
    assert Exchange(found, request_body=plain).inject_stream_usage(url, plain) is None
