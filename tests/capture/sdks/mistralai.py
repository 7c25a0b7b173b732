"""Mistral's SDK, over httpx2."""

from __future__ import annotations

import json
import typing as t

from mistralai.client import Mistral
from mistralai.client.utils.retries import BackoffStrategy
from mistralai.client.utils.retries import RetryConfig

from tests.capture.sdks.driver import MESSAGES
from tests.capture.sdks.driver import Sdk
from tests.capture.server import sse

_HEAD: t.Final = {"id": "cmpl-1", "created": 1, "model": "mistral-small-latest"}
_USAGE: t.Final = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 40},
}


def _answer() -> bytes:
    message = {"role": "assistant", "content": "hello"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    document = {**_HEAD, "object": "chat.completion", "choices": [choice]}
    return json.dumps({**document, "usage": _USAGE}).encode()


def _chunk(text: str, reason: str | None, **more: t.Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return sse({**_HEAD, "choices": [choice], **more})


def _make(url: str, timeout: float) -> Mistral:
    return Mistral(
        api_key="k",
        server_url=url,
        timeout_ms=round(timeout * 1000),
        retry_config=RetryConfig("backoff", BackoffStrategy(1, 1, 1, 100), False),
    )


def _ask(client: Mistral) -> t.Any:
    return client.chat.complete(model="mistral-small-latest", messages=MESSAGES)


def _stream(client: Mistral) -> t.Any:
    return client.chat.stream(model="mistral-small-latest", messages=MESSAGES)


def _ask_async(client: Mistral) -> t.Any:
    return client.chat.complete_async(model="mistral-small-latest", messages=MESSAGES)


def _stream_async(client: Mistral) -> t.Any:
    return client.chat.stream_async(model="mistral-small-latest", messages=MESSAGES)


def _client(client: Mistral) -> t.Any:
    return client.sdk_configuration.client


def _async_client(client: Mistral) -> t.Any:
    return client.sdk_configuration.async_client


SDKS = tuple(
    Sdk(
        name=name,
        provider="mistral",
        make=_make,
        ask=ask,
        stream=stream,
        answer=_answer(),
        events=(
            _chunk("hel", None),
            _chunk("lo", None),
            _chunk("", "stop", usage=_USAGE),
            sse("[DONE]"),
        ),
        asynchronous=ask is _ask_async,
        closing=closing,
        counts_tries=False,
    )
    for name, ask, stream, closing in (
        ("mistralai", _ask, _stream, _client),
        ("mistralai async", _ask_async, _stream_async, _async_client),
    )
)
