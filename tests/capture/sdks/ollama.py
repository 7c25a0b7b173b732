"""Ollama's SDK, over httpx: lines of JSON, and no retries."""

from __future__ import annotations

import json
import typing as t

from httpx import Timeout
from ollama import AsyncClient
from ollama import Client

from flask_llm_cost.call import Usage
from tests.capture.sdks.driver import MESSAGES
from tests.capture.sdks.driver import Sdk


def _line(text: str, **more: t.Any) -> bytes:
    message = {"role": "assistant", "content": text}
    head = {"model": "llama3", "message": message, "done": False}
    return json.dumps({**head, **more}).encode() + b"\n"


_USED: t.Final[dict[str, t.Any]] = {
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 100,
    "eval_count": 20,
}


def _maker(kind: t.Any) -> t.Callable[[str, float], t.Any]:
    return lambda url, timeout: kind(host=url, timeout=Timeout(10, read=timeout))


SDKS = tuple(
    Sdk(
        name=name,
        provider="ollama",
        make=_maker(kind),
        ask=lambda client: client.chat(model="llama3", messages=MESSAGES),
        stream=lambda client: client.chat(
            model="llama3", messages=MESSAGES, stream=True
        ),
        answer=_line("hello", **_USED),
        events=(_line("hel"), _line("lo"), _line("", **_USED)),
        media="application/x-ndjson",
        error=b'{"error": "no"}',
        asynchronous=kind is AsyncClient,
        used=Usage(input_tokens=100, output_tokens=20),
    )
    for name, kind in (("ollama", Client), ("ollama async", AsyncClient))
)
