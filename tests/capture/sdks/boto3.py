"""Amazon's SDK: Bedrock over botocore."""

from __future__ import annotations

import json
import typing as t

import boto3
from botocore.config import Config

from tests.capture.sdks.driver import Sdk
from tests.providers.frames import event_frame

_ASKED: t.Final[dict[str, t.Any]] = {
    "modelId": "amazon.nova-lite-v1:0",
    "messages": [{"role": "user", "content": [{"text": "hello"}]}],
}
_USAGE: t.Final = {
    "inputTokens": 60,
    "outputTokens": 20,
    "totalTokens": 120,
    "cacheReadInputTokens": 40,
}
_ANSWER: t.Final = {
    "output": {"message": {"role": "assistant", "content": [{"text": "hello"}]}},
    "stopReason": "end_turn",
    "metrics": {"latencyMs": 1},
    "usage": _USAGE,
}
_EVENTS: t.Final = (
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "hel"}}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "lo"}}),
    ("messageStop", {"stopReason": "end_turn"}),
    ("metadata", {"usage": _USAGE, "metrics": {"latencyMs": 1}}),
)


def _make(url: str, timeout: float) -> t.Any:
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="id",
        aws_secret_access_key="key",
        config=Config(
            retries={"total_max_attempts": 2, "mode": "standard"}, read_timeout=timeout
        ),
    )


def _shown(answer: t.Any) -> t.Any:
    return {k: v for k, v in answer.items() if k != "ResponseMetadata"}


SDKS = (
    Sdk(
        name="boto3",
        provider="bedrock",
        make=_make,
        ask=lambda client: client.converse(**_ASKED),
        stream=lambda client: client.converse_stream(**_ASKED)["stream"],
        answer=json.dumps(_ANSWER).encode(),
        events=tuple(event_frame(k, json.dumps(v).encode()) for k, v in _EVENTS),
        media="application/vnd.amazon.eventstream",
        error=b'{"message": "no"}',
        # It reads the bytes of events as they arrive.
        without=("gzipped stream",),
        shown=_shown,
        patches=(
            (
                "botocore.retries.standard.ExponentialBackoff.delay_amount",
                lambda self, context: 0.001,
            ),
        ),
    ),
)
