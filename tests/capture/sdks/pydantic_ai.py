"""Pydantic AI over OpenAI's SDK."""

from __future__ import annotations

import json
import typing as t
from collections.abc import AsyncIterator

from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.capture.sdks.driver import Sdk
from tests.capture.sdks.openai import EVENTS
from tests.capture.sdks.openai import make_async
from tests.capture.sdks.openai import WAIT
from tests.capture.server import CHAT

_MESSAGE: t.Final = {"role": "assistant", "content": "hello"}
_CHOICE: t.Final = {"index": 0, "message": _MESSAGE, "finish_reason": "stop"}


def _agent(client: AsyncOpenAI) -> Agent[None, str]:
    provider = OpenAIProvider(openai_client=client)
    return Agent(OpenAIChatModel("gpt-4o", provider=provider))


async def _ask(client: AsyncOpenAI) -> t.Any:
    result = await _agent(client).run("hello")
    return result.output, result.usage


async def _stream(client: AsyncOpenAI) -> AsyncIterator[str]:
    async with _agent(client).run_stream("hello") as result:
        async for text in result.stream_text(debounce_by=None):
            yield text


SDKS = (
    Sdk(
        name="pydantic-ai-slim",
        provider="openai",
        make=make_async,
        ask=_ask,
        stream=_stream,
        answer=json.dumps({**CHAT, "created": 1, "choices": [_CHOICE]}).encode(),
        events=EVENTS,
        asynchronous=True,
        patches=WAIT,
    ),
)
