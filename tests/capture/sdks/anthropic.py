"""Anthropic's SDK, over httpx2."""

from __future__ import annotations

import typing as t

from anthropic import Anthropic
from anthropic import AsyncAnthropic
from anthropic import Timeout

from tests.capture.sdks.driver import MESSAGES
from tests.capture.sdks.driver import Sdk
from tests.capture.server import MESSAGE_JSON
from tests.capture.server import MESSAGE_STREAM


def _make(url: str, timeout: float) -> Anthropic:
    wait = Timeout(10, read=timeout)
    return Anthropic(api_key="k", base_url=url, timeout=wait, max_retries=1)


def _make_async(url: str, timeout: float) -> AsyncAnthropic:
    wait = Timeout(10, read=timeout)
    return AsyncAnthropic(api_key="k", base_url=url, timeout=wait, max_retries=1)


def _ask(client: t.Any, **more: t.Any) -> t.Any:
    return client.messages.create(
        model="claude", messages=MESSAGES, max_tokens=9, **more
    )


def _stream(client: t.Any) -> t.Any:
    return _ask(client, stream=True)


SDKS = tuple(
    Sdk(
        name=name,
        provider="anthropic",
        make=make,
        ask=_ask,
        stream=_stream,
        answer=MESSAGE_JSON,
        events=tuple(piece + b"\n\n" for piece in MESSAGE_STREAM.split(b"\n\n")),
        asynchronous=make is _make_async,
        patches=(("anthropic._base_client.INITIAL_RETRY_DELAY", 0.001),),
    )
    for name, make in (("anthropic", _make), ("anthropic async", _make_async))
)
