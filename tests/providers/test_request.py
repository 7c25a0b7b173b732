"""What a request asks for, wherever it stands in its body."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_llm_cost.providers.request import asked


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
def test_asked(body: bytes, model: str | None, stream: bool) -> None:
    assert asked(body) == (model, stream)


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
def test_it_is_what_a_parser_finds(
    members: dict[str, object], indent: int | None
) -> None:
    body = json.dumps(members, indent=indent).encode()
    model = members.get("model")
    wanted = model if isinstance(model, str) and model else None
    assert asked(body) == (wanted, members.get("stream") is True)


@given(st.binary(max_size=200))
def test_garbage_asks_for_nothing_that_harms(body: bytes) -> None:
    model, stream = asked(b'{"' + body)
    assert model is None or isinstance(model, str)
    assert stream in (True, False)
