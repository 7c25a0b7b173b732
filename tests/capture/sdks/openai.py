"""OpenAI's SDK: 3.x over httpx2, 2.x over httpx."""

from __future__ import annotations

import typing as t

from openai import AsyncOpenAI
from openai import OpenAI
from openai import Timeout

from tests.capture.sdks.driver import MESSAGES
from tests.capture.sdks.driver import Sdk
from tests.capture.server import CHAT_JSON
from tests.capture.server import CHAT_STREAM

WAIT: t.Final = (("openai._base_client.INITIAL_RETRY_DELAY", 0.001),)


def make(url: str, timeout: float) -> OpenAI:
    wait = Timeout(10, read=timeout)
    return OpenAI(api_key="k", base_url=f"{url}/v1", timeout=wait, max_retries=1)


def make_async(url: str, timeout: float) -> AsyncOpenAI:
    wait = Timeout(10, read=timeout)
    return AsyncOpenAI(api_key="k", base_url=f"{url}/v1", timeout=wait, max_retries=1)


def ask(client: t.Any, **more: t.Any) -> t.Any:
    return client.chat.completions.create(model="gpt-4o", messages=MESSAGES, **more)


def stream(client: t.Any) -> t.Any:
    return ask(client, stream=True)


EVENTS: t.Final = tuple(piece + b"\n\n" for piece in CHAT_STREAM.split(b"\n\n"))

SDKS = tuple(
    Sdk(
        name=name,
        provider="openai",
        make=maker,
        ask=ask,
        stream=stream,
        answer=CHAT_JSON,
        events=EVENTS,
        asynchronous=maker is make_async,
        patches=WAIT,
    )
    for name, maker in (("openai", make), ("openai async", make_async))
)
