"""Cohere's SDK, over httpx."""

from __future__ import annotations

import json
import typing as t

from cohere import AsyncClientV2
from cohere import ClientV2

from flask_llm_cost.call import Usage
from tests.capture.sdks.driver import MESSAGES
from tests.capture.sdks.driver import Sdk
from tests.capture.server import sse

_USAGE: t.Final = {
    "billed_units": {"input_tokens": 100, "output_tokens": 20},
    "tokens": {"input_tokens": 170, "output_tokens": 25},
}
_ANSWER: t.Final = {
    "id": "c_1",
    "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": "hello"}]},
    "usage": _USAGE,
}


def _delta(text: str) -> dict[str, t.Any]:
    delta = {"message": {"content": {"text": text}}}
    return {"type": "content-delta", "index": 0, "delta": delta}


_EVENTS: t.Final[tuple[dict[str, t.Any], ...]] = (
    {"type": "message-start", "id": "c_1", "delta": {"message": {"role": "assistant"}}},
    _delta("hel"),
    _delta("lo"),
    {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": _USAGE}},
)


def _ask(client: t.Any) -> t.Any:
    return client.chat(
        model="command-a", messages=MESSAGES, request_options={"max_retries": 1}
    )


def _stream(client: t.Any) -> t.Any:
    return client.chat_stream(
        model="command-a", messages=MESSAGES, request_options={"max_retries": 1}
    )


def _maker(kind: t.Any) -> t.Callable[[str, float], t.Any]:
    return lambda url, timeout: kind(api_key="k", base_url=url, timeout=timeout)


SDKS = tuple(
    Sdk(
        name=name,
        provider="cohere",
        make=_maker(kind),
        ask=_ask,
        stream=_stream,
        answer=json.dumps(_ANSWER).encode(),
        events=tuple(sse(event, named=True) + b"\n" for event in _EVENTS),
        error=b'{"message": "no"}',
        asynchronous=kind is AsyncClientV2,
        used=Usage(input_tokens=100, output_tokens=20),
        patches=(("cohere.core.http_client.INITIAL_RETRY_DELAY_SECONDS", 0.001),),
    )
    for name, kind in (("cohere", ClientV2), ("cohere async", AsyncClientV2))
)
