"""Caches as OpenAI-compatible hosts report them."""

from __future__ import annotations

import json

import pytest

from flask_llm_cost.call import Usage
from flask_llm_cost.providers import read_exchange

HOSTS = {"llm.internal": "litellm"}
DASHSCOPE = "https://dashscope-intl.aliyuncs.com/compatible-mode/v1/chat/completions"
DATABRICKS = "https://x.cloud.databricks.com/serving-endpoints/claude/invocations"
LITELLM = "https://llm.internal/v1/chat/completions"


@pytest.mark.parametrize(
    ("url", "usage", "expected"),
    [
        pytest.param(
            DASHSCOPE,
            {
                "prompt_tokens": 2000,
                "completion_tokens": 10,
                "total_tokens": 2010,
                "prompt_tokens_details": {
                    "cache_creation_input_tokens": 1900,
                    "cache_type": "ephemeral",
                    "cached_tokens": 0,
                },
            },
            Usage(input_tokens=100, cache_write_tokens=1900, output_tokens=10),
            # https://www.alibabacloud.com/help/en/model-studio/context-cache
            id="Alibaba's explicit cache, created",
        ),
        pytest.param(
            LITELLM,
            {
                "prompt_tokens": 90000,
                "completion_tokens": 1000,
                "total_tokens": 91000,
                "prompt_tokens_details": {
                    "cached_tokens": 60000,
                    "cache_creation_tokens": 29990,
                    "cache_creation_token_details": {
                        "ephemeral_5m_input_tokens": 0,
                        "ephemeral_1h_input_tokens": 29990,
                    },
                },
                "cache_read_input_tokens": 60000,
                "cache_creation_input_tokens": 29990,
            },
            Usage(
                input_tokens=10,
                cache_read_tokens=60000,
                cache_write_1h_tokens=29990,
                output_tokens=1000,
            ),
            # https://github.com/BerriAI/litellm/issues/40006
            id="LiteLLM's details by lifetime",
        ),
        pytest.param(
            LITELLM,
            {
                "prompt_tokens": 90000,
                "completion_tokens": 1000,
                "total_tokens": 91000,
                "cache_read_input_tokens": 60000,
                "cache_creation_input_tokens": 29990,
            },
            Usage(
                input_tokens=10,
                cache_read_tokens=60000,
                cache_write_tokens=29990,
                output_tokens=1000,
            ),
            id="Claude's counts, included in the prompt",
        ),
        pytest.param(
            DATABRICKS,
            {
                "prompt_tokens": 10,
                "completion_tokens": 1000,
                "total_tokens": 1010,
                "cache_read_input_tokens": 60000,
                "cache_creation_input_tokens": 500,
                "cache_creation": {"ephemeral_1h_input_tokens": 200},
            },
            Usage(
                input_tokens=10,
                cache_read_tokens=60000,
                cache_write_tokens=300,
                cache_write_1h_tokens=200,
                output_tokens=1000,
            ),
            id="Claude's counts, beside the prompt and the total",
        ),
        pytest.param(
            DATABRICKS,
            {
                "prompt_tokens": 70000,
                "completion_tokens": 1000,
                "total_tokens": 131000,
                "cache_read_input_tokens": 60000,
            },
            Usage(input_tokens=70000, cache_read_tokens=60000, output_tokens=1000),
            id="Claude's counts, beside the prompt, as the total proves",
        ),
    ],
)
def test_a_cache_is_read_wherever_it_is_reported(
    url: str, usage: dict[str, object], expected: Usage
) -> None:
    body = {"id": "c", "object": "chat.completion", "model": "m", "usage": usage}
    reading = read_exchange(
        method="POST",
        url=url,
        request_body=None,
        status=200,
        headers={},
        body=json.dumps(body).encode(),
        hosts=HOSTS,
    )
    assert reading is not None
    assert reading.usage == expected
    assert reading.flags <= {"cache.explicit"}


@pytest.mark.parametrize(
    ("start", "uncached", "flags"),
    [(3602, 0, {"usage_conflict"}), (3604, 0, set()), (4000, 396, set())],
)
def test_alibabas_imitation_of_anthropic_includes_caches_in_the_input(
    start: int, uncached: int, flags: set[str]
) -> None:
    # https://github.com/jeremychone/rust-genai/issues/258
    events = [
        {
            "type": "message_start",
            "message": {"id": "m", "usage": {"input_tokens": start}},
        },
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {
                "cache_read_input_tokens": 3604,
                "prompt_tokens_details": {"cached_tokens": 3604},
                "output_tokens": 878,
            },
        },
    ]
    reading = read_exchange(
        method="POST",
        url="https://dashscope-intl.aliyuncs.com/apps/anthropic/v1/messages",
        request_body=b'{"model":"qwen3.7-max","stream":true}',
        status=200,
        headers={},
        body=b"".join(b"data: %s\n\n" % json.dumps(e).encode() for e in events),
    )
    assert reading is not None
    assert reading.usage == Usage(
        input_tokens=uncached, cache_read_tokens=3604, output_tokens=878
    )
    assert reading.flags == flags | {"cache.implicit"}
