"""LiteLLM, which creates its own clients and uses aiohttp for async calls."""

from __future__ import annotations

import json
import os
import typing as t

# Otherwise it fetches prices over the network when it is imported.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm

from tests.capture.sdks.driver import MESSAGES
from tests.capture.sdks.driver import Sdk
from tests.capture.server import CHAT
from tests.capture.server import chat_events
from tests.capture.server import MESSAGE_JSON
from tests.capture.server import MESSAGE_STREAM
from tests.capture.server import sse

litellm.suppress_debug_info = True
litellm.telemetry = False

_MESSAGE: t.Final = {"role": "assistant", "content": "hello"}
_CHOICE: t.Final = {"index": 0, "message": _MESSAGE, "finish_reason": "stop"}


def _openai(url: str, timeout: float) -> dict[str, t.Any]:
    return {
        "model": "openai/gpt-4o",
        "api_base": f"{url}/v1",
        "api_key": "k",
        "timeout": timeout,
        "max_retries": 1,
        "messages": MESSAGES,
    }


def _anthropic(url: str, timeout: float) -> dict[str, t.Any]:
    return {
        "model": "anthropic/claude-sonnet-4-5",
        "api_base": url,
        "api_key": "k",
        "timeout": timeout,
        "messages": MESSAGES,
    }


def _shown(answer: t.Any) -> t.Any:
    # LiteLLM creates a new one each time.
    return answer.model_dump(exclude={"id", "created"})


def _sdk(name: str, provider: str, make: t.Any, asynchronous: bool) -> Sdk:
    work = litellm.acompletion if asynchronous else litellm.completion
    if provider == "openai":
        answer = json.dumps({**CHAT, "created": 1, "choices": [_CHOICE]}).encode()
        events = tuple(sse(event) for event in chat_events())
    else:
        answer = MESSAGE_JSON
        events = tuple(piece + b"\n\n" for piece in MESSAGE_STREAM.split(b"\n\n"))
    return Sdk(
        name=name,
        provider=provider,
        make=make,
        ask=lambda options: work(**options),
        stream=lambda options: work(**options, stream=True),
        answer=answer,
        events=events,
        asynchronous=asynchronous,
        shown=_shown,
        holds_client=False,
        patches=(("openai._base_client.INITIAL_RETRY_DELAY", 0.001),),
    )


SDKS = (
    _sdk("litellm: openai", "openai", _openai, False),
    _sdk("litellm: openai async", "openai", _openai, True),
    _sdk("litellm: anthropic", "anthropic", _anthropic, False),
    _sdk("litellm: anthropic async", "anthropic", _anthropic, True),
)
