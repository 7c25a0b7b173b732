"""Groq's SDK, over httpx."""

from __future__ import annotations

import json
import typing as t

from groq import AsyncGroq
from groq import Groq
from groq import Timeout

from flask_llm_cost.call import Usage
from tests.capture.sdks.driver import MESSAGES
from tests.capture.sdks.driver import Sdk
from tests.capture.server import CHAT
from tests.capture.server import sse

_USAGE: t.Final = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


def _chunk(text: str, **more: t.Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}}
    return sse({"id": "chatcmpl-1", "model": "llama", "choices": [choice], **more})


def _maker(kind: t.Any) -> t.Callable[[str, float], t.Any]:
    return lambda url, timeout: kind(
        api_key="k", base_url=url, timeout=Timeout(10, read=timeout), max_retries=1
    )


def _ask(client: t.Any, **more: t.Any) -> t.Any:
    return client.chat.completions.create(model="llama", messages=MESSAGES, **more)


SDKS = tuple(
    Sdk(
        name=name,
        provider="groq",
        make=_maker(kind),
        ask=_ask,
        stream=lambda client: _ask(client, stream=True),
        answer=json.dumps({**CHAT, "usage": _USAGE}).encode(),
        events=(
            _chunk("hel", x_groq={"id": "req_1"}),
            _chunk("lo"),
            _chunk("", x_groq={"id": "req_1", "usage": _USAGE}),
            sse("[DONE]"),
        ),
        asynchronous=kind is AsyncGroq,
        used=Usage(input_tokens=100, output_tokens=20),
        patches=(("groq._base_client.INITIAL_RETRY_DELAY", 0.001),),
    )
    for name, kind in (("groq", Groq), ("groq async", AsyncGroq))
)
